"""What a classifier that was trained on labels is judged by: folds, and measures of its scores."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from clapjax.evaluation.benchmarks import Benchmark, Judged, load_benchmark, recordings
from clapjax.evaluation.ranks import TIE
from clapjax.evaluation.result import Metric
from clapjax.evaluation.statistics import compare, interval, mcnemar
from clapjax.evaluation.zero_shot import (
    class_ranks,
    mean_average_precision,
    precision_by_label,
    precision_interval,
)

UNTESTED = -1  # any negative fold: clips that are only trained on
DEALT = 5  # folds of a set that has neither folds nor a split to train on
PARTS = 100  # of a jackknife of a metric over many labels
CERTAIN = 1e-6  # an area nearer to 0 or 1 counts as this near: d' stays finite


# --- which clips judge what was trained on the others ---------------------------------------


@dataclass(frozen=True)
class Labelled:
    """Clips, their labels, and folds: each is judged by what was trained on all other folds."""

    clips: tuple[Judged, ...]
    names: tuple[str, ...]  # of the L labels, sorted
    right: np.ndarray  # (N, L) bool
    folds: np.ndarray  # (N,) int; negative: only trained on
    origins: np.ndarray  # (N,) int: the recording that each was cut from

    @property
    def several(self) -> bool:
        """Whether some clip has more than one label, and each label is a question of its own."""
        return bool((self.right.sum(axis=1) != 1).any())


def lacks(benchmark: Benchmark) -> str:
    """What a benchmark lacks for this; "" for nothing."""
    bare = sum(not clip.labels for clip in benchmark.clips)
    return f"{bare} clips of the split {benchmark.split!r} have no label" if bare else ""


def parts(benchmark: Benchmark) -> tuple[Benchmark, ...]:
    """A benchmark, and its split "train" where it is another one and the clips have no folds."""
    if _published(benchmark) is not None or benchmark.split == "train":
        return (benchmark,)
    if "train" not in benchmark.splits:
        return (benchmark,)
    return benchmark, load_benchmark(benchmark.name, benchmark.path, "train")


def labelled(benchmarks: Sequence[Benchmark]) -> Labelled:
    """The clips of `parts`, those of the split "train" behind the others and never tested.

    Folds are as published. Where there are none, nor a split to train on, whole recordings are
    dealt out to DEALT folds, those of each label in turn.

    Raises:
      ValueError: a clip without a label, one label alone, one recording alone, or in two folds.
    """
    for benchmark in benchmarks:
        if why := lacks(benchmark):
            raise ValueError(f"{benchmark.path}: {why}")
    first, *others = benchmarks
    clips = tuple(clip for benchmark in benchmarks for clip in benchmark.clips)
    names = tuple(sorted({label for clip in clips for label in clip.labels}))
    if len(names) < 2:
        raise ValueError(
            f"{first.path}: all clips are labelled {names[0]!r}; two labels are needed"
        )
    right = np.array([[name in clip.labels for name in names] for clip in clips])
    origins = recordings(clips)
    if others:
        folds = np.repeat([0, UNTESTED], [len(first.clips), len(clips) - len(first.clips)])
    elif (folds := _published(first)) is None:
        folds = _dealt(first.path, right, origins)
    _check_apart(first.path, clips, folds, origins)
    return Labelled(clips, names, right, folds, origins)


def _published(benchmark: Benchmark) -> np.ndarray | None:
    """(N,) folds of the clips; None where not each has one, or all have the same."""
    folds = [clip.fold for clip in benchmark.clips]
    return np.array(folds) if None not in folds and len(set(folds)) > 1 else None


def _check_apart(path: str, clips: Sequence[Judged], folds: np.ndarray, origins) -> None:
    """Raises ValueError where a recording is in two folds: it would be trained on and judged."""
    order = np.lexsort((folds, origins))
    same = (np.diff(origins[order]) == 0) & (np.diff(folds[order]) != 0)
    if same.any():
        at = int(np.flatnonzero(same)[0])
        one, other = (clips[row] for row in order[at : at + 2])
        raise ValueError(
            f"{path}: clips {one.id} and {other.id} are in two folds or splits, but both are cut "
            f"from the recording {one.origin}"
        )


def _dealt(path: str, right: np.ndarray, origins: np.ndarray) -> np.ndarray:
    """(N,) folds from 1 on, of whole recordings; always the same."""
    first = np.unique(origins, return_index=True)[1]  # a clip of each recording
    if len(first) < 2:
        raise ValueError(f"{path}: all clips are cut from one recording; none can be held out")
    chance = np.random.default_rng(0).permutation(len(first))
    order = np.lexsort((chance, right[first].argmax(axis=1)))
    fold = np.empty(len(first), int)
    fold[order] = 1 + np.arange(len(first)) % DEALT
    return fold[origins]


# --- measures -------------------------------------------------------------------------------


def areas(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Area under each label's ROC curve, equal scores half; NaN where all or no rows have it.

    Args:
      scores: (n, L) float.
      right: (n, L) bool.
    """
    found = np.full(scores.shape[1], np.nan)
    for label, own in enumerate(right.T):
        if own.any() and not own.all():
            wrong, mine = np.sort(scores[~own, label]), scores[own, label]
            ends = [np.searchsorted(wrong, mine, side).mean() for side in ("left", "right")]
            found[label] = sum(ends) / 2 / len(wrong)
    return found


