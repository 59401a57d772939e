"""Temporal negatives by rules: the events of a caption in another order, in its own wording.

A negative is its caption's sentence with the events exchanged (T-CLAP 2.3); each event takes the
form that its new place asks for, so that neither connectives nor verb forms tell right from wrong.
Where the grammar does not reach, or a strict reader would doubt, there is a reason instead.
"""

import hashlib
import itertools
import re
from dataclasses import dataclass

import numpy as np

from clapjax.captions.rules import connectives
from clapjax.captions.rules import lexicon as lex
from clapjax.captions.rules.clauses import NO_SUBJECT, Clause, parse
from clapjax.captions.rules.forms import Events, phrase_form, phrase_to, words_of, write
from clapjax.captions.rules.references import OWN, refers
from clapjax.captions.rules.words import is_adverb, is_gerund, join, number, tokenize, verb
from clapjax.captions.validation import content, why_not

NO_ORDER = "no order of events is stated"
TOGETHER = "the events sound together"
SAME = "the same event on both sides"
GRAMMAR = "wording outside the grammar"
SIGNS = "punctuation outside the grammar"
AMBIGUOUS = "whose verb it is cannot be told"
MOST = 6  # events; more have too many orders
REFERS = "refers back: "  # with the word: "a louder bang", "barks again"


@dataclass(frozen=True)
class Negatives:
    """What came of one caption: negatives, or the reason why there are none."""

    negatives: tuple[str, ...]
    reason: str | None = None


class Refused(Exception):
    """A caption without negatives; the message is the reason."""


def negate(caption: str, count: int = 1, seed: int = 0) -> Negatives:
    """Writes up to `count` temporal negatives of a caption.

    Args:
      caption: one sentence.
      count: how many at most; three or more events have several wrong orders.
      seed: with the caption, chooses among equally good ones.

    Returns:
      The negatives, best first, or the reason why there are none.
    """
    words = tokenize(caption)
    stop = [words.pop()] if words and words[-1] in (".", "!") else []
    if not words or any(not word[0].isalnum() and word != "," for word in words):
        return Negatives((), SIGNS)
    try:
        candidates, hindrances = _candidates([_uncapitalised(words[0]), *words[1:]])
    except Refused as refused:
        return Negatives((), str(refused))
    digest = hashlib.sha256(f"{seed}\0{caption}".encode()).digest()
    generator = np.random.default_rng(np.frombuffer(digest, np.uint64))
    shuffled = [candidates[i] for i in generator.permutation(len(candidates))]
    chosen: dict[str, None] = {}
    for _, words in sorted(shuffled, key=lambda candidate: candidate[0]):
        text = join(words) + "".join(stop)
        text = text[0].upper() + text[1:] if caption[0].isupper() else text
        if why_not(caption, text) is None:
            chosen.setdefault(text)
    if not chosen:
        return Negatives((), next((why for why in hindrances if why != SAME), SAME))
    return Negatives(tuple(chosen)[:count])


def _uncapitalised(word: str) -> str:
    """The first word as it is written inside a sentence."""
    keeps = word in lex.PROPER or (len(word) > 1 and not word[1:].islower())
    return word if keeps else word.lower()


def _candidates(words: list[str]) -> tuple[list[tuple[float, list[str]]], list[str]]:
    """All rearrangements that the grammar can write, as (cost, words), and why others fail."""
    found = connectives.split(words)
    if found is None:
        text = " ".join(words).lower()
        if connectives.states_order(text):
            raise Refused(GRAMMAR)
        raise Refused(TOGETHER if connectives.TOGETHER.search(text) else NO_ORDER)
    links, names = found.links, found.names
    segments = [
        parse(words, i > 0 and names[i - 1] in connectives.SHARING)
        for i, words in enumerate(found.segments)
    ]
    if (
        len(segments) > MOST
        or None in segments
        or (names[0] == "lead-in" and segments[0][0].kind == "bare")
    ):
        raise Refused(GRAMMAR)
    groups: list[list[int]] = [[0]]  # segments of a unit
    units = [Events(found.segments[0], segments[0])]
    for i, clauses in enumerate(segments[1:], start=1):
        if _shares_subject(segments[groups[-1][0]], clauses[0], names[i - 1]):
            groups[-1].append(i)
            words = (*units[-1].words, *links[i - 1], *found.segments[i])
            units[-1] = Events(words, units[-1].clauses, simple=False)
        else:
            groups.append([i])
            units.append(Events(found.segments[i], clauses))
    between = [group[0] - 1 for group in groups[1:]]
    links_between, names_between = ([kinds[i] for i in between] for kinds in (links, names))
    outer = connectives.Split(found.lead, (), tuple(links_between), tuple(names_between))
    hindrances: list[str] = []
    candidates = list(_rearranged(outer, units, hindrances))
    for k, group in enumerate(groups):
        if len(group) > 1:
            alone = k == 0 and len(segments[0]) == 1
            texts = [list(unit.words) for unit in units]
            inner = [links[i - 1] for i in group[1:]]
            for texts[k] in _phrases([segments[i] for i in group], inner, alone, hindrances):
                candidates.append((0.0, outer.written(texts)))
    return candidates, hindrances


