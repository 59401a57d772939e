"""What timed events say about order."""

import itertools

import numpy as np
import pytest

from clapjax.captions.timeline import find_steps, wrong_orders
from clapjax.data.sources.clip import TimedEvent


def _events(text: str) -> list[TimedEvent]:
    """ "a 0 2, b 1.5 4" as events."""
    parts = (part.split() for part in text.split(","))
    return [TimedEvent(float(start), float(end), label) for label, start, end in parts]


@pytest.mark.parametrize(
    ("events", "steps", "background", "entries"),
    [
        ("a 0 2, b 3 4", "a|b", "", "a|b"),
        ("b 3 4, a 0 2", "a|b", "", "a|b"),  # in whatever order they are listed
        ("a 0 4, b 3 7", "a|b", "", "a|b"),  # a quarter of each is shared
        ("a 0 4, b 2 6", "a|b", "", "a|b"),  # half is not more than half
        ("a 0 4, b 1.9 6", "ab", "", "a + b"),
        ("b 0 9, a 4 4.5", "ab", "", "a + b"),  # one within the other
        ("a 0 2, b 3 4, a 5 6", "a|b|a", "", "a|b|a"),
        ("a 0 1, a 1.3 2, a 4 5, b 6 7", "a|b", "", "a|b"),  # repetitions in a row
        ("b 0 1, a 0.9 2, b 1.4 3", "ab", "", "a + b"),  # the pause of b is short
        ("a 0 4, b 0 4, c 5 6", "ab|c", "", "a + b|c"),
        ("c 0 1, a 2 4, b 2 4", "c|ab", "", "c|a + b"),
        ("m 0 9, a 1 2, b 5 6", "a|b", "m", "a + m|b + m"),
        ("m 0 5, a 1 2, b 3 4, c 7 8", "a|b|c", "m", "a + m|b + m|c"),
        ("m 0 9, a 1 2, a 5 6", "a", "m", "a + m"),
        ("m 0 5, a 1 2, b 3 4, m 6 7", "a|b", "m", "a + m|b + m"),  # m has no place in the order
        ("a 3 3, b 1 2", "b", "", "b"),  # a has no length
    ],
)
def test_steps(events, steps, background, entries):
    found = find_steps(_events(events))
    assert found.steps == tuple(tuple(step) for step in steps.split("|"))
    assert found.background == tuple(background)
    assert found.entries == tuple(entries.split("|"))


def test_no_events_no_order():
    assert find_steps([]) is None
    assert find_steps(_events("a 3 3")) is None


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_told_is_true(seed):
    """Random events: of two steps, none of the one sounds together with, or after, the other's."""
    generator = np.random.default_rng(seed)
    names = "abcdefgh"[: generator.integers(2, 9)]
    starts = generator.uniform(0, 10, len(names))
    events = [
        TimedEvent(start, start + length, label)
        for label, start, length in zip(
            names, starts, generator.exponential(2, len(names)), strict=True
        )
    ]
    found = find_steps(events)
    if found is None:
        return
    by_label = {event.label: event for event in events}
    told = [label for step in found.steps for label in step] + list(found.background)
    assert sorted(told) == sorted(names)  # each label once, and none forgotten

    def together(x, y):
        shared = min(x.end, y.end) - max(x.start, y.start)
        return shared > 0.5 * min(x.end - x.start, y.end - y.start)

    for early, late in itertools.combinations(found.steps, 2):
        for x, y in itertools.product(early, late):
            assert by_label[x].start < by_label[y].start
            assert not together(by_label[x], by_label[y])
    for step in found.steps:
        for x, y in itertools.combinations(step, 2):
            assert together(by_label[x], by_label[y])


def _letters(steps: str) -> list[tuple[str, ...]]:
    return [tuple(step) for step in steps.split("|")]


@pytest.mark.parametrize(
    ("steps", "wrong"),
    [
        ("a|b", {"b|a"}),
        ("ab|c", {"c|ab"}),
        ("ab", set()),
        ("a|b|a", set()),  # b sounds before and after a
        ("a|b|a|b", set()),
        ("a|b|a|c", {"c|a|b|a", "a|c|a|b", "a|c|b|a"}),  # only c after b is certain
        ("a|ab", set()),
        ("a|b|c", {"a|c|b", "b|a|c", "b|c|a", "c|a|b", "c|b|a"}),
    ],
)
def test_wrong_orders_are_wrong_for_certain(steps, wrong):
    steps = _letters(steps)
    found = wrong_orders(steps)
    said = {"|".join("".join(steps[i]) for i in order) for order in found}
    assert said == wrong
