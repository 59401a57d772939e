"""The command line: one clear line, and the right status, for all that goes wrong."""

import errno
import importlib
import subprocess
import sys

import pytest

from clapjax.cli.main import VERBS, main
from tests.cli.status import main_status as _main

DEMO = "configs/demo.py:runlocal"
TRAIN = ("train", "--config", DEMO, "--data_dir", "nowhere", "--workdir", "run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*TRAIN, "--config.stepz=3"), "no config field 'stepz'; did you mean --config.steps?"),
        (
            (*TRAIN, "--config.loss.temporal_wait=1"),
            "'loss.temporal_wait'; did you mean --config.loss.temporal_weight?",
        ),
        ((*TRAIN, "--config.steps=many"), "--config.steps must be a whole number, not 'many'"),
        ((*TRAIN, "--config.loss.temporal_weight=x"), "temporal_weight must be a number, not 'x'"),
        (
            (*TRAIN, "--config.loss.mask_same_events=maybe"),
            "--config.loss.mask_same_events must be True or False, not 'maybe'",
        ),
        (
            (*TRAIN, "--config.task=tagging", "--config.loss.order_pairs=2"),
            "--config.loss.order_pairs is of task=contrastive, and task=tagging does not read it",
        ),
        (
            (*TRAIN, "--config.source.mode=direct", "--config.synthesis.train_negative_audio=True"),
            "--config.synthesis.train_negative_audio is of mixtures, and source.kind=sounds with",
        ),
        (
            (*TRAIN, "--config.batch_size=8", "--config.loss.order_pairs=2"),
            "batch_size 8 does not divide among 8 devices; take a multiple of 32: 4 rows each",
        ),
        ((*TRAIN, "--config.steps"), "--config.steps: write --config.steps=VALUE"),
        ((*TRAIN, "--config.steps=0"), "steps must be positive, not 0"),
        ((*TRAIN, "--config.loss=0"), "no config field 'loss'"),
        (TRAIN, "nowhere: no records here; make one with `clapjax records build`"),
        ((*TRAIN, "--config.task=tagging"), "nowhere: no records here; make one with"),
        (("train", "--config", "no.py", "--data_dir", "d", "--workdir", "w"), "no.py: no such con"),
        (("train", "--config", "bad.py", "--data_dir", "d", "--workdir", "w"), "bad.py: "),
        (("train", "--config", "typo.py", "--data_dir", "d", "--workdir", "w"), "mean 'steps'"),
        (("records", "info", "nowhere"), "nowhere: no records here"),
        (("records", "check", "nowhere"), "nowhere: no records here"),
        (("eval", *TRAIN[1:]), "run: no config.json here; not a clapjax workdir"),
        (("eval", "--data_dir", "d"), "nothing to evaluate; name --workdir W or --model M"),
        (("eval", "--model", "m"), "nothing to evaluate on; name --data_dir D or --benchmark"),
        (("eval", "--model", "m", "--benchmark", "esc50"), "esc50: write NAME=PATH"),
        (("eval", "--model", "a/m", "b/m", "--data_dir", "d"), "two models have the same name"),
        (("eval", "--model", "m", "--data_dir", "d"), "name a folder for the results of several"),
        (
            ("eval", "--model", "m", "--benchmark", "esc50=gone", "--out", "r"),
            "gone: no such folder (benchmark 'esc50')",
        ),
        (
            ("eval", "--model", "m", "--benchmark", "x=.", "x=.", "--out", "r"),
            "two benchmarks have the same name",
        ),
        (("eval", "--model", "m", "--benchmark", "x=.", "--out", "bad.py"), "bad.py is no folder"),
        (("report", "gone"), "gone/results.json: no results here; `clapjax eval` writes them"),
        (
            ("records", "build", "--config", "configs/esc10_mixup.py", "--data_dir", "d"),
            "data/ESC-10: no such folder (source.path of 'esc50')",
        ),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.py").write_text("this is no Python\n")
    (tmp_path / "typo.py").write_text(
        "from clapjax.cli.config import base_config\n"
        "def get_config(arg=''):\n"
        "    config = base_config()\n"
        "    config.stepz = 3\n"
        "    return config\n"
    )
    assert _main(*arguments) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"clapjax {arguments[0]}: ")
    assert message in lines[0]
    assert captured.out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trian",), "invalid choice: 'trian'"),
        (("train", "--data_dir", "d", "--workdir", "w"), "required: --config"),
        ((*TRAIN, "--bogus=1"), "unknown arguments: --bogus=1"),
        (("records", "info", "d", "--config.steps=1"), "unknown arguments: --config.steps=1"),
        (("records", "mend"), "invalid choice: 'mend'"),
    ],
)
def test_bad_usage_is_status_2(arguments, message, capsys):
    assert _main(*arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("usage: clapjax") and message in err.splitlines()[-1]


def test_nothing_said_is_answered_with_the_verbs(capsys):
    assert _main() == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("usage: clapjax") and not captured.out
    assert VERBS.keys() <= {*captured.err.split("VERB\n")[1].split()}


def test_bad_input_in_a_process_shows_no_stack_trace(command, tmp_path):
    build = ("records", "build", "--config", DEMO, "--data_dir", tmp_path / "d")
    done = command(*build, "--config.batchsize=3")
    assert done.returncode == 2 and done.stdout == ""
    expected = (
        "clapjax records: no config field 'batchsize'; did you mean --config.batch_size? "
        "(`clapjax config` lists all)\n"
    )
    assert done.stderr == expected
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_what_goes_on_with_start_me_again(monkeypatch, capsys):
    """And any other verb with 2; restart.sh takes up the run when there is room."""

    def full(args, overrides):
        raise OSError(errno.ENOSPC, "No space left on device", "runs/a/log.jsonl")

    again = "; with room for it, the same command goes on"
    for verb, status in (("train", 75), ("records", 75), ("import", 2)):
        module = importlib.import_module(VERBS[verb][0])
        monkeypatch.setattr(module, "add_arguments", lambda parser: None)
        monkeypatch.setattr(module, "run", full)
        assert main([verb]) == status
        line = f"clapjax {verb}: runs/a/log.jsonl: No space left on device"
        assert capsys.readouterr().err == f"{line}{again * (status == 75)}\n"


INTERRUPTED = """
import os, signal, sys
from clapjax.cli.entry import entry

module = sys.argv.pop(2)

class Finder:
    def find_spec(name, path, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder)
entry()
"""


@pytest.mark.parametrize("module", ["clapjax.cli.main", "jax"])
def test_ctrl_c_while_training_is_imported_is_one_line(module, quick_env):
    """Fails before: a traceback, of whatever library that was."""
    program = [sys.executable, "-c", INTERRUPTED, "train", module]
    done = subprocess.run(
        program + ["--config", DEMO, "--data_dir", "no", "--workdir", "no"],
        env=quick_env,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert (done.returncode, done.stderr) == (130, "clapjax: interrupted\n")
