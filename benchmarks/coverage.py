"""How often 95 % intervals hold the truth, and how often a test sees a difference where none is.

    python -m benchmarks.coverage                  # 1,000 simulated sets each, 15 minutes
    python -m benchmarks.coverage --parts bootstrap --sets 200

Of means, every set has a truth of its own, drawn from a range: of one fixed share only few
intervals are possible, and their coverage jumps with it. Of functions (mAP, BLEU, FAD, ...) the
truth is what sets of this size have on average. `--parts bootstrap` shows what a BCa bootstrap of
the means would hold, which is why it is not used for them.
"""

import argparse
import functools

import numpy as np

from clapjax.evaluation.captioning import bleu
from clapjax.evaluation.generation import bandwidth, frechet_distance, kernel_distance
from clapjax.evaluation.statistics import compare, interval
from clapjax.evaluation.supervised import PARTS as PROBE_PARTS
from clapjax.evaluation.supervised import mean_area
from clapjax.evaluation.zero_shot import class_recall, mean_average_precision, precision_interval

POOL = 1000  # clips among which ranks are drawn
SPREAD, WIDE = 1.2, 1.6  # standard deviations of the logarithms of ranks
QUADRATIC = 100  # items, at most, of a metric whose time grows with their square


def share(rng, n, low, high):
    """Right or wrong: accuracy, R@k of clips, order error."""
    truth = rng.uniform(low, high)
    return (rng.random(n) < truth).astype(float), None, truth


def captions(rng, n, low, high):
    """R@k of the captions of n clips, 1 to 5 each, that resemble each other."""
    truth = rng.uniform(low, high)
    clip = np.repeat(np.arange(n), rng.integers(1, 6, n))
    of_clip = rng.beta(2 * truth, 2 * (1 - truth), n)
    return (rng.random(len(clip)) < of_clip[clip]).astype(float), clip, truth


def ranks(rng, n, middle, spread=SPREAD):
    """Ranks from 1 in a pool: log-normal."""
    return np.minimum(np.floor(np.exp(rng.normal(middle, spread, n))) + 1, POOL)


def lost_and_found(rng, n, middle):
    """Ranks from 1 of which most are low and some are anywhere in the pool."""
    lost = rng.random(n) < middle / 10
    return np.where(lost, rng.integers(1, POOL + 1, n), rng.geometric(0.3, n)).astype(float)


def precision(rank):
    return np.where(rank <= 10, 1 / rank, 0)


@functools.cache
def expected(function, draw, middle) -> float:
    """Of a function of ranks, from a million draws."""
    return float(function(draw(np.random.default_rng(0), 10**6, middle)))


def rank_case(function, values=lambda rank: rank, draw=ranks):
    def case(rng, n, low, high):
        middle = round(rng.uniform(low, high), 1)
        return values(draw(rng, n, middle)), None, expected(function, draw, middle)

    return case


def caption_ranks(rng, n, low, high):
    """Ranks of five captions of each of n clips, some of which are hard."""
    middle = round(rng.uniform(low, high), 1)
    clip, deviation = np.repeat(np.arange(n), 5), SPREAD / np.sqrt(2)
    of_clip = rng.normal(middle, deviation, n)[clip]
    truth = expected(np.mean, ranks, middle)
    return ranks(rng, 5 * n, of_clip, deviation), clip, truth


wide_ranks = functools.partial(ranks, spread=WIDE)
mean_precision = rank_case(lambda rank: precision(rank).mean(), precision)


def cosines(rng, n, low, high):
    truth = rng.uniform(low, high)
    return rng.normal(truth, 0.1, n).clip(-1, 1), None, truth


def skewed(rng, n, low, high):
    truth = rng.uniform(low, high)
    return rng.gamma(1.0, truth, n).clip(0, 10), None, truth


