"""Results as lines and as a Markdown table."""

import numpy as np
import pytest
from scipy import stats

from clapjax.evaluation.result import Metric, Result
from clapjax.evaluation.text import comparison, line, markdown, over_seeds, summary

ORDER = Result("a", "demo", "t_classify", 400, 0.5, {"text_to_audio": Metric(0.96, 0.93, 0.98)})
PART = Result("a", "demo", "t_classify", 12, 0.5, {"text_to_audio/events=3": Metric(1, 0.8, 1)})
FOUND = {
    "text_to_audio/R@1": Metric(0.136, 0.1, 0.17),
    "text_to_audio/median_rank": Metric(9.0, 8.0, 12.5),
}
RETRIEVAL = Result("a", "demo", "retrieval", 287, 1 / 287, FOUND)
OTHER = Result("b|c", "demo", "retrieval", 287, 1 / 287, {"text_to_audio/R@1": Metric(0.5, 0, 1)})


def test_n_and_chance_stand_beside_every_number():
    expected = "T-Classify text-to-audio 96.0 % [93.0, 98.0] (n=400, chance 50 %)"
    assert line(ORDER) == expected
    found = "retrieval text-to-audio R@1 13.6 % [10.0, 17.0]"
    rank = "text-to-audio median rank 9.0 [8.0, 12.5]"
    assert line(RETRIEVAL) == f"{found}, {rank} (n=287, chance 0.348 %)"
    tagged = Result("a", "demo", "tagging", 9, 0.1, {"d'": Metric(3.948, 3.726, 4.16)})
    assert line(tagged) == "tagging d' 3.95 [3.73, 4.16] (n=9, chance 10 %)"  # no share
    assert summary([ORDER, PART, RETRIEVAL]) == f"{expected}; {found} (n=287, chance 0.348 %)"


def test_markdown_has_a_row_a_metric_and_a_column_a_model():
    assert markdown([ORDER, RETRIEVAL, OTHER]) == (
        "| benchmark | task | metric | n | chance | a | b/c |\n"
        "| --- | --- | --- | ---: | ---: | ---: | ---: |\n"
        "| demo | T-Classify | text-to-audio | 400 | 50 % | 96.0 % [93.0, 98.0] |  |\n"
        "| demo | retrieval | text-to-audio R@1 | 287 | 0.348 % | 13.6 % [10.0, 17.0] "
        "| 50.0 % [0.0, 100.0] |\n"
        "| demo | retrieval | text-to-audio median rank | 287 |  | 9.0 [8.0, 12.5] |  |\n"
    )


def run(value, model="m", n=10, **metrics) -> list[Result]:
    found = {"accuracy": Metric(value, 0, 1)} | metrics
    return [Result(model, "demo", "zero_shot", n, 0.1, found)]


def test_seeds_have_a_mean_and_a_deviation():
    values, ranks = (0.6, 0.64, 0.65), (7.0, 9.0, 8.5)
    both = [run(v, mean_rank=Metric(r, 1, 20)) for v, r in zip(values, ranks, strict=True)]
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    cell = f"63.0 % [{100 * low:.1f}, {100 * high:.1f}] ± {100 * np.std(values, ddof=1):.1f}"
    low, high = stats.ttest_1samp(ranks, 0).confidence_interval()
    rank = f"8.2 [{low:.1f}, {high:.1f}] ± {np.std(ranks, ddof=1):.1f}"
    other = run(0.5, "one") + run(0.9, "two")
    assert over_seeds({"m": both, "two": [other]}).splitlines()[2:] == [
        f"| demo | zero-shot | accuracy | 10 | {cell} | 90.0 % |",
        f"| demo | zero-shot | mean rank | 10 | {rank} |  |",
    ]
    with pytest.raises(ValueError, match="run 1 of 'three' holds one, two"):
        over_seeds({"three": [other]})
    with pytest.raises(ValueError, match="m: demo zero-shot mean rank is there in 1 of 2 runs"):
        over_seeds({"m": [run(0.5, mean_rank=Metric(7.0, 1, 20)), run(0.5)]})


def test_seeds_with_records_of_their_own_have_other_items():
    """A part that some of them lack is none of the table's business."""
    part = {"accuracy/events=3": Metric(0.1, 0, 1)}
    row = over_seeds({"m": [run(0.5, **part), run(0.7, n=9)]}).splitlines()[2]
    assert row.startswith("| demo | zero-shot | accuracy | 9 to 10 | 60.0 % ")


def test_models_are_compared_on_the_same_items():
    rng = np.random.default_rng(0)
    a, b = rng.random(80) < 0.8, rng.random(80) < 0.6

    def result(model, right, ids=80, groups=80):
        items = {"id": np.arange(80) % ids, "right": right, "group": np.arange(80) % groups}
        metrics = {"accuracy": Metric(right.mean(), 0, 1)}
        return Result(model, "demo", "zero_shot", 80, 0.1, metrics, items=items)

    first, row = comparison([result("a", a), result("b", b), result("c", b, ids=9)]).splitlines()[
        1::4
    ]
    assert first == "a against the others:"
    exact = stats.binomtest(int((a & ~b).sum()), int((a ^ b).sum())).pvalue
    plain = stats.ttest_rel(a.astype(float), b.astype(float)).pvalue
    benchmark, measure, other, n, difference, p, mcnemar = row.strip("| ").split(" | ")
    assert (benchmark, measure, other, n) == ("demo", "zero-shot accuracy", "b", "80")
    assert difference.startswith(f"{100 * (a.mean() - b.mean()):+.1f} % [")
    assert (p, mcnemar) == (f"{plain:.2g}", f"{exact:.2g}")
    grouped = comparison([result("a", a, groups=20), result("b", b, groups=20)])
    assert grouped.splitlines()[-1].endswith("| – |")
    assert comparison([result("a", a)]) == ""
