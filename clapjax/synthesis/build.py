"""From recordings to a finished data set: mix-up and single events, or clips as published."""

import functools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from clapjax.data import records
from clapjax.data.config import DataConfig
from clapjax.data.fingerprint import Fingerprint, fingerprint
from clapjax.data.overlap import (
    find_duplicates,
    fingerprint_records,
    hold_out,
    named_in,
    read_ids,
    split_of,
)
from clapjax.data.schema import Example
from clapjax.data.sources import find_source, list_clips
from clapjax.data.sources.clip import Clip, Recording, Rejected, decode_clips
from clapjax.data.tokenizer import train_tokenizer
from clapjax.synthesis.direct import SELECTIONS, SHARD_BYTES, clip_example, write_direct
from clapjax.synthesis.embedded import list_sounds
from clapjax.synthesis.mixup import MixupConfig, draw_mixture, single_event

TRAIN, TEST, TEST_CLIPS = "train", "test", "test_clips"
REJECTED_FILE = "rejected.jsonl"
MIXED_UP = ("sounds", "esc50", "esc10")  # where source.mode is "auto"


@dataclass(frozen=True)
class SourceConfig:
    """Where recordings come from, how they are divided, and what is kept apart."""

    kind: str = "sounds"  # "sounds" (embedded, synthesised), or a source of docs/sources.md
    path: str = ""  # folder of the data set; "sounds" needs none
    mode: str = "auto"  # "mixup"; "direct": clips as published; "auto": mixup for sounds and ESC
    splits: tuple[str, ...] = ()  # those that a direct build makes; none named: all
    whole: str = "train"  # the split of what is published without splits or folds
    text_augment_selection: str = "none"  # LAION's: "none", "all", "augment_only"
    train_folds: tuple[int, ...] = (1, 2, 3)
    test_folds: tuple[int, ...] = (4,)
    min_seconds: float = 0.1  # shorter recordings are rejected
    silence_db: float = -70.0  # recordings whose peak is below this are rejected
    on_rejected: str = "skip"  # "skip": list them and go on; "error": the build fails
    sounds_per_fold: int = 16  # embedded set: recordings of each class in a fold
    sounds_seconds: float = 5.0
    exclude: tuple[str, ...] = ()  # files that name recordings to keep out of train (`read_ids`)
    exclude_audio: tuple[str, ...] = ()  # records "DIR" or "DIR:SPLIT", to keep out by ear
    drop_duplicates: bool = False  # training clips with the audio of a test clip are left out

    def __post_init__(self):
        if self.kind != "sounds":
            try:
                find_source(self.kind)
            except ValueError as error:
                raise ValueError(f"source.kind: {error}, sounds") from None
        if self.mode not in ("auto", "mixup", "direct"):
            raise ValueError(f"source.mode must be auto, mixup or direct, not {self.mode!r}")
        if self.text_augment_selection not in SELECTIONS:
            raise ValueError(
                f"source.text_augment_selection must be one of {', '.join(SELECTIONS)}, not "
                f"{self.text_augment_selection!r}"
            )
        if self.kind != "sounds" and not self.path:
            raise ValueError("source.path is empty; point it at the folder (--config.source.path=)")
        if self.on_rejected not in ("skip", "error"):
            raise ValueError(
                f"source.on_rejected must be 'skip' or 'error', not {self.on_rejected}"
            )
        if set(self.train_folds) & set(self.test_folds):
            raise ValueError("source: a fold is in both train_folds and test_folds")

    def mixes_up(self) -> bool:
        """Whether clips are joined to mixtures, or become records as they are."""
        return self.mode == "mixup" or (self.mode == "auto" and self.kind in MIXED_UP)

    def split_of(self, clip: Clip) -> str:
        """The split that a clip belongs to; "" where its fold is in none."""
        if clip.fold is None:
            return clip.split or self.whole
        if clip.fold in self.train_folds:
            return TRAIN
        return TEST if clip.fold in self.test_folds else ""


@dataclass(frozen=True)
class BuildResult:
    """What `build_records` did."""

    counts: dict[str, int]
    rejected: list[Rejected] = field(default_factory=list)
    reused: bool = False  # the data set was there already


class RejectedError(ValueError):
    """Recordings were rejected and the config says that this is an error."""


