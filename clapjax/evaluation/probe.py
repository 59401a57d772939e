"""What can be read from frozen features: a linear or a small non-linear classifier on them."""

import functools
import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from clapjax.evaluation import supervised
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.embed import Embedded
from clapjax.evaluation.result import Result
from clapjax.evaluation.zero_shot import mean_average_precision

lacks = supervised.lacks


@dataclass(frozen=True)
class ProbeConfig:
    """How a probe is trained."""

    hidden: int = 0  # units of a hidden layer (ReLU); 0: linear
    strengths: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)  # scikit-learn's C
    inner_folds: int = 5  # of the training rows, by origin, which choose among the strengths
    steps: int = 200  # of L-BFGS, at most
    seed: int = 0  # of the inner folds and of a hidden layer

    def __post_init__(self):
        if not self.strengths or min(self.strengths) <= 0:
            raise ValueError(f"probe.strengths: expected positive numbers, not {self.strengths}")
        if self.hidden < 0 or self.inner_folds < 2 or self.steps < 1:
            raise ValueError("probe: hidden >= 0, inner_folds >= 2 and steps >= 1 are needed")


def logits(layers, features):
    """(n, L) float32 of (n, D): linear layers, ReLU between them."""
    *first, last = layers
    for weight, bias in first:
        features = jax.nn.relu(features @ weight + bias)
    return features @ last[0] + last[1]


def _layers(flat, sizes: tuple[int, ...]):
    """[(weight, bias), ...] between layers of these sizes, of one vector of them all."""
    layers, at = [], 0
    for n, m in itertools.pairwise(sizes):
        layers.append((flat[at : at + n * m].reshape(n, m), flat[at + n * m : at + n * m + m]))
        at += n * m + m
    return layers


@functools.partial(jax.jit, static_argnames=("sizes", "several"))
@functools.partial(jax.value_and_grad, argnums=0)
def _loss(flat, features, targets, rows, strength, sizes: tuple[int, ...], several: bool):
    """Mean cross entropy over some rows, and the squared weights over 2 C (rows)."""
    layers = _layers(flat, sizes)
    with jax.default_matmul_precision("highest"):
        found = logits(layers, features)
    if several:
        losses = jnp.sum(jax.nn.softplus(found) - targets * found, axis=1)
    else:
        losses = jax.nn.logsumexp(found, axis=1) - jnp.sum(targets * found, axis=1)
    squares = sum(jnp.sum(weight**2) for weight, _ in layers)
    return (jnp.sum(rows * losses) + squares / (2 * strength)) / jnp.sum(rows)


def fit(features, targets, rows, strength: float, several: bool, config: ProbeConfig, start=None):
    """Layers that minimise scikit-learn's objective of LogisticRegression, or of an MLP.

    Args:
      features: (n, D) float32, standardised.
      targets: (n, L) float32: one label a row, or with `several` each label on its own.
      rows: (n,) float32, 1 for rows to train on: with all rows there, all fits have one shape.
      strength: C, inverse of the penalty on the squared weights; biases are free.
      start: weights to begin with.

    Returns:
      (weights,) float32, for `_layers` with `_sizes`.
    """
    sizes = _sizes(features, targets, config)
    if start is None:
        start = np.zeros(sum((n + 1) * m for n, m in itertools.pairwise(sizes)))
        if config.hidden:
            rng = np.random.default_rng(config.seed)
            for weight, _ in _layers(start, sizes):  # views
                weight[:] = rng.normal(0, np.sqrt(2 / len(weight)), weight.shape)

    def value_and_gradient(flat):
        flat = jnp.asarray(flat, jnp.float32)
        value, gradient = _loss(flat, features, targets, rows, strength, sizes, several)
        return float(value), np.asarray(gradient, np.float64)

    options = {"maxiter": config.steps, "maxfun": 2 * config.steps, "ftol": 1e-9, "gtol": 1e-5}
    found = minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
    return found.x.astype(np.float32)


def _sizes(features, targets, config: ProbeConfig) -> tuple[int, ...]:
    hidden = (config.hidden,) if config.hidden else ()
    return (features.shape[1], *hidden, targets.shape[1])


