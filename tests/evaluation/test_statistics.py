import numpy as np
import pytest
from scipy import stats

from clapjax.evaluation.statistics import compare, interval, mcnemar, seeds


def outcomes(n=200, share=0.7, seed=0):
    return (np.random.default_rng(seed).random(n) < share).astype(float)


def captions(clips=60, seed=0):
    """Outcomes of 1 to 5 captions a clip that resemble each other, and their clips."""
    rng = np.random.default_rng(seed)
    clip = np.repeat(np.arange(clips), rng.integers(1, 6, clips))
    return (rng.random(len(clip)) < rng.beta(0.5, 0.5, clips)[clip]).astype(float), clip


def ap(scores, targets):
    """Average precision of untied scores."""
    right = targets[np.argsort(-scores)].astype(bool)
    return float(np.mean((np.cumsum(right) / np.arange(1, len(right) + 1))[right]))


def test_a_proportion_has_nearly_wilsons_interval():
    for share in (0.02, 0.5, 0.97):
        x = outcomes(2000, share)
        found = interval(x)
        expected = stats.binomtest(int(x.sum()), len(x)).proportion_ci(method="wilson")
        assert found.value == x.mean()
        assert found[1:] == pytest.approx(tuple(expected), abs=2e-4)


def test_an_unbounded_looking_mean_has_nearly_students_interval():
    x = np.random.default_rng(0).normal(0.3, 0.1, 500)  # cosines
    expected = stats.ttest_1samp(x, 0).confidence_interval()
    assert interval(x, bounds=(-1, 1))[1:] == pytest.approx(tuple(expected), abs=2e-4)


@pytest.mark.parametrize("metric", ["mean", "median"])
def test_repeating_every_item_in_its_group_changes_nothing(metric):
    x = np.random.default_rng(0).random(61)
    group = np.repeat(np.arange(61), 5)
    again = interval(np.repeat(x, 5), metric, groups=group)
    once = interval(x, metric)
    if metric == "median":  # the ends are items: the same or their neighbours
        places = np.searchsorted(np.sort(x), [once, again])
        assert again.value == once.value and np.abs(np.diff(places, axis=0)).max() <= 1
    else:
        assert tuple(again) == pytest.approx(tuple(once))
    alone = interval(np.repeat(x, 5), metric)
    assert alone.high - alone.low < 0.75 * (again.high - again.low)


def test_names_and_order_of_groups_do_not_matter():
    x, clip = captions()
    order = np.random.default_rng(1).permutation(len(x))
    names = np.array([f"clip {i}" for i in clip])
    assert interval(x[order], groups=names[order]) == pytest.approx(interval(x, groups=clip))


def test_scaling_scales():
    x = np.random.default_rng(0).random(40)
    for metric in ("mean", "median"):
        plain, scaled = interval(x, metric), interval(7 * x - 2, metric, bounds=(-2, 5))
        assert scaled == pytest.approx(tuple(7 * v - 2 for v in plain))


@pytest.mark.parametrize("n", [1, 2, 50])
@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_outcomes_that_are_all_alike(n, value):
    """Nothing varies, which proves little: Wilson's interval of n items."""
    for found in (
        interval(np.full(n, value)),
        interval(np.full(n, value), lambda x: float(x.mean()), method="jackknife"),
        interval(np.full(n, value), lambda x: float(x.mean())),
        interval(np.full(5 * n, value), groups=np.repeat(np.arange(n), 5)),
    ):
        assert found.low <= found.value == pytest.approx(value)
        assert found.value <= found.high + 1e-12
        if value != 0.4:
            expected = stats.binomtest(int(n * value), n).proportion_ci(method="wilson")
            width = found.high - found.low
            assert expected.high - expected.low <= width + 1e-12 <= 1 + 1e-9
    assert interval([1.0]).low == pytest.approx(
        stats.binomtest(1, 1).proportion_ci(method="wilson").low
    )


def test_a_skewed_mean_of_what_is_not_skewed_has_students_interval():
    x = np.random.default_rng(0).normal(5, 0.5, 400)
    found = interval(x, "skewed mean", bounds=(1, 10))
    expected = stats.ttest_1samp(x, 0).confidence_interval()
    assert found.value == pytest.approx(x.mean())
    assert found[1:] == pytest.approx(tuple(expected), abs=0.01)