def build_records(
    source: SourceConfig,
    synthesis: MixupConfig,
    data: DataConfig,
    *,
    seed: int,
    sample_rate: int,
    data_dir: str | os.PathLike,
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, what: items,
) -> BuildResult:
    """Builds `data_dir`.

    A mix-up has the splits train (mixtures, single events), test (mixtures) and test_clips; a
    direct build those of its source. The same arguments give the same bytes. The data set appears
    under its name only when whole; a finished one made from the same settings is reused.

    Args:
      source: recordings.
      synthesis: mix-up settings.
      data: record format and tokenizer settings.
      seed: of every random choice.
      sample_rate: Hz of the records.
      data_dir: where the data set goes.
      progress: wraps an iterable of known length to show how far it is.

    Raises:
      RejectedError: a recording was rejected and `source.on_rejected` is "error".
      RecordsError: `data_dir` holds something else.
      ValueError: the source is not laid out as expected, or leaves a split without recordings.
    """
    data_dir = Path(data_dir)
    build = json.loads(
        json.dumps(
            {
                "seed": seed,
                "sample_rate": sample_rate,
                "source": asdict(source),
                "synthesis": asdict(synthesis),
                "data": {"format": data.format, "vocab_size": data.vocab_size},
            }
        )
    )
    if data_dir.exists() and any(data_dir.iterdir()):
        return _reuse(data_dir, build)

    clips, rejected = _list_clips(source, seed)
    kept_apart = [
        pair for name in source.exclude_audio for pair in fingerprint_records(*split_of(name, TEST))
    ]
    levels = {"min_seconds": source.min_seconds, "silence_db": source.silence_db}
    if source.mixes_up():
        clips = progress(clips, len(clips), "decoding")
        recordings, bad = decode_clips(clips, sample_rate, **levels)
        train, test, straddling = _divide(recordings, source)
        train, twins = _drop_twins(train, test, source, kept_apart, sample_rate)
        rejected = rejected + bad + straddling + twins
        _refuse(rejected, source)
        plan = _plan(train, test, synthesis, sample_rate, seed)
        folder = records.start_build(data_dir)
        splits, captions = _write_plan(folder, plan, data.format, progress)
    else:
        parts, straddling = _parts(clips, source)
        selection = source.text_augment_selection
        make = functools.partial(
            clip_example, sample_rate=sample_rate, selection=selection, **levels
        )
        folder = records.start_build(data_dir)
        try:
            splits, captions, bad = write_direct(
                folder,
                parts,
                make,
                file_format=data.format,
                kept_apart=kept_apart,
                drop_duplicates=source.drop_duplicates,
                progress=progress,
            )
            rejected = rejected + straddling + bad
            _refuse(rejected, source)
        except ValueError:
            shutil.rmtree(folder)
            raise
    records.write_metadata(folder, splits, data.format)
    train_tokenizer(captions, folder / records.TOKENIZER_FOLDER, data.vocab_size)
    with (folder / REJECTED_FILE).open("w") as file:
        file.writelines(json.dumps(asdict(item)) + "\n" for item in rejected)
    counts = {split: sum(lengths) for split, lengths, _ in splits}
    if data_dir.exists():
        data_dir.rmdir()  # empty: checked above
    records.finish_build(folder, data_dir, {**build, "counts": counts})
    return BuildResult(counts, rejected)


def _reuse(data_dir: Path, build: dict) -> BuildResult:
    if not (data_dir / records.BUILD_FILE).is_file():
        raise records.RecordsError(
            f"{data_dir}: not empty, and no records of clapjax; choose another --data_dir"
        )
    there = records.read_build(data_dir)
    counts = there.pop("counts")
    defaults = json.loads(json.dumps(asdict(SourceConfig())))
    there["source"] = defaults | there["source"]  # made before a setting existed: its default
    if there != build:
        changed = [key for key in build if there.get(key) != build[key]]
        raise records.RecordsError(
            f"{data_dir}: holds records made with other settings ({', '.join(changed)} differ); "
            "remove it or choose another --data_dir"
        )
    lines = (data_dir / REJECTED_FILE).read_text().splitlines()
    return BuildResult(counts, [Rejected(**json.loads(line)) for line in lines], reused=True)


def _refuse(rejected: list[Rejected], source: SourceConfig) -> None:
    """Ends the build where the config says that a rejection is an error."""
    if rejected and source.on_rejected == "error":
        lines = [f"  {item.source}: {item.reason}" for item in rejected]
        raise RejectedError(f"{len(rejected)} recordings rejected:\n" + "\n".join(lines))


def _list_clips(source: SourceConfig, seed: int) -> tuple[list[Clip], list[Rejected]]:
    """The clips that the config asks for, and what was left out by the source or by an id list."""
    if source.kind == "sounds":
        folds = source.train_folds + source.test_folds
        clips = list_sounds(seed, folds, source.sounds_per_fold, source.sounds_seconds)
        rejected = []
    else:
        clips, rejected = list_clips(source.kind, source.path)
    lists = {file: read_ids(file) for file in source.exclude}
    kept = []
    for clip in clips:
        split = source.split_of(clip)
        if not split:
            continue
        if split == TRAIN and (file := named_in(clip, lists)):
            rejected.append(Rejected(clip.source, f"{clip.group} is listed in {file}"))
        elif source.mixes_up() and not clip.label:
            rejected.append(Rejected(clip.source, "a mixture needs clips with exactly one label"))
        else:
            kept.append(clip)
    return kept, rejected


def _straddling(clip: Clip) -> Rejected:
    return Rejected(clip.source, "cut from the same original recording as a test clip")


