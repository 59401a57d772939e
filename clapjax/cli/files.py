"""From what a command line names to audio files, one by one: a million of them are never held."""

import glob
import heapq
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

NAMES_AT_ONCE = 50_000  # of a folder in memory; one with more of them is listed several times
MOST_KINDS = 20  # of files left out that are told apart


@dataclass
class Survey:
    """What was seen on the way, beside the files."""

    problems: list[str] = field(default_factory=list)  # a line about each input that gives none
    left_out: Counter = field(default_factory=Counter)  # what else is in the folders, by its kind
    first_link: str = ""  # a folder that is not entered

    def leave_out(self, path: str) -> None:
        """A file that is no audio, by its suffix."""
        kind = PurePath(path).suffix.lower() or "without a suffix"
        if kind not in self.left_out and len(self.left_out) >= MOST_KINDS:
            kind = "of other kinds"
        self.left_out[kind] += 1

    def __str__(self) -> str:
        """What is in the folders and is no file to be heard, in words; "" where nothing is."""
        said = ", ".join(f"{count} {kind}" for kind, count in sorted(self.left_out.items()))
        if self.first_link:
            said += f" ({self.first_link} is the first; name one to have it entered)"
        return said


def each_file(inputs: Iterable[str], survey: Survey | None = None) -> Iterator[str]:
    """Files, folders and patterns to files, always in the same order.

    Args:
      inputs: a file counts whatever it is called; of a folder, here or in a bucket, all files in it
        and below with a suffix of audio, by name, but for what is in linked folders; a pattern may
        have *, ?, [] and ** (any folders), and what matches it is held.
      survey: is told which inputs give no files and what is left out.

    Yields:
      Each file once; also one that is named and missing, of which the decoder says so.

    Raises:
      ValueError: a bucket of a kind that is not known, or that cannot be reached.
    """
    survey = Survey() if survey is None else survey
    named, folders = set(), []
    for item in inputs:
        if "://" in item:
            found, none = _walk_bucket(item, survey), "no such file, and no audio files below it"
        elif os.path.isdir(item):
            found, none = _walk(item, survey), "no audio files in this folder, by their suffixes"
        elif os.path.lexists(item) or not glob.has_magic(item):
            found, none = [item], ""
        else:
            found = sorted(path for path in glob.glob(item, recursive=True) if os.path.isfile(path))
            none = "no file matches"
        empty = True
        for path in found:
            empty = False
            if path not in named and not any(_was_found(folder, path) for folder in folders):
                yield path
        if empty:
            survey.problems.append(f"{item}: {none}")
        if "://" in item:
            named.add(item)
        if "://" in item or os.path.isdir(item):
            folders.append(os.path.join(item, ""))
        else:
            named.update(found)


def each_listed(file: str) -> Iterator[str]:
    """The paths in a file, each on a line of its own, as it has them; "-": of what comes in.

    Raises:
      OSError: it cannot be read.
    """
    source = sys.stdin.fileno() if file == "-" else file
    # Names of files need not be Unicode; a list from Windows may begin with a mark.
    options = {"encoding": "utf-8-sig", "errors": "surrogateescape", "closefd": file != "-"}
    with open(source, newline="\n", **options) as lines:
        yield from (path for line in lines if (path := line.rstrip("\r\n")))


def _was_found(folder: str, path: str) -> bool:
    """Whether walking `folder`, which ends in a slash, came by `path`."""
    if not path.startswith(folder) or not _is_audio(path):
        return False
    above = PurePath(path[len(folder) :]).parents
    return not any(os.path.islink(folder + os.fspath(part)) for part in above)


def _walk(folder: str, survey: Survey) -> Iterator[str]:
    """The audio files in a folder and below, in the order of their whole names."""
    stack = [_entries(folder, survey)]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            continue
        path, mode = entry
        if stat.S_ISDIR(mode):
            stack.append(_entries(path, survey))
        elif stat.S_ISLNK(mode):
            survey.left_out["linked folders"] += 1
            survey.first_link = survey.first_link or path
        elif stat.S_ISREG(mode) and _is_audio(path):
            yield path
        elif stat.S_ISREG(mode):
            survey.leave_out(path)
        else:
            survey.left_out["pipes and devices"] += 1


def _walk_bucket(name: str, survey: Survey) -> Iterator[str]:
    """A file of a bucket, or the audio files below a folder there, whose names are held."""
    from clapjax.data import paths

    root, some = paths.as_path(name), False
    for _, path in paths.walk_files(root):
        some = True
        if _is_audio(os.fspath(path)):
            yield os.fspath(path)
        else:
            survey.leave_out(os.fspath(path))
    if not some and root.is_file():
        yield name


def _entries(folder: str, survey: Survey) -> Iterator[tuple[str, int]]:
    """(path, kind as in a mode) of what is in a folder; a link there is of a folder.

    By name, a folder as if it ended in a slash: so the whole names of all files are sorted. Those
    of a few are in memory at a time, by listing the folder again.
    """
    last = ""
    try:
        while True:
            with os.scandir(folder) as found:
                keyed = ((_key(entry), _kind(entry)) for entry in found)
                some = heapq.nsmallest(NAMES_AT_ONCE, (pair for pair in keyed if pair[0] > last))
            for key, kind in some:
                yield os.path.join(folder, key.rstrip("/")), kind
            if len(some) < NAMES_AT_ONCE:
                return
            last = some[-1][0]
    except OSError as error:
        survey.problems.append(f"{folder}: cannot be listed ({error.strerror})")


def _key(entry: os.DirEntry) -> str:
    return f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name


def _kind(entry: os.DirEntry) -> int:
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    if entry.is_dir():
        return stat.S_IFLNK
    # A link to nowhere is a file that is missing; a pipe would be waited for.
    if entry.is_file() or entry.is_symlink():
        return stat.S_IFREG
    return stat.S_IFIFO


def _is_audio(path: str) -> bool:
    from clapjax.audio.files import AUDIO_SUFFIXES  # loads decoders

    return path.lower().endswith(AUDIO_SUFFIXES)
