"""The ablation's table: means over seeds, and Student's interval of the mean."""

import numpy as np
from scipy import stats

from benchmarks.order_ablation import ARMS, MEASURES, table
from clapjax.cli.config import load_config
from clapjax.evaluation.result import Metric, Result


def _results(arm: str, values: np.ndarray) -> list[Result]:
    """Of each seed, a Result of each measure, whose value it is."""
    return [
        Result(f"{arm}-seed{seed}", "mixtures", task, 10 + place, 0.5, {name: Metric(v, 0, 1)})
        for seed, row in enumerate(values)
        for place, ((task, name), v) in enumerate(zip(MEASURES.values(), row, strict=True))
    ]


def test_means_and_intervals_over_seeds():
    values = np.random.default_rng(0).uniform(0.6, 0.7, (3, len(MEASURES)))
    rows = table(_results("pairs-3", values), ["pairs-3"], [0, 1, 2]).splitlines()
    assert rows[2].split("|")[2:-1] == [f" {10 + place} " for place in range(len(MEASURES))]
    for cell, column in zip(rows[3].split("|")[2:-1], 100 * values.T, strict=True):
        interval = stats.t.interval(0.95, 2, column.mean(), stats.sem(column))
        low, high = np.clip(interval, 0, 100)
        assert cell.strip() == f"{column.mean():.1f} [{low:.1f}, {high:.1f}]"


def test_no_two_arms_are_the_same_config():
    found = set()
    for changes in ARMS.values():
        overrides = [f"--config.{name}={value}" for name, value in changes.items()]
        found.add(repr(load_config("configs/esc10_mixup.py", overrides)))
    assert len(found) == len(ARMS)
