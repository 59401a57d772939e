"""Tagging: average precision of each label, and how often the likeliest one is right."""

import os
from collections.abc import Callable, Sequence

import numpy as np

from clapjax.audio.config import AudioConfig
from clapjax.audio.fill import fill, truncate
from clapjax.data.records import open_builder, read_examples


def average_precision(scores, right) -> float:
    """Area under the precision-recall steps, as scikit-learn's `average_precision_score`.

    Args:
      scores: (N,) float, the higher the likelier; equal ones are one step.
      right: (N,) bool, True at least once.

    Returns:
      In 0..1.

    Raises:
      ValueError: none is right.
    """
    scores, right = np.asarray(scores), np.asarray(right, bool)
    if not right.any():
        raise ValueError("average_precision: nothing is right")
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(right[order])  # (N,) right ones down to each place
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of each step
    precision, recall = found[ends] / (ends + 1), found[ends] / found[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def tagging(scores, targets, labels: Sequence[str]) -> dict:
    """Mean average precision over labels, and accuracy over clips.

    Args:
      scores: (N, C) float.
      targets: (N, C) bool, which labels a clip has.
      labels: C names.

    Returns:
      {"mAP": over the labels that a clip has, "accuracy": the share of clips with a label whose
      likeliest label is one of theirs, "n": those clips, "per_label": {name: average precision or
      None where no clip has it}}.

    Raises:
      ValueError: no clip has any of the labels.
    """
    scores, targets = np.asarray(scores), np.asarray(targets, bool)
    some = targets.any(axis=1)
    if not some.any():
        raise ValueError(f"tagging: no clip has one of the {len(labels)} labels")
    precision = {
        name: average_precision(scores[:, i], targets[:, i]) if targets[:, i].any() else None
        for i, name in enumerate(labels)
    }
    likeliest = scores.argmax(axis=1)
    return {
        "mAP": float(np.mean([p for p in precision.values() if p is not None])),
        "accuracy": float(targets[np.flatnonzero(some), likeliest[some]].mean()),
        "n": int(some.sum()),
        "per_label": precision,
    }


def evaluate_tagging(
    predict: Callable[[np.ndarray, np.ndarray], np.ndarray],
    data_dir: str | os.PathLike,
    split: str,
    labels: Sequence[str],
    audio: AudioConfig,
    rows: int,
) -> dict:
    """`tagging` of a split of records; deterministic: of a longer clip the middle is heard.

    Args:
      predict: from (rows, clip_samples) int16 and (rows,) int32 lengths to (rows, C) scores.
      data_dir, split: the records.
      labels: C names.
      audio: what a clip is.
      rows: heard at once; the last ones are filled up with the last clip.

    Raises:
      RecordsError: no such split, or it is damaged.
      ValueError: no clip has any of the labels.
    """
    scores, targets, waiting = [], [], []

    def flush() -> None:
        batch = np.stack(waiting + waiting[-1:] * (rows - len(waiting)))
        lengths = np.full(rows, audio.clip_samples, np.int32)
        scores.append(np.asarray(predict(batch, lengths))[: len(waiting)])
        waiting.clear()

    for example in read_examples(data_dir, split):
        clip = fill(truncate(example.audio, audio.clip_samples), audio.clip_samples, audio.fill)
        waiting.append(clip)
        targets.append([label in example.labels for label in labels])
        if len(waiting) == rows:
            flush()
    if waiting:
        flush()
    if not scores:
        raise ValueError(f"tagging: the split {split!r} is empty")
    return tagging(np.concatenate(scores), np.array(targets), labels)


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
