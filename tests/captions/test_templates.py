"""Captions of sequences, read back by a parser that knows connectives but none of the templates."""

import itertools
import re

import numpy as np
import pytest
import scipy.stats
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from clapjax.captions.templates import (
    CHAINS,
    EVENT_FORMS,
    ONE_EVENT,
    TWO_EVENTS,
    event_captions,
    order_captions,
    wrong_order,
)

NAMES = ("dog", "rain", "sea waves", "chainsaw", "clock tick", "rooster")

# What stands between two mentions, longest phrase first: does the first said sound first?
BETWEEN = (
    ("followed by", True),
    ("preceded by", False),
    ("after that", True),
    ("precedes", True),
    ("follows", False),
    ("before", True),
    ("after", False),
    ("then", True),
)


def _sounding_order(caption: str, names: tuple[str, ...] = NAMES) -> tuple[str, ...]:
    """The events of a caption in the order in which it says that they sound."""
    text = re.sub(r"\b(?:the|a) sound of ", "", caption.lower())
    mentions = sorted(
        (m.start(), m.end(), n) for n in names for m in re.finditer(rf"\b{n}\b", text)
    )
    said = [name for _, _, name in mentions]
    opening = text[: mentions[0][0]].strip()
    between = [text[a[1] : b[0]].strip() for a, b in itertools.pairwise(mentions)]
    assert text[mentions[-1][1] :] == ""
    if opening in ("before", "after"):
        assert between == [","]
        return tuple(said) if opening == "after" else tuple(reversed(said))
    assert opening in ("", "first")
    forwards = {next(says for phrase, says in BETWEEN if phrase in link) for link in between}
    assert len(forwards) == 1, caption  # a caption never mixes directions
    return tuple(said) if forwards.pop() else tuple(reversed(said))


@pytest.mark.parametrize(
    ("caption", "order"),
    [
        ("Dog followed by rain", ("dog", "rain")),
        ("A sound of dog after the sound of rain", ("rain", "dog")),
        ("Before dog, rain", ("rain", "dog")),
        ("Dog after rain after rooster", ("rooster", "rain", "dog")),
        ("Dog preceded by rain", ("rain", "dog")),
    ],
)
def test_the_parser_itself(caption, order):
    assert _sounding_order(caption) == order


@pytest.mark.parametrize("template", TWO_EVENTS)
@pytest.mark.parametrize("form", sorted(set(EVENT_FORMS)))
def test_every_template_tells_that_a_sounds_first(template, form):
    caption = template.format(a=form.format("dog"), b=form.format("sea waves"))
    assert _sounding_order(caption) == ("dog", "sea waves")


@pytest.mark.parametrize("link", CHAINS)
def test_every_chain_link_tells_that_the_first_said_sounds_first(link):
    assert _sounding_order(link.join(("rain", "dog", "rooster"))) == ("rain", "dog", "rooster")


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_captions_tell_the_right_order(count):
    generator = np.random.default_rng(0)
    captions = set()
    for _ in range(300):
        events = tuple(NAMES[i] for i in generator.permutation(len(NAMES))[:count])
        ((caption,), _) = order_captions(events, 1, generator)
        assert _sounding_order(caption) == events, caption
        assert caption[0].isupper() and "{" not in caption
        captions.add(caption)
    assert len(captions) > 150


def test_every_two_event_wording_is_drawn():
    generator = np.random.default_rng(0)
    drawn = set(order_captions(("dog", "rain"), 1500, generator)[0])
    assert len(drawn) == len(TWO_EVENTS) * len(set(EVENT_FORMS))


def test_three_event_captions_also_tell_backwards():
    """One in five says the last event first; else the first mention would give the order away."""
    generator = np.random.default_rng(0)
    captions = [c.lower() for c in order_captions(NAMES[:3], 1000, generator)[0]]
    backwards = np.mean([c.index("sea waves") < c.index("dog") for c in captions])
    assert backwards == pytest.approx(0.2, abs=0.04)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_negatives_hold_the_same_events_in_another_order(count):
    generator = np.random.default_rng(1)
    for _ in range(100):
        events = tuple(NAMES[i] for i in generator.permutation(len(NAMES))[:count])
        positives, negatives = order_captions(events, 4, generator)
        assert len(positives) == len(negatives) == 4
        assert {_sounding_order(caption) for caption in positives} == {events}
        for caption in negatives:
            order = _sounding_order(caption)
            assert sorted(order) == sorted(events) and order != events, caption
        assert not set(positives) & set(negatives)