def test_a_skewed_mean_is_that_of_groups():
    x = np.random.default_rng(0).lognormal(1, 1.2, 100) + 1
    once = interval(x, "skewed mean", bounds=(1, 999))
    often = interval(np.repeat(x, 5), "skewed mean", np.repeat(np.arange(100), 5), (1, 999))
    assert often == pytest.approx(once)
    plain = interval(x, bounds=(1, 999))
    assert once.value == pytest.approx(plain.value) and once.high > plain.high
    assert interval([3, 3], "skewed mean", bounds=(1, 9)) == interval([3, 3], bounds=(1, 9))
    few = interval([1, 1, 1, 1, 8], "skewed mean", bounds=(1, 9))
    assert 1 <= few.low <= few.value <= few.high <= 9


def test_skewed_means_hold_the_truth():
    """Log-normal ranks of 50 queries, of which plain Student's t holds 86 %. 300 sets."""
    rng, held, plain = np.random.default_rng(1), 0, 0
    truth = np.exp(2 + 1.2**2 / 2) + 1
    for _ in range(300):
        x = np.exp(rng.normal(2, 1.2, 50)) + 1
        found, t = interval(x, "skewed mean", bounds=(1, 9999)), interval(x, bounds=(1, 9999))
        held += found.low <= truth <= found.high
        plain += t.low <= truth <= t.high
    assert plain / 300 < 0.9 and 0.92 < held / 300 < 0.98


def test_few_positives_tell_little_however_many_clips_there_are():
    right = np.zeros(200, bool)
    right[:3] = True
    perfect = interval((-np.arange(200.0), right), ap, method="jackknife", positives=3)
    expected = stats.binomtest(3, 3).proportion_ci(method="wilson")
    assert perfect.value == perfect.high == 1 and perfect.low <= expected.low
    scores = np.random.default_rng(0).normal(size=200) + 2 * right
    few, many = (interval((scores, right), ap, method="jackknife", positives=p) for p in (3, None))
    assert few.value == many.value and few.low <= many.low and few.high >= many.high


def test_a_metric_that_hangs_on_one_item_is_as_sure_as_one_item():
    scores, right = np.arange(9.0), np.arange(9) == 6
    found = interval((scores, right), ap, method="jackknife", positives=1)
    expected = interval(np.array([1 / 3]))
    assert found == pytest.approx(expected) and found.high - found.low > 0.8


def test_the_median_has_the_interval_of_order_statistics():
    x = np.sort(np.random.default_rng(0).random(101))
    found = interval(x, "median")
    exact = stats.quantile_test(x, p=0.5).confidence_interval(0.95)
    places = [np.searchsorted(x, v) for v in (*found[1:], *exact)]
    assert found.value == x[50]
    assert abs(places[0] - places[2]) <= 1 and abs(places[1] - places[3]) <= 1
    assert interval([3.0, 4.0], "median", bounds=(0, 9))[1:] == (0, 9)  # two say nothing


def test_the_bootstrap_is_scipys():
    rng = np.random.default_rng(0)
    targets = rng.random(60) < 0.4
    scores = rng.normal(size=60) + targets
    expected = stats.bootstrap(
        (scores, targets),
        ap,
        n_resamples=2000,
        batch=1,
        paired=True,
        vectorized=False,
        rng=np.random.default_rng(3),
    ).confidence_interval
    found = interval((scores, targets), ap, seed=3)
    assert found[1:] == pytest.approx(tuple(expected))
    assert found.value == ap(scores, targets)


def test_the_bootstrap_draws_whole_groups():
    x, clip = captions(30)
    seen, size = set(), np.bincount(clip)

    def mean(values, labels):
        seen.update(np.bincount(labels, minlength=30) % size)
        return float(values.mean())

    found = interval((x, clip), mean, clip)
    assert seen == {0}  # each clip with all its captions, once or more often
    assert found[1:] == pytest.approx(interval(x, groups=clip)[1:], abs=0.03)


def test_the_jackknife_of_a_mean_is_nearly_students_interval():
    x = np.random.default_rng(0).normal(size=80)
    expected = stats.ttest_1samp(x, 0).confidence_interval()
    found = interval(x, lambda v: float(v.mean()), bounds=None, method="jackknife")
    assert found[1:] == pytest.approx(tuple(expected), abs=0.02)  # fewer degrees of freedom
    many = np.random.default_rng(1).normal(size=5000)  # in parts
    expected = stats.ttest_1samp(many, 0).confidence_interval()
    found = interval(many, lambda v: float(v.mean()), bounds=None, method="jackknife")
    assert found.high - found.low == pytest.approx(expected.high - expected.low, rel=0.2)


