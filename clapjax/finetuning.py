"""Supervised tuning of a model: a tagger for each fold, judged by what it has not heard."""

import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from clapjax.audio.files import float_to_int16
from clapjax.data import records
from clapjax.data.build.examples import label_caption
from clapjax.data.paths import write_bytes
from clapjax.data.schema import Example
from clapjax.evaluation.benchmarks import Benchmark
from clapjax.evaluation.supervised import Labelled
from clapjax.experiment import Experiment, load_experiment, make_task, save_experiment
from clapjax.inference import Tagger
from clapjax.inference.store import fingerprint
from clapjax.starting import resolve
from clapjax.training.checkpoint import latest_step
from clapjax.training.loop import train

RECORDS = "records"  # folder beside the results
SCORES = "scores.npz"  # of a fold's clips, in its workdir: the fold is done
# Of a model's own configuration these are the experiment's: what is random in training.
AUGMENTS = tuple(
    f"model.{encoder}.{axis}_stripes" for encoder in ("htsat", "pann") for axis in ("time", "freq")
)
FIXED = {"task", "tagging.labels", "data.split", "data.mixture"}  # follow from clips and folds
CLIPS_AT_ONCE = 16  # that are judged

Progress = Callable[[Iterable, int, str], Iterable]


def finetune(
    experiment: Experiment,
    given: Iterable[str],
    variables: dict,
    benchmarks: Sequence[Benchmark],
    data: Labelled,
    out: Path,
    *,
    epochs: float | None,
    progress: Progress,
    say: Callable[[str], None],
    **way,
) -> tuple[np.ndarray, np.ndarray, dict]:
    """Trains a tagger for each fold on all others, under a new head, and hears the fold with it.

    Each fold is a run of its own in `out`/fold=K: what was interrupted goes on where its last
    checkpoint stands, and what is done is not done again.

    Args:
      experiment: how it is trained; `init_from` names the model.
      given: its fields that were set by hand. Else the warm-up is a tenth of the steps, and the
        loss goes by the labels: cross-entropy where each clip has one, or each label for itself.
      variables: {"params", "batch_stats"} of the model, of which the audio encoder is taken.
      benchmarks: `supervised.parts` of the benchmark.
      data: their clips, as far as they can be decoded.
      out: folder of records and runs.
      epochs: times that each clip is heard; None: as many as the experiment's steps come to.
      progress: wraps an iterable of known length to show how far it is.
      say: is told where it is.
      way: `long` and `hop`, how audio longer than a clip is judged, as for `Tagger.tag`.

    Returns:
      ((n,) which clips were judged; (n, L) probabilities; what a `Result` tells of it).

    Raises:
      ValueError: `out` was begun with other clips or settings, or what training raises.
    """
    given = set(given)
    base = _settled(experiment, given, data)
    data_dir = out / RECORDS
    model = fingerprint(base.model, variables, "audio")
    write_records(benchmarks, data, base.model.audio.sample_rate, model, data_dir, progress)
    encoder = {
        kind: {"audio_encoder": tree["audio_encoder"]}
        for kind, tree in variables.items()
        if "audio_encoder" in tree
    }
    rows = np.flatnonzero(data.folds >= 0)
    scores = np.zeros((len(rows), len(data.names)), np.float32)
    folds, runs = np.unique(data.folds[rows]).tolist(), {}
    for fold in folds:
        count = int((data.folds != fold).sum())
        run = _timed(base, given, count, epochs)
        run = replace(run, data=replace(run.data, split=_all_but(data.folds, fold)))
        workdir = out / f"fold={fold}"
        say(f"{workdir}: {count} clips to train on, {run.steps} steps")
        own = data.folds[rows] == fold
        ids = [data.clips[row].id for row in rows[own]]
        scores[own] = _fold(run, encoder, data_dir, workdir, fold, ids, way)
        runs[str(fold)] = {"workdir": os.fspath(workdir), "steps": run.steps}
    return rows, scores, {"runs": runs}


def check_given(given: Iterable[str]) -> None:
    """Raises ValueError where a field was set by hand that follows from the clips."""
    if fixed := sorted(FIXED.intersection(given)):
        raise ValueError(f"{fixed[0]}: follows from the clips here and cannot be set")


def _settled(experiment: Experiment, given: set[str], data: Labelled) -> Experiment:
    """The experiment with the model's configuration, and the labels of the clips."""
    loss = "bce" if data.several else "ce"
    if "tagging.loss" in given:
        loss = experiment.tagging.loss
    tagging = replace(experiment.tagging, labels=data.names, loss=loss)
    found, _ = resolve(replace(experiment, task="tagging", tagging=tagging), given | {*AUGMENTS})
    return found