def _divide(
    recordings: list[Recording], source: SourceConfig
) -> tuple[list[Recording], list[Recording], list[Rejected]]:
    """Train and test; a training recording that shares its origin with a test one goes."""
    test = [r for r in recordings if source.split_of(r.clip) == TEST]
    groups = {r.clip.group for r in test}
    train = [r for r in recordings if source.split_of(r.clip) == TRAIN]
    straddling = [_straddling(r.clip) for r in train if r.clip.group in groups]
    train = [r for r in train if r.clip.group not in groups]
    for name, part in ((TRAIN, train), (TEST, test)):
        labels = {r.clip.label for r in part}
        if len(labels) < 2:
            raise ValueError(
                f"source: {name} folds hold {len(part)} usable recordings of {len(labels)} "
                "classes; two classes are needed"
            )
    return train, test, straddling


def _drop_twins(
    train: list[Recording],
    test: list[Recording],
    source: SourceConfig,
    kept_apart: list[tuple[str, Fingerprint]],
    sample_rate: int,
) -> tuple[list[Recording], list[Rejected]]:
    """Train without what sounds the same as what is kept apart, if the config asks for it."""
    if source.drop_duplicates:
        kept_apart = [*kept_apart, *_prints(test, sample_rate)]
    if not kept_apart:
        return train, []
    reasons = {}
    for twin in find_duplicates(_prints(train, sample_rate), hold_out(kept_apart)):
        reasons.setdefault(twin.train, twin.reason())
    twins = [Rejected(name, reason) for name, reason in reasons.items()]
    return [r for r in train if r.clip.source not in reasons], twins


def _prints(recordings: list[Recording], sample_rate: int) -> Iterator[tuple[str, Fingerprint]]:
    return ((r.clip.source, fingerprint(r.samples, sample_rate)) for r in recordings)


def _parts(clips: list[Clip], source: SourceConfig) -> tuple[dict[str, list[Clip]], list[Rejected]]:
    """Split to its clips for a direct build, and the training clips that share a test origin."""
    parts: dict[str, list[Clip]] = {}
    for clip in clips:
        parts.setdefault(source.split_of(clip), []).append(clip)
    if unknown := sorted(set(source.splits) - parts.keys()):
        there = ", ".join(parts) or "none"
        raise ValueError(f"source.splits: no clips of a split {unknown[0]!r}; there are {there}")
    groups = {clip.group for clip in parts.get(TEST, ())}
    straddling = [clip for clip in parts.get(TRAIN, ()) if clip.group in groups]
    if straddling:
        parts[TRAIN] = [clip for clip in parts[TRAIN] if clip.group not in groups]
    parts = {name: parts[name] for name in source.splits or parts}
    return parts, [_straddling(clip) for clip in straddling if TRAIN in parts]


def _write_plan(
    folder: Path, plan: dict[str, tuple[int, Iterator[Example], int]], file_format: str, progress
) -> tuple[list[tuple[str, list[int], int]], list[str]]:
    """Writes the splits of `_plan`; (splits, training captions for the tokenizer)."""
    captions: list[str] = []
    splits = []
    for split, (count, examples, size) in plan.items():
        shards = max(1, min(count, -(-size // SHARD_BYTES)))
        stream = progress(_collect(examples, captions, split), count, f"writing {split}")
        splits.append(records.write_split(folder, split, stream, count, file_format, shards))
    return splits, captions


def _plan(
    train: list[Recording],
    test: list[Recording],
    synthesis: MixupConfig,
    sample_rate: int,
    seed: int,
) -> dict[str, tuple[int, Iterator[Example], int]]:
    """Split name to (number of examples, the examples, bytes to expect)."""
    second = 2 * sample_rate  # bytes of PCM

    def mixtures(part: list[Recording], split: str, count: int, negative_audio: bool):
        by_label: dict[str, list[Recording]] = {}
        for recording in part:
            by_label.setdefault(recording.clip.label, []).append(recording)
        for index in range(count):
            yield draw_mixture(
                by_label, sample_rate, synthesis, seed, split, index, negative_audio=negative_audio
            )

    def training():
        yield from mixtures(train, TRAIN, synthesis.train_mixtures, synthesis.train_negative_audio)
        for recording in train:
            for index in range(synthesis.crops_per_recording):
                yield single_event(recording, sample_rate, synthesis, seed, TRAIN, index)

    def whole():
        for recording in test:
            yield single_event(recording, sample_rate, synthesis, seed, TEST_CLIPS, 0)

    singles = len(train) * synthesis.crops_per_recording
    mixture_bytes = int(second * synthesis.clip_seconds)
    train_count = synthesis.train_mixtures + singles
    return {
        TRAIN: (
            train_count,
            training(),
            mixture_bytes * (train_count + synthesis.train_negative_audio * train_count),
        ),
        TEST: (
            synthesis.test_mixtures,
            mixtures(test, TEST, synthesis.test_mixtures, True),
            2 * mixture_bytes * synthesis.test_mixtures,
        ),
        TEST_CLIPS: (len(test), whole(), sum(2 * r.samples.size for r in test)),
    }


def _collect(examples: Iterator[Example], captions: list[str], split: str) -> Iterator[Example]:
    """Passes examples on and keeps the training captions for the tokenizer."""
    for example in examples:
        if split == TRAIN:
            captions.extend(example.captions + example.negative_captions)
        yield example
