"""From what a command line names to audio files."""

import os

import pytest

from clapjax.cli import files
from clapjax.cli.files import Survey, each_file, each_listed
from clapjax.plain import chunks

NAMES = (
    *("b.wav", "a.WAV", "deep/c.flac", "deep/er/d.ogg", "deep.wav", "deep-x.mp3", "deepa.m4a"),
    *("deep/notes.txt", "read.me.txt", "README", "real/r.webm", "\udce9.wav", "deep/[x].wav"),
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder: files, a linked folder, a link to nowhere, one to a file, and a pipe."""
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    os.symlink("../real", tmp_path / "deep" / "link")
    os.symlink("nowhere", tmp_path / "lost.wav")
    os.symlink("b.wav", tmp_path / "to_b.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    monkeypatch.chdir(tmp_path)
    return tmp_path


GOOD = [
    *("a.WAV", "b.wav", "deep-x.mp3", "deep.wav", "deep/[x].wav", "deep/c.flac", "deep/er/d.ogg"),
    *("deepa.m4a", "lost.wav", "real/r.webm", "to_b.wav", "\udce9.wav"),
]


@pytest.mark.parametrize("at_once", [1, 2, 3, 50_000])
def test_a_folder_in_the_order_of_whole_names(folder, monkeypatch, at_once):
    """Whatever is listed at once, so that a folder of any size is not held."""
    monkeypatch.setattr(files, "NAMES_AT_ONCE", at_once)
    survey = Survey()
    assert list(each_file(["."], survey)) == [f"./{name}" for name in GOOD]
    assert survey.problems == []
    assert str(survey) == (
        "2 .txt, 1 linked folders, 1 pipes and devices, 1 without a suffix (./deep/link is the "
        "first; name one to have it entered)"
    )


def test_each_file_once(folder):
    deep = [name for name in GOOD if name.startswith("deep/")]
    given = ["deep", "b.wav", "deep/c.flac", "real/"]
    assert list(each_file(given)) == [*deep, "b.wav", "real/r.webm"]
    assert list(each_file(["b.wav", "deep/er", "b.wav", "deep"])) == [
        *("b.wav", "deep/er/d.ogg"),
        *(name for name in deep if "/er/" not in name),
    ]
    # Not what a walk left out: a linked folder, and what is audio by no suffix.
    given = ["deep", "deep/link", "deep/link/r.webm", "deep/notes.txt"]
    assert list(each_file(given)) == [*deep, "deep/link/r.webm", "deep/notes.txt"]


def test_patterns_and_what_is_missing(folder):
    (folder / "empty").mkdir()
    survey = Survey()
    assert list(each_file(["**/*.ogg", "[ab].*", "gone.wav", "lost.wav"], survey)) == [
        *("deep/er/d.ogg", "a.WAV", "b.wav", "gone.wav", "lost.wav")
    ]
    assert list(each_file(["deep/[x].wav"], survey)) == ["deep/[x].wav"] and not survey.problems
    assert list(each_file(["empty", "*.xyz"], survey)) == []
    assert survey.problems == [
        "empty: no audio files in this folder, by their suffixes",
        "*.xyz: no file matches",
    ]


def test_a_folder_that_cannot_be_listed(folder, monkeypatch):
    real = os.scandir

    def scandir(path):
        if path.endswith("er"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(files.os, "scandir", scandir)
    survey = Survey()
    assert list(each_file(["deep"], survey)) == ["deep/[x].wav", "deep/c.flac"]
    assert survey.problems == ["deep/er: cannot be listed (Permission denied)"]


def test_kinds_of_files_left_out_are_not_held_without_end(tmp_path):
    for number in range(50):
        (tmp_path / f"x.{number:02}").write_bytes(b"")
    survey = Survey()
    assert list(each_file([str(tmp_path)], survey)) == [] and len(survey.left_out) == 21
    assert str(survey).startswith("1 .00, 1 .01, ") and "30 of other kinds" in str(survey)


def test_a_list_is_taken_as_it_is(tmp_path, monkeypatch):
    """But for blank lines and the ends of lines of other systems; a name need not be UTF-8.

    A mark of the encoding at the beginning is of no name.
    """
    file = tmp_path / "list"
    file.write_bytes(b"\xef\xbb\xbfa.wav\n\n b .wav \r\nlatin\xe9.wav\nx\ry.wav\na.wav")
    expected = ["a.wav", " b .wav ", "latin\udce9.wav", "x\ry.wav", "a.wav"]
    assert list(each_listed(str(file))) == expected
    with file.open() as stdin:
        monkeypatch.setattr(files.sys, "stdin", stdin)
        assert list(each_listed("-")) == expected
        assert not stdin.closed


def test_chunks():
    assert list(chunks(iter(range(5)), 2)) == [[0, 1], [2, 3], [4]]
    assert list(chunks([], 2)) == []
