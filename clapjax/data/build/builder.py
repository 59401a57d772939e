"""From recordings to a finished data set: mix-up and single events, or clips as published."""

import functools
import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from clapjax.audio.config import AudioConfig
from clapjax.data import beam, paths, records
from clapjax.data.build.config import (
    COMPOSITIONAL,
    TEST,
    TEST_CLIPS,
    TEST_PROBE,
    TRAIN,
    SourceConfig,
    used_settings,
    written_settings,
)
from clapjax.data.build.decoded import BATCH, DecodeClips, StoredClip
from clapjax.data.build.examples import DirectExamples, Mixture, MixupExamples, Query, Single
from clapjax.data.build.folder import (
    BEAM,
    REJECTED_FILE,
    UNITS,
    BuildResult,
    alone,
    check_begun,
    close_failed,
    differences,
    discard,
    finish,
    give_name,
    is_finished,
    is_whole,
    open_folder,
    refuse,
    reuse,
)
from clapjax.data.build.listing import difference, digest, hash_listing, list_source
from clapjax.data.build.processes import run_units
from clapjax.data.build.splits import Parts, check_classes, check_splits, divide_clips
from clapjax.data.build.units import Unit, Work, WriteRecords, divide, prints_of, rejected_of
from clapjax.data.config import DataConfig
from clapjax.data.fingerprint import Fingerprint
from clapjax.data.forms import Form
from clapjax.data.overlap import (
    HELD_OUT_ROLE,
    find_duplicates,
    find_splits,
    fingerprint_records,
    hold_out,
)
from clapjax.data.sources.clip import Clip, Rejected
from clapjax.data.tokenizer import LEAST_VOCABULARY
from clapjax.plain import to_dict
from clapjax.synthesis.compositional import KINDS, count_queries
from clapjax.synthesis.mixup import MixupConfig

EXPECTED_SECONDS = 10  # of a clip, to guess how many make a shard

Prints = list[tuple[str, Fingerprint]]  # with what they are called


