"""What counts as a temporal negative, whoever wrote it."""

import pytest

from clapjax.captions.validation import timeline, why_not

PAIR = "A dog barks before a man speaks"


@pytest.mark.parametrize(
    "negative",
    [
        "A man speaks before a dog barks",
        "A dog barks after a man speaks",
        "First a man speaks, then a dog barks",
        "A man speaking, followed by a dog barking",
        "After a man speaks, a dog barks",
        "Before a dog barks, a man speaks",
        "A dog barking preceded by a man speaking",
        "a man is speaking and finally a dog barks",
        "A man talks before a dog barks",  # speaking and talking are one
    ],
)
def test_another_order_is_a_negative(negative):
    assert why_not(PAIR, negative) is None


@pytest.mark.parametrize(
    ("negative", "why"),
    [
        (PAIR, "it is the caption itself"),
        ("a dog barks before a man speaks", "it is the caption itself"),
        ("A man speaks after a dog barks", "it tells the same order"),
        ("A dog barks followed by a man speaking", "it tells the same order"),
        ("After a dog barks, a man speaks", "it tells the same order"),
        ("Before a man speaks, a dog barks", "it tells the same order"),
        ("A man speaking preceded by a dog barking", "it tells the same order"),
        ("A man speaks while a dog barks", "it tells the same order"),
        ("A cat meows before a dog barks", "its events differ"),
        ("A man speaks before a dog barks and a cat meows loudly", "its events differ"),
        ("A man speaks", "its events differ"),
        ("", "it is empty"),
        ("  ", "it is empty"),
    ],
)
def test_all_else_is_none(negative, why):
    assert why_not(PAIR, negative).startswith(why)


def test_a_caption_without_order_has_no_negative():
    assert why_not("A dog barks as a man speaks", "A man speaks as a dog barks") is not None


@pytest.mark.parametrize(
    ("negative", "good"),
    [
        ("Birds chirp then a bell rings then a horn honks", True),
        ("A horn honks then birds chirp then a bell rings", True),
        ("A bell rings then birds chirp then a horn honks", False),
        ("A bell rings, then birds chirp, and finally a horn honks", False),
        ("A horn honks after birds chirp after a bell rings", False),
    ],
)
def test_three_events(negative, good):
    caption = "A bell rings followed by birds chirping and then a horn honking"
    assert (why_not(caption, negative) is None) == good


def test_a_shared_subject_does_not_hide_the_order():
    caption = "A small motor vehicle engine accelerates then idles"
    assert why_not(caption, "A small motor vehicle engine idles then accelerates") is None
    again = "A small motor vehicle engine accelerates and then idles"
    assert why_not(caption, again) == "it tells the same order"


def test_timeline_is_in_sounding_order():
    events = [("dog", "bark"), ("man", "speak"), ("bell", "ring")]
    for caption in (
        "A dog barks followed by a man speaking and then a bell ringing",
        "A dog barks before a man speaks then a bell rings",
    ):
        assert timeline(caption) == events
    assert timeline("A bell rings after a man speaks") == events[1:]
