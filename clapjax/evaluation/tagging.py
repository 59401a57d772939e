"""Tagging: precision and area of each label, and how often the likeliest one is right."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from clapjax.audio.files import AudioError
from clapjax.evaluation.benchmarks import Benchmark, recordings
from clapjax.evaluation.result import Result
from clapjax.evaluation.statistics import interval
from clapjax.evaluation.supervised import area_measures
from clapjax.evaluation.zero_shot import class_ranks, precision_by_label, precision_interval


class Tags(Protocol):
    """What is judged: `clapjax.inference.Tagger` is one."""

    config: object  # with audio.sample_rate
    labels: Sequence[str]

    def each(
        self,
        audio: Iterable,
        *,
        sampling_rate: int,
        long: str | None = None,
        hop: float | None = None,
    ) -> Iterator[tuple[int, np.ndarray | AudioError]]:
        """(number of the input, (C,) float, the higher the likelier; or why there is none)."""


def lacks(benchmark: Benchmark, labels: Sequence[str] = ()) -> str:
    """What a benchmark lacks for a tagger with these labels; none: any will do."""
    for clip in benchmark.clips:
        if set(clip.labels) & set(labels) if labels else clip.labels:
            return ""
    return f"no example of the split {benchmark.split!r} has one of the labels"


def unknown(benchmark: Benchmark, labels: Sequence[str]) -> str:
    """A line about the labels of a benchmark that a tagger does not know; "" where it knows all."""
    strange = sorted({label for clip in benchmark.clips for label in clip.labels} - set(labels))
    if not strange:
        return ""
    shown = ", ".join(strange[:3]) + (", ..." if len(strange) > 3 else "")
    return (
        f"{len(strange)} labels of the split {benchmark.split!r} are not the tagger's, and count "
        f"nothing: {shown}"
    )


def evaluate_tagging(
    tagger: Tags,
    name: str,
    benchmark: Benchmark,
    *,
    long: str | None = None,
    hop: float | None = None,
    provenance: Mapping[str, object] | None = None,
) -> list[Result]:
    """Judges a tagger; deterministic, one clip after the other.

    Args:
      tagger: the model.
      name: of the model, for the reader.
      benchmark: the clips.
      long, hop: how audio longer than a clip is heard, as for `Tagger.tag`.
      provenance: what every result shall tell besides.

    Returns:
      As `tagging`.

    Raises:
      ValueError: no clip has one of the labels, or none can be decoded.
    """
    kept, scores = tag_clips(tagger, benchmark, long, hop)
    told = {"data": benchmark.data, "path": benchmark.path, "split": benchmark.split}
    told |= dict(provenance or {})
    return tagging(scores, tagger.labels, benchmark, kept, name, told)


def tag_clips(
    tagger: Tags, benchmark: Benchmark, long: str | None = None, hop: float | None = None
) -> tuple[list[int], np.ndarray]:
    """Which clips can be decoded, N of them, and what a tagger gives the labels there, (N, C).

    Args:
      tagger, benchmark, long, hop: as for `evaluate_tagging`.

    Raises:
      ValueError: none can be decoded.
    """
    index, rate = [], tagger.config.audio.sample_rate

    def clips() -> Iterator:
        for number, wrong, samples in benchmark.sounds(rate, 0):
            if not wrong:
                index.append(number)
                yield samples

    found = tagger.each(clips(), sampling_rate=rate, long=long, hop=hop)
    rows = {index[at]: row for at, row in found if not isinstance(row, AudioError)}
    if not rows:
        raise ValueError(f"{benchmark.path}: none of its clips can be decoded")
    kept = sorted(rows)
    return kept, np.array([rows[at] for at in kept])


def tagging(
    scores: np.ndarray,
    labels: Sequence[str],
    benchmark: Benchmark,
    kept: Sequence[int],
    name: str,
    provenance: Mapping[str, object],
) -> list[Result]:
    """Mean average precision and area over labels, and accuracy over clips with one of them.

    Equal scores are wrong, and half right for the area. Chance is what one answer for all clips
    reaches at best.

    Args:
      scores: (N, C) float, of the clips `kept` of the benchmark.
      labels: C names.
      name, provenance: of the results.

    Returns:
      Two results: "mAP" over all clips, of the labels that some clip has, and "mAUC" and "d'" of
      those that not all have; "accuracy", the share of clips with a label whose likeliest label is
      one of theirs.

    Raises:
      ValueError: no clip has any of the labels.
    """
    clips = [benchmark.clips[at] for at in kept]
    targets = np.array([[label in clip.labels for label in labels] for clip in clips])
    some, had = targets.any(axis=1), targets.any(axis=0)
    if not some.any():
        raise ValueError(f"tagging: no clip has one of the {len(labels)} labels")
    group = recordings(clips)
    precision = precision_interval(scores, targets, group)
    ahead = class_ranks(scores[some], targets[some])
    common = {"id": np.array([clip.id for clip in clips]), "group": group}
    tagged = {key: column[some] for key, column in common.items()} | {
        "label": np.array(["; ".join(clip.labels) for clip in clips])[some],
        "predicted": np.array(labels)[scores[some].argmax(axis=1)],
        "right": ahead < 1,
        "rank": ahead + 1,
    }
    everything = float(targets[:, had].mean()), float(targets[some].mean(axis=0).max())
    areas = area_measures(scores, targets, group)
    metrics = {"mAP": precision, **areas}, {"accuracy": interval(ahead < 1, "mean", group[some])}
    told = {**provenance, "by_label": precision_by_label(scores, targets, labels)}, provenance
    return [
        Result(name, benchmark.name, "tagging", len(items["id"]), chance, found, whence, items)
        for chance, found, whence, items in zip(
            everything, metrics, told, (common, tagged), strict=True
        )
    ]