def build_records(
    source: SourceConfig,
    synthesis: MixupConfig,
    data: DataConfig,
    *,
    seed: int,
    sample_rate: int,
    data_dir: str | os.PathLike,
    audio: AudioConfig | None = None,
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, what: items,
    processes: int = 0,
    runner: str = "",
    beam_options: str = "",
    shard_bytes: int = records.SHARD_BYTES,
    restart: bool = False,
) -> BuildResult:
    """Builds `data_dir`.

    A mix-up has the splits train (mixtures, single events), test (mixtures) and test_clips; a
    direct build those of its source. The same arguments give the same bytes, whoever does the work
    and however often it was interrupted: what an earlier build from the same settings had finished
    is kept, whatever ended it. The data set appears under its name only when whole; a finished one
    made from the same settings and clips is reused.

    Args:
      source: recordings.
      synthesis: mix-up settings.
      data: tokenizer settings, and how records hold sound.
      seed: of every random choice.
      sample_rate: Hz of the records.
      data_dir: where the data set goes, here or in a bucket.
      audio: the front end of the model that log-mels are for (data.audio=mel).
      progress: wraps an iterable of known length to show how far it is.
      processes: how many make examples; 0: this one, which a decoder that crashes ends.
      runner: of Apache Beam, which does the work instead of processes here; "" for none.
      beam_options: flags of Beam.
      shard_bytes: bytes of records in a shard, about.
      restart: discard what is at `data_dir`, finished or not, if it is of a build.

    Raises:
      RejectedError: a recording was rejected and `source.on_rejected` is "error".
      RecordsError: `data_dir` holds something else, or what was made or begun from other settings
        or clips, or another process builds it.
      ValueError: the source is not laid out as expected, the role of a split is not known, or a
        split is left without recordings.
      ChildProcessError: a process was killed again and again.
      ImportError: `runner` without Beam.
    """
    data_dir = paths.as_path(data_dir)
    if paths.is_local(data_dir):
        data_dir = data_dir.resolve()  # beside the folder itself, not beside a link to it
    if processes < 0:
        raise ValueError(f"processes must be at least 0, not {processes}")
    if data.vocab_size < LEAST_VOCABULARY:  # here, before hours of work
        raise ValueError(
            f"data.vocab_size must be at least {LEAST_VOCABULARY}, not {data.vocab_size}"
        )
    build = {
        "seed": seed,
        "sample_rate": sample_rate,
        "source": to_dict(source),
        "synthesis": written_settings(synthesis),
        "data": {"vocab_size": data.vocab_size},
    }
    form = Form("pcm" if data.audio == "auto" else data.audio, audio)
    if form.kind == "mel" and (audio is None or audio.sample_rate != sample_rate):
        raise ValueError("data.audio=mel: log-mels are of a model's front end, at its sample rate")
    build["data"] |= form.described()
    made_from = used_settings(build) | {"shard_bytes": shard_bytes, "version": records.VERSION}
    if restart:
        with alone(data_dir):
            discard(data_dir)
    if not (finished := is_finished(data_dir, build)):
        check_begun(data_dir, made_from)
    clips, rejected, cache = list_source(source, seed, records.incomplete(data_dir))
    parts = divide_clips(clips, source, seed)
    rejected = rejected + parts.rejected
    listed = _listed(parts, rejected)
    form = replace(form, mel_splits=tuple(sorted(filter(source.builds, parts.train))))
    build["data"] |= form.described()
    if finished:
        result = reuse(data_dir, listed)
        refuse(result.rejected, source, data_dir / REJECTED_FILE)
        return result
    if runner:
        told = {"folder": records.incomplete(data_dir) / BEAM, "options": beam_options}
        run = functools.partial(beam.run_units, runner=runner, **told)
    else:
        run = functools.partial(run_units, processes=processes, progress=progress)
    with alone(data_dir):
        if is_whole(data_dir, build, listed):
            return give_name(data_dir)
        folder = open_folder(data_dir, made_from, cache)
        job = Job(source, synthesis, sample_rate, seed, shard_bytes, folder, run, form, rejected)
        try:
            check_splits(parts, source)
            units = _make(job, parts)
            refuse(rejected, source, folder / REJECTED_FILE)
        except Exception:
            close_failed(folder, rejected)
            raise
        return finish(data_dir, units, build | {"excluded": parts.excluded}, rejected, listed)


def changed_since(source: SourceConfig, data_dir: str | os.PathLike) -> str:
    """What of a source is not as it was when records were built, in words; "" where all is.

    Of a source that is not on this machine only its settings are compared, and nothing of records
    that `build_records` did not make.

    Raises:
      RecordsError: no records at `data_dir`.
    """
    there, data_dir = records.read_build(data_dir), paths.as_path(data_dir)
    if "source" not in there or "listed" not in there:
        return ""
    now = used_settings(there | {"source": to_dict(source)})
    if found := differences(used_settings(there), now):
        return "; ".join(found)
    if source.kind == "sounds" or not Path(source.path).is_dir():
        return ""
    clips, rejected, _ = list_source(source, there["seed"], records.incomplete(data_dir))
    parts = divide_clips(clips, source, there["seed"])
    listed = _listed(parts, rejected + parts.rejected)
    if there["listed"] == digest(listed):
        return ""
    return f"{source.path} has changed ({difference(data_dir, listed)})"