def _timed(run: Experiment, given: set[str], count: int, epochs: float | None) -> Experiment:
    """The run with its steps and warm-up, for so many clips."""
    steps = run.steps if epochs is None else math.ceil(epochs * count / run.batch_size)
    optimizer = run.optimizer
    if "optimizer.warmup_steps" not in given:
        optimizer = replace(optimizer, warmup_steps=max(1, steps // 10))
    return replace(run, steps=steps, optimizer=optimizer)


def _fold(
    run, encoder, data_dir: Path, workdir: Path, fold: int, ids: list[str], way
) -> np.ndarray:
    """(n, L) probabilities of the clips of a fold by what was trained on the others."""
    if latest_step(workdir) is not None and load_experiment(workdir).steps != run.steps:
        steps = load_experiment(workdir).steps
        raise ValueError(
            f"{workdir}: was begun for {steps} steps, not {run.steps}; use another --out"
        )
    save_experiment(run, workdir)
    file = workdir / SCORES
    if file.is_file():
        with np.load(file) as kept:
            return kept["scores"]
    state = train(
        run, make_task(run), data_dir=data_dir, workdir=workdir, load=lambda source: encoder
    )
    tagger = Tagger(run.model, run.tagging, state.variables(), CLIPS_AT_ONCE)
    examples = {x.id: x.audio for x in records.read_examples(data_dir, _split(fold))}
    found = tagger.tag([examples[id] for id in ids], **way)
    memory = io.BytesIO()
    np.savez(memory, scores=found, ids=np.array(ids), labels=np.array(run.tagging.labels))
    write_bytes(file, memory.getvalue())
    return found


# --- records --------------------------------------------------------------------------------


def _split(fold: int) -> str:
    return "train" if fold < 0 else f"fold_{fold}"


def _all_but(folds: np.ndarray, fold: int) -> str:
    """The splits of what is trained on."""
    return "+".join(_split(other) for other in np.unique(folds).tolist() if other != fold)


def write_records(
    benchmarks: Sequence[Benchmark],
    data: Labelled,
    rate: int,
    model: str,
    data_dir: Path,
    progress: Progress,
) -> None:
    """Writes the clips as records, a split for each fold; once.

    Args:
      benchmarks: where the sounds are.
      data: their clips, as far as they can be decoded.
      rate: Hz.
      model: the fingerprint of what is tuned on them, for its folder may hold another one by then.
      data_dir: where to.
      progress: wraps an iterable of known length.

    Raises:
      ValueError: records of other clips, labels, folds or another rate are there, or another
        model's.
    """
    folds = data.folds.tolist()
    clips = [(x.id, x.labels, x.origin, fold) for x, fold in zip(data.clips, folds, strict=True)]
    digest = hashlib.sha256(json.dumps(clips).encode()).hexdigest()[:32]
    build = {"sample_rate": rate, "made_of": [b.data for b in benchmarks], "clips": digest}
    build["model"] = model
    if (data_dir / records.BUILD_FILE).is_file():
        there = records.read_build(data_dir)
        if differ := [name for name in build if there.get(name) != build[name]]:
            what = "for another model" if differ == ["model"] else "of other clips"
            raise ValueError(f"{data_dir}: was made {what}; use another --out")
        return
    records.check_free(data_dir)
    folder = records.start_build(data_dir)
    splits = list(dict.fromkeys(map(_split, sorted(folds))))
    writers = {x: records.ShardWriter(folder, f"part-{x}", records.SHARD_BYTES) for x in splits}
    encode = {split: records.serializer(split) for split in splits}
    for fold, example in progress(_examples(benchmarks, data, rate), len(clips), "decoding"):
        writers[_split(fold)].write(encode[_split(fold)](example))
    written = []
    for split, writer in writers.items():
        writer.close()
        for number, (name, _, _) in enumerate(writer.files):
            final = records.shard_name(split, number, len(writer.files))
            os.replace(folder / name, folder / final)
        counts, size = [x[1] for x in writer.files], sum(x[2] for x in writer.files)
        written.append((split, counts, size))
    records.write_metadata(folder, written)
    records.finish_build(folder, data_dir, build)


def _examples(
    benchmarks: Sequence[Benchmark], data: Labelled, rate: int
) -> Iterator[tuple[int, Example]]:
    """(fold, record) of each clip, in the order of the benchmarks."""
    folds: Mapping[str, int] = {
        clip.id: fold for clip, fold in zip(data.clips, data.folds.tolist(), strict=True)
    }
    for benchmark in benchmarks:
        for index, wrong, samples in benchmark.sounds(rate, 0):
            clip = benchmark.clips[index]
            if wrong or clip.id not in folds:
                continue
            yield (
                folds[clip.id],
                Example(
                    id=clip.id,
                    audio=_pcm(samples),
                    sample_rate=rate,
                    captions=(label_caption(clip.labels),),
                    labels=clip.labels,
                    source=benchmark.name,
                    origin=clip.origin,
                ),
            )


def _pcm(samples) -> np.ndarray:
    """(T,) int16 of what `Benchmark.sounds` gives."""
    samples = np.asarray(samples)
    return samples if samples.dtype == np.int16 else float_to_int16(samples)
