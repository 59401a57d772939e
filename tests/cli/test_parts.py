"""A folder of embeddings that is written part by part, and what becomes of it when that ends."""

import functools
import hashlib
import re
import signal
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest

from clapjax.data import paths
from clapjax.inference.parts import BEAM, read_part, run_on_beam, write_parts
from clapjax.inference.store import Table, read_table

PRINTS, SETTINGS = {"audio": "a", "text": "b"}, {"long": "truncate", "hop": None}
ITEMS = [("audio", f"{number}.wav") for number in range(19)] + [
    ("text", "rain"),
    ("text", "\udce9"),
]
SIZE = 4


def vector(item) -> np.ndarray:
    """(3,) of an input's name."""
    digest = hashlib.sha256(repr(item).encode()).digest()
    return np.frombuffer(digest[:3], np.uint8).astype(np.float32)


class Embedder:
    """Counts what it embeds; ends at a call with an exception; leaves out what is broken."""

    def __init__(self, ends_at: int = -1, broken: tuple = ()):
        self.seen, self.skipped, self.ends_at, self.broken = [], 0, ends_at, broken

    def __call__(self, some):
        self.seen.append(some)
        if len(self.seen) - 1 == self.ends_at:
            raise KeyboardInterrupt
        good = [item for item in some if item not in self.broken]
        left_out = [name for kind, name in some if (kind, name) in self.broken]
        if not good:
            return None, left_out
        vectors = np.stack([vector(item) for item in good])
        names = [name.encode("utf-8", "replace").decode() for _, name in good]
        return Table(vectors, names, [kind for kind, _ in good], "model", PRINTS), left_out

    def skip(self, count: int) -> None:
        """Inputs that are done."""
        self.skipped += count


def write(folder, embedder=None, items=ITEMS, size=SIZE, prints=PRINTS, settings=SETTINGS, **how):
    """`write_parts` of inputs that are not known before."""
    embedder = embedder or Embedder()
    return write_parts(folder, iter(items), size, prints, settings, embedder, embedder.skip, **how)


def content(folder) -> dict[str, bytes]:
    """All that is in a folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an undisturbed run leaves."""
    folder = tmp_path_factory.mktemp("whole") / "parts"
    write(folder)
    return folder


def test_parts_are_the_inputs_in_order(whole):
    names = [f"parts-0000{number}.parquet" for number in range(6)]
    assert sorted(content(whole)) == names
    for number, name in enumerate(names):
        expected, table = ITEMS[SIZE * number :][:SIZE], read_table(whole / name)
        assert table.names == [name.replace("\udce9", "?") for _, name in expected]
        assert table.kinds == [kind for kind, _ in expected]
        np.testing.assert_array_equal(table.vectors, [vector(item) for item in expected])
        assert (table.model, table.fingerprints) == ("model", PRINTS)


def test_ended_at_every_part_it_leaves_the_same_and_does_nothing_twice(whole, tmp_path):
    """The part in flight alone is embedded again, at the next start."""
    for number in range(6):
        embedder = Embedder(ends_at=int(number > 0))  # the last start's part in flight comes again
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "parts", embedder)
        first = max(0, number - 1)
        assert embedder.seen == [ITEMS[SIZE * n :][:SIZE] for n in range(first, number + 1)]
        assert embedder.skipped == SIZE * first
    totals = write(tmp_path / "parts", last := Embedder())
    assert last.seen == [ITEMS[20:]] and content(tmp_path / "parts") == content(whole)
    assert (totals.rows, totals.inputs, totals.left_out, totals.done_before) == (21, 21, 0, 20)


KILLED = """
import os, signal, sys
from clapjax.data import paths
from tests.cli.test_parts import write

put, left = paths.put_file, [2]

def put_file(file, path):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    put(file, path)

paths.put_file = put_file
write(sys.argv[1])
"""


def test_killed_while_a_part_is_written(whole, tmp_path, quick_env):
    folder = tmp_path / "parts"
    done = subprocess.run([sys.executable, "-c", KILLED, folder], env=quick_env)
    assert done.returncode == -signal.SIGKILL
    there = {path.name: path for path in folder.iterdir()}
    assert len(there) == 4 and ".lock" in there and sum(".tmp" in name for name in there) == 1
    before = {name: there[name].stat().st_ino for name in content(whole) if name in there}
    write(folder, embedder := Embedder())
    assert len(embedder.seen) == 4 and content(folder) == content(whole)
    assert {name: (folder / name).stat().st_ino for name in before} == before  # not written again


