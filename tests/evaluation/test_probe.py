import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, recall_score, roc_auc_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from clapjax.evaluation.probe import (
    ProbeConfig,
    _inner,
    choose,
    fit,
    predict,
    probe,
)

N, D, L = 120, 8, 4
QUICK = ProbeConfig(strengths=(0.1, 1.0), inner_folds=2)


def one_label(seed=0, noise=1.5):
    """Features around their class's centre; three rows of each recording; four folds of them."""
    rng = np.random.default_rng(seed)
    label, origin = rng.permutation(np.repeat(np.arange(L), N // L)), np.arange(N) // 3
    features = rng.normal(size=(L, D))[label] + noise * rng.normal(size=(N, D))
    return 3 * features + 5, np.array(["dog", "cat", "rain", "sea"])[label], origin % 4, origin


def several_labels(seed=0):
    features, _, folds, origins = one_label(seed)
    rng = np.random.default_rng(seed + 1)
    right = (features - 5) @ rng.normal(size=(D, L)) + 4 * rng.normal(size=(N, L)) > 4
    return features, right, folds, origins


@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("several", [False, True])
def test_a_fit_is_scikit_learns(several, strength):
    features, labels, _, _ = several_labels() if several else one_label()
    x = StandardScaler().fit_transform(features)
    reference = LogisticRegression(C=strength, max_iter=5000, tol=1e-8)
    if several:
        reference, right = OneVsRestClassifier(reference).fit(x, labels), labels
    else:
        reference.fit(x, labels)
        right = labels[:, None] == reference.classes_
    x, targets = jnp.asarray(x, jnp.float32), jnp.asarray(right, jnp.float32)
    weights = fit(x, targets, jnp.ones(N), strength, several, ProbeConfig())
    found = predict(weights, x, (D, L))
    found = jax.nn.sigmoid(found) if several else jax.nn.softmax(found)
    close = 1e-3 if strength <= 1 else 3e-3  # nearly separable: 32 bits see no descent any more
    np.testing.assert_allclose(found, reference.predict_proba(x), atol=close)


def test_each_fold_is_judged_by_what_the_others_taught():
    features, labels, folds, origins = one_label()
    found = probe(features, labels, folds, origins, ProbeConfig(strengths=(1.0,)))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000, tol=1e-8))
    expected = np.empty(N, labels.dtype)
    for fold in range(4):
        model.fit(features[folds != fold], labels[folds != fold])
        expected[folds == fold] = model.predict(features[folds == fold])
        assert found["folds"][fold] == accuracy_score(
            labels[folds == fold], expected[folds == fold]
        )
    assert found["items"]["predicted"].tolist() == expected.tolist()
    metrics = found["metrics"]
    assert metrics["accuracy"].value == accuracy_score(labels, expected)
    assert metrics["mean_class_recall"].value == pytest.approx(
        recall_score(labels, expected, average="macro")
    )
    assert all(m.low < m.value < m.high for m in metrics.values())
    assert (found["n"], found["chance"]) == (N, 1 / 4)
    assert found["classes"].tolist() == ["cat", "dog", "rain", "sea"]


def test_the_strength_is_chosen_on_other_recordings():
    features, labels, folds, origins = one_label(noise=2.5)
    config, rows = ProbeConfig(strengths=(0.003, 0.03, 1.0)), folds != 0
    inner = _inner(origins, rows, config)
    assert (inner[~rows] == -1).all() and set(inner[rows]) == set(range(5))
    assert all(len(set(inner[(origins == o) & rows])) == 1 for o in set(origins[rows]))
    losses = []
    for strength in config.strengths:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000))
        total = 0.0
        for fold in range(5):
            train, held = rows & (inner != fold), inner == fold
            model.fit(features[train], labels[train])
            probabilities = model.predict_proba(features[held])
            total += log_loss(labels[held], probabilities, labels=model.classes_, normalize=False)
        losses.append(total)
    targets = jnp.asarray(labels[:, None] == np.unique(labels), jnp.float32)
    best = choose(features, targets, rows, origins, False, config)
    assert best == config.strengths[int(np.argmin(losses))] and best == 0.03


def test_what_is_held_out_is_not_looked_at():
    features, labels, _, origins = one_label()
    folds = np.where(np.arange(N) < 90, -1, 0)
    whole = probe(features, labels, folds, origins, QUICK)
    assert whole["items"]["row"].tolist() == list(range(90, N)) and whole["n"] == 30
    other = labels.copy()
    other[90:] = "dog"
    again = probe(features, other, folds, origins, QUICK)
    assert again["strengths"] == whole["strengths"]
    np.testing.assert_array_equal(again["items"]["scores"], whole["items"]["scores"])


def test_several_labels_a_row():
    features, right, folds, origins = several_labels()
    found = probe(features, right, folds, origins, QUICK)
    scores, metrics = found["items"]["scores"], found["metrics"]
    area = roc_auc_score(right, scores, average="macro")
    assert metrics["mAUC"].value == pytest.approx(area) and area > 0.7
    assert metrics["d'"].value == pytest.approx(np.sqrt(2) * norm.ppf(area))
    for metric in metrics.values():
        assert metric.low < metric.value < metric.high
    assert found["chance"] == pytest.approx(right.mean())


def test_a_hidden_layer_tells_what_no_line_does():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(160, 2))
    labels = (features[:, 0] > 0) ^ (features[:, 1] > 0)
    folds = np.arange(160) % 2
    accuracy = {
        hidden: probe(features, labels, folds, config=ProbeConfig(hidden, (10.0,), steps=100))[
            "metrics"
        ]["accuracy"].value
        for hidden in (0, 16)
    }
    assert accuracy[0] < 0.65 and accuracy[16] > 0.85


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.ones((3, 2))}, r"features \(3, 2\) for 4 folds"),
        ({"features": np.array([[1.0], [np.nan], [1], [1]])}, "features of row 1 are NaN"),
        ({"labels": [0, 1]}, r"labels \(2,\)"),
        ({"labels": [1, 1, 1, 1]}, "all rows have the label 1"),
        ({"folds": [0.5, 1, 0, 1]}, "expected integers"),
        ({"folds": [-1, -1, -1, -1]}, "at least 0"),
        ({"folds": [0, 0, 0, 0]}, "nothing is left to train on"),
        ({"origins": ["a", "b", "a", "a"]}, "the recording a is in folds 0 and 1"),
        ({"origins": ["a"]}, r"origins \(1,\)"),
    ],
)
def test_bad_input(change, message):
    good = {"features": np.ones((4, 2)), "labels": [0, 1, 0, 1], "folds": [0, 1, 0, 1]}
    with pytest.raises(ValueError, match=message) as error:
        probe(**(good | change))
    assert "\n" not in str(error.value)


def test_bad_config():
    with pytest.raises(ValueError, match="positive numbers"):
        ProbeConfig(strengths=(0.0,))
    with pytest.raises(ValueError, match="inner_folds >= 2"):
        ProbeConfig(inner_folds=1)
