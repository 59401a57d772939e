"""Which events a caption tells, and whether in their order."""

import numpy as np
import pytest

from clapjax.captions.templates import order_captions
from clapjax.evaluation.told import events_told, tells


@pytest.mark.parametrize(
    ("caption", "events", "expected"),
    [
        ("The sound of a dog barking", ["dog bark"], (True, True)),
        ("Rain", ["dog bark"], (False, False)),
        ("Rain, then a siren", ["rain", "siren"], (True, True)),
        ("A siren after rain", ["rain", "siren"], (True, True)),
        ("Rain after a siren", ["rain", "siren"], (True, False)),
        ("Rain and a siren", ["rain", "siren"], (True, False)),
        ("Rain followed by wind", ["rain", "siren"], (False, False)),
        ("Rain, then a siren, then rain", ["rain", "siren"], (True, False)),
        ("Rain, then a siren, then rain", ["rain", "siren", "rain"], (True, True)),
        ("Rain, then a siren while applause", ["rain", "applause + siren"], (True, True)),
        ("Rain while a siren, then applause", ["rain", "applause + siren"], (True, False)),
        ("Rain while a siren", ["rain + siren"], (True, True)),
        ("", ["rain"], (False, False)),
    ],
)
def test_by_hand(caption, events, expected):
    assert tells(caption, events) == expected


def test_every_template_is_understood():
    """What is written of events tells them in order, and a wrong order does not."""
    generator = np.random.default_rng(0)
    events = ("dog bark", "rain", "siren")
    for count in (2, 3):
        for _ in range(60):
            right, wrong = order_captions(events[:count], 1, generator)
            assert tells(right[0], events[:count]) == (True, True), right
            assert tells(wrong[0], events[:count]) == (True, False), wrong


def test_shares():
    texts, events = ["rain then wind", "wind then rain", "rain"], [("rain", "wind")] * 3
    metrics, items = events_told(texts, events)
    assert items["all events"].tolist() == [True, True, False]
    assert metrics["all events"].value == pytest.approx(2 / 3)
    assert metrics["all in order"].value == pytest.approx(1 / 3)
