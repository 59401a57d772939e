"""How sure a number is: intervals, comparisons of two models, seeds, and thresholds.

Whatever belongs together (the captions of a clip, the clips of a recording) is a group and counts
as one draw. `python -m benchmarks.coverage` prints how often each kind of interval holds the truth.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from scipy import special, stats

from clapjax.evaluation.result import Metric

LEVEL = 0.95
RESAMPLES = 2000
ACCELERATED = 200  # groups, at most, for which BCa's jackknife is worth its time


def interval(
    items,
    metric: Literal["mean", "skewed mean", "median"] | Callable[..., float] = "mean",
    groups=None,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    method: Literal["bootstrap", "jackknife"] = "bootstrap",
    parts: int = 200,
    seed: int = 0,
    positives: int | None = None,
) -> Metric:
    """A metric of items and its 95 % confidence interval.

    - "mean": Wilson's score with as many items as would be independent (their variance in the
      groups tells), and Student's t for the normal quantile. Of proportions without groups it is
      nearly Wilson's own interval. It holds near the bounds, too, where a bootstrap that drew no
      failure knows of none.
    - "skewed mean": of positive numbers, such as ranks. Bootstrap of Student's t over groups (Efron
      and Tibshirani, 1993, chapter 12) on the scale of logarithms, between quantiles that are the
      further out the heavier the tail: as Student's t with Satterthwaite's degrees of freedom. A
      mean rank is mostly that of few items.
    - "median": the order statistics between the ends of that interval about one half (Woodruff);
      of whole numbers, such as ranks, it holds it more often.
    - a function: BCa bootstrap (Efron, 1987) of scipy, over groups; or the jackknife, with
      Student's t on the scale of logits where there are bounds: for smooth metrics (average
      precision, areas, BLEU), which it fits better, and for large sets, since it takes at most
      `parts` values of the metric. It holds what the metric of sets of this size is on average.

    Args:
      items: (n,) outcomes; or for a function an array or a tuple of arrays of n rows.
      metric: what to make of them; a function is given the arrays of `items`, with fewer or
        repeated rows.
      groups: (n,) any labels, equal for items that belong together; None: each is on its own.
      bounds: the least and the greatest thinkable value; None only for functions.
      method: of a function.
      parts: of the groups that the jackknife leaves out in turn, at most.
      seed: of the bootstrap, and of the groups that the jackknife drops together.
      positives: of an average precision, which is a mean over them: the pairs of a clip and its
        label. Few of them tell little, however many clips there are (Boyd et al., 2013).

    Raises:
      ValueError: no items, arrays of other lengths, NaN or infinite or out of bounds, or a metric
        without an interval: a function of one group, or one that is not finite.
    """
    arrays = items if isinstance(items, tuple) else (np.asarray(items),)
    arrays = tuple(np.asarray(array) for array in arrays)
    lengths = {len(array) if array.ndim else 0 for array in arrays}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"interval: expected arrays of n items, got {[a.shape for a in arrays]}")
    for array in arrays:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            row = np.argwhere(~np.isfinite(array))[0][0]
            raise ValueError(f"interval: item {row} is NaN or infinite")
    group = _group_numbers(groups, lengths.pop())
    if callable(metric):
        if method == "jackknife":
            return _jackknife(arrays, metric, group, bounds, parts, seed, positives)
        if method != "bootstrap":
            raise ValueError(f"interval: no method {method!r}; there are bootstrap and jackknife")
        return _bootstrap(arrays, metric, group, bounds, seed)
    if metric not in ("mean", "skewed mean", "median") or len(arrays) > 1 or arrays[0].ndim != 1:
        raise ValueError(f"interval: {metric!r} of {[a.shape for a in arrays]}")
    if bounds is None:
        raise ValueError(f"interval: the {metric} needs bounds")
    values, (low, high) = arrays[0].astype(np.float64), bounds
    slack = 1e-6 * (high - low)  # a cosine of 1 + 1e-7 is 1
    if values.min() < low - slack or values.max() > high + slack or low >= high:
        raise ValueError(f"interval: {values.min():g}..{values.max():g} is outside {bounds}")
    values = values.clip(low, high)
    if metric == "median":
        return _median(values, group, low, high)
    if metric == "skewed mean":
        if low <= 0:
            raise ValueError(f"interval: the skewed mean is of positive numbers, not {bounds}")
        found = _skewed_mean(values, group, seed)
        if found is not None:
            return Metric(found.value, max(low, found.low), min(high, found.high))
    value, start, end = _mean((values - low) / (high - low), group)
    return Metric(*(float(low + (high - low) * x) for x in (value, start, end)))


def _group_numbers(groups, n: int) -> np.ndarray:
    """(n,) int, 0 to the number of groups - 1."""
    if groups is None:
        return np.arange(n)
    if np.shape(groups) != (n,):
        raise ValueError(f"groups: expected ({n},), got shape {np.shape(groups)}")
    return np.unique(np.asarray(groups), return_inverse=True)[1]


def _score_interval(share: float, n: float, groups: int) -> tuple[float, float]:
    """Wilson's interval of a share of n items, with Student's t of so many groups."""
    q = stats.t.ppf((1 + LEVEL) / 2, groups - 1) if groups > 1 else stats.norm.ppf((1 + LEVEL) / 2)
    middle = (share + q**2 / (2 * n)) / (1 + q**2 / n)
    half = q / (1 + q**2 / n) * np.sqrt(share * (1 - share) / n + q**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def _mean(values: np.ndarray, group: np.ndarray) -> tuple[float, float, float]:
    """Mean of values in 0..1, and its interval."""
    share, count = values.mean(), np.bincount(group)
    groups = len(count)
    off = np.bincount(group, values) - share * count  # (groups,)
    variance = np.sum(off**2) * groups / max(groups - 1, 1) / len(values) ** 2
    # All alike says nothing about how they vary: then every group is one item.
    n = share * (1 - share) / variance if variance > 1e-15 else groups
    return share, *_score_interval(share, n, groups)


def _median(values: np.ndarray, group: np.ndarray, low: float, high: float) -> Metric:
    """The median and its interval."""
    value, order = np.median(values), np.sort(values)
    _, start, end = _mean((values <= value).astype(np.float64), group)
    # The same width about one half: with ties the share at or below the median is more.
    half = (end - start) / 2
    start, end = round((0.5 - half) * len(order)) - 1, round((0.5 + half) * len(order))
    return Metric(
        float(value),
        float(order[start] if start >= 0 else low),
        float(order[end] if end < len(order) else high),
    )


def _rows_of(group: np.ndarray) -> list[np.ndarray]:
    return np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])


def _value(metric: Callable, arrays: tuple, rows=slice(None)) -> float:
    value = float(metric(*(array[rows] for array in arrays)))
    if not np.isfinite(value):
        raise ValueError(f"interval: the metric is {value}, of all or a part of the items")
    return value


def _all_alike(value: float, groups: int, bounds) -> Metric:
    """What is left to say where a metric does not vary: Wilson's interval, one item a group."""
    if bounds is None:
        raise ValueError("interval: the metric does not vary over the items, and has no bounds")
    low, high = bounds
    start, end = _score_interval((value - low) / (high - low), groups, groups)
    return Metric(value, float(low + (high - low) * start), float(low + (high - low) * end))


