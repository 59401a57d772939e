"""A compiler that dies says why, in one line, and nobody dies with it."""

import os
import signal
import sys

import pytest

from clapjax.experiment import make_task
from clapjax.planning import compiled as module
from clapjax.planning import plan as planner
from clapjax.planning.chips import hardware
from clapjax.planning.compiled import DoesNotCompile, compiled, reason_of
from tests.training.tiny import tiny_config


def aborts(config):
    """A task's function, run where the compiler runs."""
    sys.stderr.write("noise\nF1126 18:00:00.1 7 file.cc:9] Check failed: a < b\n*** stack\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGABRT)


@pytest.fixture
def anything_compiles(monkeypatch):
    """None of these tests gets as far as libtpu."""
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: True)


def test_an_abort_is_one_line(anything_compiles, capfd):
    with pytest.raises(DoesNotCompile, match=r"died of SIGABRT: Check failed: a < b$") as error:
        compiled(tiny_config(), aborts, hardware("v5e-8"))
    assert "noise" in error.value.log
    assert capfd.readouterr().err == ""


def test_the_plan_goes_on(monkeypatch):
    def dies(*arguments):
        raise DoesNotCompile("the compiler ended with status 1 and no word", "")

    counts = {"how": "counted", "bytes": 2**30, "fits": True}
    monkeypatch.setattr(planner, "compiled", dies)
    monkeypatch.setattr(planner, "counted", lambda *arguments: counts)
    report = planner.plan(tiny_config(), make_task, hardware("v5e-8"))
    assert not report["fits"] and report["how"] == "counted" and report["bytes"] == 2**30
    assert planner.summary(report) == (
        "v5e-8: 1 x 1 rows a device, does not compile: the compiler ended with status 1 and no word"
    )


@pytest.mark.parametrize(
    ("status", "log", "reason"),
    [
        (1, "", "ended with status 1 and no word"),
        (1, "Traceback\n\nKeyError: 'x'\n\n", "ended with status 1: KeyError: 'x'"),
        (-signal.SIGKILL, "noise", "killed (SIGKILL), as where this machine's memory runs out"),
        (-signal.SIGSEGV, "noise", "died of SIGSEGV"),
        (-signal.SIGABRT, "F1126 1 2 f.cc:3] Check failed: x\nmore", "SIGABRT: Check failed: x"),
    ],
)
def test_reasons(status, log, reason):
    assert reason_of(status, log).endswith(reason)
