"""How often 95 % intervals hold the truth, and how often a test sees a difference where none is.

    python -m benchmarks.coverage                  # 1,000 simulated sets each, some minutes
    python -m benchmarks.coverage --parts bootstrap --sets 200

Every set has a truth of its own, drawn from a range: of one fixed share only few intervals are
possible, and their coverage jumps with it. `--parts bootstrap` shows what a BCa bootstrap of the
means would hold, which is why it is not used for them.
"""

import argparse
import functools

import numpy as np

from clapjax.evaluation.statistics import compare, interval

POOL = 1000  # clips among which ranks are drawn


def share(rng, n, low, high):
    """Right or wrong: accuracy, R@k of clips."""
    truth = rng.uniform(low, high)
    return (rng.random(n) < truth).astype(float), None, truth


def captions(rng, n, low, high):
    """R@k of the captions of n clips, 1 to 5 each, that resemble each other."""
    truth = rng.uniform(low, high)
    clip = np.repeat(np.arange(n), rng.integers(1, 6, n))
    of_clip = rng.beta(2 * truth, 2 * (1 - truth), n)
    return (rng.random(len(clip)) < of_clip[clip]).astype(float), clip, truth


def ranks(rng, n, middle, spread):
    """0-based ranks in a pool: log-normal."""
    return np.minimum(np.floor(np.exp(rng.normal(middle, spread, n))), POOL - 1)


def precision(rank):
    return np.where(rank < 10, 1 / (rank + 1), 0)


@functools.cache
def expected(function, middle, spread) -> float:
    """Of a function of ranks, from a million draws."""
    return float(function(ranks(np.random.default_rng(0), 10**6, middle, spread)))


def rank_case(function, values):
    def case(rng, n, low, high):
        middle = round(rng.uniform(low, high), 1)
        return values(ranks(rng, n, middle, 1.2)), None, expected(function, middle, 1.2)

    return case


mean_precision = rank_case(lambda rank: precision(rank).mean(), precision)
median_rank = rank_case(np.median, lambda rank: rank)
mean_rank = rank_case(np.mean, lambda rank: rank)


def cosines(rng, n, low, high):
    truth = rng.uniform(low, high)
    return rng.normal(truth, 0.1, n).clip(-1, 1), None, truth


def cider(rng, n, low, high):
    truth = rng.uniform(low, high)
    return rng.gamma(1.0, truth, n).clip(0, 10), None, truth


# name, case, range of the truth's parameter, metric, bounds
MEANS = [
    ("share 0.02-0.5", share, (0.02, 0.5), "mean", (0, 1)),
    ("share 0.8-0.99", share, (0.8, 0.99), "mean", (0, 1)),
    ("captions 0.1-0.9", captions, (0.1, 0.9), "mean", (0, 1)),
    ("captions 0.8-0.98", captions, (0.8, 0.98), "mean", (0, 1)),
    ("mAP@10", mean_precision, (0.0, 3.0), "mean", (0, 1)),
    ("CLAP score", cosines, (0.0, 0.6), "mean", (-1, 1)),
    ("CIDEr-D", cider, (0.3, 1.5), "mean", (0, 10)),
    ("median rank", median_rank, (3.0, 5.0), "median", (0, POOL - 1)),
    ("mean rank", mean_rank, (1.0, 3.0), "skewed mean", (0, POOL - 1)),
]


def held(rng, sets, n, case, span, metric, bounds, bootstrap=False) -> float:
    """The share of sets whose interval holds the truth."""
    count = 0
    for seed in range(sets):
        values, groups, truth = case(rng, n, *span)
        if bootstrap:
            function = np.median if metric == "median" else np.mean
            found = interval(values, function, groups, bounds, seed=seed)
        else:
            found = interval(values, metric, groups, bounds)
        count += found.low <= truth <= found.high
    return count / sets


def average_precision(scores, right):
    right = right[np.argsort(-scores)]
    found = np.cumsum(right)
    return float((found / np.arange(1, len(right) + 1))[right].mean()) if found[-1] else 0.0


def area(scores, right):
    rank = np.empty(len(scores))
    rank[np.argsort(scores)] = np.arange(1, len(scores) + 1)
    found = right.sum()
    return float((rank[right].sum() - found * (found + 1) / 2) / max(found * (~right).sum(), 1))


def labelled(rng, n, prevalence, gap):
    right = rng.random(n) < prevalence
    right[:2] = True, False
    return rng.normal(size=n) + gap * right, right


def held_function(rng, sets, n, metric, prevalence, gap) -> float:
    """The share whose jackknife interval holds what the metric of such sets is on average."""
    truth = np.mean([metric(*labelled(rng, n, prevalence, gap)) for _ in range(4 * sets)])
    count = 0
    for seed in range(sets):
        items = labelled(rng, n, prevalence, gap)
        found = interval(items, metric, method="jackknife", seed=seed)
        count += found.low <= truth <= found.high
    return count / sets


def paired_share(rng, n):
    ease = rng.random(n)
    return [(ease + 0.6 * rng.random(n) < 0.8).astype(float) for _ in "ab"], None


def paired_captions(rng, n):
    clip = np.repeat(np.arange(n), rng.integers(1, 6, n))
    ease = rng.random(n)[clip]
    return [(rng.random(len(clip)) < rng.beta(1, 1, n)[clip] * ease) * 1.0 for _ in "ab"], clip


def paired_precision(rng, n):
    middle = rng.normal(1.5, 1, n)
    return [precision(ranks(rng, n, middle, 1.0)) for _ in "ab"], None


PAIRED = [("accuracy", paired_share), ("captions", paired_captions), ("mAP@10", paired_precision)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[30, 100, 500])
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=["means", "functions", "paired"]
    )
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"{args.sets} simulated sets; n items or groups" + " " * 8 + "".join(
        f"{f'n={n}':>8}" for n in args.sizes))  # fmt: skip

    def row(name, shares):
        print(f"{name:44}" + "".join(f"{100 * share:8.1f}" for share in shares), flush=True)

    for part in args.parts:
        PARTS[part](rng, args, row)


def means(rng, args, row, bootstrap=False) -> None:
    print("intervals that hold the truth, %" + ", BCa bootstrap" * bootstrap)
    for name, *case in MEANS:
        row(name, [held(rng, args.sets, n, *case, bootstrap=bootstrap) for n in args.sizes])


def functions(rng, args, row) -> None:
    print("intervals that hold the expected metric, %")
    for prevalence, gap in ((0.1, 1.0), (0.3, 2.0)):
        for name, metric in (("average precision", average_precision), ("area (ROC)", area)):
            shares = [held_function(rng, args.sets, n, metric, prevalence, gap) for n in args.sizes]
            row(f"{name}, {prevalence:.0%} of the clips", shares)


def paired(rng, args, row) -> None:
    print("equal models that are called different, p <= 0.05, %")
    for name, pairs in PAIRED:
        found = {}
        for n in args.sizes:
            drawn = (pairs(rng, n) for _ in range(args.sets))
            found[n] = [compare(*ab, groups=groups) for ab, groups in drawn]
        row(name, [np.mean([x["p"] <= 0.05 for x in each]) for each in found.values()])
        if pairs is paired_share:
            shares = [np.mean([x["mcnemar"] <= 0.05 for x in each]) for each in found.values()]
            row(f"{name}, McNemar's exact test", shares)


PARTS = {
    "means": means,
    "functions": functions,
    "paired": paired,
    "bootstrap": functools.partial(means, bootstrap=True),
}


if __name__ == "__main__":
    main()