@functools.partial(jax.jit, static_argnames="sizes")
def predict(flat, features, sizes: tuple[int, ...]):
    """(n, L) float32 logits of the weights of `fit`."""
    with jax.default_matmul_precision("highest"):
        return logits(_layers(flat, sizes), features)


def _standardised(features: np.ndarray, rows: np.ndarray) -> jax.Array:
    """By the mean and the deviation of some rows; what does not vary there is 0 in them."""
    mean, deviation = features[rows].mean(0), features[rows].std(0)
    return jnp.asarray((features - mean) / np.where(deviation > 1e-12, deviation, 1), jnp.float32)


def _inner(origins: np.ndarray, rows: np.ndarray, config: ProbeConfig) -> np.ndarray:
    """(n,) inner fold of the rows to train on, no origin in two; -1 elsewhere."""
    names, number = np.unique(origins[rows], return_inverse=True)
    parts = min(config.inner_folds, len(names))
    order = np.random.default_rng(config.seed).permutation(len(names))
    fold = np.full(len(rows), -1)
    fold[rows] = order[number] % parts
    return fold


def choose(features, targets, rows, origins, several: bool, config: ProbeConfig) -> float:
    """The strength of the least cross entropy on inner folds of the rows to train on.

    They are tried from the lowest on until one is worse than the one before: those that are too
    high overfit, and take longest.

    Args:
      features: (n, D) float.
      targets: (n, L) float32.
      rows: (n,) bool, to train on.
      origins: (n,) recordings.
    """
    inner = _inner(origins, rows, config)
    if len(config.strengths) == 1 or inner.max() < 1:  # of one recording nothing can be held out
        return config.strengths[0]
    parts = []
    for fold in range(inner.max() + 1):
        train, held = rows & (inner != fold), inner == fold
        x = _standardised(features, train)
        parts.append((x, *(jnp.asarray(part, jnp.float32) for part in (train, held))))
    sizes, weights = _sizes(features, targets, config), [None] * len(parts)
    best, least = config.strengths[0], np.inf
    for strength in sorted(config.strengths):
        loss = 0.0
        for at, (x, train, held) in enumerate(parts):
            start = None if config.hidden else weights[at]  # convex: begun where the last one ended
            weights[at] = fit(x, targets, train, strength, several, config, start)
            value, _ = _loss(weights[at], x, targets, held, np.inf, sizes, several)
            loss += float(value) * float(held.sum())
        if loss > least:
            break
        best, least = strength, loss
    return best


def probe(features, labels, folds, origins=None, config: ProbeConfig | None = None) -> dict:
    """Trains a classifier on frozen features, fold by fold, and judges what it was not trained on.

    Each fold in turn is held out; the strength of the penalty is chosen on inner folds of the
    others, in which no recording is on both sides. Features are standardised by the rows trained
    on. Deterministic.

    Args:
      features: (n, D) float.
      labels: (n,) one label a row; or (n, L) bool, any of L labels.
      folds: (n,) int; negative: only trained on. A set with a test split has -1 and 0.
      origins: (n,) recordings that rows were cut from; None: each row is its own.
      config: of the probe.

    Returns:
      {"metrics": {"accuracy", "mean_class_recall"} or {"mAP", "mAUC", "d'"}, each a `Metric` over
      all rows tested, its interval over origins; "n": those rows; "chance": of the first metric;
      "classes": (L,) labels, or numbers of columns; "folds": {fold: first metric of the fold};
      "strengths": {fold: C}; "items": {"row": (n,) int, "fold", "scores": (n, L) logits,
      and "label", "predicted" of one label a row}}.

    Raises:
      ValueError: shapes that do not fit, NaN or infinite features, fewer than two classes, no fold
        or nothing to train on beside one, or a recording in two folds.
    """
    config = config or ProbeConfig()
    features, labels, folds = (
        np.asarray(features, np.float64),
        np.asarray(labels),
        np.asarray(folds),
    )
    origins = np.arange(len(folds)) if origins is None else np.asarray(origins)
    _check(features, labels, folds, origins)
    several = labels.ndim == 2
    classes, number = (
        (np.arange(labels.shape[1]), None) if several else np.unique(labels, return_inverse=True)
    )
    if len(classes) < 2 and not several:
        raise ValueError(f"probe: all rows have the label {classes[0]}; there is nothing to tell")
    right = labels.astype(bool) if several else np.arange(len(classes)) == number[:, None]
    targets = jnp.asarray(right, jnp.float32)
    first = mean_average_precision if several else supervised.accuracy
    scores, strengths, each = np.zeros(right.shape), {}, {}
    for fold in np.unique(folds[folds >= 0]).tolist():
        held, rows = folds == fold, folds != fold
        strengths[fold] = choose(features, targets, rows, origins, several, config)
        x = _standardised(features, rows)
        weights = fit(x, targets, jnp.asarray(rows, jnp.float32), strengths[fold], several, config)
        scores[held] = np.asarray(predict(weights, x, _sizes(x, targets, config)))[held]
        if right[held].any():
            each[fold] = first(scores[held], right[held])
    tested = np.flatnonzero(folds >= 0)
    scores, right = scores[tested], right[tested]
    items = {"row": tested, "fold": folds[tested], "scores": scores}
    if not several:
        items |= {"label": labels[tested], "predicted": classes[scores.argmax(1)]}
    return {
        "metrics": supervised.measures(scores, right, origins[tested], several),
        "n": len(tested),
        "chance": supervised.chance(right, several),
        "classes": classes,
        "folds": each,
        "strengths": strengths,
        "items": items,
    }