def test_wrong_orders_are_uniform_over_those_that_differ():
    generator = np.random.default_rng(0)
    drawn = [wrong_order(("x", "y", "z"), generator) for _ in range(2000)]
    orders, counts = np.unique([" ".join(order) for order in drawn], return_counts=True)
    assert len(orders) == 5 and "x y z" not in orders
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    assert wrong_order((0, 1), generator) == (1, 0)


def _anonymous(caption: str) -> str:
    """The caption with every event called EVENT: what is left is its wording."""
    text = caption.lower()
    for name in NAMES:
        text = re.sub(rf"\b{name}\b", "EVENT", text)
    return text


def _wordings(count: int, draws: int) -> tuple[list[str], list[str]]:
    generator = np.random.default_rng(2)
    positives, negatives = [], []
    for _ in range(draws):
        events = tuple(NAMES[i] for i in generator.permutation(len(NAMES))[:count])
        right, wrong = order_captions(events, 1, generator)
        positives.append(_anonymous(right[0]))
        negatives.append(_anonymous(wrong[0]))
    return positives, negatives


@pytest.mark.parametrize("count", [2, 3])
def test_wording_does_not_tell_right_from_wrong(count):
    """By frequency of each whole wording, and by a classifier on words and pairs of words."""
    generator = np.random.default_rng(2)
    captions, right = [], []
    for _ in range(3000):
        events = tuple(NAMES[i] for i in generator.permutation(len(NAMES))[:count])
        for label, drawn in enumerate(order_captions(events, 2, generator)):
            captions.append(drawn[label])  # of different wordings, so that the classes may differ
            right.append(1 - label)
    right = np.array(right)
    wordings = [_anonymous(caption) for caption in captions]
    names, where = np.unique(wordings, return_inverse=True)
    table = np.stack([np.bincount(where[right == c], minlength=len(names)) for c in (0, 1)])
    table = table[:, table.sum(0) >= 20]
    assert table.shape[1] > 20
    assert scipy.stats.chi2_contingency(table).pvalue > 1e-3

    half = len(captions) // 2
    for texts in (wordings, [caption.lower() for caption in captions]):  # without names, and with
        words = CountVectorizer(ngram_range=(1, 2), token_pattern=r"\w+|,").fit_transform(texts)
        model = LogisticRegression(max_iter=300).fit(words[:half], right[:half])
        assert model.score(words[half:], right[half:]) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("count", [2, 3])
def test_a_negative_is_its_positives_sentence_with_the_events_exchanged(count):
    positives, negatives = _wordings(count, 200)
    assert positives == negatives and len(set(positives)) > 30


def test_same_generator_state_same_captions():
    draws = [order_captions(NAMES[:3], 5, np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert draws[0] == draws[1] != draws[2]


def test_event_captions_are_different_and_name_the_event():
    captions = event_captions("sea waves", 9, np.random.default_rng(0))
    assert len(captions) == len(set(captions)) == len(ONE_EVENT) == 6
    assert all("sea waves" in caption.lower() and caption[0].isupper() for caption in captions)
    draws = [event_captions("dog", 3, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2] and len(draws[0]) == 3


@pytest.mark.parametrize("events", [(), ("dog",)])
def test_fewer_than_two_events_are_refused(events):
    with pytest.raises(ValueError, match="order_captions: needs two or more distinct"):
        order_captions(events, 1, np.random.default_rng(0))


def test_the_same_event_twice_is_refused():
    """Its exchange would not be a wrong order."""
    with pytest.raises(ValueError, match="distinct events"):
        order_captions(("dog", "rain", "dog"), 1, np.random.default_rng(0))
