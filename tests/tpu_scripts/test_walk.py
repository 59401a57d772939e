"""Every command of docs/pod.md: the scripts' as a dry run, ours as far as they are understood."""

import argparse
import importlib.util
import re
import shlex

import pytest

from clapjax.cli.config import load_config
from clapjax.cli.main import VERBS
from clapjax.planning.chips import hardware
from tests.tpu_scripts.conftest import SCRIPTS

PAGE = (SCRIPTS.parent / "docs" / "pod.md").read_text()


def _commands() -> list[list[str]]:
    """The words of each command of the page; `a && b` are two."""
    blocks = "\n".join(re.findall(r"^    (.*)$", PAGE, re.M)).replace("\\\n", " ")
    lines = [part for line in blocks.splitlines() for part in line.split(" && ")]
    return [shlex.split(line) for line in lines]


def _exported() -> dict[str, str]:
    words = [word for command in _commands() if command[0] == "export" for word in command[1:]]
    return dict(word.split("=", 1) for word in words)


SCRIPTED = [command for command in _commands() if command[0].startswith("tpu_scripts/")]
OURS = [command for command in _commands() if command[0] == "clapjax"]


def test_the_page_is_the_whole_way():
    kinds = {command[0].partition("/")[2] or command[0] for command in _commands()}
    assert kinds == {
        *("git", "cd", "gcloud", "ssh-add", "pip", "export", "clapjax", "tensorboard", "python"),
        *("restart.sh", "logs.sh", "delete.sh"),
    }
    wanted = iter([command[1] for command in OURS])
    assert all(verb in wanted for verb in ("records", "plan", "eval", "report", "export"))


def test_our_modules_are_there():
    (module,) = (command[2] for command in _commands() if command[:2] == ["python", "-m"])
    assert importlib.util.find_spec(module)


def _dry(cloud, command: list[str], **more_env: str) -> list[list[str]]:
    """The commands of a dry run, which must call nothing."""
    name = command[0].partition("/")[2]
    source = [f"--source={cloud.source}"] if name == "restart.sh" else []
    done = cloud.run(name, "--dry-run", *source, *command[1:], **(_exported() | more_env))
    assert done.returncode == 0 and done.stderr == "" and cloud.calls() == []
    return [shlex.split(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("command", SCRIPTED, ids=lambda words: words[0])
def test_each_script_as_a_dry_run(cloud, command):
    for words in _dry(cloud, command):
        assert words[:3] == ["gcloud", "compute", "tpus"]
        assert "laion" in [word.rstrip(":") for word in words] and "--zone=us-west4-a" in words


def _slices() -> list[tuple[str, str, str]]:
    """(type, slices, runtime) of the table of slices."""
    row = r"^\| .*\| `(v[\w-]+)`(?:, and `TPU_SLICES=(\d)`)? \| `([\w-]+)` \|$"
    rows = re.findall(row, PAGE, re.M)
    return [(kind, count or "1", runtime) for kind, count, runtime in rows]


@pytest.mark.parametrize(("kind", "count", "runtime"), _slices())
def test_each_kind_of_slice(cloud, kind, count, runtime):
    """Records and workdir go by name to every worker of every slice; nothing is mounted."""
    (restart,) = (command for command in SCRIPTED if "restart" in command[0])
    places = {"TPU_TYPE": kind, "TPU_RUNTIME": runtime, "TPU_SLICES": count}
    create, scp, setup, start = _dry(cloud, restart, **places)
    assert {f"--accelerator-type={kind}", f"--runtime-version={runtime}", "--spot"} <= {*create}
    assert ("--node-count=2" in create) == (count == "2") == ("--node=all" in scp)
    assert setup[-1] == "--command=bash on_worker.sh setup 3.12 ''"
    told = shlex.split(start[-1].removeprefix("--command="))
    assert told[5:] == restart[restart.index("--") + 1 :]
    assert {"gs://my-bucket/records", "gs://my-bucket/runs/laion"} <= {*told}
    assert hardware(kind).platform == "tpu"


def test_the_table_has_all_kinds():
    assert {kind.partition("-")[0] for kind, _, _ in _slices()} == {"v5litepod", "v5p", "v6e"}
    assert "2" in {count for _, count, _ in _slices()}


@pytest.mark.parametrize("command", [*OURS, next(c[c.index("--") + 1 :] for c in SCRIPTED)])
def test_our_commands_are_understood(command):
    """And their fields of a config."""
    parser = argparse.ArgumentParser()
    importlib.import_module(VERBS[command[1]][0]).add_arguments(parser)
    args, overrides = parser.parse_known_args(command[2:])
    assert all(item.startswith("--config.") for item in overrides)
    if getattr(args, "config", None):
        load_config(args.config, overrides)
    for name in getattr(args, "topology", None) or ():
        hardware(name)
