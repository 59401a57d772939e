"""From a cosine to "this sound is there": thresholds and probabilities for a set of labels.

Cosines of a CLAP model of the right label lie anywhere above those of the wrong ones, often near 0:
what counts as found is learned from clips whose labels are known, and holds for that model, that
template and labels like those.
"""

import os

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from clapjax.evaluation.result import read_results


def _pairs(scores, present) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of a clip and a label in one row: float64 scores and bool."""
    scores, present = np.asarray(scores, np.float64), np.asarray(present)
    if scores.shape != present.shape or scores.size == 0:
        raise ValueError(f"calibration: scores {scores.shape}, present {present.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("calibration: a score is NaN or infinite")
    present = present.astype(bool).ravel()
    if present.all() or not present.any():
        raise ValueError("calibration: needs pairs of clip and label that match and that do not")
    return scores.ravel(), present


def threshold(scores, present, precision: float | None = None) -> dict:
    """The cosine from which a label of this set counts as heard.

    Args:
      scores: (n, L) or (n,) cosines of held-out clips and labels.
      present: the same shape, bool: the label is true of the clip.
      precision: take the lowest threshold of this precision; None: the one of the best F1.

    Returns:
      {"threshold": half-way to the next lower score, "precision", "recall", "f1": of the pairs
      that reach it, "n": pairs, "present": of them true}.

    Raises:
      ValueError: other shapes, NaN, nothing present or nothing absent, or no threshold of that
        precision.
    """
    scores, present = _pairs(scores, present)
    order = np.argsort(-scores)
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of equal scores
    right = np.cumsum(present[order])[ends]  # (T,) true ones at or above each distinct score
    precisions, recalls = right / (ends + 1), right / present.sum()
    f1 = 2 * right / (ends + 1 + present.sum())
    if precision is None:
        best = int(np.argmax(f1))
    else:
        reached = np.flatnonzero(precisions >= precision)
        if not reached.size:
            raise ValueError(
                f"calibration: no threshold of precision {precision:g}; the best has "
                f"{precisions.max():.3f}"
            )
        best = int(reached[-1])
    at = scores[order][ends]  # (T,) descending
    below = at[best + 1] if best + 1 < len(at) else at[best]
    return {
        "threshold": float((at[best] + below) / 2),
        "precision": float(precisions[best]),
        "recall": float(recalls[best]),
        "f1": float(f1[best]),
        "n": len(scores),
        "present": int(present.sum()),
    }


def logistic(scores, present) -> tuple[float, float]:
    """Slope and offset that make `expit(slope * cosine + offset)` the probability of presence.

    Platt's method (1999): a logistic regression on targets a little away from 0 and 1, so that
    separable scores have a finite slope.

    Args:
      scores, present: as in `threshold`.

    Raises:
      ValueError: as `threshold`.
    """
    scores, present = _pairs(scores, present)
    positive, negative = present.sum(), (~present).sum()
    target = np.where(present, (positive + 1) / (positive + 2), 1 / (negative + 2))
    centre, scale = scores.mean(), scores.std() or 1.0
    x = (scores - centre) / scale

    def loss(parameters):
        logit = parameters[0] * x + parameters[1]
        off = expit(logit) - target
        value = np.sum(np.logaddexp(0, logit) - target * logit)
        return value / len(x), np.array([off @ x, off.sum()]) / len(x)

    found = minimize(loss, np.zeros(2), jac=True, method="BFGS", options={"gtol": 1e-8})
    slope = found.x[0] / scale
    return float(slope), float(found.x[1] - slope * centre)


def calibrate(scores, present) -> dict:
    """`threshold` at its best F1, and "slope" and "offset" of `logistic`; errors as theirs."""
    slope, offset = logistic(scores, present)
    return threshold(scores, present) | {"slope": slope, "offset": offset}


def read_calibration(
    folder: str | os.PathLike, fingerprint: str, template: str | None = None
) -> dict:
    """What `calibrate` found for a model in the zero-shot results of a folder.

    Args:
      folder: of `clapjax eval`.
      fingerprint: of the model, as `clapjax.inference.store.model_fingerprint` has it.
      template: the prompt that labels are put into; None: any.

    Raises:
      ValueError: no results, none of this model, or another template.
    """
    found = [one for one in read_results(folder) if "calibration" in one.provenance]
    own = [one for one in found if one.provenance.get("fingerprint") == fingerprint]
    if not own:
        models = ", ".join(dict.fromkeys(one.model for one in found)) or "none"
        raise ValueError(
            f"{folder}: no zero-shot results of this model (of {models}); `clapjax eval` with a "
            "benchmark that has labels makes them"
        )
    fits = [one for one in own if template in (None, one.provenance.get("template"))]
    if not fits:
        raise ValueError(
            f"{folder}: was measured with the template {own[0].provenance.get('template')!r}, not "
            f"{template!r}"
        )
    return fits[0].provenance["calibration"]
