"""What an evaluation found: one `Result` for numbers that share a task and its items."""

import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clapjax.data.paths import as_path, write_bytes, write_text
from clapjax.plain import from_dict

FILE = "results.json"
ITEMS = "items"  # folder of the Parquet and FLAC files beside it
EXAMPLES = "clapjax.examples"  # of the Parquet file's metadata


class Metric(NamedTuple):
    """A number and the ends of its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Said:
    """A text beside a sound, with their cosine."""

    text: str
    score: float
    right: bool


@dataclass(frozen=True)
class Sound:
    """A clip to listen to."""

    clip: str  # its id
    negative: bool  # whether it is that in a wrong order
    said: tuple[Said, ...]
    file: str = ""  # FLAC beside results.json, once it is kept


@dataclass(frozen=True)
class Shown:
    """An example of what went right or wrong."""

    title: str
    sounds: tuple[Sound, ...]


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
    # (n,) each: what happened to every item; "right" or wrong, in a "group" that belongs together.
    items: Mapping[str, np.ndarray] = field(default_factory=dict)
    examples: Sequence[Shown] = ()

    def scores(self) -> dict[str, float]:
        """{"task/metric": value}, for a training log."""
        return {f"{self.task}/{name}": metric.value for name, metric in self.metrics.items()}


def write_results(folder: str | os.PathLike, results: Sequence[Result]) -> None:
    """Writes results.json, and items and examples of each result to a Parquet file that it names.

    The JSON is a list of {"model", "benchmark", "task", "n", "chance", "metrics": {name: {"value",
    "low", "high"}}, "provenance"}; provenance["items"] is the Parquet file's name in the folder.
    What was there is replaced, results.json in one go.

    Raises:
      ValueError: a number is NaN or infinite; the message names it.
      OSError: the folder is not writable.
    """
    folder, rows, files = as_path(folder), [], {}
    for result in results:
        provenance = dict(result.provenance)
        files.update(dict.fromkeys(s.file for e in result.examples for s in e.sounds))
        if result.items:
            data = _parquet(result)
            name = f"{ITEMS}/{hashlib.sha256(data).hexdigest()[:16]}.parquet"
            files[name] = data
            provenance["items"] = name
        rows.append(_row(result) | {"provenance": provenance})
    (folder / ITEMS).mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        if data is not None:  # sounds are there already
            write_bytes(folder / name, data)
    write_text(folder / FILE, json.dumps(rows, indent=2, allow_nan=False) + "\n")
    for old in (folder / ITEMS).iterdir():
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


def _parquet(result: Result) -> bytes:
    import pyarrow
    import pyarrow.parquet

    columns = {
        name: pyarrow.array(np.asarray(column).tolist()) for name, column in result.items.items()
    }
    examples = json.dumps([asdict(example) for example in result.examples])
    table = pyarrow.table(columns).replace_schema_metadata({EXAMPLES: examples})
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file)
    return file.getvalue()


def _read_parquet(file: Path) -> dict:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(io.BytesIO(file.read_bytes()))
    items = {column: np.array(table[column]) for column in table.column_names}
    examples = json.loads(table.schema.metadata[EXAMPLES.encode()])
    return {"items": items, "examples": tuple(from_dict(Shown, one) for one in examples)}


def read_results(folder: str | os.PathLike) -> list[Result]:
    """Reads what `write_results` wrote; `folder` may be results.json itself.

    Raises:
      ValueError: there is none, it is damaged, or of another form; the message says which.
    """
    path = as_path(folder)
    path = path if path.name == FILE else path / FILE
    if not path.is_file():
        raise ValueError(f"{path}: no results here; `clapjax eval` writes them")
    try:
        found = [_result(row, path.parent) for row in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: damaged, or no results of `clapjax eval` ({reason})") from error
    if not found:
        raise ValueError(f"{path}: there is no result in it; `clapjax eval` writes them")
    return found


def _result(row: dict, folder: Path) -> Result:
    """One row of results.json; raises one of several errors where it is of another form."""
    for name in ("model", "benchmark", "task"):
        if not isinstance(row[name], str):
            raise TypeError(f"{name} is {row[name]!r}")
    metrics = {
        name: Metric(**{end: float(value) for end, value in metric.items()})
        for name, metric in row.pop("metrics").items()
    }
    if not metrics:
        raise ValueError(f"{row['task']} without a metric")
    chance, provenance = row.pop("chance"), dict(row.pop("provenance"))
    chance = None if chance is None else float(chance)
    name = provenance.pop("items", None)
    kept = _read_parquet(folder / name) if name else {}
    row["n"] = int(row["n"])
    return Result(**row, chance=chance, metrics=metrics, provenance=provenance, **kept)


def tell_apart(results: Sequence[Result]) -> list[Result]:
    """Results of several evaluations, in which a name stands for one model or one set of clips.

    Where it stands for several, by their provenance, what differs is added: the folder, the step or
    the split, else the fingerprint.
    """
    models = _added(
        [((one.model, ""), one) for one in results],
        ("fingerprint",),
        (lambda made: made.get("source"), lambda made: f"step {made.get('step')}"),
    )
    benchmarks = _added(
        [((one.benchmark, one.task), one) for one in results],
        ("data", "split"),
        (lambda made: made.get("path"), lambda made: made.get("split")),
    )
    return [
        replace(one, model=one.model + model, benchmark=one.benchmark + benchmark)
        for one, model, benchmark in zip(results, models, benchmarks, strict=True)
    ]


def _added(
    named: Sequence[tuple[tuple[str, str], Result]],
    identity: Sequence[str],
    labels: Sequence[Callable[[Mapping], object]],
) -> list[str]:
    """What is added to the name of each ((name, kind), result).

    A name of different things of one kind gets the first label that differs between all of them.
    """
    things: dict[str, dict[str, dict[tuple, Mapping]]] = {}
    for (name, kind), result in named:
        made = result.provenance
        same = things.setdefault(name, {}).setdefault(kind, {})
        same.setdefault(tuple(made.get(part) for part in identity), made)

    def of_name(kinds: dict[str, dict[tuple, Mapping]]) -> Callable[[Mapping], object] | None:
        if all(len(same) == 1 for same in kinds.values()):
            return None
        for label in labels:
            if all(len(set(map(label, same.values()))) == len(same) for same in kinds.values()):
                return label
        return lambda made: str(made.get(identity[0]))[:8]

    chosen = {name: of_name(kinds) for name, kinds in things.items()}
    return [
        f" ({label(result.provenance)})" if (label := chosen[name]) else ""
        for (name, _), result in named
    ]
