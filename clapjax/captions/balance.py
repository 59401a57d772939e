"""Makes captions and their negatives use the same connectives.

A language model has its own: "First, ..., then ..." (T-CLAP 2.3). What a model can learn from that
is not order. A negative with other connectives than its caption is worded anew with its caption's,
or left out.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from clapjax.captions.backends import Negated
from clapjax.captions.llm.asking import tidy
from clapjax.captions.rules.clauses import parse
from clapjax.captions.rules.connectives import sounding_order, split_text
from clapjax.captions.rules.forms import Events, write
from clapjax.captions.rules.words import join
from clapjax.captions.validation import why_not

UNBALANCED = "left out: its connectives differ from its caption's"


def connectives_of(caption: str) -> Counter:
    """How often a caption has each connective, in lower case; "is" and "are" count as one."""
    found = split_text(caption)
    if found is None:
        return Counter()
    links = [" ".join(found.lead), *(" ".join(link) for link in found.links)]
    return Counter(link.lower().replace("are ", "is ") for link in links if link)


def restyle(caption: str, negative: str) -> str | None:
    """A negative's events, in the negative's order, with the caption's connectives.

    Returns:
      The sentence, or None where the events differ in number or the grammar does not reach.
    """
    right, wrong = split_text(caption), split_text(negative)
    if right is None or wrong is None or len(right.segments) != len(wrong.segments):
        return None
    placed: list[tuple[str, ...]] = [()] * len(right.segments)
    for place, index in zip(sounding_order(right), sounding_order(wrong), strict=True):
        placed[place] = wrong.segments[index]
    own = [Events(words, parse(words)) for words in right.segments]
    events = [Events(words, parse(words)) for words in placed]
    written = write(right, own, events) if all(unit.clauses for unit in own + events) else None
    if written is None:
        return None
    text = tidy(caption, join(written[1]))
    return text if why_not(caption, text) is None else None


def balance(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs (caption, negative) whose two sides have, or were given, the same connectives."""
    alike = (
        (right, wrong if connectives_of(right) == connectives_of(wrong) else restyle(right, wrong))
        for right, wrong in pairs
    )
    return [(right, wrong) for right, wrong in alike if wrong is not None]


def balanced(done: Negated) -> Negated:
    """An outcome with only those negatives that have, or were given, its caption's connectives."""
    pairs = balance((done.caption, negative) for negative in done.negative_captions)
    if not done.negative_captions or len(pairs):
        return replace(done, negative_captions=tuple(negative for _, negative in pairs))
    return replace(done, negative_captions=(), reason=UNBALANCED)
