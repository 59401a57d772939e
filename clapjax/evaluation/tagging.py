"""Tagging: average precision of each label, and how often the likeliest one is right."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Protocol

import numpy as np
from scipy.stats import binomtest

from clapjax.data.records import open_builder, read_examples

RESAMPLES = 300  # of the clips, for the interval of mAP


class Tags(Protocol):
    """What is judged: `clapjax.inference.Tagger` is one."""

    labels: Sequence[str]

    def tag(self, audio: Iterable[np.ndarray], sampling_rate: int | None = None) -> np.ndarray:
        """(N, C) float, the higher the likelier."""


def average_precision(scores, right, counts=None) -> np.ndarray | float:
    """Area under the precision-recall steps, as scikit-learn's `average_precision_score`.

    Args:
      scores: (N,) float, the higher the likelier; equal ones are one step.
      right: (N,) bool, True at least once.
      counts: (..., N): how often each counts; None: once.

    Returns:
      (...) in 0..1; NaN where nothing that counts is right.

    Raises:
      ValueError: none is right.
    """
    scores, right = np.asarray(scores), np.asarray(right, bool)
    if not right.any():
        raise ValueError("average_precision: nothing is right")
    counts = np.ones(len(scores)) if counts is None else np.asarray(counts)
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of each step
    counts = counts[..., order]
    taken = np.cumsum(counts, axis=-1)[..., ends]  # down to the end of each step
    found = np.cumsum(counts * right[order], axis=-1)[..., ends]
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        recall = found / found[..., -1:]
    precision = found / np.maximum(taken, 1)
    return np.sum(np.diff(recall, prepend=0.0, axis=-1) * precision, axis=-1)


def tagging(scores, targets, labels: Sequence[str]) -> dict:
    """Mean average precision over labels, and accuracy over clips, with 95 % intervals.

    Args:
      scores: (N, C) float.
      targets: (N, C) bool, which labels a clip has.
      labels: C names.

    Returns:
      {"mAP": over the labels that a clip has, "accuracy": the share of clips with a label whose
      likeliest label is one of theirs, "n": those clips, "chance": what one answer for all clips
      reaches of both at best (mAP: the mean share of clips that have a label), "intervals": [low,
      high] of both (mAP: percentiles over RESAMPLES of the N clips; accuracy: Wilson's score),
      "per_label": {name: average precision or None where no clip has it}}.

    Raises:
      ValueError: no clip has any of the labels.
    """
    scores, targets = np.asarray(scores), np.asarray(targets, bool)
    some, had = targets.any(axis=1), targets.any(axis=0)
    if not some.any():
        raise ValueError(f"tagging: no clip has one of the {len(labels)} labels")
    n, generator = len(scores), np.random.default_rng(0)
    counts = generator.multinomial(n, np.full(n, 1 / n), RESAMPLES)  # (R, N)
    counts = np.concatenate([np.ones((1, n), counts.dtype), counts])  # the clips as they are first
    pairs = zip(scores.T[had], targets.T[had], strict=True)
    precision = np.array([average_precision(*pair, counts) for pair in pairs])  # (labels, 1 + R)
    drawn = ~np.isnan(precision).all(axis=0)  # where some clip has a label
    means = np.nanmean(precision[:, drawn], axis=0)
    hits = targets[some, scores.argmax(axis=1)[some]]
    wilson = binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    which = np.cumsum(had) - 1  # row of each label that some clip has
    return {
        "mAP": float(means[0]),
        "accuracy": float(hits.mean()),
        "n": len(hits),
        "chance": {
            "mAP": float(targets[:, had].mean()),
            "accuracy": float(targets[some].mean(axis=0).max()),
        },
        "intervals": {
            "mAP": np.percentile(means[1:], [2.5, 97.5]).tolist(),
            "accuracy": [float(wilson.low), float(wilson.high)],
        },
        "per_label": {
            name: float(precision[which[i], 0]) if had[i] else None for i, name in enumerate(labels)
        },
    }


def headline(found: dict) -> str:
    """What `tagging` found in a line, in per cent."""
    parts = []
    for name in ("mAP", "accuracy"):
        low, high = (100 * bound for bound in found["intervals"][name])
        parts.append(f"{name} {100 * found[name]:.1f} % [{low:.1f}, {high:.1f}]")
    return f"tagging {', '.join(parts)} (n={found['n']})"


def evaluate_tagging(tagger: Tags, data_dir: str | os.PathLike, split: str) -> dict:
    """`tagging` of a split of records; deterministic.

    Args:
      tagger: the model.
      data_dir, split: the records.

    Raises:
      RecordsError: no such split, or it is damaged.
      ValueError: no clip has any of the labels.
    """
    targets = []

    def clips(examples) -> Iterator[np.ndarray]:
        for example in examples:
            targets.append([label in example.labels for label in tagger.labels])
            yield example.audio

    examples = iter(read_examples(data_dir, split))
    first = next(examples)  # a split has one at least
    scores = tagger.tag(clips(chain([first], examples)), sampling_rate=first.sample_rate)
    return tagging(scores, np.array(targets), tagger.labels)


def tagging_left_out(data_dir: str | os.PathLike, split: str, labels: Sequence[str]) -> str:
    """Why a data set has nothing to judge tagging on; "" where it has.

    Args:
      data_dir, split: the records.
      labels: of the model; none: any will do.

    Raises:
      RecordsError: no data set, or a damaged one.
    """
    splits = open_builder(data_dir).info.splits
    if split not in splits:
        return f"the records have no split {split!r}; there are {', '.join(splits)}"
    for example in read_examples(data_dir, split):
        if set(example.labels) & set(labels) if labels else example.labels:
            return ""
    return f"no example of the split {split!r} has one of the labels"
