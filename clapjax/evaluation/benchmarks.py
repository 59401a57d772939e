"""What models are judged on: the clips of one split, their texts at hand, their audio streamed."""

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from clapjax.audio.files import to_mono_at_rate
from clapjax.data.build.config import TEST, TEST_CLIPS
from clapjax.data.forms import heard
from clapjax.data.paths import as_path, is_local, walk_files
from clapjax.data.records import BUILD_FILE, build_id, open_builder, open_split, parser
from clapjax.data.schema import Example
from clapjax.data.sources import list_clips, source_names
from clapjax.data.sources.clip import Clip, Rejected
from clapjax.evaluation import compa
from clapjax.evaluation.config import EvaluationConfig

ALL = "all"  # the split of a folder that has none

# What is published of a benchmark besides its layout; of others, the defaults hold.
PROTOCOLS = {
    **dict.fromkeys(("compa_order", "compa_attribute"), {"tasks": ("groups",)}),
    **dict.fromkeys(("mini", "compositional"), {"tasks": ("compositional",)}),
    "clotho": {"tasks": ("retrieval", "t_classify")},
    "audiocaps": {"tasks": ("retrieval", "t_classify")},
    **dict.fromkeys(
        ("esc10", "esc50", "urbansound8k", "vggsound", "fsd50k", "gtzan", "audioset"),
        {"tasks": ("zero_shot",)},
    ),
}


@dataclass(frozen=True)
class Judged:
    """A clip of a benchmark without its audio."""

    id: str
    captions: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()  # how each caption came to be, as in the records' provenance
    negative_captions: tuple[str, ...] = ()
    negative_kinds: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    events: tuple[str, ...] = ()  # in the order in which they sound
    fold: int | None = None
    origin: str = ""  # clips cut from one recording share it
    negative_audio: bool = False  # whether there is audio in a wrong order


def recordings(clips: Sequence[Judged]) -> np.ndarray:
    """(N,) which recording each clip was cut from; clips of unknown origin stand alone."""
    names = [clip.origin or f"clip {index}" for index, clip in enumerate(clips)]
    return np.unique(names, return_inverse=True)[1]


class SplitError(ValueError):
    """A benchmark without the split that is asked for, or with nothing in it."""


# (clip, whether it is that in a wrong order, what an embedder takes of one), at a rate in Hz.
Sounds = Iterator[tuple[int, bool, object]]


@dataclass(frozen=True)
class Benchmark:
    """Clips of one split."""

    name: str
    path: str
    split: str
    data: str  # build id of records, or a digest of the files of a folder
    clips: tuple[Judged, ...]
    sounds: Callable[[int, int], Sounds] = field(repr=False)  # of (rate, first clip), in order
    splits: tuple[str, ...] = ()  # all that are there
    rejected: tuple[str, ...] = ()  # what is not among the clips, and why

    @property
    def key(self) -> tuple[str, str]:
        """Tells the clips from others."""
        return self.data, self.split

    def sound(self, clip: int, negative: bool, rate: int) -> np.ndarray:
        """(T,) audio of one clip."""
        for _, wrong, samples in self.sounds(rate, clip):
            if wrong == negative:
                return np.asarray(samples)
        raise IndexError(f"{self.name}: clip {clip} has no such audio")


def load_benchmark(name: str, path: str | os.PathLike, split: str = "") -> Benchmark:
    """Reads the texts of a benchmark; audio is read when it is embedded.

    Args:
      name: of the benchmark. Where it is that of a source (docs/sources.md), `path` may hold that
        layout; under any other name, a folder of one's own sounds.
      path: finished records, or such a folder.
      split: none named: "test" where there is one, else all that the folder has, or the records'
        only split.

    Raises:
      SplitError: no such split, none that would be meant, or an empty one.
      RecordsError: damaged records.
      ValueError: no such folder or layout.
    """
    root = as_path(path)
    if not root.is_dir():
        raise ValueError(f"{path}: no such folder (benchmark {name!r})")
    if (root / BUILD_FILE).is_file():
        found = _of_records(name, path, split)
    else:
        found = _of_source(name, path, split)
    if not found.clips:
        raise SplitError(f"the split {found.split!r} is empty")
    return found


def _chosen(split: str, there: list[str]) -> str:
    """The split that is meant; "" for all, where none is named and none is called test."""
    if split and split not in there:
        raise SplitError(f"there is no split {split!r}, but {', '.join(there) or 'none'}")
    return split or (TEST if TEST in there else "")


def _of_records(name: str, path, split: str) -> Benchmark:
    there = list(open_builder(path).info.splits)
    chosen = _chosen(split, there) or (there[0] if len(there) == 1 else "")
    if not chosen:
        raise SplitError(f"which split is meant? There are {', '.join(there)}")
    records, parse = open_split(path, chosen), parser()

    def examples(first: int = 0) -> Iterator[Example]:
        if is_local(as_path(path)):
            data = records.read(range(first, len(records)))
        else:
            data = itertools.islice(records.scan(), first, None)
        return map(parse, data)

    def sounds(rate: int, first: int = 0) -> Sounds:
        for index, example in enumerate(examples(first), first):
            for wrong, samples in ((False, example.audio), (True, example.negative_audio)):
                if samples is not None and samples.size:
                    samples = heard(samples, f"{path}: {example.id}")
                    if example.sample_rate != rate:
                        samples = to_mono_at_rate(samples, example.sample_rate, rate)
                    yield index, wrong, samples

    clips = tuple(map(_judged, examples()))
    path = os.fspath(path)
    return Benchmark(name, path, chosen, build_id(path), clips, sounds, tuple(there))