def _bootstrap(arrays, metric, group, bounds, seed) -> Metric:
    value, rows = _value(metric, arrays), _rows_of(group)
    if len(rows) == 1:
        return _all_alike(value, 1, bounds)

    def resampled(chosen):
        return _value(metric, arrays, np.concatenate([rows[i] for i in chosen]))

    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # see below
        found = stats.bootstrap(
            (np.arange(len(rows)),),
            resampled,
            n_resamples=RESAMPLES,
            batch=1,
            vectorized=False,
            confidence_level=LEVEL,
            method="BCa" if len(rows) <= ACCELERATED else "percentile",
            rng=np.random.default_rng(seed),
        )
    low, high = map(float, found.confidence_interval)
    if np.ptp(found.bootstrap_distribution) == 0 or not np.isfinite([low, high]).all():
        return _all_alike(value, len(rows), bounds)
    return Metric(value, low, high)


def _freedom(influences) -> float:
    """Satterthwaite's degrees of freedom of a variance: few where few items make it up.

    Args:
      influences: (n,) what each item adds to the error.
    """
    n = len(influences)
    if n < 4:
        return n - 1
    excess = max(stats.kurtosis(influences, fisher=False) - 1, 1e-9)
    return float(np.clip(2 * n / excess, 2, n - 1))