# name, case, range of the truth's parameter, metric, bounds
MEANS = [
    ("accuracy, R@k, order error: 0.02-0.5", share, (0.02, 0.5), "mean", (0, 1)),
    ("accuracy, R@k, order error: 0.8-0.99", share, (0.8, 0.99), "mean", (0, 1)),
    ("R@k of captions, by clip: 0.1-0.9", captions, (0.1, 0.9), "mean", (0, 1)),
    ("R@k of captions, by clip: 0.8-0.98", captions, (0.8, 0.98), "mean", (0, 1)),
    ("mAP@10", mean_precision, (0.0, 3.0), "mean", (0, 1)),
    ("CLAP score", cosines, (0.0, 0.6), "mean", (-1, 1)),
    ("CIDEr-D, KL", skewed, (0.3, 1.5), "mean", (0, 10)),
    ("median rank, 20-150", rank_case(np.median), (3.0, 5.0), "median", (1, POOL)),
    ("median rank, 150-400", rank_case(np.median), (5.0, 6.0), "median", (1, POOL)),
    ("mean rank", rank_case(np.mean), (1.0, 3.0), "skewed mean", (1, POOL)),
    ("mean rank, by clip", caption_ranks, (1.0, 3.0), "skewed mean", (1, POOL)),
    ("mean rank, wider", rank_case(np.mean, draw=wide_ranks), (1.0, 3.0), "skewed mean", (1, POOL)),
    (
        "mean rank, lost or found",
        rank_case(np.mean, draw=lost_and_found),
        (0.5, 3.0),
        "skewed mean",
        (1, POOL),
    ),
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


def tags(rng, n, rarest, likeliest, gap=1.5, labels=10):
    """Scores of labels in a clip, higher by `gap` where they are there."""
    right = rng.random((n, labels)) < np.geomspace(rarest, likeliest, labels)
    right[0, 0] |= not right.any()
    return rng.normal(size=(n, labels)) + 0.3 * rng.normal(size=(n, 1)) + gap * right, right


def classes(rng, n, labels=10):
    """Whether clips are right, and their classes; some classes are hard."""
    label = rng.integers(0, labels, n)
    return rng.random(n) < np.linspace(0.45, 0.95, labels)[label], label


def sentences(rng, n):
    """What BLEU counts in n captions (`captioning.bleu_counts`)."""
    words, wanted, likeness = rng.integers(6, 14, n), rng.integers(6, 14, n), rng.beta(3, 2, n)
    there = [words - order for order in range(4)]
    right = [rng.binomial(k, likeness ** (1 + 1.2 * order)) for order, k in enumerate(there)]
    return (np.stack([words, wanted, *right, *there], axis=1),)


SCALES = np.linspace(1, 0.2, 8)  # standard deviations of the dimensions of embeddings


def embeddings(rng, n):
    """Of n real and n generated clips, and which are generated."""
    real, made = rng.normal(size=(2, n, len(SCALES))) * SCALES
    return np.concatenate([real, 1.1 * made + 0.3 * SCALES]), np.arange(2 * n) >= n


@functools.cache
def width() -> float:
    return bandwidth(np.random.default_rng(0).normal(size=(500, len(SCALES))) * SCALES)


def jackknife(metric, bounds=(0.0, 1.0), parts=200):
    return lambda items: interval(items, metric, None, bounds, "jackknife", parts)


def tagged(items):
    return precision_interval(*items, None, PROBE_PARTS)


def distance(measure):
    def metric(rows, made):
        return measure(rows[~made], rows[made])

    return metric, jackknife(metric, None, 40)


common, rare = (
    functools.partial(tags, rarest=a, likeliest=b) for a, b in ((0.05, 0.4), (0.02, 0.1))
)
one_label = functools.partial(tags, rarest=0.1, likeliest=0.1, labels=1)
kernel, kernel_interval = distance(lambda *both: kernel_distance(*both, width()))
# name, case, metric, function of items to (value, low, high)
FUNCTIONS = [
    ("mAP, 10 labels of 5-40 % of the clips", common, mean_average_precision, tagged),
    ("mAP, 10 labels of 2-10 %", rare, mean_average_precision, tagged),
    ("mAP, one label of 10 %", one_label, mean_average_precision, tagged),
    ("mAUC, d'", common, mean_area, jackknife(mean_area, parts=PROBE_PARTS)),
    ("mean class recall, 10 classes", classes, class_recall, jackknife(class_recall)),
    ("BLEU-4", sentences, bleu, jackknife(bleu)),
    ("FAD, 8 dimensions", embeddings, *distance(frechet_distance)),
    ("KAD", embeddings, kernel, kernel_interval),
]


def held_function(rng, sets, n, case, metric, estimate) -> float:
    """The share whose interval holds what the metric of such sets is on average; NaN: not tried."""
    if estimate is kernel_interval and n > QUADRATIC:
        return np.nan
    truth = np.mean([metric(*case(rng, n)) for _ in range(4 * sets)])
    count = 0
    for _ in range(sets):
        _, low, high = estimate(case(rng, n))
        count += low <= truth <= high
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
    parser.add_argument("--only", default="", help="of functions, those with this in their name")
    args = parser.parse_args()
    print(f"{args.sets} simulated sets of n items, or groups of items that belong together")
    for part in args.parts:
        PARTS[part](np.random.default_rng(0), args)


def show(title, args, rows) -> None:
    """Prints a table; rows are (name, function of n to a share), each computed when it is due."""
    print(f"\n| {title} | " + " | ".join(f"n={n}" for n in args.sizes) + " |")
    print("| --- |" + " ---: |" * len(args.sizes))
    for name, share_of in rows:
        cells = " | ".join(f"{100 * share_of(n):.1f}" for n in args.sizes)
        print(f"| {name} | {cells} |", flush=True)


def means(rng, args, bootstrap=False) -> None:
    title = "intervals that hold the truth, %" + ", BCa bootstrap" * bootstrap
    rows = [
        (name, lambda n, case=case: held(rng, args.sets, n, *case, bootstrap=bootstrap))
        for name, *case in MEANS
    ]
    show(title, args, rows)


def functions(rng, args) -> None:
    def row(*case):
        own = np.random.default_rng(0)  # so that any of the rows can be had alone
        return lambda n: held_function(own, args.sets, n, *case)

    rows = [(name, row(*case)) for name, *case in FUNCTIONS if args.only in name]
    show("intervals that hold the expected metric, %", args, rows)


def paired(rng, args) -> None:
    rows = []
    for name, pairs in PAIRED:

        @functools.cache
        def found(n, pairs=pairs):
            drawn = (pairs(rng, n) for _ in range(args.sets))
            return [compare(*ab, groups=groups) for ab, groups in drawn]

        def called(n, key="p", found=found):
            return np.mean([one[key] <= 0.05 for one in found(n)])

        rows.append((name, called))
        if pairs is paired_share:
            rows.append((f"{name}, McNemar's exact test", functools.partial(called, key="mcnemar")))
    show("equal models that are called different, p <= 0.05, %", args, rows)


PARTS = {
    "means": means,
    "functions": functions,
    "paired": paired,
    "bootstrap": functools.partial(means, bootstrap=True),
}


if __name__ == "__main__":
    main()