def _check(features, labels, folds, origins) -> None:
    n = len(folds)
    if features.ndim != 2 or not features.size or features.shape[0] != n:
        raise ValueError(f"probe: features {features.shape} for {n} folds; expected (n, D)")
    if labels.ndim not in (1, 2) or len(labels) != n or origins.shape != (n,):
        raise ValueError(f"probe: {n} rows, but labels {labels.shape}, origins {origins.shape}")
    if not np.isfinite(features).all():
        row = np.argwhere(~np.isfinite(features))[0][0]
        raise ValueError(f"probe: features of row {row} are NaN or infinite")
    if folds.dtype.kind not in "iu" or not (folds >= 0).any():
        raise ValueError("probe: folds: expected integers, of which one is at least 0")
    if len(np.unique(folds)) < 2:
        raise ValueError("probe: all rows are in one fold; nothing is left to train on")
    pairs = np.unique(np.stack([np.unique(origins, return_inverse=True)[1], folds], 1), axis=0)
    twice = np.flatnonzero(np.diff(pairs[:, 0]) == 0)
    if twice.size:
        name, one, other = (
            np.unique(origins)[pairs[twice[0], 0]],
            *pairs[twice[0] : twice[0] + 2, 1],
        )
        raise ValueError(f"probe: the recording {name} is in folds {one} and {other}")


def run(embedded: Embedded, settings: EvaluationConfig) -> list[Result]:
    """A probe on the embeddings: each fold by what the others taught, or one split by another."""
    others = [embedded.embed(part) for part in supervised.parts(embedded.benchmark)[1:]]
    data = supervised.labelled([one.benchmark for one in (embedded, *others)])
    features = np.concatenate([embedded.audio, *(other.audio for other in others)])
    rows, scores, told = probe_labelled(features, data, ProbeConfig(settings.probe_hidden))
    return [
        embedded.result(
            "probe",
            supervised.chance(data.right[rows], data.several),
            supervised.measures(scores, data.right[rows], data.origins[rows], data.several),
            supervised.outcomes(data, rows, scores),
            **supervised.details(data, rows, scores),
            **told,
        )
    ]


def probe_labelled(
    features: np.ndarray, data: supervised.Labelled, config: ProbeConfig
) -> tuple[np.ndarray, np.ndarray, dict]:
    """`probe` of the clips of a benchmark.

    Returns:
      ((n,) which clips were judged; (n, L) their scores; what a `Result` tells of it).
    """
    labels = data.right if data.several else np.array(data.names)[data.right.argmax(axis=1)]
    found = probe(features, labels, data.folds, data.origins, config)
    kind = f"{config.hidden} hidden units" if config.hidden else "linear"
    items = found["items"]
    return items["row"], items["scores"], {"probe": kind}
