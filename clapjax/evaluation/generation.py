"""How good generated sounds are, from what a model hears in them and in real ones.

Two sets of clips are compared by their embeddings, class posteriors and heard events, whatever
model these come from; numbers of different models are not comparable. Beside every distance stands
the ceiling: what real clips score against real clips.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from clapjax.evaluation.result import Metric
from clapjax.evaluation.statistics import interval

SCALE = 100  # kernel audio distances are given times 100
HALVINGS = 5  # of the real clips, whose mean distance is the ceiling
PARTS = 40  # of the clips that a distance is taken without, in turn, for its interval
NEIGHBOURS = 4000  # clips, at most, whose distances the bandwidth is the median of
ROWS = 2048  # rows of a kernel matrix at once
SMALLEST = 1e-7  # probabilities below it count as it
MOST = -float(np.log(SMALLEST))  # nats: the greatest KL, nearly
OVERLAP = 0.5  # of the shorter event: from there on two events are no longer in sequence
Event = tuple[float, float]  # start and end in seconds


@dataclass(frozen=True)
class Heard:
    """What a model hears in n clips; None where it was not asked."""

    embeddings: np.ndarray | None = None  # (n, D) float
    posteriors: np.ndarray | None = None  # (n, C) float, each row a distribution over classes
    cosines: np.ndarray | None = None  # (n,) `captioning.clap_score` of the clips and their prompts
    orders: Sequence[str] | None = None  # (n,) of `order_error`


def _embeddings(name: str, array) -> np.ndarray:
    array = np.asarray(array, np.float64)
    if array.ndim != 2 or len(array) < 2:
        raise ValueError(f"{name}: expected embeddings of at least 2 clips, got {array.shape}")
    if not np.isfinite(array).all():
        row = np.argwhere(~np.isfinite(array))[0][0]
        raise ValueError(f"{name}: row {row} is NaN or infinite")
    return array


def _both(reference, generated) -> tuple[np.ndarray, np.ndarray]:
    reference = _embeddings("reference", reference)
    generated = _embeddings("generated", generated)
    if reference.shape[1] != generated.shape[1]:
        raise ValueError(f"dimensions differ: {reference.shape[1]} and {generated.shape[1]}")
    return reference, generated


def frechet_distance(reference, generated) -> float:
    """Frechet audio distance (Kilgour et al., arXiv 1812.08466), of two Gaussians.

    |m - n|^2 + tr(S + T - 2 (S T)^(1/2)). It grows as clips get fewer, the more so with more
    dimensions: compare only sets of one size.

    Args:
      reference, generated: (n, D) and (m, D) float, not necessarily of unit length.

    Raises:
      ValueError: under two clips, NaN or infinite, or other dimensions.
    """
    reference, generated = _both(reference, generated)
    means = reference.mean(0), generated.mean(0)
    centred = [
        (x - mean) / np.sqrt(len(x) - 1)
        for x, mean in zip((reference, generated), means, strict=True)
    ]
    # With S = A' A and T = B' B, tr (S T)^(1/2) is the sum of the singular values of A B', and
    # triangular factors have those, too. No root of a matrix that may be singular is taken.
    factors = [np.linalg.qr(x, "r") for x in centred]
    mixed = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False).sum()
    spread = sum(np.sum(x**2) for x in centred)
    return float(max(0.0, np.sum((means[0] - means[1]) ** 2) + spread - 2 * mixed))


def _squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    squares = np.sum(x**2, axis=1)[:, None] + np.sum(y**2, axis=1) - 2 * x @ y.T
    return np.maximum(squares, 0)


def bandwidth(reference, seed: int = 0) -> float:
    """Median distance of different clips, of 4,000 of them drawn by `seed` where there are more.

    Args:
      reference: (n, D) float.

    Raises:
      ValueError: as `frechet_distance`; or more than half of the distances are 0.
    """
    reference = _embeddings("reference", reference)
    if len(reference) > NEIGHBOURS:
        chosen = np.random.default_rng(seed).permutation(len(reference))[:NEIGHBOURS]
        reference = reference[chosen]
    middle = reference - reference.mean(0)  # distances of what is near lose fewer digits
    squares = _squared_distances(middle, middle)[np.triu_indices(len(middle), 1)]
    median = float(np.sqrt(np.median(squares)))
    if median < 1e-6 * np.sqrt(np.mean(reference**2)):
        raise ValueError("reference: most clips have the same embedding")
    return median


def kernel_distance(reference, generated, width: float | None = None) -> float:
    """Kernel audio distance (arXiv 2502.15602): unbiased squared MMD, Gaussian kernel, times 100.

    It is 0 on average for sets of one distribution, so it can be negative.

    Args:
      reference, generated: (n, D) and (m, D) float.
      width: of the kernel exp(-|x - y|^2 / (2 width^2)); None: `bandwidth(reference)`.

    Raises:
      ValueError: as `bandwidth`.
    """
    reference, generated = _both(reference, generated)
    width = bandwidth(reference) if width is None else width
    centre = reference.mean(0)
    reference, generated = reference - centre, generated - centre

    def total(x, y):
        blocks = (x[start : start + ROWS] for start in range(0, len(x), ROWS))
        return sum(np.exp(_squared_distances(b, y) / (-2 * width**2)).sum() for b in blocks)

    within = [
        (total(x, x) - len(x)) / (len(x) * (len(x) - 1)) for x in (reference, generated)
    ]  # without each clip and itself
    across = total(reference, generated) / (len(reference) * len(generated))
    return float(SCALE * (sum(within) - 2 * across))


def distributions(probabilities) -> np.ndarray:
    """Class posteriors of what a model says of each class.

    Where rows sum up to 1 they are distributions. Else each class was judged for itself, and the
    posterior is the softmax of the logits, as audioldm_eval has it for a tagger.

    Args:
      probabilities: (n, C) float in 0..1.

    Raises:
      ValueError: not (n, C), NaN, or outside 0..1.
    """
    found = np.asarray(probabilities, np.float64)
    if found.ndim != 2 or not found.size or not ((found >= 0) & (found <= 1 + 1e-6)).all():
        raise ValueError(f"probabilities: expected (n, C) in 0..1, got {found.shape}")
    if np.allclose(found.sum(1), 1, atol=1e-3):
        return found
    return special.softmax(special.logit(found.clip(SMALLEST, 1 - SMALLEST)), axis=1)


def posterior_divergence(reference, generated) -> np.ndarray:
    """KL(reference || generated) of class posteriors (Kreuk et al., arXiv 2209.15352), in nats.

    Args:
      reference, generated: (n, C) float, row i of both is of the same prompt; each row sums to 1.

    Returns:
      (n,) float64, at least 0.

    Raises:
      ValueError: other shapes, or rows that are no distributions.
    """
    both = []
    for name, array in (("reference", reference), ("generated", generated)):
        array = np.asarray(array, np.float64)
        if array.ndim != 2 or not array.size:
            raise ValueError(f"{name}: expected (n, C) posteriors, got {array.shape}")
        bad = ~(np.abs(array.sum(1) - 1) < 1e-3) | ~(array >= 0).all(1)  # NaN is bad, too
        if bad.any():
            raise ValueError(f"{name}: row {bad.argmax()} is no distribution over classes")
        array = np.maximum(array, SMALLEST)
        both.append(array / array.sum(1, keepdims=True))
    if both[0].shape != both[1].shape:
        raise ValueError(f"shapes differ: reference {both[0].shape}, generated {both[1].shape}")
    return np.maximum(np.sum(both[0] * np.log(both[0] / both[1]), axis=1), 0)


def events(frames, seconds: float, threshold: float = 0.5) -> list[Event]:
    """The runs of frames in which a sound is heard.

    Args:
      frames: (T,) probabilities that the sound is there.
      seconds: of one frame.
      threshold: the least probability.

    Raises:
      ValueError: not (T,), NaN or infinite.
    """
    frames = np.asarray(frames, np.float64)
    if frames.ndim != 1 or not np.isfinite(frames).all():
        raise ValueError(f"frames: expected finite (T,) probabilities, got {frames.shape}")
    edges = np.diff(np.concatenate([[0], frames >= threshold, [0]]).astype(int))
    starts, ends = np.flatnonzero(edges > 0), np.flatnonzero(edges < 0)
    return [(float(a * seconds), float(b * seconds)) for a, b in zip(starts, ends, strict=True)]


def order_error(first: Sequence[Event], second: Sequence[Event]) -> str:
    """What is wrong with two sounds that should follow each other, as AudioTime's STEAM judges.

    An event lasts from its first start to its last end (steam_eval.py there). After "missing"
    comes "order" where the second does not start after the first, then "overlap" where they sound
    together for half of the shorter one or more.

    Args:
      first, second: where each was heard.

    Returns:
      "", "missing", "order" or "overlap".
    """
    if not first or not second:
        return "missing"
    (start, end), (next_start, next_end) = (
        (min(a for a, _ in heard), max(b for _, b in heard)) for heard in (first, second)
    )
    if not start < next_start:
        return "order"
    shorter = min(end - start, next_end - next_start)
    return "overlap" if end - next_start >= OVERLAP * shorter else ""


def generation(
    reference: Heard, generated: Heard, groups=None, seed: int = 0
) -> tuple[dict[str, Metric], dict[str, np.ndarray]]:
    """All measures of generated clips that what was heard allows, and their ceilings.

    "FAD" and "KAD" compare the sets; "KL" compares clip i with clip i; "CLAP score" and "order
    error" (with "/missing", "/order" and "/overlap") are means over the generated clips. A name
    with "/real" is the ceiling: for FAD and KAD the mean distance of halves of the real clips (of
    half the clips, so that FAD's is too high) with the least and the greatest of them, for the
    others the real clips' own mean. KL has none here: of itself it is 0.

    Args:
      reference: real clips.
      generated: of the same prompts in the same order, where KL is asked for.
      groups: (m,) of the generated clips; those of one prompt, say, stay together in the intervals
        of means.
      seed: of the halves and the intervals.

    Returns:
      (metrics, items: (m,) "KL", "CLAP score", "order" of the generated clips).

    Raises:
      ValueError: as the measures; or nothing was heard in both sets.
    """
    metrics: dict[str, Metric] = {}
    items: dict[str, np.ndarray] = {}
    if reference.embeddings is not None and generated.embeddings is not None:
        metrics |= _distances(*_both(reference.embeddings, generated.embeddings), seed)
    if reference.posteriors is not None and generated.posteriors is not None:
        items["KL"] = posterior_divergence(reference.posteriors, generated.posteriors)
        metrics["KL"] = interval(items["KL"], "mean", groups, (0.0, MOST))
    for name, heard, group in (("", generated, groups), ("/real", reference, None)):
        if heard.cosines is not None:
            metrics[f"CLAP score{name}"] = interval(heard.cosines, "mean", group, (-1.0, 1.0))
        if heard.orders is not None:
            kinds = np.asarray(heard.orders)
            metrics[f"order error{name}"] = interval(kinds != "", "mean", group)
            for kind in ("missing", "order", "overlap"):
                metrics[f"order error/{kind}{name}"] = interval(kinds == kind, "mean", group)
    if not metrics:
        raise ValueError("generation: nothing was heard in the clips of both sets")
    if generated.cosines is not None:
        items["CLAP score"] = np.asarray(generated.cosines)
    if generated.orders is not None:
        items["order"] = np.asarray(generated.orders)
    return metrics, items


def _distances(reference: np.ndarray, generated: np.ndarray, seed: int) -> dict[str, Metric]:
    width, rng = bandwidth(reference, seed), np.random.default_rng(seed)
    measures = {
        "FAD": frechet_distance,
        "KAD": lambda real, made: kernel_distance(real, made, width),
    }
    rows = np.concatenate([reference, generated])
    made = np.arange(len(rows)) >= len(reference)
    found = {
        name: interval(
            (rows, made),
            lambda rows, made, measure=measure: measure(rows[~made], rows[made]),
            bounds=None,
            method="jackknife",
            parts=PARTS,
            seed=seed,
        )
        for name, measure in measures.items()
    }
    found["FAD"] = found["FAD"]._replace(low=max(0.0, found["FAD"].low))
    if len(reference) < 4:
        return found
    halves = [rng.permutation(len(reference)) for _ in range(HALVINGS)]
    middle = len(reference) // 2
    for name, measure in measures.items():
        values = [measure(reference[h[:middle]], reference[h[middle:]]) for h in halves]
        found[f"{name}/real"] = Metric(float(np.mean(values)), min(values), max(values))
    return found
