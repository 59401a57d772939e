"""Commands of clapjax at once."""

import os
import subprocess
import sys
import time

import pytest

from clapjax.cli import side_by_side
from clapjax.cli.side_by_side import run_all
from tests.conftest import REPO

# In place of `main` of a worker: tells on which cores it is, waits until another runs as well.
CHILD = """
import os, signal, sys, time
from clapjax.cli import main, side_by_side
def run(words):
    folder = {folder!r}
    def stopped(*_):
        open(os.path.join(folder, words[0] + " is stopped"), "w").close()
        os._exit(75)
    if words[1] == "waits":
        signal.signal(signal.SIGTERM, stopped)
    open(os.path.join(folder, words[0]), "w").close()
    until = time.monotonic() + 60
    while len(os.listdir(folder)) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    if words[1] == "waits":
        time.sleep(60)
    print(" ".join(words), "on", *sorted(os.sched_getaffinity(0)), "of", os.getpid())
    print("said on stderr", file=sys.stderr)
    print("read", repr(sys.stdin.read() + os.read(0, 9).decode()))
    if words[1] == "dies":
        os._exit(7)
    if words[1] == "exits":
        sys.exit(2)
    return int(words[1])
main.main = run
side_by_side.serve()
"""


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """A function of {name: status} that makes commands which end with it; a process for each."""
    (tmp_path / "begun").mkdir()
    child = tmp_path / "child.py"
    child.write_text(CHILD.format(folder=str(tmp_path / "begun")))
    monkeypatch.setattr(side_by_side, "WORKER", [str(child)])
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    return lambda ends: {name: [name, str(status)] for name, status in ends.items()}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_each_is_told_by_its_name_and_has_cores_of_its_own(commands, capsys):
    before = os.sched_getaffinity(0)
    assert run_all(commands({"one": 0, "two": 0}), jobs=2) == 0
    assert os.sched_getaffinity(0) == before
    lines = capsys.readouterr().out.splitlines()
    assert {"$ clapjax one 0", "$ clapjax two 0", "one: said on stderr"} < set(lines)
    told = [line.partition(" on ")[2].partition(" of ")[0] for line in lines if " of " in line]
    shares = [set(map(int, cores.split())) for cores in told]
    assert {"one: read ''", "two: read ''"} < set(lines)
    if len(before) > 1:
        assert not shares[0] & shares[1]
    assert shares[0] | shares[1] == before


@pytest.mark.parametrize(("end", "status"), [(3, 3), ("dies", 7), ("exits", 2)])
def test_after_one_that_fails_no_other_starts(commands, capsys, end, status):
    assert run_all(commands({"one": end, "two": end, "three": 0}), jobs=2) == status
    begun = [line for line in capsys.readouterr().out.splitlines() if line.startswith("$")]
    assert len(begun) == 2 and "$ clapjax three 0" not in begun


def test_each_begins_when_all_is_there_that_it_needs(commands, capsys):
    """And in a process that is there already."""
    needs = {"last": ("one", "two", "next"), "next": ("one",)}
    names = ("one", "two", "last", "next")
    with pytest.raises(ValueError, match="last needs next, which is not earlier"):
        run_all(commands(dict.fromkeys(names, 0)), 2, needs)
    names = ("one", "two", "next", "last")
    assert run_all(commands(dict.fromkeys(names, 0)), 2, needs) == 0
    lines = capsys.readouterr().out.splitlines()
    place = {name: lines.index(f"$ clapjax {name} 0") for name in names}
    ended = {name: lines.index(f"{name}: read ''") for name in names}
    assert place["last"] > max(ended[name] for name in needs["last"])
    assert place["next"] > ended["one"]
    assert len({line.partition(" of ")[2] for line in lines if " of " in line}) == 2


def test_who_started_them_is_killed(commands, tmp_path):
    """The commands are asked to stop, so that a second start does not meet the first one's."""
    todo = f"side_by_side.run_all({commands({'one': 'waits', 'two': 'waits'})}, 2)"
    first = f"side_by_side.WORKER = {side_by_side.WORKER}"
    code = f"from clapjax.cli import side_by_side; {first}; {todo}"
    begun, until = tmp_path / "begun", time.monotonic() + 120

    def wait_for(names: set[str]) -> None:
        while not names <= set(os.listdir(begun)):
            assert time.monotonic() < until
            time.sleep(0.02)

    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) as parent:
        wait_for({"one", "two"})
        parent.kill()
    wait_for({"one is stopped", "two is stopped"})


def test_what_it_runs_are_verbs(capsys):
    """The worker as it is, which knows a config and refuses what is none."""
    assert run_all({"a": ["config", "configs/demo.py"], "b": ["config", "none.py"]}, jobs=2) == 2
    printed = capsys.readouterr().out
    assert "a: " in printed and "b: clapjax config: " in printed
