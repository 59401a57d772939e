"""Results as lines and as a Markdown table."""

from clapjax.evaluation.result import Metric, Result
from clapjax.evaluation.text import line, markdown, summary

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
