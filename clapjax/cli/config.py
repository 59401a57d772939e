"""From a config file and overrides on the command line to an `Experiment`."""

import argparse
import os
import re
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from clapjax.data.paths import need_local
from clapjax.plain import HOLDS, closest, from_dict, to_dict

if TYPE_CHECKING:  # else imported where a config is read: `--help` needs none of it
    from ml_collections import ConfigDict

    from clapjax.experiment import Experiment

GIVEN = re.compile(r"--config\.([\w.]+)=")  # a field, in absl's words for a wrong value


def base_config() -> "ConfigDict":
    """Every key with its default; a config file sets what differs."""
    from ml_collections import ConfigDict

    from clapjax.experiment import Experiment

    return ConfigDict(plain(Experiment()))


def plain(config) -> dict:
    """A config dataclass as a config file holds it, to be set into its ConfigDict."""
    return _tuples(to_dict(config))


def check_argument(arg: str, *names: str) -> None:
    """Raises ValueError where a config file has no variant of this name (FILE:ARG)."""
    if arg and arg not in names:
        raise ValueError(f"no variant {arg!r}; there are {', '.join(names)}")


def shrink(config: "ConfigDict") -> None:
    """Makes any config a smoke run of seconds on a CPU: small model, few samples, few steps.

    On the embedded sounds alone, and without order pairs or a model to begin with.
    """
    base = base_config()
    config.model = base.model
    config.model.logit_bias = config.loss.kind == "sigmoid"
    for group in ("source", "data", "evaluation"):  # the embedded sounds, whatever it trains on
        config[group] = base[group]
    config.init_from = config.init_tower = ""
    config.keep_best = ""
    config.eval_every = 0
    config.optimizer.warmup_steps = 1
    config.rows_per_device = 0
    config.mesh.fsdp = 1
    config.model.htsat.update(embed_dim=16, heads=(2,), conv_stem=(8, 8, 16))
    config.model.text.update(hidden_size=32, layers=1, heads=2, intermediate_size=64)
    config.model.projection_size = 32
    config.captioning = base.captioning
    config.captioning.decoder.update(hidden_size=32, layers=1, heads=2, intermediate_size=64)
    config.batch_size = 8
    config.steps = 4
    config.log_every = 2
    config.checkpoint_every = 2
    config.source.sounds_per_fold = 2
    config.source.sounds_seconds = 3.0
    config.synthesis.update(train_mixtures=16, test_mixtures=8, crops_per_recording=1)
    config.loss.tile = 4
    config.loss.order_pairs = 0  # eight rows shall do on eight devices