def mean_area(scores, right) -> float:
    """Mean of `areas` over the labels that have one."""
    return float(np.nanmean(areas(scores, right)))


def d_prime(area: float) -> float:
    """sqrt(2) times the normal quantile of a mean area, as AudioSet's baselines report it."""
    return float(np.sqrt(2) * special.ndtri(np.clip(area, CERTAIN, 1 - CERTAIN)))


def hits(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(n,) bool: whether the likeliest label is one of the row's; a tie is none."""
    return class_ranks(scores, right) < 1


def accuracy(scores: np.ndarray, right: np.ndarray) -> float:
    """Share of `hits`."""
    return float(hits(scores, right).mean())


def class_recall(scores: np.ndarray, right: np.ndarray) -> float:
    """Mean over the classes of the share of their rows that is right."""
    hit, have = hits(scores, right), right.sum(0)
    return float(np.mean((right & hit[:, None]).sum(0)[have > 0] / have[have > 0]))


def measures(scores, right, origins, several: bool) -> dict[str, Metric]:
    """ "accuracy" and "mean_class_recall"; with several labels a row "mAP", "mAUC" and "d'".

    Args:
      scores: (n, L) float, the higher the likelier.
      right: (n, L) bool.
      origins: (n,) recordings, over which intervals are.
      several: whether each label is a question of its own.
    """
    whole = functools.partial(interval, groups=origins, method="jackknife", parts=PARTS)
    if not several:
        return {
            "accuracy": interval(hits(scores, right), "mean", origins),
            "mean_class_recall": whole((scores, right), class_recall),
        }
    precision = precision_interval(scores, right, origins, PARTS)
    return {"mAP": precision, **area_measures(scores, right, origins)}


def area_measures(scores: np.ndarray, right: np.ndarray, origins) -> dict[str, Metric]:
    """ "mAUC" and "d'", nothing where no label tells rows apart; arguments as of `measures`."""
    if not (right.any(0) & ~right.all(0)).any():
        return {}
    area = interval((scores, right), mean_area, origins, method="jackknife", parts=PARTS)
    return {"mAUC": area, "d'": Metric(*map(d_prime, area))}


def chance(right: np.ndarray, several: bool) -> float:
    """What guessing reaches on the first of `measures`."""
    if not several:
        return 1 / right.shape[1]
    return float(right[:, right.any(0)].mean())


def outcomes(data: Labelled, rows: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
    """What happened to each clip, for the items of a `Result`.

    Args:
      data: the clips.
      rows: (n,) which of them were judged.
      scores: (n, L) float.
    """
    right, names = data.right[rows], np.array(data.names)
    clips = [data.clips[row] for row in rows]
    ahead = class_ranks(scores, right)
    items = {
        "id": np.array([clip.id for clip in clips]),
        "fold": data.folds[rows],
        "label": np.array(["; ".join(clip.labels) for clip in clips]),
        "predicted": names[np.where(right, scores - TIE, scores).argmax(axis=1)],
        "rank": ahead + 1,
        "group": data.origins[rows],
    }
    return items if data.several else items | {"right": ahead < 1}


def paired(data: Labelled, rows: np.ndarray, one: np.ndarray, other: np.ndarray) -> dict:
    """`compare` of two models' scores on the first of `measures`, over recordings.

    With one label a clip also "mcnemar": the exact test's p, for which each clip counts for itself.

    Args:
      data, rows: as for `outcomes`.
      one, other: (n, L) scores of the two models.
    """
    right, groups = data.right[rows], data.origins[rows]
    if data.several:
        return compare((one, right), (other, right), mean_average_precision, groups)
    found = compare(hits(one, right), hits(other, right), groups=groups)
    return found | {"mcnemar": mcnemar(found["better"], found["worse"])}


def details(data: Labelled, rows: np.ndarray, scores: np.ndarray) -> dict:
    """ "by_fold": the first of `measures` of each fold; with several labels a clip "by_label" too.

    Args:
      data, rows, scores: as for `outcomes`.
    """
    first, found = mean_average_precision if data.several else accuracy, {}
    for fold in np.unique(data.folds[rows]).tolist():
        own = data.folds[rows] == fold
        found[str(fold)] = first(scores[own], data.right[rows][own])
    if not data.several:
        return {"by_fold": found}
    return {"by_fold": found, "by_label": precision_by_label(scores, data.right[rows], data.names)}
