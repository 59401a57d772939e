"""From recordings to a finished data set: mix-up and single events, or clips as published."""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from clapjax.data import paths, records
from clapjax.data.build import beam
from clapjax.data.build import processes as parallel
from clapjax.data.build.examples import DirectSample, Mixture, MixupSample, Single
from clapjax.data.build.splits import (
    TEST,
    TEST_CLIPS,
    TRAIN,
    SourceConfig,
    choose_clips,
    divide_clips,
    drop_twins,
    parts_of,
    refuse,
)
from clapjax.data.build.units import (
    BATCH,
    PLACING,
    DecodeClips,
    StoredClip,
    Unit,
    Work,
    WriteRecords,
    divide,
    prints_of,
    rejected_of,
)
from clapjax.data.config import DataConfig
from clapjax.data.fingerprint import Fingerprint
from clapjax.data.overlap import fingerprint_records, hold_out, split_of
from clapjax.data.sources.clip import Clip, Rejected
from clapjax.data.tokenizer import train_tokenizer
from clapjax.synthesis.mixup import MixupConfig

REJECTED_FILE = "rejected.jsonl"
MADE_FROM, UNITS = "made_from.json", "units"  # of a build that is not finished
EXPECTED_SECONDS = 10  # of a clip, to guess how many make a shard


@dataclass(frozen=True)
class BuildResult:
    """What `build_records` did."""

    counts: dict[str, int]
    rejected: list[Rejected] = field(default_factory=list)
    reused: bool = False  # the data set was there already


def build_records(
    source: SourceConfig,
    synthesis: MixupConfig,
    data: DataConfig,
    *,
    seed: int,
    sample_rate: int,
    data_dir: str | os.PathLike,
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, what: items,
    processes: int = 1,
    runner: str = "",
    beam_options: str = "",
    shard_bytes: int = records.SHARD_BYTES,
) -> BuildResult:
    """Builds `data_dir`.

    A mix-up has the splits train (mixtures, single events), test (mixtures) and test_clips; a
    direct build those of its source. The same arguments give the same bytes, whoever does the work
    and however often it was interrupted: what a killed build from the same settings had finished
    is kept. The data set appears under its name only when whole; a finished one made from the same
    settings is reused.

    Args:
      source: recordings.
      synthesis: mix-up settings.
      data: record format and tokenizer settings.
      seed: of every random choice.
      sample_rate: Hz of the records.
      data_dir: where the data set goes, here or in a bucket.
      progress: wraps an iterable of known length to show how far it is.
      processes: how many make samples.
      runner: of Apache Beam, which does the work instead of processes here; "" for none.
      beam_options: flags of Beam.
      shard_bytes: bytes of records in a shard, about.

    Raises:
      RejectedError: a recording was rejected and `source.on_rejected` is "error".
      RecordsError: `data_dir` holds something else.
      ValueError: the source is not laid out as expected, or leaves a split without recordings.
      ImportError: `runner` without Beam.
    """
    data_dir = paths.as_path(data_dir)
    if processes < 1:
        raise ValueError(f"processes must be at least 1, not {processes}")
    build = json.loads(
        json.dumps(
            {
                "seed": seed,
                "sample_rate": sample_rate,
                "source": asdict(source),
                "synthesis": asdict(synthesis),
                "data": {"vocab_size": data.vocab_size},
            }
        )
    )
    if done := _finish(data_dir, build) or _reuse(data_dir, build):
        return done

    clips, rejected = choose_clips(source, seed)
    kept_apart = [
        pair for name in source.exclude_audio for pair in fingerprint_records(*split_of(name, TEST))
    ]
    if runner:
        run = functools.partial(beam.run_units, runner=runner, options=beam_options)
    else:
        run = functools.partial(parallel.run_units, processes=processes, progress=progress)
    made_from = build | {"shard_bytes": shard_bytes, "version": records.VERSION}
    folder = _open_folder(data_dir, made_from)
    job = Job(source, synthesis, sample_rate, seed, shard_bytes, folder, run)
    try:
        make = _mix_up if source.mixes_up() else _take
        units, rejected = make(job, clips, kept_apart, rejected)
    except ValueError:
        paths.remove_folder(folder)
        raise
    splits = _place(folder, units)
    records.write_metadata(folder, splits)
    with paths.local_folder(folder, records.TOKENIZER_FOLDER) as made:
        train_tokenizer(_captions(units), made, data.vocab_size)
        paths.put_folder(made, folder / records.TOKENIZER_FOLDER)
    lines = [json.dumps(asdict(item)) + "\n" for item in rejected]
    paths.write_text(folder / REJECTED_FILE, "".join(lines))
    counts = {split: sum(lengths) for split, lengths, _ in splits}
    records.write_build(folder, {**build, "counts": counts})
    return _finish(data_dir, build)