def _shares_subject(host: tuple[Clause, ...], first: Clause, link: str) -> bool:
    """Whether a verb phrase behind a connective has its subject in the segment before."""
    if first.kind != "bare" or link not in connectives.SHARING:
        return first.kind == "verb"
    if not host[-1].start:
        alone = sum(clause.kind == "bare" for clause in host)  # "speaking" then "laughing"
        if sum(map(is_gerund, words_of(host))) > alone:
            raise Refused(AMBIGUOUS)  # "the sound of horses trotting and then neighing"
        return False
    at = first.verbs[0]
    behind = first.words[at + 1].lower() if at + 1 < len(first.words) else "of"
    compound = behind not in NO_SUBJECT | {"to", "and", ","} and not is_adverb(behind)
    another = host[-1].kind == "finite" or verb(first.words[at])[1] in lex.SOUNDS
    if compound or (link == "then" and another):
        raise Refused(AMBIGUOUS)  # "before sizzling food", "a man speaking then laughing"
    return True


def _rearranged(found: connectives.Split, units: list[Events], hindrances: list[str]):
    """Yields (cost, words) of the sentence with its units in other orders."""
    keys = [sorted(content(unit.words)) for unit in units]
    for order in itertools.permutations(range(len(units))):
        doubled = any(keys[a] == keys[b] and abs(a - b) > 1 for a, b in itertools.pairwise(order))
        if doubled or [keys[i] for i in order] == keys:
            hindrances.append(SAME)
            continue
        told = _told_first(units, order)
        word = _torn([list(unit.words) for unit in told], order)
        if word is not None:
            hindrances.append(REFERS + word)
            continue
        written = write(found, units, [told[i] for i in order])
        if written is None:
            hindrances.append(GRAMMAR)
        else:
            yield written


def _told_first(units: list[Events], order) -> list[Events]:
    """ "a man speaks", "another man laughs" exchange their articles where they exchange places."""
    told = list(units)
    if sum(unit.words.count("another") for unit in units) != 1:
        return told
    for i, k in itertools.combinations(range(len(units)), 2):
        first, later = (" ".join(units[n].words) for n in (i, k))
        nouns = re.findall(r"\banother (\S+)", later)
        articles = re.findall(rf"\b(an?) {nouns[0]}\b", first) if len(nouns) == 1 else []
        if order.index(i) > order.index(k) and len(articles) == 1:
            first = re.sub(rf"\b{articles[0]} {nouns[0]}\b", f"another {nouns[0]}", first)
            pair = first.split(), later.replace("another", articles[0]).split()
            if units[i].simple and units[k].simple and all(map(parse, pair)):
                told[i], told[k] = (Events(tuple(words), parse(words)) for words in pair)
    return told


def _torn(phrases: list[list[str]], order) -> str | None:
    """A word that refers to what an order puts behind it."""
    for later, words in enumerate(phrases):
        if any(order.index(i) > order.index(later) for i in range(later)):
            word = refers(words, [w for earlier in phrases[:later] for w in earlier])
            if word is not None:
                return word
    return None


def _phrases(segments, links, alone: bool, hindrances: list[str]):
    """Yields the words of a unit with its verb phrases in other orders.

    `alone` says that its subject is the caption's first; `hindrances` takes what stands in the way.
    """
    host = segments[0][-1]
    phrases = [host, *(clauses[0] for clauses in segments[1:])]
    tails = any(phrase.tail is not None for phrase in phrases)
    if not host.start or tails or any(len(clauses) > 1 for clauses in segments[1:]):
        raise Refused(AMBIGUOUS)
    forms = [phrase_form(phrase) for phrase in phrases]
    if not alone and forms[0] == "gerund" and {*forms} != {"gerund"}:
        raise Refused(AMBIGUOUS)  # "a scream is followed by a man laughing then bleats"
    agree = ("third", "is") if number(host.subject) == "s" else ("base", "are")
    listed = any("," in phrase.words[phrase.start :] for phrase in phrases)
    if listed or any(form not in (*agree, "gerund") for form in forms):
        raise Refused(GRAMMAR)
    before = [*words_of(segments[0][:-1]), *host.joint, *host.subject]
    texts = [[*map(str.lower, phrase.words[phrase.start :])] for phrase in phrases]
    own = [[w for w in text if w not in OWN] for text in texts]  # "his": of the shared subject
    stops = next((w for text in texts[1:] for w in text if verb(w)[1] == "stop"), None)
    for order in itertools.permutations(range(len(phrases))):
        word = stops or _torn(own, order)
        if word is not None:
            hindrances.append(REFERS + word)
            continue
        placed = [phrase_to(phrases[i], form) for i, form in zip(order, forms, strict=True)]
        if None in placed:
            hindrances.append(GRAMMAR)
        elif list(order) != sorted(order):
            words = [*before, *placed[0]]
            for link, text in zip(links, placed[1:], strict=True):
                words += [*link, *text]
            yield words