def test_intervals_hold_the_truth():
    """Near 1, in groups, of few clips: there bootstraps fail. 400 sets: 95 +- 2.2 %."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        clip = np.repeat(np.arange(40), 5)
        share = rng.beta(0.95 * 2, 0.05 * 2, 40)[clip]
        found = interval(rng.random(200) < share, groups=clip)
        held += found.low <= 0.95 <= found.high
    assert 0.92 <= held / 400 <= 0.98


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "arrays of n items"),
        ((np.float64(1),), "arrays of n items"),
        (((np.ones(3), np.ones(2)), ap), "arrays of n items"),
        (([0.1, np.nan],), "item 1 is NaN"),
        (([0.1, 1.1],), r"0\.1\.\.1\.1 is outside \(0\.0, 1\.0\)"),
        (([0.1, 0.1], "mean", None, (0.1, 0.1)), "is outside"),
        (([0.1, 0.2], "mode"), "'mode'"),
        (([0.1, 0.2], "mean", [1]), r"groups: expected \(2,\)"),
        (([0.1, 0.2], "mean", None, None), "needs bounds"),
        (([0.1, 0.2], len, None, None), "does not vary"),
        (([0.1, 0.2], lambda x: np.nan), "the metric is nan"),
        (([0.1, 0.2], len, None, None, "guess"), "no method 'guess'"),
        (([0.1, 0.2], "skewed mean"), "of positive numbers"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        interval(*arguments)
    assert "\n" not in str(error.value)


def test_a_difference_of_means():
    rng = np.random.default_rng(0)
    a = rng.normal(0.52, 0.1, 150)
    b = a + rng.normal(-0.01, 0.06, 150)
    found, reference = compare(a, b, bounds=(-1, 2)), stats.ttest_rel(a, b)
    assert found["difference"] == pytest.approx((a - b).mean())
    assert (found["low"], found["high"]) == pytest.approx(
        tuple(reference.confidence_interval()), abs=1e-3
    )
    assert found["p"] == pytest.approx(reference.pvalue)
    assert (found["better"], found["worse"]) == ((a > b).sum(), (a < b).sum())
    turned = compare(b, a, bounds=(-1, 2))
    assert turned["difference"] == -found["difference"] and turned["p"] == found["p"]
    assert "mcnemar" not in found


def test_right_and_wrong_have_mcnemars_test():
    a, b = outcomes(100, seed=1), outcomes(100, 0.6, seed=2)
    found = compare(a, b)
    better, worse = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    tail = stats.binom.cdf(min(better, worse), better + worse, 0.5)
    assert found["mcnemar"] == pytest.approx(min(1, 2 * tail)) == mcnemar(better, worse)
    assert "mcnemar" not in compare(a, b, groups=np.arange(100) // 5)
    same = compare(a, a)
    assert (same["difference"], same["p"], same["mcnemar"]) == (0, 1, 1)
    assert same["low"] < 0 < same["high"]
    assert compare(np.ones(9), np.zeros(9))["p"] == 2**-8  # as exact exchanges have it


def test_repeats_in_a_group_do_not_make_a_difference_surer():
    a, b = outcomes(50, seed=1), outcomes(50, 0.55, seed=2)
    group = np.repeat(np.arange(50), 4)
    once, often = compare(a, b), compare(np.repeat(a, 4), np.repeat(b, 4), groups=group)
    for key in ("difference", "low", "high", "p"):
        assert often[key] == pytest.approx(once[key])


def test_a_difference_of_a_function():
    rng = np.random.default_rng(0)
    targets = rng.random(80) < 0.4
    scores = rng.normal(size=80) + targets
    worse = scores + rng.normal(size=80) * 1.5
    a, b = (scores, targets), (worse, targets)
    found = compare(a, b, ap)
    assert found["difference"] == pytest.approx(ap(*a) - ap(*b))
    assert found["low"] < found["difference"] < found["high"]
    reference = stats.permutation_test(
        (scores, worse),
        lambda x, y: ap(x, targets) - ap(y, targets),
        permutation_type="samples",
        vectorized=False,
        n_resamples=2000,
        rng=np.random.default_rng(1),
    )
    assert found["p"] == pytest.approx(reference.pvalue, abs=0.03)
    with pytest.raises(ValueError, match="not the same items"):
        compare(scores, worse[:-1])


def test_seeds():
    values = [0.61, 0.64, 0.66]
    found, reference = seeds(values), stats.ttest_1samp(values, 0).confidence_interval()
    assert found["mean"] == pytest.approx(np.mean(values))
    assert found["deviation"] == pytest.approx(np.std(values, ddof=1))
    assert (found["low"], found["high"]) == pytest.approx(tuple(reference))
    assert seeds([0.5]) == {"mean": 0.5, "deviation": None, "low": None, "high": None, "n": 1}
    for bad in ([], [np.nan], [[1.0]]):
        with pytest.raises(ValueError, match="seeds"):
            seeds(bad)
