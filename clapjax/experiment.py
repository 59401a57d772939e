"""One experiment: every setting with its default, and its way to disk and back."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from clapjax.data.build.config import SourceConfig
from clapjax.evaluation.tasks import EvaluationConfig
from clapjax.plain import from_dict, to_dict
from clapjax.synthesis.mixup import MixupConfig
from clapjax.training.config import TrainConfig

CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class Experiment(TrainConfig):
    """A training run together with how its records are made and its model judged."""

    source: SourceConfig = field(default_factory=SourceConfig)
    synthesis: MixupConfig = field(default_factory=MixupConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


# What a run may go on with differently: it changes where and how fast, not what is computed.
FREE = ("mesh", "remat", "keep_last", "keep_best", "data.workers", "data.prefetch")


def save_experiment(experiment: Experiment, workdir: str | os.PathLike, write: bool = True) -> None:
    """Writes the resolved config to the workdir, or checks that the one there is the same.

    A workdir without a checkpoint binds nobody: its config is replaced. What is in FREE may change.

    Args:
      experiment: the config.
      workdir: of the run.
      write: False: only checks, as all processes of a run but one do.

    Raises:
      ValueError: the workdir was made with another config; the message shows the difference.
    """
    from clapjax.training.checkpoint import latest_step  # Orbax takes a second to import

    file = Path(workdir) / CONFIG_FILE
    new = to_dict(experiment)
    if file.is_file() and latest_step(workdir) is not None:
        # By way of the dataclass: what a field that is new since then does by default, it did.
        changes = dict(_differences(to_dict(load_experiment(workdir)), new))
        bound = [text for path, text in changes.items() if not path.startswith(FREE)]
        if bound:
            raise ValueError(
                f"{workdir}: was begun with another config: {'; '.join(bound)}. "
                "Use a new --workdir, or the old config"
            )
        write &= bool(changes)
    if write:
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
        yield path, f"{path} was {old!r}, is {new!r}"
