"""Is a caption a temporal negative of another: the same events in another order?"""

import itertools
from collections import Counter

from clapjax.captions.rules import lexicon as lex
from clapjax.captions.rules.connectives import sounding_order, split_text
from clapjax.captions.rules.words import lemma, tokenize

# Words without which an event is still the same event.
COUNTED = {"one", "two", "three", "four", "five", "six", "more", "other", "another"}
EMPTY = lex.AUXILIARIES | lex.SUBORDINATORS | lex.PREPOSITIONS | lex.DETERMINERS - COUNTED
EMPTY |= lex.NO_EVENT
OVERLAP = 0.75  # least share of content words that both captions have
# Two words for one thing: exchanging them exchanges nothing.
SYNONYMS = {
    "talk": "speak", "guy": "man", "male": "man", "female": "woman", "lady": "woman",
    "kid": "child", "infant": "baby", "shout": "yell", "someone": "person",
}  # fmt: skip


def content(words) -> tuple[str, ...]:
    """Lemmas of the words that make an event."""
    lemmas = (lemma(w) for w in words if w[0].isalnum() and w.lower() not in EMPTY)
    return tuple(SYNONYMS.get(word, word) for word in lemmas)


def timeline(caption: str) -> list[tuple[str, ...]]:
    """The events of a caption, first sounding first, each as its content words.

    Events that sound together, or whose order is not stated, are one event.
    """
    found = split_text(caption)
    if found is None:
        return [content(tokenize(caption))]
    return [content(found.segments[i]) for i in sounding_order(found)]


def why_not(caption: str, negative: str) -> str | None:
    """Why `negative` is no temporal negative of `caption`; None where it is one.

    Three conditions: another sentence, the same content words (multiset overlap at least
    `OVERLAP`), and some two events of `caption` in the opposite order. "B after A" for "A before B"
    fails the last: both order and connective are turned.
    """
    if not negative.strip():
        return "it is empty"
    if tokenize(caption.lower()) == tokenize(negative.lower()):
        return "it is the caption itself"
    right, wrong = Counter(content(tokenize(caption))), Counter(content(tokenize(negative)))
    shared, either = sum((right & wrong).values()), sum((right | wrong).values())
    if shared < OVERLAP * either:
        lost, new = sorted(right - wrong), sorted(wrong - right)
        return f"its events differ: without {lost or 'nothing'}, with {new or 'nothing new'}"
    events = timeline(caption)
    if len(events) < 2:
        return "the caption states no order"
    told = timeline(negative)
    places = [_place(i, events, told) for i in range(len(events))]
    inverted = any(earlier > later + 1e-9 for earlier, later in itertools.combinations(places, 2))
    return None if inverted else "it tells the same order"


def _place(i: int, events, others) -> float:
    """Mean place in `others` of the words that tell event i from the rest of `events`; or NaN."""
    rest = {word for k, event in enumerate(events) if k != i for word in event}
    own = set(events[i]) - rest or set(events[i])
    places = [k for k, other in enumerate(others) for word in other if word in own]
    return sum(places) / len(places) if places else float("nan")