def _listed(parts: Parts, rejected: list[Rejected]) -> np.ndarray:
    """`hash_listing` of what a build uses and leaves out."""
    kept = [clip for part in (parts.train | parts.held_out).values() for clip in part]
    return hash_listing(kept, rejected)


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
    form: Form
    rejected: list[Rejected] = field(default_factory=list)  # grows while the build goes on

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
            form=self.form,
            prints=prints,
        )
        known = self.do(units, work, "writing")
        self.rejected.extend(rejected_of(known))
        return known

    def decode(
        self, parts: dict[str, list[Clip]], **settings
    ) -> tuple[dict[str, list[StoredClip]], dict[str, Prints]]:
        """Decodes clips, or takes their fingerprints alone; what is usable, by name of the part."""
        work = DecodeClips(
            os.fspath(self.folder / UNITS),
            "",
            sample_rate=self.sample_rate,
            min_seconds=self.source.min_seconds,
            silence_db=self.source.silence_db,
            **settings,
        )
        units = [unit for name, clips in parts.items() for unit in divide(name, clips, BATCH)]
        known = self.do(units, work, "decoding")
        if work.keep_pcm:
            self.rejected.extend(rejected_of(known))
        stored = {name: [] for name in parts}
        prints = {name: [] for name in parts}
        for unit, done in zip(units, known, strict=True):
            stored[unit.split] += work.recordings(unit, done)
            prints[unit.split] += prints_of([done])
        return stored, prints

    def fingerprints(self, clips: list[Clip]) -> Prints:
        """The fingerprints of held-out clips that do not become records."""
        return self.decode({"held_out": clips}, keep_pcm=False, prints=True)[1]["held_out"]

    def kept_apart(self) -> Prints:
        """What `exclude_audio` names."""
        names = self.source.exclude_audio
        splits = [split for name in names for split in find_splits(name, HELD_OUT_ROLE)]
        return list(fingerprint_records(splits))


def _make(job: Job, parts: Parts) -> dict[str, list[dict]]:
    """Split to what is known of its units, in the mode of the source."""
    if job.source.mode == COMPOSITIONAL:
        return make_queries(job, parts)
    return make_mixtures(job, parts) if job.source.mixes_up() else make_direct(job, parts)


