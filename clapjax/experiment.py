"""One experiment: every setting with its default, and its way to disk and back."""

import json
import os
from dataclasses import dataclass, field

from clapjax.data.build.config import SourceConfig
from clapjax.data.order import parse_share
from clapjax.data.paths import as_path, remove_folder, write_text
from clapjax.data.records import BUILD_FILE, TOKENIZER_FOLDER
from clapjax.evaluation.config import EvaluationConfig
from clapjax.losses.config import LossConfig
from clapjax.models.config import ClapConfig
from clapjax.models.packing import packed_sizes
from clapjax.models.presets import small_clap
from clapjax.plain import from_dict, read_json, to_dict
from clapjax.synthesis.mixup import MixupConfig
from clapjax.tasks.captioning import CaptioningConfig, captioning
from clapjax.tasks.contrastive import check, contrastive
from clapjax.tasks.tagging import TaggingConfig, tagging
from clapjax.tasks.task import Task
from clapjax.training.config import CHECKPOINTS, TrainConfig

CONFIG_FILE = "config.json"
TASKS = ("contrastive", "tagging", "captioning")


@dataclass(frozen=True)
class Experiment(TrainConfig):
    """A training run together with its task, how its records are made and its model judged."""

    # Or "tagging" or "captioning", which take the audio encoder of the model.
    task: str = "contrastive"
    model: ClapConfig = field(default_factory=small_clap)
    loss: LossConfig = field(default_factory=LossConfig)  # of the contrastive task
    tagging: TaggingConfig = field(default_factory=TaggingConfig)
    captioning: CaptioningConfig = field(default_factory=CaptioningConfig)
    source: SourceConfig = field(default_factory=SourceConfig)
    synthesis: MixupConfig = field(default_factory=MixupConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self):
        super().__post_init__()
        if self.task not in TASKS:
            raise ValueError(f"task must be one of {', '.join(TASKS)}, not {self.task!r}")
        if self.init_tower and self.task != "contrastive":
            raise ValueError(f"init_tower is of task=contrastive, not of task={self.task}")
        check(self.model, self.loss)
        if self.task == "contrastive":
            packed_sizes(1, self.model.text.max_length, self.packed_length)


def make_task(experiment: Experiment, tokenizer=None) -> Task:
    """The task that an experiment trains, before a workdir completes it (`Task.open`).

    The tokenizer is that of the model which it starts from (`clapjax.starting.resolve`).
    """
    if experiment.task == "tagging":
        data = experiment.data
        return tagging(experiment.model, experiment.tagging, data.split, data.audio)
    if experiment.task == "captioning":
        return captioning(experiment.model, experiment.captioning, experiment.data, tokenizer)
    return contrastive(experiment.model, experiment.loss, experiment.data, tokenizer)


# What a run may go on with differently, for it does not change the steps that are already made:
# where and how fast it computes, what is kept, logged and judged, how many steps are to come, and
# where records came from (they are compared themselves).
FREE = (
    "mesh",
    "remat",
    "rows_per_device",
    "packed_length",
    "packed_rows",
    "steps",
    "log_every",
    "checkpoint_every",
    "eval_every",
    "keep_last",
    "keep_best",
    "evaluation",
    "captioning.decoding",
    "source",
    "synthesis",
    "data.workers",
    "data.reads",
    "data.prefetch",
)


def save_experiment(experiment: Experiment, workdir: str | os.PathLike, write: bool = True) -> None:
    """Writes the resolved config to the workdir, or checks that the one there is the same.

    A workdir without a checkpoint binds nobody: its config is replaced. What is in FREE may change,
    and so may the folders of data.mixture.

    Args:
      experiment: the config.
      workdir: of the run.
      write: False: only checks, as all processes of a run but one do.

    Raises:
      ValueError: the workdir was made with another config, of which the message shows the
        difference; or is not to be written to (`check_workdir`).
    """
    from clapjax.training.checkpoint import latest_step  # Orbax takes a second to import

    check_workdir(workdir)
    file = as_path(workdir) / CONFIG_FILE
    new, begun = to_dict(experiment), latest_step(workdir) is not None
    if file.is_file() and begun:
        # By way of the dataclass: what a field that is new since then does by default, it did.
        changes = list(_differences(to_dict(load_experiment(workdir)), new))
        if any(path == "init_from" for path, *_ in changes):  # the model's settings follow from it
            taken = ("model.", "captioning.decoder.", "data.token")
            changes = [one for one in changes if not one[0].startswith(taken)]
        bound = [
            f"{path} was {old!r}, is {now!r}"
            for path, old, now in changes
            if not _free(path) and not (path == "data.mixture" and _shares(old) == _shares(now))
        ]
        if bound:
            raise ValueError(
                f"{workdir}: was begun with another config: {'; '.join(bound)}. "
                "Use a new --workdir, or the old config"
            )
        write &= bool(changes)
    if write:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(new, indent=2) + "\n")
        if not begun:  # it may be of the config that was there
            remove_folder(file.parent / TOKENIZER_FOLDER)


def load_experiment(workdir: str | os.PathLike) -> Experiment:
    """The config that a workdir was made with.

    Raises:
      FileNotFoundError: not a workdir of clapjax.
      ValueError: its config is damaged, or of another version of clapjax.
    """
    file = as_path(workdir) / CONFIG_FILE
    if not file.is_file():
        raise FileNotFoundError(f"{workdir}: no {CONFIG_FILE} here; not a clapjax workdir")
    try:
        return from_dict(Experiment, read_json(file, dict))
    except ValueError as error:
        if os.fspath(file) in str(error):
            raise
        raise ValueError(f"{file}: {error}; was it edited?") from error


def check_workdir(workdir: str | os.PathLike) -> None:
    """Raises ValueError where a run would write over what is not a run's: records, or a model."""
    if not os.fspath(workdir):
        raise ValueError("--workdir is empty; name a folder for the run")
    folder = as_path(workdir)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; name a folder for the run (--workdir)")
    names = (BUILD_FILE, CONFIG_FILE, TOKENIZER_FOLDER)
    taken = [name for name in names if (folder / name).exists()]
    if BUILD_FILE in taken or (taken and not is_workdir(folder)):
        what = "has records in it" if BUILD_FILE in taken else f"has a {taken[0]} that is no run's"
        raise ValueError(f"{folder}: {what}; name another folder for the run (--workdir)")


def is_workdir(folder: str | os.PathLike) -> bool:
    """Whether a training run was begun here; other projects have a config.json as well."""
    folder = as_path(folder)
    if not (folder / CONFIG_FILE).is_file():
        return False
    if (folder / CHECKPOINTS).is_dir():
        return True
    try:
        fields = read_json(folder / CONFIG_FILE, dict)
    except ValueError:
        return False
    return "synthesis" in fields and "steps" in fields


def _free(path: str) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in FREE)


def _shares(mixture: list[str]) -> list[float]:
    return [parse_share(item)[1] for item in mixture]


def _differences(old, new, path: str = ""):
    """(path, old value, new value) of each field that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            where = f"{path}.{name}" if path else name
            yield from _differences(old.get(name), new.get(name), where)
    elif old != new:
        yield path, old, new