def test_what_a_part_is_not_of_is_refused(whole, tmp_path):
    other = [*ITEMS[:6], ("audio", "new.wav"), *ITEMS[6:]]
    cases = (
        ({"prints": {"audio": "x"}}, "parts-00000.parquet: was made with another model, or of"),
        ({"settings": {"long": "whole", "hop": None}}, "made with --long truncate, not whole"),
        ({"settings": {"long": "truncate", "hop": 2}}, "with --hop left out, not 2"),
        ({"size": 5}, "made with --part_size 4, not 5"),
        ({"items": other}, "parts-00001.parquet: was made of other inputs than those that are the"),
        ({"items": ITEMS[:9]}, "parts-00002.parquet: was made of other inputs"),
        ({"items": ITEMS[:8]}, "has 4 parts more than its inputs make, from number 2 on"),
    )
    before = content(whole)
    for change, message in cases:
        embedder = Embedder()
        with pytest.raises(ValueError, match=re.escape(message)):
            write(whole, embedder, **change)
        assert embedder.seen == [] and content(whole) == before, message
    with paths.locked(whole / ".lock"), pytest.raises(ValueError, match="another process is writ"):
        write(whole)

    write(tmp_path / "parts")
    for damage in (b"", b"PAR1", (whole / "parts-00001.parquet").read_bytes()[:-9]):
        (tmp_path / "parts" / "parts-00001.parquet").write_bytes(damage)
        with pytest.raises(ValueError, match=r"parts-00001.parquet: damaged.*remove it"):
            write(tmp_path / "parts")
    (tmp_path / "parts" / "parts-00001.parquet").unlink()
    write(tmp_path / "parts", embedder := Embedder())
    assert embedder.seen == [ITEMS[4:8]] and content(tmp_path / "parts") == before


def test_inputs_that_come_behind_the_others(whole, tmp_path):
    """As of a list that was not whole: only the part that was not full is made anew."""
    write(tmp_path / "parts", items=ITEMS[:10])
    write(tmp_path / "parts", embedder := Embedder())
    assert embedder.seen[0] == ITEMS[8:12] and len(embedder.seen) == 4
    assert content(tmp_path / "parts") == content(whole)


def test_broken_inputs_are_counted_and_a_part_of_none_is_not_written(tmp_path):
    broken = (*ITEMS[4:8], ITEMS[9])
    for start in range(2):
        totals = write(tmp_path / "parts", embedder := Embedder(broken=broken))
        assert (totals.rows, totals.inputs, totals.left_out) == (16, 21, 5)
        again = ["parts-00002.parquet"] if totals.done_before else []
        assert totals.left_out_in == again
        assert embedder.seen[-1] == (ITEMS[4:8] if start else ITEMS[20:])
    assert read_part(tmp_path / "parts" / "parts-00002.parquet").left_out == ["9.wav"]
    assert not (tmp_path / "parts" / "parts-00001.parquet").exists()
    assert write(tmp_path / "none", Embedder(broken=tuple(ITEMS))).rows == 0
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "ended", Embedder(ends_at=0))
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]
    assert not (tmp_path / "none").exists()


def test_on_beam_they_are_the_same(whole, tmp_path):
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed")
    beam = functools.partial(run_on_beam, runner="direct", options="")
    write(tmp_path / "parts", items=ITEMS[:10])
    totals = write(tmp_path / "parts", run=beam)
    assert content(tmp_path / "parts") == content(whole)
    assert (totals.rows, totals.inputs, totals.done_before) == (21, 21, 8)
    assert write(tmp_path / "parts", run=beam).done_before == 21
    with pytest.raises(Exception, match="KeyboardInterrupt"):
        write(tmp_path / "failed", Embedder(ends_at=0), run=beam)
    for folder in ("parts", "failed"):
        assert not (tmp_path / folder / BEAM).exists()
    broken = Embedder(broken=tuple(ITEMS[:5]))
    totals = write(tmp_path / "broken", broken, run=beam)
    assert (totals.rows, totals.inputs, totals.left_out) == (16, 21, 5)
    assert len(content(tmp_path / "broken")) == 5


def test_parts_read_as_one_table(whole):
    tables = pyarrow.parquet.read_table(whole)
    assert len(tables) == len(ITEMS)
