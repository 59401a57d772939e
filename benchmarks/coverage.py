"""How often 95 % intervals hold the truth, and how often a test sees a difference where none is.

    python -m benchmarks.coverage                  # 1,000 simulated sets each, some minutes
    python -m benchmarks.coverage --sets 200

Every set has a truth of its own, drawn from a range: of one fixed share only few intervals are
possible, and their coverage jumps with it. Beside the intervals of `clapjax.evaluation.statistics`
stand those of a plain BCa bootstrap of the mean, to show why it is not used for means.
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
            function = {"mean": np.mean, "median": np.median}[metric]
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
    one = rng.random(n)
    return [(one + 0.4 * rng.random(n) < 0.8).astype(float) for _ in "ab"], None


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
    parser.add_argument("--bootstrap-sets", type=int, default=0, help="of a BCa bootstrap of means")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"95 % intervals that hold the truth, % of {args.sets} sets of n items or groups")
    header = "".join(f"{f'n={n}':>9}" for n in args.sizes)
    print(f"{'':24}{header}")

    def row(name, share_at):
        print(f"{name:24}" + "".join(f"{100 * share_at(n):9.1f}" for n in args.sizes), flush=True)

    for name, *case in MEANS:
        row(name, lambda n, case=case: held(rng, args.sets, n, *case))
    for prevalence, gap in ((0.1, 1.0), (0.3, 2.0)):
        for name, metric in (("average precision", average_precision), ("area (ROC)", area)):
            row(
                f"{name}, {prevalence:.0%}",
                lambda n, c=(metric, prevalence, gap): held_function(rng, args.sets, n, *c),
            )
    if args.bootstrap_sets:
        print(f"the same by a BCa bootstrap, % of {args.bootstrap_sets} sets")
        for name, *case in MEANS[:5]:
            row(name, lambda n, c=case: held(rng, args.bootstrap_sets, n, *c, bootstrap=True))
    print("equal models that a paired comparison calls different (p <= 0.05), %")
    for name, pairs in PAIRED:
        found = {n: [compare(*ab, groups=g) for ab, g in (pairs(rng, n) for _ in range(args.sets))]
                 for n in args.sizes}  # fmt: skip
        row(name, lambda n, found=found: np.mean([x["p"] <= 0.05 for x in found[n]]))
        row("  interval without 0", lambda n, found=found: np.mean(
            [not x["low"] <= 0 <= x["high"] for x in found[n]]))  # fmt: skip
        if pairs is paired_share:
            row("  McNemar's exact", lambda n, found=found: np.mean(
                [x["mcnemar"] <= 0.05 for x in found[n]]))  # fmt: skip


if __name__ == "__main__":
    main()