def _jackknife(arrays, metric, group, bounds, parts, seed, positives) -> Metric:
    value, groups = _value(metric, arrays), group.max() + 1
    decide = groups if positives is None else max(1, min(groups, positives))
    if groups == 1:
        return _all_alike(value, 1, bounds)
    parts = min(groups, parts)
    part = np.random.default_rng(seed).permutation(groups) % parts
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of means of nothing
        without = [float(metric(*(a[part[group] != i] for a in arrays))) for i in range(parts)]
    if not np.isfinite(without).all():  # it hangs on one part, say the only clip with a label
        return _all_alike(value, 1, bounds)
    error = np.sqrt((parts - 1) * np.var(without))
    if error < 1e-12:
        return _all_alike(value, decide, bounds)
    freedom = _freedom(without)
    if positives is not None:
        freedom = min(freedom, max(positives - 1, 2))
    q = stats.t.ppf((1 + LEVEL) / 2, freedom)
    if bounds is None:
        return Metric(value, value - q * error, value + q * error)
    low, high = bounds
    share = (value - low) / (high - low)
    if not 0 < share < 1:
        return _all_alike(value, decide, bounds)
    half = q * error / (high - low) / (share * (1 - share))
    start, end = special.expit(special.logit(share) + np.array([-half, half]))
    return Metric(value, float(low + (high - low) * start), float(low + (high - low) * end))


def compare(
    a,
    b,
    metric: Literal["mean"] | Callable[..., float] = "mean",
    groups=None,
    bounds: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
) -> dict:
    """Is model a better than model b on the same items?

    The p-value of a mean is that of Student's paired t-test, over groups. That of a function comes
    from exchanging the two models' outcomes group by group at random, which is exact whatever the
    metric. McNemar's exact test (binomial, two-sided) is added where outcomes are right or wrong
    and nothing belongs together; of equal models, it calls fewer than one in twenty different.

    Args:
      a, b: (n,) outcomes of the two models; or for a function arrays or tuples of arrays, of which
        row i is about item i. What both share (targets) is in both.
      metric: as in `interval`.
      groups: (n,) as in `interval`.
      bounds: of the outcomes, or of the function.
      seed: of the resampling.

    Returns:
      {"difference": a - b, "low", "high": its 95 % interval, "p": of no difference, "n",
      "better", "worse": items on which a is, of outcomes only; "mcnemar": p, of right and wrong
      where each item is a group of its own}.

    Raises:
      ValueError: as `interval`; or a and b differ in length.
    """
    one, two = (tuple(map(np.asarray, x if isinstance(x, tuple) else (x,))) for x in (a, b))
    if [array.shape for array in one] != [array.shape for array in two]:
        raise ValueError(
            f"compare: not the same items, {[x.shape for x in one]} and {[x.shape for x in two]}"
        )
    span = bounds[1] - bounds[0]
    if callable(metric):
        both = one + two
        found = interval(
            both,
            lambda *arrays: metric(*arrays[: len(one)]) - metric(*arrays[len(one) :]),
            groups,
            (-span, span),
            "jackknife",
            seed=seed,
        )
        p = _exchange(one, two, metric, _group_numbers(groups, len(one[0])), seed)
        return {**_difference(found, p), "n": len(one[0])}
    for outcomes in (one[0], two[0]):  # refuses what is no outcome
        interval(outcomes, "mean", groups, bounds)
    off = one[0].astype(np.float64) - two[0]
    group = _group_numbers(groups, len(off))
    result = _difference(interval(off, "mean", groups, (-span, span)), _paired(off, group))
    better, worse = int(np.sum(off > 0)), int(np.sum(off < 0))
    result |= {"n": len(off), "better": better, "worse": worse}
    if len(np.unique(group)) == len(off) and set(np.unique(np.concatenate([one[0], two[0]]))) <= {
        0,
        1,
    }:
        result["mcnemar"] = mcnemar(better, worse)
    return result


