"""One experiment: every setting with its default, and its way from and to plain dicts."""

import dataclasses
import difflib
import json
import os
import typing
from dataclasses import dataclass, field
from pathlib import Path

from clapjax.evaluation.tasks import EvaluationConfig
from clapjax.synthesis.build import SourceConfig
from clapjax.synthesis.mixup import MixupConfig
from clapjax.training.config import TrainConfig

CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class Experiment(TrainConfig):
    """A training run together with how its records are made and its model judged."""

    source: SourceConfig = field(default_factory=SourceConfig)
    synthesis: MixupConfig = field(default_factory=MixupConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


def to_dict(config) -> dict:
    """Nested plain dicts of a config dataclass; tuples become lists, as in JSON."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(cls, values: dict, path: str = ""):
    """Builds the frozen dataclass `cls` from nested dicts; fields left out keep their default.

    Raises:
      ValueError: an unknown field (the message names the closest one), a value of the wrong type,
        or one that the dataclass refuses.
    """
    if not isinstance(values, dict):
        raise ValueError(f"config {path or 'root'}: expected a group of fields, not {values!r}")
    known = typing.get_type_hints(cls)
    out = {}
    for name, value in values.items():
        where = f"{path}.{name}" if path else name
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"
            raise ValueError(f"config: no field {where!r}{hint}")
        out[name] = _convert(known[name], value, where)
    return cls(**out)


def _convert(kind, value, where: str):
    if dataclasses.is_dataclass(kind):
        return from_dict(kind, value, where)
    origin = typing.get_origin(kind)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"config: {where} must be a list, not {value!r}")
        item = typing.get_args(kind)[0]
        return tuple(_convert(item, part, where) for part in value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"config: {where} must be {kind.__name__}, not {value!r}")
    return value


def save_experiment(experiment: Experiment, workdir: str | os.PathLike) -> None:
    """Writes the resolved config to the workdir, or checks that the one there is the same.

    A workdir without a checkpoint binds nobody: its config is replaced.

    Raises:
      ValueError: the workdir was made with another config; the message shows the difference.
    """
    from clapjax.training.checkpoint import latest_step  # Orbax takes a second to import

    file = Path(workdir) / CONFIG_FILE
    new = to_dict(experiment)
    if file.is_file() and latest_step(workdir) is not None:
        changes = list(_differences(_read(file), new))
        if changes:
            raise ValueError(
                f"{workdir}: was begun with another config: {'; '.join(changes)}. "
                "Use a new --workdir, or the old config"
            )
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(new, indent=2) + "\n")
    os.replace(partial, file)


def load_experiment(workdir: str | os.PathLike) -> Experiment:
    """The config that a workdir was made with.

    Raises:
      FileNotFoundError: not a workdir of clapjax.
      ValueError: its config is damaged, or of another version of clapjax.
    """
    file = Path(workdir) / CONFIG_FILE
    if not file.is_file():
        raise FileNotFoundError(f"{workdir}: no {CONFIG_FILE} here; not a clapjax workdir")
    return from_dict(Experiment, _read(file))


def _read(file: Path) -> dict:
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file}: damaged ({error})") from error


def _differences(old, new, path: str = ""):
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            where = f"{path}.{name}" if path else name
            yield from _differences(old.get(name), new.get(name), where)
    elif old != new:
        yield f"{path} was {old!r}, is {new!r}"
