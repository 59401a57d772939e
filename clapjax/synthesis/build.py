"""From recordings to a finished data set: mix-up, single events, captions, tokenizer."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from clapjax.data import records
from clapjax.data.config import DataConfig
from clapjax.data.schema import Example
from clapjax.data.sources.clip import Clip, Recording, Rejected, decode_clips
from clapjax.data.sources.esc50 import list_esc50
from clapjax.data.tokenizer import train_tokenizer
from clapjax.synthesis.embedded import list_sounds
from clapjax.synthesis.mixup import MixupConfig, draw_mixture, single_event

SHARD_BYTES = 128 * 2**20
TRAIN, TEST, TEST_CLIPS = "train", "test", "test_clips"
REJECTED_FILE = "rejected.jsonl"


@dataclass(frozen=True)
class SourceConfig:
    """Where labelled recordings come from and how they are divided."""

    kind: str = "sounds"  # "sounds" (embedded, synthesised) or "esc50" (ESC-50 and ESC-10 folders)
    path: str = ""  # folder of an "esc50" source
    train_folds: tuple[int, ...] = (1, 2, 3)
    test_folds: tuple[int, ...] = (4,)
    min_seconds: float = 0.1  # shorter recordings are rejected
    silence_db: float = -70.0  # recordings whose peak is below this are rejected
    on_rejected: str = "skip"  # "skip": list them and go on; "error": the build fails
    sounds_per_fold: int = 16  # embedded set: recordings of each class in a fold
    sounds_seconds: float = 5.0

    def __post_init__(self):
        if self.kind not in ("sounds", "esc50"):
            raise ValueError(f"source.kind must be 'sounds' or 'esc50', not {self.kind!r}")
        if self.kind == "esc50" and not self.path:
            raise ValueError("source.path is empty; point it at the folder (--config.source.path=)")
        if self.on_rejected not in ("skip", "error"):
            raise ValueError(
                f"source.on_rejected must be 'skip' or 'error', not {self.on_rejected}"
            )
        if set(self.train_folds) & set(self.test_folds):
            raise ValueError("source: a fold is in both train_folds and test_folds")


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
    """Builds `data_dir`: splits train (mixtures, single events), test (mixtures), test_clips.

    The same arguments give the same bytes. The data set appears under its name only when whole; a
    finished one made from the same settings is reused.

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
    recordings, bad = decode_clips(
        progress(clips, len(clips), "decoding"),
        sample_rate,
        min_seconds=source.min_seconds,
        silence_db=source.silence_db,
    )
    train, test, straddling = _divide(recordings, source)
    rejected = rejected + bad + straddling
    if rejected and source.on_rejected == "error":
        raise RejectedError(_list_rejected(rejected))

    plan = _plan(train, test, synthesis, sample_rate, seed)
    folder = records.start_build(data_dir)
    captions: list[str] = []
    splits = []
    for split, (count, examples, size) in plan.items():
        shards = max(1, min(count, -(-size // SHARD_BYTES)))
        stream = progress(_collect(examples, captions, split), count, f"writing {split}")
        splits.append(records.write_split(folder, split, stream, count, data.format, shards))
    records.write_metadata(folder, splits, data.format)
    train_tokenizer(captions, folder / records.TOKENIZER_FOLDER, data.vocab_size)
    with (folder / REJECTED_FILE).open("w") as file:
        file.writelines(json.dumps(asdict(item)) + "\n" for item in rejected)
    counts = {split: count for split, (count, _, _) in plan.items()}
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
    if there != build:
        changed = [key for key in build if there.get(key) != build[key]]
        raise records.RecordsError(
            f"{data_dir}: holds records made with other settings ({', '.join(changed)} differ); "
            "remove it or choose another --data_dir"
        )
    lines = (data_dir / REJECTED_FILE).read_text().splitlines()
    return BuildResult(counts, [Rejected(**json.loads(line)) for line in lines], reused=True)


def _list_clips(source: SourceConfig, seed: int) -> tuple[list[Clip], list[Rejected]]:
    folds = source.train_folds + source.test_folds
    if source.kind == "sounds":
        return list_sounds(seed, folds, source.sounds_per_fold, source.sounds_seconds), []
    clips, rejected = list_esc50(source.path)
    return [clip for clip in clips if clip.fold in folds], rejected


def _divide(
    recordings: list[Recording], source: SourceConfig
) -> tuple[list[Recording], list[Recording], list[Rejected]]:
    """Train and test by fold; a training recording that shares its origin with a test one goes."""
    test = [r for r in recordings if r.clip.fold in source.test_folds]
    groups = {r.clip.group for r in test}
    train = [r for r in recordings if r.clip.fold in source.train_folds]
    straddling = [
        Rejected(r.clip.source, "cut from the same original recording as a test clip")
        for r in train
        if r.clip.group in groups
    ]
    train = [r for r in train if r.clip.group not in groups]
    for name, part in (("train", train), ("test", test)):
        labels = {r.clip.label for r in part}
        if len(labels) < 2:
            raise ValueError(
                f"source: {name} folds hold {len(part)} usable recordings of {len(labels)} "
                "classes; two classes are needed"
            )
    return train, test, straddling


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


def _list_rejected(rejected: list[Rejected]) -> str:
    lines = [f"  {item.source}: {item.reason}" for item in rejected]
    return f"{len(rejected)} recordings rejected:\n" + "\n".join(lines)