def _judged(example: Example) -> Judged:
    kinds, negative_kinds = example.kinds()
    return Judged(
        id=example.id,
        captions=example.captions,
        kinds=kinds,
        negative_captions=example.negative_captions,
        negative_kinds=negative_kinds,
        labels=example.labels,
        events=example.events,
        origin=example.origin,
        negative_audio=example.negative_audio is not None,
    )


@dataclass(frozen=True)
class _Decoded:
    """A clip of a source that is decoded where it is needed: in a thread of the embedder."""

    clip: Clip
    rate: int

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.clip.read(self.rate), dtype)


def _of_source(name: str, path, split: str) -> Benchmark:
    if PROTOCOLS.get(name, {}).get("tasks") == ("groups",):
        kind, found = "compa", list(compa.clips(as_path(path)))
    else:
        kind = name if name in source_names() else "folder"
        found = [item for part in list_clips(kind, path) for item in part]
    clips = [item for item in found if isinstance(item, Clip)]
    lost = tuple(f"{one.source}: {one.reason}" for one in found if isinstance(one, Rejected))
    there = list(dict.fromkeys(clip.split for clip in clips if clip.split))
    chosen = _chosen(split, there)
    clips = [clip for clip in clips if not chosen or clip.split == chosen]

    def sounds(rate: int, first: int = 0) -> Sounds:
        for index, clip in enumerate(clips[first:], first):
            yield index, False, _Decoded(clip, rate)

    judged = tuple(map(_judged_clip, clips))
    where, data = chosen or ALL, _folder_key(kind, as_path(path))
    return Benchmark(name, os.fspath(path), where, data, judged, sounds, tuple(there), lost)


def _folder_key(kind: str, root: Path) -> str:
    """A name of what a folder holds: a copy of it has the same, on whichever machine it lies."""
    state = hashlib.sha256(kind.encode())
    files = dict(walk_files(root))
    with ThreadPoolExecutor() as pool:
        for place, seen in zip(files, pool.map(_content, files.values()), strict=True):
            state.update(f"{place!r} {seen!r}\n".encode())
    return state.hexdigest()[:32]


def _content(file: Path) -> object:
    """What is in a file, None where it cannot be read; in a bucket, what its listing says of it."""
    if not is_local(file):
        return vars(file.stat())
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:  # a clip that needs it is counted as lost where it is decoded
        return None


def _judged_clip(clip: Clip) -> Judged:
    texts = len(clip.captions) + len(clip.negative_captions)
    words = clip.provenance.split(";")
    words = words * texts if len(words) == 1 else words
    return Judged(
        id=clip.id,
        captions=clip.captions,
        kinds=tuple(words[: len(clip.captions)]),
        negative_captions=clip.negative_captions,
        negative_kinds=tuple(words[len(clip.captions) :]),
        labels=clip.labels or ((clip.label,) if clip.label else ()),
        fold=clip.fold,
        origin=clip.group,
    )


def settings_for(name: str, given: EvaluationConfig) -> EvaluationConfig:
    """The settings of a benchmark: its protocol where `given` leaves a field at its default."""
    default = EvaluationConfig()
    free = {
        field: value
        for field, value in {"split": "", **PROTOCOLS.get(name, {})}.items()
        if getattr(given, field) == getattr(default, field)
    }
    return replace(given, **free)


def load_tasks(
    name: str,
    path: str | os.PathLike,
    settings: EvaluationConfig,
    lacks: Mapping[str, Callable[[Benchmark], str]],
) -> tuple[dict[str, Benchmark], list[str]]:
    """The benchmark of each task; a split is read once.

    Args:
      name, path: as for `load_benchmark`.
      settings: the tasks, and on which splits.
      lacks: of each task, the function that says what a benchmark lacks for it; "" for nothing.

    Returns:
      ({task: what it runs on}, a line for each other task that says why it is left out).

    Raises:
      RecordsError: damaged records.
      ValueError: no such folder or layout.
    """
    splits: dict[str, Benchmark | SplitError] = {}
    tasks, left_out = {}, []
    for task in settings.tasks:
        split = settings.split
        if task == "zero_shot":
            split = settings.zero_shot_split or (TEST_CLIPS if _has_test_clips(path) else split)
        if split not in splits:
            try:
                splits[split] = load_benchmark(name, path, split)
            except SplitError as error:
                splits[split] = error
        found = splits[split]
        if why := str(found) if isinstance(found, SplitError) else lacks[task](found):
            left_out.append(f"{task}: {why}")
        else:
            tasks[task] = found
    return tasks, left_out


def _has_test_clips(path) -> bool:
    records = (as_path(path) / BUILD_FILE).is_file()
    return records and TEST_CLIPS in open_builder(path).info.splits
