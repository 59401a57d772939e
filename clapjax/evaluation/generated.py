"""Judges generated clips of a folder against real ones, by what a model hears in both."""

import itertools
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath

import numpy as np
from scipy.special import softmax

from clapjax.evaluation.benchmarks import Benchmark, Judged, Sounds, load_benchmark
from clapjax.evaluation.captioning import clap_score
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.embed import Embedded
from clapjax.evaluation.generation import (
    MOST,
    Heard,
    distributions,
    events,
    generation,
    order_error,
    posterior_divergence,
)
from clapjax.evaluation.result import Metric, Result
from clapjax.evaluation.statistics import interval
from clapjax.evaluation.tagging import Tags, tag_clips
from clapjax.evaluation.zero_shot import class_embeddings

DURATIONS = 8000  # Hz at which clips are read for their length alone

# Of a benchmark: (the clips that can be decoded, (n, C) how probable each label is).
Listener = Callable[[Benchmark], tuple[Sequence[Judged], np.ndarray]]


def lacks(benchmark: Benchmark) -> str:
    """What a benchmark lacks for this task; "" for nothing."""
    return "" if len(benchmark.clips) > 1 else "one clip alone is nothing to compare with"


def run(embedded: Embedded, settings: EvaluationConfig) -> list[Result]:
    """Judges the clips of `settings.generated`; their captions, where they have some, are prompts.

    Distances over all clips; and over the clips that have the name of a real one, KL and order
    errors (`judge`) by zero-shot classes: the labels and events of the real clips.

    Raises:
      ValueError: none are named, or they cannot be read.
    """
    made = embedded.embed(_generated(settings))
    metrics, items = generation(_heard(embedded), _heard(made))
    items = items | {"id": np.array([clip.id for clip in made.benchmark.clips])}
    told = {"generated": settings.generated, "real": len(embedded.audio)}
    found = [embedded.result("generation", None, metrics, items, **told)]
    real = embedded.benchmark
    labels = sorted({name for clip in real.clips for name in (*clip.labels, *clip.events)})
    if len(labels) < 2 or embedded.scale is None:
        return found
    prompts = [prompt.replace("{}", name) for prompt in settings.prompts for name in labels]
    shape = (len(settings.prompts), len(labels), -1)
    classes = class_embeddings(embedded.embed_text(prompts).reshape(shape))

    def listen(benchmark: Benchmark) -> tuple[Sequence[Judged], np.ndarray]:
        heard = embedded.embed(benchmark)
        return heard.benchmark.clips, softmax(embedded.scale * (heard.audio @ classes.T), axis=1)

    judged = judge(real, made.benchmark, listen, labels, settings)
    told |= {"template": " | ".join(settings.prompts), "classes": len(labels)}
    return found + [embedded.result("generation", None, *one, **told) for one in judged]


def judge_by_tags(
    tagger: Tags,
    name: str,
    benchmark: Benchmark,
    settings: EvaluationConfig,
    *,
    long: str | None = None,
    hop: float | None = None,
    provenance: Mapping[str, object] | None = None,
) -> list[Result]:
    """`judge` by a tagger; arguments as `evaluate_tagging` has them, results as `run`.

    Raises:
      ValueError: no generated clips are named, they cannot be read, or none has the name of a real
        one.
    """

    def listen(benchmark: Benchmark) -> tuple[Sequence[Judged], np.ndarray]:
        kept, scores = tag_clips(tagger, benchmark, long, hop)
        return [benchmark.clips[at] for at in kept], scores

    made = _generated(settings)
    told = {"data": benchmark.data, "path": benchmark.path, "split": benchmark.split}
    told |= {"generated": settings.generated, "classes": len(tagger.labels), **(provenance or {})}
    found = [
        Result(name, benchmark.name, "generation", len(items["id"]), None, metrics, told, items)
        for metrics, items in judge(benchmark, made, listen, tagger.labels, settings)
    ]
    if not found:
        raise ValueError(
            f"{settings.generated}: no clip has the name of one of {benchmark.path}, such as "
            f"{_name(benchmark, benchmark.clips[0])!r}, so a tagger has nothing to compare"
        )
    return found


def judge(
    real: Benchmark,
    made: Benchmark,
    listen: Listener,
    labels: Sequence[str],
    settings: EvaluationConfig,
) -> list[tuple[dict[str, Metric], dict[str, np.ndarray]]]:
    """KL and order errors of generated clips against the real clips of the same name.

    "KL" is that of `posterior_divergence`; "KL/real" that of a real clip and the next one with the
    same labels and events. "order error" is that of `order_error` over the events of the real clip,
    each and the next one, in frames of `settings.frames` seconds: of clips with two events or more
    that are labels. "order error/real" is the real clips' own.

    Args:
      real, made: the clips; those of one prompt have one file name, whatever its suffix.
      listen: the model.
      labels: C, what its columns are.

    Returns:
      (metrics, items) of KL, and of order errors; what there is nothing for is left out.
    """
    heard = [
        {clip.id: row for clip, row in zip(*listen(side), strict=True)} for side in (real, made)
    ]
    pairs = [(a, b) for a, b in _pairs(real, made) if a.id in heard[0] and b.id in heard[1]]
    if not pairs:
        return []
    posteriors = [
        distributions([side[clip.id] for clip in clips])
        for side, clips in zip(heard, zip(*pairs, strict=True), strict=True)
    ]
    metrics, items = generation(*(Heard(posteriors=side) for side in posteriors))
    alike = _alike([clip for clip, _ in pairs])
    if len(alike) > 1:
        own = posterior_divergence(
            *(posteriors[0][list(rows)] for rows in zip(*alike, strict=True))
        )
        metrics["KL/real"] = interval(own, "mean", None, (0.0, MOST))
    found = [(metrics, items | {"id": np.array([clip.id for _, clip in pairs])})]

    timed = [(a, b) for a, b in pairs if len(a.events) > 1 and set(a.events) <= set(labels)]
    if timed and settings.frames:
        wanted = [clip.events for clip, _ in timed]
        orders = [
            _orders(side, clips, wanted, listen, labels, settings.frames)
            for side, clips in zip((real, made), zip(*timed, strict=True), strict=True)
        ]
        metrics, items = generation(*(Heard(orders=order) for order in orders))
        found.append((metrics, items | {"id": np.array([clip.id for _, clip in timed])}))
    return found