@dataclass(frozen=True)
class Job:
    """What the parts of a build need to know."""

    source: SourceConfig
    synthesis: MixupConfig
    sample_rate: int
    seed: int
    shard_bytes: int
    folder: Path
    run: Callable[[list[Unit], Work, str], None]

    def do(self, units: list[Unit], work: Work, what: str) -> list[dict]:
        """Does the units that are not done; what is known of each, in order."""
        left = [unit for unit in units if work.load(unit) is None]
        if left:
            self.run(left, work, what)
        known = [work.load(unit) for unit in units]
        if lost := [unit.name for unit, one in zip(units, known, strict=True) if one is None]:
            raise FileNotFoundError(
                f"{work.folder}: {lost[0]} was made, but is not here; all workers must write to "
                "the same --data_dir"
            )
        return known

    def write(self, units: list[Unit], make, context: str, prints: bool = False) -> list[dict]:
        """The same for units that become records."""
        work = WriteRecords(
            os.fspath(self.folder / UNITS),
            context,
            make=make,
            shard_bytes=2 * self.shard_bytes,  # a unit is one shard, unless its clips are long
            prints=prints,
        )
        return self.do(units, work, "writing")


def _open_folder(data_dir: Path, made_from: dict) -> Path:
    """The folder to build in, with what an interrupted build from the same settings has done."""
    folder = records.incomplete(data_dir)
    try:
        same = json.loads(paths.read_text(folder / MADE_FROM)) == made_from
    except (OSError, ValueError):
        same = False
    if not same:
        folder = records.start_build(data_dir)
        paths.write_text(folder / MADE_FROM, json.dumps(made_from, indent=2) + "\n")
    (folder / UNITS).mkdir(exist_ok=True)
    return folder


def _finish(data_dir: Path, build: dict) -> BuildResult | None:
    """Gives a data set that is whole its name; None where there is none from these settings."""
    folder = records.incomplete(data_dir)
    try:
        there = json.loads(paths.read_text(folder / records.BUILD_FILE))
    except (OSError, ValueError):
        return None
    counts = there.pop("counts")
    there.pop("build_id", None)
    taken = paths.is_local(data_dir) and data_dir.exists() and any(data_dir.iterdir())
    if there != build or taken:
        return None
    paths.remove_folder(folder / UNITS)
    for name in (MADE_FROM, PLACING):
        (folder / name).unlink(missing_ok=True)
    paths.move_folder(folder, data_dir, last=records.BUILD_FILE)
    return BuildResult(counts, _read_rejected(data_dir))


def _read_rejected(data_dir: Path) -> list[Rejected]:
    lines = paths.read_text(data_dir / REJECTED_FILE).splitlines()
    return [Rejected(**json.loads(line)) for line in lines]


def _reuse(data_dir: Path, build: dict) -> BuildResult | None:
    """What is at `data_dir` already; None where it is free."""
    if not data_dir.exists() or not any(data_dir.iterdir()):
        return None
    if not (data_dir / records.BUILD_FILE).is_file():
        raise records.RecordsError(
            f"{data_dir}: not empty, and no records of clapjax; choose another --data_dir"
        )
    there = records.read_build(data_dir)
    counts = there.pop("counts")
    there.pop("build_id", None)
    defaults = {"source": asdict(SourceConfig()), "synthesis": asdict(MixupConfig())}
    defaults = json.loads(json.dumps(defaults))
    for group, values in defaults.items():  # made before a setting existed: its default
        there[group] = values | there.get(group, {})  # merged records have none
    if there != build:
        changed = [key for key in build if there.get(key) != build[key]]
        raise records.RecordsError(
            f"{data_dir}: holds records made with other settings ({', '.join(changed)} differ); "
            "remove it or choose another --data_dir"
        )
    return BuildResult(counts, _read_rejected(data_dir), reused=True)


def _take(
    job: Job, clips: list[Clip], kept_apart: list[tuple[str, Fingerprint]], rejected: list[Rejected]
) -> tuple[dict[str, list[dict]], list[Rejected]]:
    """Clips as they are: (split to what is known of its units, all that was left out)."""
    source = job.source
    parts, straddling = parts_of(clips, source)
    clip_bytes = 2 * job.sample_rate * EXPECTED_SECONDS
    units = {
        split: divide(split, parts[split], clip_bytes * len(parts[split]), job.shard_bytes)
        for split in sorted(parts, key=lambda name: (name == TRAIN, name))
        if parts[split]
    }
    sample = DirectSample(
        sample_rate=job.sample_rate,
        min_seconds=source.min_seconds,
        silence_db=source.silence_db,
        selection=source.text_augment_selection,
        seed=job.seed,
        window_seconds=source.window_seconds,
        window_hop_seconds=source.window_hop_seconds,
    )
    known: dict[str, list[dict]] = {}

    def write(splits: Sequence[str], sample: DirectSample, context: str, prints: bool) -> None:
        chosen = [unit for split in splits for unit in units[split]]
        for unit, done in zip(chosen, job.write(chosen, sample, context, prints), strict=True):
            known.setdefault(unit.split, []).append(done)

    if TRAIN in units and (source.drop_duplicates or kept_apart):
        write([split for split in units if split != TRAIN], sample, "", source.drop_duplicates)
        if source.drop_duplicates:
            kept_apart = [*kept_apart, *prints_of(known.get(TEST, []))]
        held_out = hold_out(kept_apart)
        context = _digest((name, one.bits.tobytes()) for name, one in kept_apart)
        write([TRAIN], replace(sample, held_out=held_out), context, False)
    else:
        write(list(units), sample, "", False)
    bad = [item for done in known.values() for item in rejected_of(done)]
    if not any(unit["shards"] for done in known.values() for unit in done):
        first = f"; the first: {bad[0].source}: {bad[0].reason}" if bad else ""
        raise ValueError(f"source: none of its clips can be used{first}")
    rejected = rejected + straddling + bad
    refuse(rejected, source)
    return known, rejected


