"""Finds the audio that a table names, and never takes one of several that it may mean."""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from clapjax.audio.files import AUDIO_SUFFIXES
from clapjax.data import paths
from clapjax.data.sources.clip import Problem, SourceError

VIDEO_FILE = re.compile(r"(?:|Y)([A-Za-z0-9_-]{11})(?:_([\d.]+))?(?:_[\d.]+)?")


def is_audio(name: str) -> bool:
    """Whether a file's suffix is that of a format that can be decoded."""
    return name.lower().endswith(AUDIO_SUFFIXES)


def is_data(file: Path, *suffixes: str) -> bool:
    """Whether a file is one to read by its name, which ends like this; hidden ones are others'.

    What is no file (a pipe, a link to nowhere) is none, lest a source wait for it for ever.
    """
    named = file.name.lower().endswith(suffixes) and not file.name.startswith(".")
    return named and (not paths.is_local(file) or paths.is_file(file))


def same_name(name: str) -> str:
    """A name in the one form of its accents that other systems write in another (NFC)."""
    return unicodedata.normalize("NFC", name)


def stem_of(name: str) -> str:
    """A path without the suffix of an audio file: "v1.0" stays, "x/v1.0.wav" becomes "x/v1.0"."""
    return name[: name.rindex(".")] if is_audio(name) else name


def audio_files(root: Path, within: str = "") -> Iterator[Path]:
    """Yields the audio files below a folder, sorted; links are followed.

    Args:
      root: where to look.
      within: only files with a folder of this name above them.
    """
    for folder, _, names in paths.walk(root):
        if within and within not in folder.relative_to(root).parts:
            continue
        for name in names:
            if is_audio(name):
                yield folder / name


def index_by_stem(root: Path, within: str = "") -> dict[str, list[Path]]:
    """File name without suffix to the audio files of that name that `audio_files` finds.

    Raises:
      SourceError: there is no audio.
    """
    index: dict[str, list[Path]] = {}
    for file in audio_files(root, within):
        index.setdefault(stem_of(same_name(file.name)), []).append(file)
    if not index:
        below = f"a folder {within} below it" if within else "it or a folder below it"
        raise SourceError(f"{root}: no audio files in {below}")
    return index


def find_audio(
    index: dict[str, list[Path]], name: str, any_suffix: bool = True
) -> Path | Problem | None:
    """The file that a table means by a name, from what `index_by_stem` or its like tells.

    Args:
      index: stem, as `same_name` has it, to files.
      name: with its folders or without, with its suffix or without. Folders must be those that
        the file is in; a file in another folder is another one.
      any_suffix: whether `x.flac` may be meant by "x.wav" where there is no such file.
    """
    path = PurePosixPath(same_name(name.strip().replace("\\", "/")))
    folders = path.parent.parts
    found = index.get(stem_of(path.name), [])
    if is_audio(path.name):
        exact = [file for file in found if same_name(file.name) == path.name]
        found = exact or (found if any_suffix else [])
    if folders:
        found = [file for file in found if _folders(file)[-len(folders) :] == folders]
    return _sole(found)


def _folders(file: Path) -> tuple[str, ...]:
    return PurePosixPath(same_name(file.parent.as_posix())).parts


def _sole(found: list[Path]) -> Path | Problem | None:
    if len(found) > 1:
        there = " or ".join(str(file) for file in sorted(found)[:3])
        return Problem(f"which file is its audio is not clear: {there}")
    return found[0] if found else None


def parse_video(name: str) -> tuple[str, float | None] | None:
    """(YouTube id, start in s or ms) of a segment's name, as `index_by_video` says; or None."""
    match = VIDEO_FILE.fullmatch(name)
    if not match:
        return None
    try:
        return match[1], float(match[2]) if match[2] else None
    except ValueError:  # "ID_1.2.3"
        return match[1], None


def index_by_video(root: Path) -> dict[str, list[tuple[float | None, Path]]]:
    """YouTube id to (start as the name gives it, audio file), from names such as these.

    `ID.wav`, `YID.wav`, `ID_30.flac`, `ID_000030.wav`, `ID_30000.wav`, `ID_30000_40000.wav`.

    Raises:
      SourceError: there is no audio.
    """
    index: dict[str, list[tuple[float | None, Path]]] = {}
    for stem, files in index_by_stem(root).items():
        if found := parse_video(stem):
            index.setdefault(found[0], []).extend((found[1], file) for file in files)
    return index


def find_video(index: dict, video: str, start: float | None) -> Path | Problem | None:
    """The file of a segment: named with its start in s or ms, else the one without a start.

    Where the start is not known: the one without it, else any.
    """
    files = index.get(video, ())
    exact = [file for named, file in files if start is not None and named in (start, 1000 * start)]
    plain = [file for named, file in files if named is None]
    other = [file for _, file in files if start is None]
    return _sole(exact or plain or other)
