import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import pdist
from scipy.stats import entropy

from clapjax.evaluation import generation as module
from clapjax.evaluation.generation import (
    Heard,
    bandwidth,
    events,
    frechet_distance,
    generation,
    kernel_distance,
    order_error,
    posterior_divergence,
)


def sounds(n, d=6, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ np.diag(np.linspace(0.3, 2, d)) + shift


def frechet_by_sqrtm(x, y):
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = sqrtm(s @ t).real
    return np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(s + t - 2 * root)


@pytest.mark.parametrize(("n", "m"), [(40, 60), (500, 30)])
def test_frechet_distance_equals_the_formula_with_scipys_root(n, m):
    x, y = sounds(n), sounds(m, shift=0.4, seed=1) * 1.3
    assert frechet_distance(x, y) == pytest.approx(frechet_by_sqrtm(x, y), rel=1e-9)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-12)


def test_frechet_distance_of_fewer_clips_than_dimensions():
    """Singular covariances: the same after a rotation, and as in the plane that they span."""
    x, y = sounds(4, 3), sounds(5, 3, shift=1, seed=1)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 40)))[0]
    wide = [np.pad(z, ((0, 0), (0, 37))) @ turn for z in (x, y)]
    assert frechet_distance(*wide) == pytest.approx(frechet_by_sqrtm(x, y))


def test_frechet_distance_of_gaussians_in_one_dimension():
    x, y = sounds(200, 1), 3 * sounds(200, 1, seed=1) + 2
    expected = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    assert frechet_distance(x, y) == pytest.approx(expected)


def double_loop(x, y, width):
    def kernel(a, b):
        return np.exp(-np.sum((a - b) ** 2) / (2 * width**2))

    def within(z):
        pairs = [kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]
        return np.mean(pairs)

    return 100 * (within(x) + within(y) - 2 * np.mean([kernel(a, b) for a in x for b in y]))


def test_kernel_distance_equals_the_double_loop(monkeypatch):
    x, y = sounds(25), sounds(15, shift=0.5, seed=1)
    width = bandwidth(x)
    assert width == pytest.approx(np.median(pdist(x)))
    assert kernel_distance(x, y) == pytest.approx(double_loop(x, y, width))
    monkeypatch.setattr(module, "ROWS", 4)
    assert kernel_distance(x + 1000, y + 1000) == pytest.approx(double_loop(x, y, width), abs=1e-7)
    assert kernel_distance(x, y, 0.7) == pytest.approx(double_loop(x, y, 0.7))


def test_kernel_distance_is_unbiased():
    values = [kernel_distance(sounds(20, seed=i), sounds(20, seed=1000 + i)) for i in range(300)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(300)
    assert min(values) < 0


def test_the_bandwidth_of_many_clips_is_that_of_some(monkeypatch):
    x = sounds(400)
    monkeypatch.setattr(module, "NEIGHBOURS", 100)
    assert bandwidth(x) == pytest.approx(np.median(pdist(x)), rel=0.1)
    assert bandwidth(x) == bandwidth(x) != bandwidth(x, seed=1)


def test_divergence_equals_scipys():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(5), 7), rng.dirichlet(np.ones(5), 7)
    expected = [entropy(a, b) for a, b in zip(p, q, strict=True)]
    assert posterior_divergence(p, q) == pytest.approx(expected, rel=1e-4)
    assert posterior_divergence(p, p).tolist() == [0] * 7
    sure = np.eye(3)
    assert posterior_divergence(sure, sure[::-1])[[0, 2]] == pytest.approx(-np.log(1e-7), rel=1e-3)


def test_events_of_frames():
    assert events([0, 0.6, 0.5, 0.1, 0, 0.9], 0.5) == [(0.5, 1.5), (2.5, 3.0)]
    assert events([0.9, 0.9], 2.0, threshold=0.9) == [(0.0, 4.0)]
    assert events([0.1], 1.0) == [] and events([], 1.0) == []


@pytest.mark.parametrize(
    ("first", "second", "error"),
    [
        ([(0, 2)], [(3, 5)], ""),
        ([(0, 2)], [], "missing"),
        ([], [(3, 5)], "missing"),
        ([(3, 5)], [(0, 2)], "order"),
        ([(1, 2)], [(1, 3)], "order"),  # the second does not start later
        ([(0, 3)], [(2, 4)], "overlap"),  # half of the shorter one
        ([(0, 2.9)], [(2, 4)], ""),
        ([(0, 1), (2, 6)], [(5, 9)], ""),  # from 0 to 6
        ([(0, 1), (8, 9)], [(2, 4)], "overlap"),  # from 0 to 9
    ],
)
def test_order_errors(first, second, error):
    assert order_error(first, second) == error


def heard(n, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    return Heard(
        sounds(n, shift=shift, seed=seed),
        rng.dirichlet(np.ones(4), n),
        rng.uniform(0, 0.5, n),
        rng.choice(["", "", "missing", "order", "overlap"], n).tolist(),
    )


def test_all_measures_have_intervals_and_ceilings():
    real, made = heard(60, 0), heard(60, 1, shift=0.8)
    metrics, items = generation(real, made)
    assert list(metrics)[:4] == ["FAD", "KAD", "FAD/real", "KAD/real"]
    assert metrics["FAD"].value == pytest.approx(frechet_distance(real.embeddings, made.embeddings))
    assert metrics["KAD"].value == pytest.approx(kernel_distance(real.embeddings, made.embeddings))
    for name in ("FAD", "KAD"):
        assert metrics[name].low > metrics[f"{name}/real"].high
    assert metrics["KL"].value == pytest.approx(items["KL"].mean())
    assert metrics["CLAP score"].value == pytest.approx(made.cosines.mean())
    assert metrics["CLAP score/real"].value == pytest.approx(real.cosines.mean())
    wrong = np.array(made.orders) != ""
    assert metrics["order error"].value == wrong.mean()
    parts = [metrics[f"order error/{kind}"].value for kind in ("missing", "order", "overlap")]
    assert sum(parts) == pytest.approx(wrong.mean())
    assert items["order"].tolist() == made.orders
    for name, metric in metrics.items():
        assert metric.low <= metric.value <= metric.high, name
    assert generation(real, made)[0] == metrics  # keyed


def test_what_was_not_heard_is_not_measured():
    made = Heard(cosines=np.array([0.1, 0.2]))
    metrics, items = generation(Heard(), made)
    assert list(metrics) == ["CLAP score"] and list(items) == ["CLAP score"]
    with pytest.raises(ValueError, match="nothing was heard"):
        generation(Heard(), Heard(embeddings=sounds(5)))


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (frechet_distance, (sounds(1), sounds(5)), r"reference: .* at least 2 clips, got \(1, 6\)"),
        (frechet_distance, (sounds(5), sounds(5, 3)), "dimensions differ: 6 and 3"),
        (kernel_distance, (sounds(5), sounds(5) * [[1], [np.nan], [1], [1], [1]]), "row 1 is NaN"),
        (kernel_distance, (np.ones((5, 2)), sounds(5, 2)), "the same embedding"),
        (posterior_divergence, (np.eye(3), np.eye(3)[:2]), "shapes differ"),
        (posterior_divergence, (np.eye(3), np.eye(3) * 2), "generated: row 0 is no distribution"),
        (posterior_divergence, (np.full((2, 2), np.nan), np.eye(2)), "reference: row 0"),
        (events, ([0.1, np.nan], 1.0), "finite"),
    ],
)
def test_bad_input(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)
