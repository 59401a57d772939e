"""What an evaluation found: one `Result` for numbers that share a task and its items."""

import hashlib
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clapjax.data.paths import write_text

FILE = "results.json"
ITEMS = "items"  # folder of the Parquet files beside it


class Metric(NamedTuple):
    """A number and the ends of its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Result:
    """Metrics of a model over the same n items of a benchmark.

    A task that has metrics over different items (captions and clips, all and a part of them) makes
    a Result of each.
    """

    model: str  # its name, for the reader
    benchmark: str
    task: str
    n: int  # items that the metrics are over
    chance: float | None  # what guessing reaches on the first metric; None: not defined
    metrics: Mapping[str, Metric]  # the one to look at first
    provenance: Mapping[str, object] = field(default_factory=dict)  # JSON-ready
    items: Mapping[str, np.ndarray] = field(default_factory=dict)  # (n,) each: outcomes, ids

    def scores(self) -> dict[str, float]:
        """{"task/metric": value}, for a training log."""
        return {f"{self.task}/{name}": metric.value for name, metric in self.metrics.items()}


def write_results(folder: str | os.PathLike, results: Sequence[Result]) -> None:
    """Writes results.json, and the items of each result to a Parquet file that it names.

    The JSON is a list of {"model", "benchmark", "task", "n", "chance", "metrics": {name: {"value",
    "low", "high"}}, "provenance"}; provenance["items"] is the Parquet file's name in the folder.
    What was there is replaced, results.json in one go.

    Raises:
      ValueError: a number is NaN or infinite; the message names it.
      OSError: the folder is not writable.
    """
    folder, rows, files = Path(folder), [], {}
    for result in results:
        provenance = dict(result.provenance)
        if result.items:
            data = _parquet(result.items)
            name = f"{ITEMS}/{hashlib.sha256(data).hexdigest()[:16]}.parquet"
            files[name] = data
            provenance["items"] = name
        rows.append(_row(result) | {"provenance": provenance})
    (folder / ITEMS).mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    write_text(folder / FILE, json.dumps(rows, indent=2, allow_nan=False) + "\n")
    for old in (folder / ITEMS).glob("*.parquet"):
        if f"{ITEMS}/{old.name}" not in files:
            old.unlink()


def _row(result: Result) -> dict:
    numbers = {"chance": result.chance}
    for name, metric in result.metrics.items():
        numbers |= {f"{name} {end}": value for end, value in metric._asdict().items()}
    for name, value in numbers.items():
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{result.benchmark}: {result.task}: {name} is {value}")
    return {
        "model": result.model,
        "benchmark": result.benchmark,
        "task": result.task,
        "n": int(result.n),
        "chance": None if result.chance is None else float(result.chance),
        "metrics": {
            name: {end: float(value) for end, value in metric._asdict().items()}
            for name, metric in result.metrics.items()
        },
    }


def _parquet(items: Mapping[str, np.ndarray]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    columns = {name: pyarrow.array(np.asarray(column).tolist()) for name, column in items.items()}
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def read_results(folder: str | os.PathLike) -> list[Result]:
    """Reads what `write_results` wrote; `folder` may be results.json itself.

    Raises:
      ValueError: there is none, it is damaged, or of another form; the message says which.
    """
    import pyarrow.parquet

    path = Path(folder)
    path = path if path.name == FILE else path / FILE
    if not path.is_file():
        raise ValueError(f"{path}: no results here; `clapjax eval` writes them")
    try:
        found = []
        for row in json.loads(path.read_text("utf-8")):
            metrics = {name: Metric(**metric) for name, metric in row.pop("metrics").items()}
            provenance = row.pop("provenance")
            items = {}
            if name := provenance.pop("items", None):
                table = pyarrow.parquet.read_table(path.parent / name)
                items = {column: np.array(table[column]) for column in table.column_names}
            found.append(Result(**row, metrics=metrics, provenance=provenance, items=items))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: damaged, or no results of `clapjax eval` ({reason})") from error
    return found