def _pairs(real: Benchmark, made: Benchmark) -> list[tuple[Judged, Judged]]:
    """Clips of one name, or of which the generated one is named by the id of the other.

    A name that several clips have is of none.
    """
    names, made_names = ([_name(side, clip) for clip in side.clips] for side in (real, made))
    count, made_count = Counter(names), Counter(made_names)
    known = {n: clip for n, clip in zip(made_names, made.clips, strict=True) if made_count[n] == 1}
    pairs = []
    for name, clip in zip(names, real.clips, strict=True):
        other = known.get(clip.id) or (known.get(name) if count[name] == 1 else None)
        if other is not None:
            pairs.append((clip, other))
    return pairs


def _name(benchmark: Benchmark, clip: Judged) -> str:
    """The id without what the source puts in front: data set, split and folders."""
    data_set = PurePath(benchmark.path).name
    prefix = f"{data_set}-" if clip.id.startswith(f"{data_set}-") else f"{benchmark.name}-"
    return clip.id.removeprefix(prefix).rpartition("/")[2]


def _alike(clips: Sequence[Judged]) -> list[tuple[int, int]]:
    """Each clip and the next one with the same labels and events, the last one and the first."""
    groups: dict[tuple, list[int]] = {}
    for at, clip in enumerate(clips):
        groups.setdefault((clip.labels, clip.events), []).append(at)
    return [
        pair
        for group in groups.values()
        if len(group) > 1
        for pair in zip(group, group[1:] + group[:1], strict=True)
    ]


def _orders(
    benchmark: Benchmark,
    clips: Sequence[Judged],
    wanted: Sequence[Sequence[str]],
    listen: Listener,
    labels: Sequence[str],
    seconds: float,
) -> list[str]:
    """What is wrong with the order of the events in each clip; the gravest of several errors."""
    frames: dict[str, list] = {clip.id: [] for clip in clips}
    for piece, row in zip(*listen(_frames(benchmark, frames, seconds)), strict=True):
        frames[piece.origin].append(row)
    column = {label: at for at, label in enumerate(labels)}
    found = []
    for clip, names in zip(clips, wanted, strict=True):
        rows = np.reshape(frames[clip.id], (-1, len(labels)))
        heard = [events(rows[:, column[name]], seconds) for name in names]
        errors = {order_error(one, other) for one, other in itertools.pairwise(heard)}
        found.append(next((kind for kind in ("missing", "order", "overlap") if kind in errors), ""))
    return found


def _frames(benchmark: Benchmark, chosen: Container[str], seconds: float) -> Benchmark:
    """The clips cut into frames; each frame's `origin` is the id of its clip."""

    def pieces(rate: int) -> Iterator[tuple[int, int, np.ndarray]]:
        size = round(seconds * rate)
        for index, wrong, samples in benchmark.sounds(rate, 0):
            if benchmark.clips[index].id in chosen and not wrong:
                samples = np.asarray(samples)
                for nth in range(max(1, len(samples) // size)):  # what is left over is no frame
                    yield index, nth, samples[nth * size : (nth + 1) * size]

    place = {(index, nth): at for at, (index, nth, _) in enumerate(pieces(DURATIONS))}

    def sounds(rate: int, first: int = 0) -> Sounds:
        for index, nth, samples in pieces(rate):
            at = place.get((index, nth), -1)  # by rounding, a rate may have one more
            if at >= first:
                yield at, False, samples

    clips = tuple(
        Judged(f"{benchmark.clips[index].id}@{nth}", origin=benchmark.clips[index].id)
        for index, nth in place
    )
    data = f"{benchmark.data}, {len(clips)} frames of {seconds} s"
    return replace(benchmark, clips=clips, sounds=sounds, data=data)


def _generated(settings: EvaluationConfig) -> Benchmark:
    if not settings.generated:
        raise ValueError("generation: name a folder with --config.evaluation.generated=FOLDER")
    return load_benchmark("generated", settings.generated)


def _heard(embedded: Embedded) -> Heard:
    """The embeddings of clips, and how near each is to its first caption where all have one."""
    captions = [clip.captions[0] for clip in embedded.benchmark.clips if clip.captions]
    cosines = None
    if len(captions) == len(embedded.audio):
        cosines = clap_score(embedded.audio, embedded.embed_text(captions))
    return Heard(embedded.audio, cosines=cosines)