def _mix_up(
    job: Job, clips: list[Clip], kept_apart: list[tuple[str, Fingerprint]], rejected: list[Rejected]
) -> tuple[dict[str, list[dict]], list[Rejected]]:
    """Mixtures and single events; returns the same as `_take`."""
    source = job.source
    decode = DecodeClips(
        os.fspath(job.folder / UNITS),
        "",
        sample_rate=job.sample_rate,
        min_seconds=source.min_seconds,
        silence_db=source.silence_db,
        prints=bool(kept_apart) or source.drop_duplicates,
    )
    units = divide("decoded", clips, len(clips), BATCH) if clips else []
    known = job.do(units, decode, "decoding")
    stored = [
        clip
        for unit, done in zip(units, known, strict=True)
        for clip in decode.recordings(unit, done)
    ]
    train, test, straddling = divide_clips(stored, source)
    train, twins = drop_twins(train, test, source, kept_apart, dict(prints_of(known)))
    rejected = rejected + rejected_of(known) + straddling + twins
    refuse(rejected, source)
    recordings = {TRAIN: train, TEST: test, TEST_CLIPS: test}
    sample = MixupSample(recordings, job.synthesis, job.sample_rate, job.seed)
    planned = _plan(job, train, test)
    context = _digest((clip.clip.source, clip.length) for clip in train + test)
    every = [unit for part in planned.values() for unit in part]
    written: dict[str, list[dict]] = {}
    for unit, done in zip(every, job.write(every, sample, context), strict=True):
        written.setdefault(unit.split, []).append(done)
    return written, rejected


def _digest(items: Iterable) -> str:
    state = hashlib.sha256()
    for item in items:
        state.update(repr(item).encode())
    return state.hexdigest()


def _plan(job: Job, train: list[StoredClip], test: list[StoredClip]) -> dict[str, list[Unit]]:
    """Split to the units of its mixtures and single events."""
    synthesis, second = job.synthesis, 2 * job.sample_rate  # bytes of PCM
    negative = synthesis.train_negative_audio
    crops = range(synthesis.crops_per_recording)
    items = {
        TRAIN: [Mixture(TRAIN, i, negative) for i in range(synthesis.train_mixtures)]
        + [Single(TRAIN, clip, i) for clip in range(len(train)) for i in crops],
        TEST: [Mixture(TEST, i, True) for i in range(synthesis.test_mixtures)],
        TEST_CLIPS: [Single(TEST_CLIPS, clip, 0) for clip in range(len(test))],
    }
    mixture = second * synthesis.clip_seconds
    sizes = {
        TRAIN: mixture * len(items[TRAIN]) * (1 + negative),
        TEST: 2 * mixture * len(items[TEST]),
        TEST_CLIPS: 2 * sum(clip.length for clip in test),
    }
    return {name: divide(name, part, sizes[name], job.shard_bytes) for name, part in items.items()}


def _place(folder: Path, units: dict[str, list[dict]]) -> list[tuple[str, list[int], int]]:
    """Gives the finished shards their names; (split, records per shard, bytes) of each split."""
    paths.write_text(folder / PLACING, "")
    splits = []
    for split, known in units.items():
        shards = [shard for unit in known for shard in unit["shards"]]
        for number, (name, _, _) in enumerate(shards):
            part = folder / UNITS / name
            final = folder / records.shard_name(split, number, len(shards))
            if part.exists():
                part.replace(final)
            elif not final.exists():
                raise records.RecordsError(f"{part}: lost; remove {folder} and build again")
        if shards:
            lengths = [count for _, count, _ in shards]
            splits.append((split, lengths, sum(size for _, _, size in shards)))
    return splits


def _captions(units: dict[str, list[dict]]) -> list[str]:
    """What the tokenizer is trained on: the captions of train, or else of all."""
    found = {
        split: [caption for unit in known for caption in unit["captions"]]
        for split, known in units.items()
    }
    return found.get(TRAIN) or [caption for part in found.values() for caption in part]
