"""Events in the places of a sentence, each in the form that its place asks for."""

import itertools
from dataclasses import dataclass

from clapjax.captions.rules import connectives
from clapjax.captions.rules.clauses import Clause, parse
from clapjax.captions.rules.forms import form_of, to_finite, to_nominal, words_of
from clapjax.captions.rules.words import is_plural, number

BE = ("is", "are", "was", "were")


@dataclass(frozen=True)
class Unit:
    """Events that move together: a segment, with the verb phrases that share its subject."""

    words: tuple[str, ...]
    clauses: tuple[Clause, ...] | None  # None where the grammar does not reach
    simple: bool  # one segment

    @property
    def form(self) -> str:
        """What its place asks for; "any" where nouns stand, which fit beside everything."""
        if self.clauses is None or all(clause.kind == "noun" for clause in self.clauses):
            return "any"
        return form_of(self.clauses)


@dataclass(frozen=True)
class Sentence:
    """Units and the connectives between them; the words in front and behind stay in place."""

    lead: tuple[str, ...]
    units: tuple[Unit, ...]
    links: tuple[tuple[str, ...], ...]
    names: tuple[str, ...]  # kinds of the links
    trail: tuple[str, ...]

    def written(self, texts, links=None) -> list[str]:
        """The words of the sentence with these texts in the places of its units."""
        words = [*self.lead, *texts[0]]
        for link, text in zip(links or self.links, texts[1:], strict=True):
            words += [*link, *text]
        return [*words, *self.trail]


def write(sentence: Sentence, order: list[int], placed) -> tuple[float, list[str]] | None:
    """(cost, words) of an order of units, each in the form of its place; None where that fails."""
    texts, total, links = [], 0.0, list(sentence.links)
    for place, index in enumerate(order):
        around = ("", *sentence.names, "")[place : place + 2]
        wanted = _wanted(sentence, place)
        if wanted is None:
            return None
        if sentence.units[index].simple:
            fitted = _fit(parse(placed[index]), wanted, around, place != index)
        else:
            form = sentence.units[index].form
            same = _suits(form, wanted) and around[0] != "lead-in"
            fitted = (placed[index], 0.5) if same or place == index else None
        if fitted is None:
            return None
        texts.append(fitted[0])
        total += fitted[1]
        be = _be(sentence, place)
        if be in ("is", "are"):
            right = "are" if _many(texts[-1]) else "is"
            links[place] = tuple(right if word == be else word for word in links[place])
    return total, sentence.written(texts, links)


def _be(sentence: Sentence, place: int) -> str | None:
    """The "is" of "is followed by" behind a place; "which is followed by" has its own subject."""
    link = sentence.links[place] if place < len(sentence.links) else ()
    followed = link[-1:] in (("by",), ("with",)) and "which" not in link
    return next((word for word in link if followed and word in BE), None)


def _wanted(sentence: Sentence, place: int) -> str | None:
    """The form that a place asks for: "nominal", "finite", "clause" (no noun), "any", "mixed"."""
    listed = itertools.takewhile(lambda name: name == "list", reversed(sentence.names[:place]))
    left = ("", *sentence.names)[place - len([*listed])]  # before "A, B, C"
    form = sentence.units[place].form
    if _be(sentence, place) is not None:
        # What "is followed" may stand in a clause of its own: "as shots are followed by screams".
        clear = "and" not in sentence.links[place] and form in ("nominal", "any")
        return "nominal" if clear else None
    if left in connectives.NOMINAL or (not place and sentence.lead[-1:] in (("with",), ("by",))):
        return "nominal"
    return "clause" if left == "then" and "which" in sentence.links[place - 1] else form


def _suits(form: str, wanted: str) -> bool:
    return form == wanted or (form == "finite" and wanted == "clause")


def _fit(clauses, wanted: str, around, moved: bool) -> tuple[list[str], float] | None:
    """A segment's words in the wanted form, and how far they are from it; None where that fails.

    Args:
      clauses: of the segment, or None.
      wanted: see `_wanted`.
      around: names of the connectives on its left and on its right.
      moved: whether this is another place than its own.
    """
    if clauses is None:
        return None
    if moved and clauses[0].kind == "bare" and {"before", "after"} & set(around):
        return None  # its subject would be sought in the other event
    words, form = words_of(clauses), form_of(clauses)
    if wanted == "nominal":
        words = words if form == "nominal" else to_nominal(clauses)
        return None if words is None else (words, 0.0)
    if _suits(form, wanted) or wanted in ("any", "mixed"):
        return words, 0.0
    finite = to_finite(clauses)
    if finite is not None or wanted == "clause":
        return None if finite is None else (finite, 0.0)
    left, right = around
    if right in connectives.NOMINAL and left == "":
        # "a bang followed by ..." for "a man speaks followed by ..."
        words = words if form == "nominal" else to_nominal(clauses)
        return None if words is None else (words, 0.5)
    if "lead-in" in around:
        return None
    if clauses[0].kind == "noun":
        return words, 2.0
    whole = form == "nominal" and all(clause.kind != "gerund" for clause in clauses)
    return (words, 1.0) if whole else None


def _many(words: list[str]) -> bool:
    """Whether "are" follows a noun phrase."""
    clauses = parse(words)
    if clauses and len(clauses) > 1:
        return True
    if clauses and clauses[0].kind == "bare":
        return len(words) == 2 and is_plural(words[-1])  # "squealing tires"
    if clauses and clauses[0].kind == "gerund":
        return number(clauses[0].subject) == "p" and is_plural(clauses[0].subject[-1])
    ends = (i for i, word in enumerate(words) if word.lower() in ("with", "as", "while"))
    return number(words[: next(ends, None)]) == "p"
