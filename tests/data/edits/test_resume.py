"""An edit that is killed goes on: to the same bytes, and no finished unit is made again."""

import hashlib
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from clapjax.data import paths, records
from clapjax.data.build.units import Work
from clapjax.data.edits.annotate import annotate
from clapjax.data.edits.filter import Where, select
from clapjax.data.edits.merge import merge
from clapjax.data.tables import write_rows
from clapjax.data.tokenizer import train_tokenizer
from tests.conftest import REPO
from tests.data.building import make_example, write_records


def _inputs(folder: Path) -> tuple[Path, Path, Path]:
    """Two data sets of several shards with a tokenizer each, and a table about the first."""
    for name, first in (("one", 0), ("two", 50)):
        splits = {"train": range(first, first + 9), "test": range(first + 9, first + 12)}
        examples = {split: [make_example(i) for i in part] for split, part in splits.items()}
        write_records(folder / name, examples, shards=3)
        train_tokenizer([name] * 20, folder / name / records.TOKENIZER_FOLDER, 280)
        build = records.read_build(folder / name)
        records.write_build(folder / name, build | {"data": {"vocab_size": 280}})
    rows = ({"id": f"clip-{i}", "negative_captions": [f"wrong {i}"]} for i in range(0, 15, 2))
    write_rows(folder / "table.jsonl", rows)
    return folder / "one", folder / "two", folder / "table.jsonl"


EDITS = {
    "merge": lambda out, one, two, table, **how: merge(out, [one, two], **how),
    "filter": lambda out, one, two, table, **how: select(out, one, Where(negatives=True), **how),
    "annotate": lambda out, one, two, table, **how: annotate(out, one, [table], **how),
    "apart": lambda out, one, two, table, **how: annotate(out, one, [table], apart=True, **how),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return _inputs(tmp_path_factory.mktemp("resume"))


def _tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with the hash of its bytes."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


class Interrupter:
    """Ends what runs before or behind the call number `left` of some functions."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.left, self.made = -1, Counter()
        for owner, name in (
            (paths, "put_file"),
            (paths, "write_text"),
            (paths, "move_folder"),
            (paths, "remove_folder"),
            (records, "write_metadata"),
            (records.ShardWriter, "write"),
            (Path, "replace"),
        ):
            patch.setattr(owner, name, self._wrapped(getattr(owner, name)))
        patch.setattr(Work, "finish", self._counted(Work.finish))

    def _wrapped(self, function):
        def call(*arguments, **settings):
            self._tick()
            result = function(*arguments, **settings)
            self._tick()
            return result

        return call

    def _counted(self, function):
        def finish(work, unit, *rest):
            function(work, unit, *rest)
            self.made[unit.name] += 1

        return finish

    def _tick(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", EDITS)
def test_interrupted_anywhere(inputs, tmp_path, name):
    clean = inputs[0].parent / f"clean-{name}"  # beside the input, as the others are
    expected = EDITS[name](clean, *inputs)
    chance, most = random.Random(name), 0
    for attempt in range(6):
        with pytest.MonkeyPatch.context() as patch:
            stop, out, interrupted = Interrupter(patch), clean.with_name(f"{name}-{attempt}"), 0
            while not out.exists():
                stop.left = chance.randint(1, 60)
                try:
                    found = EDITS[name](out, *inputs)
                except KeyboardInterrupt:
                    interrupted += 1
            # A unit whose sidecar was written, and the process ended at once, is not counted.
            assert set(stop.made.values()) == {1}
        most = max(most, interrupted)
        assert _tree(out) == _tree(clean)
        assert found == expected
        assert not records.incomplete(out).exists()
    assert most >= 2


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
from array_record.python import array_record_module
from clapjax.data.records import parser, serializer
from tests.data.building import make_example
from tests.data.edits.test_resume import EDITS
parser()(serializer("a")(make_example(1)))  # what it imports is there
inputs, out, chance = list(map(Path, sys.argv[1:4])), Path(sys.argv[4]), random.Random(0)
units = out.with_name(out.name + ".incomplete") / "units"

def slowly(items, total, what):
    for item in items:
        time.sleep(0.005)
        yield item

def start():
    child = os.fork()  # before any thread: this process itself edits nothing
    if not child:
        EDITS["annotate"](out, *inputs, progress=slowly)
        os._exit(0)
    return child

made = {}
for attempt in range(6):
    child, ended = start(), 0
    while not ended and len(list(units.glob("*.json"))) <= attempt:
        ended = os.waitpid(child, os.WNOHANG)[0]
    time.sleep(chance.uniform(0, 0.02))
    if not ended:
        os.kill(child, signal.SIGKILL)
        print(int(os.WIFSIGNALED(os.waitpid(child, 0)[1])), flush=True)
    if out.exists() or (units.parent / "clapjax_build.json").exists():  # it was quicker
        break
    now = {file.name: file.stat().st_mtime_ns for file in units.glob("*.json")}
    assert made.items() <= now.items(), "a finished unit was made again"
    made = now
assert out.exists() or os.waitpid(start(), 0)[1] == 0
"""


def test_killed(inputs, tmp_path, quick_env):
    """Forks of a warm process, so that each kill falls into the work and not into imports."""
    out = inputs[0].parent / "killed"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, inputs[0], inputs[1], inputs[2], out],
        cwd=REPO,
        env=quick_env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("1") >= 3
    annotate(tmp_path / "clean", inputs[0], [inputs[2]])
    assert _tree(out) == _tree(tmp_path / "clean")


def test_processes_make_the_same(inputs, tmp_path):
    counted = []

    def progress(items, total, what):
        counted.append((what, total, sum(1 for _ in items)))
        return ()

    EDITS["filter"](tmp_path / "two", *inputs, processes=2, progress=progress)
    EDITS["filter"](tmp_path / "one", *inputs)
    assert _tree(tmp_path / "two") == _tree(tmp_path / "one")
    assert counted == [("filtering", 12, 12)]
    with pytest.raises(ValueError, match="processes must be at least 1, not 0"):
        EDITS["merge"](tmp_path / "three", *inputs, processes=0)


def test_unfinished_work_is_not_thrown_away(inputs, tmp_path):
    """Neither by an error nor by other settings, which are named."""
    with pytest.MonkeyPatch.context() as patch:
        Interrupter(patch).left = 30
        with pytest.raises(KeyboardInterrupt):
            EDITS["annotate"](tmp_path / "out", *inputs)
    units = tmp_path / "out.incomplete" / "units"
    kept = _tree(units)
    assert any(name.endswith(".json") for name in kept)
    with pytest.raises(records.RecordsError, match=r"unfinished work .*\(replace differ\)"):
        annotate(tmp_path / "out", inputs[0], [inputs[2]], replace=True)
    with pytest.raises(records.RecordsError, match=r"something else \(merged, .* differ\)"):
        EDITS["merge"](tmp_path / "out", *inputs)
    assert _tree(units) == kept
    EDITS["annotate"](tmp_path / "out", *inputs)
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