def _tuples(value):
    """Lists to tuples, which ConfigDict lets the command line replace by any other."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else value


def add_config_argument(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """--config FILE[:ARG], and --config.FIELD=VALUE for any field."""
    parser.add_argument(
        "--config",
        required=required,
        metavar="FILE[:ARG]",
        help="config file; any of its fields can be set with --config.FIELD=VALUE, and `clapjax "
        "config` explains them",
    )


def add_model_argument(
    parser: argparse.ArgumentParser,
    purpose: str = "start from a model, with its configuration and tokenizer",
) -> None:
    """--model M, which sets init_from."""
    parser.add_argument(
        "--model",
        metavar="M",
        help=f"{purpose}: a workdir, an export, a Hugging Face folder or hub id, a LAION-CLAP .pt",
    )


def with_model(overrides: list[str], model: str | None) -> list[str]:
    """The overrides, with one of --model."""
    return overrides if model is None else [*overrides, f"--config.init_from={model}"]


def given_fields(overrides: list[str]) -> set[str]:
    """The fields that overrides set, as "model.text.dropout"."""
    return {item.removeprefix("--config.").partition("=")[0] for item in overrides}


def check_given(given: set[str], experiment: "Experiment") -> None:
    """Raises ValueError where a field is given that this task, or way to build, does not read."""
    task, source = experiment.task, experiment.source
    tasks = {"loss": "contrastive", "tagging": "tagging", "captioning": "captioning"}
    for field in sorted(given):
        group = field.partition(".")[0]
        if (owner := tasks.get(group, task)) != task:
            raise ValueError(
                f"--config.{field} is of task={owner}, and task={task} does not read it: leave it "
                f"out, or set --config.task={owner}"
            )
        if group == "synthesis" and not source.mixes_up():
            raise ValueError(
                f"--config.{field} is of mixtures, and source.kind={source.kind} with source.mode="
                f"{source.mode} makes none: leave it out, or set --config.source.mode=mixup (of "
                "clips with one label each)"
            )


def load_config(source: "str | Experiment", overrides: list[str]) -> "Experiment":
    """Reads a config file and applies the overrides.

    Args:
      source: path of a config file, with an argument for its get_config behind a colon; or the
        config itself.
      overrides: strings "--config.FIELD=VALUE".

    Raises:
      ValueError: no such file, an unknown field (the closest is named), or a bad value.
    """
    from absl import flags
    from ml_collections import ConfigDict, config_flags

    from clapjax.experiment import Experiment

    values, argv = flags.FlagValues(), ["clapjax", *overrides]
    # It looks for overrides in sys.argv unless it is told otherwise.
    settings = {"flag_values": values, "sys_argv": argv}
    if isinstance(source, Experiment):
        name = "config"
        config_flags.DEFINE_config_dict("config", ConfigDict(plain(source)), **settings)
    else:
        if "://" in source:
            need_local(source, "a config file")
        name, (file, colon, argument) = source, source.partition(":")
        argv.insert(1, f"--config={find_config(file)}{colon}{argument}")
        config_flags.DEFINE_config_file("config", **settings)
    known = _defaults(base_config().to_dict())
    for item in overrides:
        field, equals, _ = item.removeprefix("--config.").partition("=")
        if field not in known:
            meant = closest(field, known)
            hint = f"; did you mean --config.{meant}?" if meant else ""
            raise ValueError(f"no config field {field!r}{hint} (`clapjax config` lists all)")
        if not equals:
            raise ValueError(f"{item}: write --config.{field}=VALUE")
    try:
        values(argv)
        config = values.config
    except Exception as error:  # whatever a config file raises; absl shows a stack in its message
        if given := isinstance(error, flags.IllegalFlagValueError) and GIVEN.search(str(error)):
            field = given[1]
            value = next(x.partition("=")[2] for x in overrides if x.startswith(given[0]))
            kind = HOLDS.get(type(known[field]), "a tuple, as ('a', 'b')")
            raise ValueError(f"--config.{field} must be {kind}, not {value!r}") from error
        lines = [line for line in str(error).splitlines() if line.strip()]
        why = lines[-1] if lines else type(error).__name__
        raise ValueError(f"{name}: {why}{_where(error, name)}") from error
    if not isinstance(config, ConfigDict):
        raise ValueError(f"{name}: get_config returns {config!r:.40}, no ConfigDict")
    return from_dict(Experiment, config.to_dict())


def _where(error: Exception, name: str) -> str:
    """Where in a config file an error was raised."""
    file, stack = Path(name.partition(":")[0]).name, traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in stack if Path(frame.filename).name == file]
    return f" (line {frames[-1].lineno})" if frames else ""


def find_config(file: str) -> Path:
    """A config by path; the ones that come with clapjax are also found from elsewhere.

    Raises:
      ValueError: no such file.
    """
    package = Path(__file__).resolve().parents[1]
    for path in (Path(file), package.parent / file, package / file):
        if path.is_file():
            return path
    raise ValueError(f"{file}: no such config file (looked in {os.getcwd()} and beside clapjax)")


def _defaults(tree: dict, prefix: str = "") -> dict:
    """Of each field, as "model.text.dropout", its default."""
    found = {}
    for key, value in tree.items():
        inner = isinstance(value, dict)
        found |= _defaults(value, f"{prefix}{key}.") if inner else {prefix + key: value}
    return found