def make_direct(job: Job, parts: Parts) -> dict[str, list[dict]]:
    """Clips as they are: split to what is known of its units."""
    source = job.source
    unit_items = max(1, job.shard_bytes // (2 * job.sample_rate * EXPECTED_SECONDS))
    train, held_out = (
        {
            split: divide(split, clips, unit_items)
            for split, clips in sorted(part.items())
            if split in (source.splits or part)
        }
        for part in (parts.train, parts.held_out)
    )
    whole = DirectExamples(job.sample_rate, source.min_seconds, source.silence_db, job.seed)
    windows = replace(
        whole,
        window_seconds=source.window_seconds,
        window_hop_seconds=source.window_hop_seconds,
    )
    known: dict[str, list[dict]] = {}

    def write(units: dict[str, list[Unit]], *settings) -> None:
        chosen = [unit for part in units.values() for unit in part]
        if chosen:
            for unit, done in zip(chosen, job.write(chosen, *settings), strict=True):
                known.setdefault(unit.split, []).append(done)

    compares = source.drop_duplicates and any(train.values())
    kept_apart = job.kept_apart() if any(train.values()) else []
    alike = source.window_held_out or not source.window_seconds
    together = held_out | train if alike and not compares and not kept_apart else held_out
    write(together, windows if alike else whole, "", compares)
    if compares:
        unbuilt = [
            clip
            for split, clips in sorted(parts.held_out.items())
            if split not in held_out
            for clip in clips
        ]
        kept_apart += prints_of([done for split in held_out for done in known.get(split, [])])
        kept_apart += job.fingerprints(unbuilt)
    if kept_apart:
        context = _digest((name, one.bits.tobytes()) for name, one in kept_apart)
        write(train, replace(windows, held_out=hold_out(kept_apart)), context)
    elif together is held_out:
        write(train, windows, "")
    if not any(unit["shards"] for done in known.values() for unit in done):
        bad = job.rejected
        first = f"; the first: {bad[0].source}: {bad[0].reason}" if bad else ""
        listed = f"; all are in {job.folder / REJECTED_FILE}" if bad else ""
        raise ValueError(f"source: none of its clips can be used{first}{listed}")
    names = sorted(known, key=lambda name: (name != TRAIN, name))
    return {name: known[name] for name in names}


def make_mixtures(job: Job, parts: Parts) -> dict[str, list[dict]]:
    """Mixtures and single events; returns the same as `make_direct`."""
    source = job.source
    compares = source.drop_duplicates or bool(source.exclude_audio)
    clips = {"decoded_test": parts.held_out[TEST], "decoded_train": parts.train[TRAIN]}
    stored, prints = job.decode(clips, prints=compares)
    test, train = stored["decoded_test"], stored["decoded_train"]
    if compares:
        kept_apart = job.kept_apart()
        if source.drop_duplicates:
            others = [clip for clip in parts.held_out_clips() if source.split_of(clip) != TEST]
            kept_apart += prints["decoded_test"] + job.fingerprints(others)
        found = {}
        for duplicate in find_duplicates(prints["decoded_train"], hold_out(kept_apart)):
            found.setdefault(duplicate.train, duplicate.reason())
        job.rejected.extend([Rejected(name, reason) for name, reason in found.items()])
        train = [clip for clip in train if clip.clip.source not in found]
    for split, stored in ((TRAIN, train), (TEST, test)):
        check_classes(split, [clip.clip.label for clip in stored], source)
    recordings = {TRAIN: train, TEST: test, TEST_CLIPS: test}
    make = MixupExamples(recordings, job.synthesis, job.sample_rate, job.seed)
    units = [unit for part in _plan(job, make).values() for unit in part]
    return _write_made(job, units, make, train + test)


def make_queries(job: Job, parts: Parts) -> dict[str, list[dict]]:
    """Queries among distractors; returns the same as `make_direct`."""
    if job.synthesis.clip_seconds <= 2 * job.synthesis.max_gap_seconds:
        raise ValueError("synthesis.clip_seconds must be over twice synthesis.max_gap_seconds")
    stored, _ = job.decode({"decoded_test": parts.held_out[TEST]})
    test, settings = stored["decoded_test"], job.synthesis
    check_classes(TEST, [clip.clip.label for clip in test], job.source)
    make = MixupExamples({TEST: test}, settings, job.sample_rate, job.seed)
    classes = len({clip.clip.label for clip in test})
    items = [
        Query(kind, number)
        for kind in KINDS
        for number in range(count_queries(kind, classes, settings.queries))
    ]
    query_bytes = 2 * job.sample_rate * settings.clip_seconds * (1 + settings.distractors)
    units = divide(TEST, items, max(1, int(job.shard_bytes / query_bytes)))
    return _write_made(job, units, make, test)


def _write_made(
    job: Job, units: list[Unit], make: MixupExamples, stored: list[StoredClip]
) -> dict[str, list[dict]]:
    context = _digest((clip.clip.source, clip.length) for clip in stored)
    written: dict[str, list[dict]] = {}
    for unit, done in zip(units, job.write(units, make, context), strict=True):
        written.setdefault(unit.split, []).append(done)
    return written


def _digest(items: Iterable) -> str:
    state = hashlib.sha256()
    for item in items:
        state.update(repr(item).encode())
    return state.hexdigest()


def _plan(job: Job, make: MixupExamples) -> dict[str, list[Unit]]:
    """Split to the units of its mixtures and single events."""
    synthesis, negative = job.synthesis, job.synthesis.train_negative_audio
    crops = range(synthesis.crops_per_recording)
    items = {
        TRAIN: [Mixture(TRAIN, i, negative) for i in range(synthesis.train_mixtures)]
        + [Single(TRAIN, clip, i) for clip in range(len(make.clips[TRAIN])) for i in crops],
        TEST: [Mixture(TEST, i, True) for i in range(synthesis.test_mixtures)],
        TEST_CLIPS: [Single(TEST_CLIPS, clip, 0) for clip in range(len(make.clips[TEST]))],
        TEST_PROBE: make.probes(),
    }
    clip_bytes = 2 * job.sample_rate * synthesis.clip_seconds
    copies = {TRAIN: 1 + negative, TEST: 2, TEST_CLIPS: 1, TEST_PROBE: 2}  # negative audio
    return {
        name: divide(name, part, max(1, int(job.shard_bytes / (copies[name] * clip_bytes))))
        for name, part in items.items()
    }
