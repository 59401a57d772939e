"""Mixtures of backends, and what gives negatives away."""

import itertools
import random

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from benchmarks import shortcut
from clapjax.captions.backends import (
    Negated,
    by_rules,
    choose,
    join_rows,
    negate_all,
    parse_mixture,
)
from clapjax.captions.balance import balance, balanced, connectives_of, restyle
from clapjax.captions.rules.rules import Negatives
from clapjax.captions.tables import Texts

# --- mixtures -------------------------------------------------------------------------------


def test_parse_mixture():
    assert parse_mixture("rules") == {"rules": 1.0}
    assert parse_mixture("rules:1, openai:3") == {"rules": 0.25, "openai": 0.75}
    for text, why in (
        ("rulez", "no backend 'rulez'; there are rules, openai, transformers"),
        ("rules:0.5,rules:0.5", "named twice"),
        ("rules:0", "must be positive"),
        ("rules:nan", "must be positive"),
        ("rules:half", "'half' is no number"),
        ("", "no backend ''"),
    ):
        with pytest.raises(ValueError, match=why):
            parse_mixture(text)


def test_choice_follows_the_shares_and_the_seed():
    shares = parse_mixture("rules:0.3,openai:0.7")
    captions = [f"caption {i}" for i in range(4000)]
    first = [choose(caption, shares, 0) for caption in captions]
    assert first == [choose(caption, shares, 0) for caption in captions]
    assert 0.27 < first.count("rules") / 4000 < 0.33  # five standard deviations
    other = [choose(caption, shares, 1) for caption in captions]
    agree = sum(a == b for a, b in zip(first, other, strict=True)) / 4000
    assert abs(agree - (0.3**2 + 0.7**2)) < 0.05


def test_a_mixture_keeps_order_and_provenance():
    captions = [f"A dog barks {i} times then a bell rings" for i in range(50)]
    run = {
        "rules": lambda some: by_rules(some, 1, 0),
        "openai": lambda some: (Negatives((f"not {caption}",)) for caption in some),
    }
    shares = parse_mixture("rules:0.5,openai:0.5")
    names = {"rules": "rules", "openai": "llm:m"}
    done = list(negate_all(captions, shares, 0, run, names))
    assert [item.caption for item in done] == captions
    for item in done:
        by_model = item.provenance == "llm:m"
        assert by_model == item.negative_captions[0].startswith("not A dog")
        assert by_model == (choose(item.caption, shares, 0) == "openai")
    assert 10 < sum(item.provenance == "rules" for item in done) < 40


def test_negatives_of_a_row_are_those_of_all_its_captions():
    """What is a caption of the same clip is no negative of it."""
    rows = [
        Texts("t:1", ("a b", "b a", "c"), kinds=("human", "keyword", "human"), id="x"),
        Texts("t:2", ("d",), kinds=("human",), file="d.wav"),
    ]
    outcomes = [
        Negated("a b", ("b a", "b, a"), "rules"),
        Negated("b a", ("a, b", "b, a"), "llm:m"),
        Negated("c", (), "rules", "no order of events is stated"),
        Negated("d", (), "llm:m", "no answer"),
    ]
    assert list(join_rows(rows, outcomes)) == [
        {
            "id": "x",
            "captions": ["a b", "b a", "c"],
            "negative_captions": ["b, a", "a, b"],
            "provenance": "human;keyword;human;rules;llm:m",
        },
        {
            "file": "d.wav",
            "captions": ["d"],
            "negative_captions": [],
            "provenance": "human",
            "reason": "no answer",
        },
    ]


# --- balance --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caption", "negative", "expected"),
    [
        (
            "A man speaks followed by a dog barking",
            "First, a dog barks, then a man speaks",
            "A dog barks followed by a man speaking",
        ),
        (
            "A dog barks before a man speaks.",
            "A man speaking, and then a dog barking",
            "A man speaks before a dog barks.",
        ),
        (
            "A dog barks after a man speaks",
            "A dog barks and then a man speaks",
            "A man speaks after a dog barks",
        ),
        ("A man speaks followed by a dog barking", "A dog barks as a man speaks", None),
        ("A man speaks followed by a dog barking", "A man speaks, then a dog barks", None),
    ],
)
def test_restyle(caption, negative, expected):
    assert restyle(caption, negative) == expected


def test_balance_leaves_equal_connectives_on_both_sides():
    captions = ["A man speaks followed by a dog barking", "Rain falls before a bell rings"]
    pairs = [
        (captions[0], "First, a dog barks, then a man speaks"),
        (captions[0], "A dog barks followed by a man speaking"),
        (captions[1], "A bell, a fall of rain"),  # cannot be worded anew
        (captions[1], "A bell rings, and after that rain falls"),
    ]
    kept = balance(pairs)
    assert [caption for caption, _ in kept] == [captions[0], captions[0], captions[1]]
    assert kept[1] == pairs[1]
    for caption, negative in kept:
        assert connectives_of(caption) == connectives_of(negative)


def test_balanced_says_why_nothing_is_left():
    done = Negated("Rain falls before a bell rings", ("A bell, a fall of rain",), "llm:m")
    left = balanced(done)
    assert left.negative_captions == ()
    assert left.reason == "left out: its connectives differ from its caption's"
    none = Negated("Rain falls", (), "rules", "no order of events is stated")
    assert balanced(none) == none


# --- shortcut -------------------------------------------------------------------------------

HOW = ("loudly", "softly", "twice", "nearby", "briefly")
EVENTS = ("a dog barks", "a bell rings", "rain falls", "a man speaks", "a car honks", "a cat meows")


def _pairs(count: int, style: str) -> list[tuple[str, str]]:
    """Distinct captions of two events and their negatives: in the same words, or with "First"."""
    two = itertools.product(itertools.permutations(EVENTS, 2), HOW, HOW)
    pairs = [
        (f"{a} {how} then {b} {also}", f"{b} {also} then {a} {how}") for (a, b), how, also in two
    ]
    chosen = random.Random(0).sample(pairs, count)
    first = "" if style == "same" else "First, "
    return [(right, first + wrong) for right, wrong in chosen]


def test_bag_of_words_finds_a_style_and_nothing_else():
    assert shortcut.bag_of_words_accuracy(_pairs(300, "first")) == 1.0
    assert shortcut.bag_of_words_accuracy(_pairs(300, "same")) == 0.5  # the same words


def test_transformer_finds_a_style():
    accuracy = shortcut.transformer_accuracy(_pairs(100, "first"), epochs=8, batch_size=32)
    assert accuracy >= 0.95


def test_logistic_regression_is_sklearns():
    generator = np.random.default_rng(0)
    x = generator.poisson(0.5, (200, 30)).astype(float)
    y = (x @ generator.normal(size=30) + generator.normal(size=200) > 0).astype(np.float32)
    weights, bias = shortcut.fit_logistic(x, y, penalty=2.0)
    ours = LogisticRegression(C=0.5, tol=1e-8, max_iter=5000).fit(x, y)
    np.testing.assert_allclose(weights, ours.coef_[0], atol=2e-3)
    assert bias == pytest.approx(ours.intercept_[0], abs=5e-3)


def test_split_keeps_a_caption_on_one_side():
    pairs = [(f"caption {i % 40}", f"negative {i}") for i in range(400)]
    train, test = shortcut.split_pairs(pairs)
    assert not {c for c, _ in train} & {c for c, _ in test}
    assert sorted(train + test) == sorted(pairs) and 20 <= len(test) <= 160
    with pytest.raises(ValueError, match="too few"):
        shortcut.split_pairs(pairs[:9])
