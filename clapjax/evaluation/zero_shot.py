"""Zero-shot classification: the classes whose prompts are nearest to the clip."""

from collections.abc import Sequence

import numpy as np

from clapjax.evaluation.benchmarks import Benchmark, recordings
from clapjax.evaluation.calibration import calibrate
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.embed import Embedded
from clapjax.evaluation.ranks import TIE, unit_rows
from clapjax.evaluation.result import Metric, Result, Said, Shown, Sound
from clapjax.evaluation.statistics import interval

WORST = 2  # mistakes that are shown


def lacks(benchmark: Benchmark) -> str:
    """What a benchmark lacks for this task; "" for nothing."""
    bare = sum(not clip.labels for clip in benchmark.clips)
    if bare:
        return f"{bare} clips of the split {benchmark.split!r} have no label"
    labels = {label for clip in benchmark.clips for label in clip.labels}
    one = len(labels) == 1
    return f"all of the split {benchmark.split!r} is {min(labels)!r}: no choice" if one else ""


def class_embeddings(prompts) -> np.ndarray:
    """One unit vector per class: the mean of its prompts' embeddings, renormalised.

    The prompt ensemble of CLIP (Radford et al., arXiv 2103.00020, section 3.1.4).

    Args:
      prompts: (P, C, D) float32, unit length, P prompts of each class.

    Returns:
      (C, D) float32, unit length.

    Raises:
      ValueError: bad embeddings, or prompts of one class that cancel out.
    """
    shape = np.shape(prompts)
    flat = unit_rows("prompts", np.reshape(prompts, (-1, shape[2])))
    if shape[0] == 1:
        return flat
    mean = flat.reshape(shape).mean(axis=0)  # (C, D)
    length = np.linalg.norm(mean, axis=1, keepdims=True)  # (C, 1)
    if length.min() < 1e-6:
        raise ValueError(f"prompts of class {length.argmin()} cancel out")
    return mean / length


def class_ranks(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """How many wrong classes are ahead of a clip's best right one; equal scores are ahead.

    Args:
      scores: (N, C) float.
      right: (N, C) bool, each clip has a right class.

    Returns:
      (N,) int64, 0 for the first place.
    """
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)  # (N, 1)
    return np.count_nonzero(~right & (scores >= best - TIE), axis=1)


def average_precision(scores: np.ndarray, right: np.ndarray) -> float:
    """Mean over the right items of the precision down to each; wrong ones of equal score first.

    Without equal scores that of scikit-learn.

    Args:
      scores: (N,) float.
      right: (N,) bool, at least one.
    """
    own, wrong = np.sort(scores[right])[::-1], np.sort(scores[~right])
    ahead = len(wrong) - np.searchsorted(wrong, own - TIE)  # wrong ones at each right one
    nth = np.arange(1, len(own) + 1)
    return float(np.mean(nth / (nth + ahead)))


def mean_average_precision(scores: np.ndarray, right: np.ndarray) -> float:
    """The mean of `average_precision` over the classes of (N, C) that some clip has."""
    there = np.flatnonzero(right.any(axis=0))
    return float(np.mean([average_precision(scores[:, c], right[:, c]) for c in there]))


def precision_by_label(
    scores: np.ndarray, right: np.ndarray, names: Sequence[str]
) -> dict[str, list[float]]:
    """{name: [clips, average precision]} of the classes of (N, C) that some clip has."""
    return {
        names[c]: [int(right[:, c].sum()), average_precision(scores[:, c], right[:, c])]
        for c in np.flatnonzero(right.any(axis=0)).tolist()
    }


def precision_interval(scores: np.ndarray, right: np.ndarray, groups, parts: int = 200) -> Metric:
    """`mean_average_precision` and its interval; `groups` and `parts` as `interval` has them."""
    return interval(
        (scores, right),
        mean_average_precision,
        groups,
        method="jackknife",
        parts=parts,
        positives=int(right.sum()),
    )


def class_recall(won: np.ndarray, label: np.ndarray) -> float:
    """The mean over classes of the share of their clips that is right."""
    clips = np.bincount(label)
    there = clips > 0
    return float(np.mean(np.bincount(label, won)[there] / clips[there]))


def run(embedded: Embedded, settings: EvaluationConfig) -> list[Result]:
    """Accuracy where each clip has one label, else mean average precision over the labels.

    LAION-CLAP (evaluate/eval_zeroshot_classification.py) and T-CLAP (arXiv 2404.17806, 3.3) take
    the class of the highest cosine, too. Equal cosines are wrong.
    """
    clips = embedded.benchmark.clips
    names = sorted({label for clip in clips for label in clip.labels})
    words = [name.replace("_", " ") for name in names]  # of "sea_waves", as people name files
    prompts = [prompt.replace("{}", name) for prompt in settings.prompts for name in words]
    shape = (len(settings.prompts), len(names), -1)
    classes = class_embeddings(embedded.embed_text(prompts).reshape(shape))
    scores = unit_rows("audio", embedded.audio) @ classes.T  # (N, C)
    right = np.array([[name in clip.labels for name in names] for clip in clips])
    ahead = class_ranks(scores, right)
    first = np.where(right, scores - TIE, scores).argmax(axis=1)
    items = {
        "id": np.array([clip.id for clip in clips]),
        "label": np.array(["; ".join(clip.labels) for clip in clips]),
        "predicted": np.array(names)[first],
        "right": ahead < 1,
        "rank": ahead + 1,
        "group": (groups := recordings(clips)),
    }
    tops = {"accuracy": ahead < 1}
    if len(names) > 5:
        tops["top5"] = ahead < 5
    metrics = {name: interval(won, "mean", groups) for name, won in tops.items()}
    told = {"template": " | ".join(settings.prompts), "classes": len(names)}
    if right.sum(axis=1).max() > 1:
        told["by_label"] = precision_by_label(scores, right, names)
        chance = float(right.any(axis=0) @ right.mean(axis=0) / right.any(axis=0).sum())
        precision = precision_interval(scores, right, groups)
        metrics = {"mAP": precision, "top1_any": metrics.pop("accuracy"), **metrics}
    else:
        outcomes = ahead < 1, right.argmax(axis=1)
        metrics["mean_class_recall"] = interval(outcomes, class_recall, groups, method="jackknife")
        chance = 1 / len(names)
    shown = _mistakes(embedded, names, scores, right, ahead, first)
    if not right.all():  # what is always there has no threshold
        told["calibration"] = calibrate(scores, right)
    return [embedded.result("zero_shot", chance, metrics, items, shown, **told)]


def _mistakes(embedded: Embedded, names: Sequence[str], scores, right, ahead, first) -> list[Shown]:
    """The clips whose labels are furthest from what was heard."""
    best = np.where(right, scores, -np.inf)
    gap = np.where(ahead > 0, scores.max(axis=1) - best.max(axis=1), -np.inf)
    shown = []
    for clip in np.argsort(-gap, kind="stable")[:WORST]:
        if not ahead[clip]:
            break
        said = tuple(
            Said(names[at], float(scores[clip, at]), bool(right[clip, at]))
            for at in (int(best[clip].argmax()), int(first[clip]))
        )
        sound = Sound(embedded.benchmark.clips[clip].id, False, said)
        shown.append(Shown("zero-shot: taken for another class", (sound,)))
    return shown