def _difference(found: Metric, p: float) -> dict:
    return {"difference": found.value, "low": found.low, "high": found.high, "p": p}


def mcnemar(better: int, worse: int) -> float:
    """Exact two-sided p of McNemar's test (1947), of items on which only one model is right."""
    return float(stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0


def _skewed_mean(values: np.ndarray, group: np.ndarray, seed: int) -> Metric | None:
    """The mean of positive values and its interval; None where the groups do not vary."""
    sums, count = np.bincount(group, values), np.bincount(group)  # (groups,)
    groups = len(count)

    def moments(sums, count):  # (..., groups) each: mean, and its error relative to it
        mean = sums.sum(-1) / count.sum(-1)
        spread = np.sum((sums - mean[..., None] * count) ** 2, axis=-1)
        return mean, np.sqrt(spread * groups / max(groups - 1, 1)) / sums.sum(-1)

    mean, error = moments(sums, count)
    if error < 1e-12:
        return None
    rng, rows, found = np.random.default_rng(seed), max(1, 2**22 // groups), []
    for start in range(0, RESAMPLES, rows):
        chosen = rng.integers(0, groups, (min(rows, RESAMPLES - start), groups))
        means, errors = moments(sums[chosen], count[chosen])
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.log(means / mean) / errors
        found.append(np.nan_to_num(t, nan=0.0, posinf=np.inf, neginf=-np.inf))
    q = stats.t.ppf((1 + LEVEL) / 2, _freedom(sums - mean * count))
    outside = stats.norm.sf(q)
    ends = np.quantile(np.concatenate(found), [1 - outside, outside], method="closest_observation")
    low, high = mean * np.exp(-ends * error)
    return Metric(float(mean), float(low), float(high))


def _paired(off: np.ndarray, group: np.ndarray) -> float:
    """p of a mean of 0, by Student's t over groups."""
    sums, count = np.bincount(group, off), np.bincount(group)
    groups, mean = len(count), off.mean()
    error = np.sqrt(np.sum((sums - mean * count) ** 2) * groups / max(groups - 1, 1)) / len(off)
    if error < 1e-12:  # every group alike, or one group: as exchanging signs has it
        return 1.0 if mean == 0 else float(2.0 ** (1 - groups))
    return float(2 * stats.t.sf(abs(mean) / error, groups - 1))


def _exchange(one, two, metric, group, seed: int) -> float:
    """p of no difference by exchanging the models' outcomes group by group."""
    rng, observed = np.random.default_rng(seed), abs(_value(metric, one) - _value(metric, two))
    as_far = 0
    for _ in range(RESAMPLES):
        swap = rng.integers(0, 2, group.max() + 1).astype(bool)[group]  # (n,)
        mixed = [
            [
                np.where(swap.reshape(-1, *[1] * (x.ndim - 1)), y, x)
                for x, y in zip(*pair, strict=True)
            ]
            for pair in ((one, two), (two, one))
        ]
        as_far += abs(_value(metric, mixed[0]) - _value(metric, mixed[1])) >= observed * (1 - 1e-9)
    return float((as_far + 1) / (RESAMPLES + 1))


def seeds(values: Sequence[float]) -> dict:
    """Mean and standard deviation of a metric over runs that differ in their seed.

    Returns:
      {"mean", "deviation" (of the runs, n - 1), "low" and "high" (95 % interval of the mean by
      Student's t), "n"}; of one run "deviation", "low" and "high" are None.

    Raises:
      ValueError: no values, or NaN or infinite ones.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"seeds: expected finite values of runs, got {values.tolist()}")
    n, mean = len(values), float(values.mean())
    if n == 1:
        return {"mean": mean, "deviation": None, "low": None, "high": None, "n": 1}
    deviation = float(values.std(ddof=1))
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * deviation / np.sqrt(n)
    return {
        "mean": mean,
        "deviation": deviation,
        "low": float(mean - half),
        "high": float(mean + half),
        "n": n,
    }
