"""Rows find their records, and never those of others."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clapjax.captions.tables import Texts
from clapjax.data.edits.match import Named, match


def _records(*sources: str, split: str = "train") -> list[Named]:
    return [Named(split, f"id-{i}", name, (f"text {i}",)) for i, name in enumerate(sources)]


def _rows(*files: str) -> list[Texts]:
    return [Texts(f"t.csv:{i}", file=file) for i, file in enumerate(files, 2)]


def test_id_goes_before_file_and_file_before_caption():
    records = _records("set:train/a", "set:train/b", "set:train/c")
    rows = [
        Texts("t:1", id="id-1", file="a.wav", captions=("text 2",)),
        Texts("t:2", id="7", file="a.wav", captions=("text 2",)),  # an id of its own
        Texts("t:3", captions=("no text", "text  2".replace("  ", " "))),
        Texts("t:4", id="7", captions=("text 0",)),  # named, but not here
        Texts("t:5", captions=("no text",)),
        Texts("t:6", id="id-1"),
    ]
    found = match(rows, records)
    assert found.rows == [[1], [0, 5], [2]]
    assert (found.unmatched, found.ambiguous) == ([3, 4], [])


def test_a_caption_belongs_to_every_record_that_has_it():
    records = [Named("a", "1", "", ("x", "y")), Named("b", "2", "", ("z", " x"))]
    assert match([Texts("t:1", captions=("x",)), Texts("t:2", captions=("y",))], records).rows == [
        [0, 1],
        [0],
    ]


@pytest.mark.parametrize(
    ("source", "file", "same"),
    [
        ("set:train/a/b.wav", "a/b.wav", True),
        ("set:train/a/b", "a/b.wav", True),
        ("set:train/a/b.wav", "b", True),
        ("set:train/a/b", "train/a/b.flac", True),
        ("set:train/b", "training/b.flac", True),
        ("set:train/b", "test/b.flac", False),
        ("set:train/test/b", "test/b.flac", True),  # a folder that is called so
        ("set:train/b", "/data/set/audio/b.wav", True),
        ("set:train/b@30.000", "b.wav", True),
        ("set:train/v1.0", "v1.0", True),
        ("set:train/v1.0", "v1.1", False),
        ("set:train/b.wav", "b.flac", False),
        ("set:train/a/b", "c/b", False),
        ("b", "b.wav", True),
        ("set:train/b", "bb", False),
        ("set:train/Größe 1", "audio\\Größe 1.wav", True),
        ("set:train/cafe\u0301", "caf\u00e9.wav", True),
    ],
)
def test_files(source, file, same):
    found = match(_rows(file), _records(source))
    assert found.rows == [[0]] if same else found.unmatched == [0]


def test_what_could_be_several_is_ambiguous():
    records = _records("set:train/a/x", "set:train/b/x", "set:train/a/y", "set:train/z")
    found = match(_rows("x.wav", "b/x.wav", "y.wav", "z"), records)
    assert found.rows == [[], [1], [2], [3]] and found.ambiguous == [0]
    # One record, two files of a table that it may be: none of them.
    found = match(_rows("c/z.wav", "d/z.wav", "a/y.wav"), records)
    assert found.rows == [[], [], [2], []] and found.ambiguous == [0, 1]
    # Windows of one file are all its records; two splits are two files, unless the table says it.
    records = _records("s:x@0.000", "s:x@10.000") + _records("s:x", split="test")
    assert match(_rows("x"), records).ambiguous == [0]
    assert match(_rows("train/x"), records).rows == [[0], [0], []]


FOLDERS = ("", "a/", "b/", "a/b/")
NAMES = ("x", "y", "x.1")
SUFFIXES = ("", ".wav", ".flac")
CONVENTIONS = {
    "full": lambda path: path,
    "bare": lambda path: path.rpartition("/")[2],
    "below another folder": lambda path: f"audio/{path}",
    "with its split": lambda path: f"train/{path}",
}


@settings(max_examples=300, deadline=None)
@given(
    files=st.lists(
        st.sampled_from(["".join(parts) for parts in itertools.product(FOLDERS, NAMES, SUFFIXES)]),
        min_size=1,
        max_size=8,
        unique=True,
    ),
    convention=st.sampled_from(sorted(CONVENTIONS)),
    suffix=st.booleans(),
    data=st.data(),
)
def test_a_row_goes_to_its_own_record_or_to_none(files, convention, suffix, data):
    """However a table writes its files, as long as it writes all of them in one way."""
    records = _records(*(f"set:train/{file}" for file in files))
    wanted = data.draw(st.lists(st.integers(0, len(files) - 1), min_size=1, max_size=9))
    cut = (lambda path: path) if suffix else (lambda path: path.removesuffix(".wav"))
    rows = _rows(*(CONVENTIONS[convention](cut(files[i])) for i in wanted))
    found = match(rows, records)
    for record, its_rows in enumerate(found.rows):
        assert all(wanted[row] == record for row in its_rows)
    of_none = {row for row in range(len(rows)) if not any(row in some for some in found.rows)}
    assert of_none == set(found.unmatched) | set(found.ambiguous)
    assert found.unmatched == []  # each is there, at least among several
    assert not set(found.unmatched) & set(found.ambiguous)
    stems = {path.removesuffix(".wav").removesuffix(".flac") for path in files}
    paths = convention in ("full", "with its split") and any("/" in files[i] for i in wanted)
    if paths and len(stems) == len(files):
        assert not of_none
