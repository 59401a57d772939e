"""Results as text: lines for a console, and a Markdown table for papers and model cards."""

import re
from collections.abc import Mapping, Sequence

from clapjax.evaluation.result import Metric, Result
from clapjax.evaluation.statistics import compare, seeds

NAMES = {"t_classify": "T-Classify", "zero_shot": "zero-shot"}
# What is no share of something, and shown as it is.
PLAIN = re.compile(r"_rank$|^(CIDEr-D|CLAP score|FAD|KAD|KL|d')(/|$)")
LOW = re.compile(r"_rank$|^(FAD|KAD|KL|order error)(/|$)")  # the lower the better


def spoken(name: str) -> str:
    """A name of the JSON as people read it: text_to_audio/R@1 becomes "text-to-audio R@1"."""
    return NAMES.get(name, name).replace("_to_", "-to-").replace("_", " ").replace("/", " ")


def lower_is_better(name: str) -> bool:
    """Whether the model with the lowest value of a metric is the best."""
    return LOW.search(name) is not None


def number(name: str, value: float) -> str:
    """A value of a metric: shares in percent, ranks and distances as they are."""
    if name.endswith("_rank"):
        return f"{value:.1f}"
    return f"{value:.3g}" if PLAIN.search(name) else f"{100 * value:.1f} %"


def interval(name: str, metric: Metric) -> str:
    """A value with its interval: "96.0 % [92.0, 98.1]"; ranks and distances as they are."""
    low, high = (number(name, end).removesuffix(" %") for end in metric[1:])
    return f"{number(name, metric.value)} [{low}, {high}]"


def chance(result: Result) -> str:
    """What guessing reaches, with as many digits as a small one needs."""
    return "–" if result.chance is None else f"{100 * result.chance:.3g} %"


def is_part(name: str) -> bool:
    """Whether a metric is over a part of the items, "/events=3", or a stricter one, "/all"."""
    return "=" in name or name.endswith("/all")


def line(result: Result, whole: bool = True) -> str:
    """All metrics of a result with its n and chance, or the first one alone."""
    parts = [
        f"{spoken(name)} {interval(name, metric)}"
        for name, metric in list(result.metrics.items())[: None if whole else 1]
    ]
    return f"{spoken(result.task)} {', '.join(parts)} (n={result.n}, chance {chance(result)})"


def summary(results: Sequence[Result]) -> str:
    """One line with the first metric of each result, parts left out."""
    chosen = [result for result in results if not is_part(next(iter(result.metrics)))]
    return "; ".join(line(result, whole=False) for result in chosen)


def _table(head: Sequence[str], numbers: int, rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose last columns are numbers."""
    rule = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    return "".join(
        f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in (head, rule, *rows)
    )


def markdown(results: Sequence[Result]) -> str:
    """A table: one row for each metric, with n and chance, and one column for each model."""
    models = list(dict.fromkeys(result.model for result in results))
    rows: dict[tuple, dict[str, Metric]] = {}
    for result in results:
        for index, (name, metric) in enumerate(result.metrics.items()):
            guess = "" if index else chance(result)
            key = (result.benchmark, spoken(result.task), name, result.n, guess)
            rows.setdefault(key, {})[result.model] = metric
    body = []
    for (benchmark, task, name, n, guess), found in rows.items():
        cells = [interval(name, found[model]) if model in found else "" for model in models]
        body.append([benchmark, task, spoken(name), str(n), guess, *cells])
    head = ["benchmark", "task", "metric", "n", "chance", *models]
    return _table(head, 2 + len(models), body)


COMPARED = ("benchmark", "measure", "compared with", "n", "difference", "p", "McNemar's exact p")


def comparisons(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """The first model against each other one on the same items, as `COMPARED` has the columns.

    Of the first metric of each result that has right and wrong items; parts are left out.
    """
    rows, first = [], {}
    for result in results:
        name = next(iter(result.metrics))
        key = result.benchmark, result.task, name
        if "right" not in result.items or is_part(name):
            continue
        if result.model == results[0].model:
            first[key] = result.items
            continue
        one, other = first.get(key), result.items
        if one is None or list(one["id"]) != list(other["id"]):
            continue  # other items
        found = compare(one["right"], other["right"], groups=one["group"])
        low, high = 100 * found["low"], 100 * found["high"]
        rows.append(
            (
                result.benchmark,
                f"{spoken(result.task)} {spoken(name)}",
                result.model,
                str(found["n"]),
                f"{100 * found['difference']:+.1f} % [{low:+.1f}, {high:+.1f}]",
                f"{found['p']:.2g}",
                f"{found['mcnemar']:.2g}" if "mcnemar" in found else "–",
            )
        )
    return rows


def comparison(results: Sequence[Result]) -> str:
    """`comparisons` as a Markdown table, under a line that names the first model; "" for none."""
    rows = comparisons(results)
    return (
        f"\n{results[0].model} against the others:\n\n" + _table(COMPARED, 4, rows) if rows else ""
    )


def over_seeds(runs: Mapping[str, Sequence[Sequence[Result]]]) -> str:
    """A Markdown table of means over runs that differ in their seed, with their deviation.

    Args:
      runs: {name: the results of each run}; a run holds one model, or one of this name. Records
        that were made with the seed as well have some items more or less.

    Raises:
      ValueError: a run without such a model, or that lacks a measure which others have.
    """
    rows: dict[tuple, dict[str, list[float]]] = {}
    sizes: dict[tuple, set[int]] = {}
    for name, results in runs.items():
        for number, run in enumerate(results, 1):
            models = {result.model for result in run}
            chosen = [result for result in run if len(models) == 1 or result.model == name]
            if not chosen:
                raise ValueError(f"run {number} of {name!r} holds {', '.join(sorted(models))}")
            for result in chosen:
                for metric, (value, _, _) in result.metrics.items():
                    key = result.benchmark, result.task, metric
                    if not is_part(metric):
                        rows.setdefault(key, {}).setdefault(name, []).append(value)
                        sizes.setdefault(key, set()).add(result.n)
    body = []
    for (benchmark, task, metric), found in rows.items():
        for name, values in found.items():
            if len(values) != len(runs[name]):
                raise ValueError(
                    f"{name}: {benchmark} {spoken(task)} {spoken(metric)} is there in "
                    f"{len(values)} of {len(runs[name])} runs; judge all alike"
                )
        cells = [_of_runs(metric, found[name]) if name in found else "" for name in runs]
        counts = sorted(sizes[benchmark, task, metric])
        n = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        body.append([benchmark, spoken(task), spoken(metric), n, *cells])
    head = [f"{name}, {len(results)} runs" for name, results in runs.items()]
    return _table(["benchmark", "task", "metric", "n", *head], 1 + len(runs), body)


def _of_runs(metric: str, values: Sequence[float]) -> str:
    """ "96.0 % [92.0, 99.9] ± 1.6": mean, its interval, and the deviation of the runs."""
    found = seeds(values)
    if found["n"] == 1:
        return number(metric, found["mean"])
    mean = interval(metric, Metric(found["mean"], found["low"], found["high"]))
    return f"{mean} ± {number(metric, found['deviation']).removesuffix(' %')}"
