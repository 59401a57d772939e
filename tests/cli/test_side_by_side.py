"""Commands of clapjax at once."""

import os
import sys

import pytest

from clapjax.cli.side_by_side import run_all

# Stands for the interpreter: tells on which cores it is, and waits until another runs as well.
CHILD = """#!{python}
import os, sys, time
words, folder = sys.argv[3:], {folder!r}
open(os.path.join(folder, words[0]), "w").close()
until = time.monotonic() + 60
while len(os.listdir(folder)) < 2 and time.monotonic() < until:
    time.sleep(0.01)
print(" ".join(words), "on", *sorted(os.sched_getaffinity(0)))
print("said on stderr", file=sys.stderr)
sys.exit(int(words[1]))
"""


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """A function of {name: status} that makes commands which end with it; a process for each."""
    (tmp_path / "begun").mkdir()
    child = tmp_path / "child"
    child.write_text(CHILD.format(python=sys.executable, folder=str(tmp_path / "begun")))
    child.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(child))
    return lambda ends: {name: [name, str(status)] for name, status in ends.items()}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_each_is_told_by_its_name_and_has_cores_of_its_own(commands, capsys):
    before = os.sched_getaffinity(0)
    assert run_all(commands({"one": 0, "two": 0}), jobs=2) == 0
    assert os.sched_getaffinity(0) == before
    lines = capsys.readouterr().out.splitlines()
    assert {"$ clapjax one 0", "$ clapjax two 0", "one: said on stderr"} < set(lines)
    told = [line.partition(" on ")[2] for line in lines if " on " in line and "said" not in line]
    shares = [set(map(int, cores.split())) for cores in told]
    if len(before) > 1:
        assert not shares[0] & shares[1]
    assert shares[0] | shares[1] == before


def test_after_one_that_fails_no_other_starts(commands, capsys):
    assert run_all(commands({"one": 3, "two": 3, "three": 0}), jobs=2) == 3
    begun = [line for line in capsys.readouterr().out.splitlines() if line.startswith("$")]
    assert "$ clapjax three 0" not in begun
