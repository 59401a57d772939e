"""Results as text: lines for a console, and a Markdown table for papers and model cards."""

import re
from collections.abc import Sequence

from clapjax.evaluation.result import Metric, Result

NAMES = {"t_classify": "T-Classify", "zero_shot": "zero-shot"}
# What is no share of something, and shown as it is.
PLAIN = re.compile(r"_rank$|^(CIDEr-D|CLAP score|FAD|KAD|KL)(/|$)")
LOW = re.compile(r"_rank$|^(FAD|KAD|KL|order error)(/|$)")  # the lower the better


def spoken(name: str) -> str:
    """A name of the JSON as people read it: text_to_audio/R@1 becomes "text-to-audio R@1"."""
    return NAMES.get(name, name).replace("_to_", "-to-").replace("_", " ").replace("/", " ")


def lower_is_better(name: str) -> bool:
    """Whether the model with the lowest value of a metric is the best."""
    return LOW.search(name) is not None


def interval(name: str, metric: Metric) -> str:
    """A value with its interval: "96.0 % [92.0, 98.1]"; ranks and distances as they are."""
    if name.endswith("_rank"):
        value, low, high = (f"{end:.1f}" for end in metric)
    elif PLAIN.search(name):
        value, low, high = (f"{end:.3g}" for end in metric)
    else:
        value, low, high = (f"{100 * end:.1f}" for end in metric)
        value += " %"
    return f"{value} [{low}, {high}]"


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


def markdown(results: Sequence[Result]) -> str:
    """A table: one row for each metric, with n and chance, and one column for each model."""
    models = list(dict.fromkeys(result.model for result in results))
    rows: dict[tuple, dict[str, Metric]] = {}
    for result in results:
        for index, (name, metric) in enumerate(result.metrics.items()):
            guess = "" if index else chance(result)
            key = (result.benchmark, spoken(result.task), name, result.n, guess)
            rows.setdefault(key, {})[result.model] = metric
    table = [["benchmark", "task", "metric", "n", "chance", *models]]
    table.append(["---"] * 3 + ["---:"] * (2 + len(models)))
    for (benchmark, task, name, n, guess), found in rows.items():
        cells = [interval(name, found[model]) if model in found else "" for model in models]
        table.append([benchmark, task, spoken(name), str(n), guess, *cells])
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in table)
