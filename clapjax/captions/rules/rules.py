"""Temporal negatives by rules: the events of a caption in another order, in its own wording.

A negative is its caption's sentence with the events exchanged (T-CLAP 2.3); each event takes the
form that its new place asks for, so that neither connectives nor verb forms tell right from wrong.
"""

import hashlib
import itertools
from dataclasses import dataclass, replace

import numpy as np

from clapjax.captions.rules import connectives, reasons, references
from clapjax.captions.rules import lexicon as lex
from clapjax.captions.rules.clauses import parse
from clapjax.captions.rules.forms import form_of
from clapjax.captions.rules.phrases import phrase_negatives, shares_subject
from clapjax.captions.rules.sentence import Sentence, Unit, write
from clapjax.captions.rules.words import join, tokenize
from clapjax.captions.validation import content, why_not

MAX_UNITS = 5  # more events than this are exchanged in neighbouring pairs only


@dataclass(frozen=True)
class Negatives:
    """What came of one caption: negatives, or the reason why there are none."""

    negatives: tuple[str, ...]
    reason: str | None = None


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
        return Negatives((), reasons.SIGNS)
    found = connectives.split([_uncapitalised(words[0]), *words[1:]])
    if found is None:
        if connectives.states_order(caption):
            return Negatives((), reasons.GRAMMAR)
        together = connectives.TOGETHER.search(caption.lower())
        return Negatives((), reasons.TOGETHER if together else reasons.NO_ORDER)
    candidates, hindrances = _candidates(_split_lists(found))
    chosen: dict[str, None] = {}
    for i in _keyed_order([cost for cost, _ in candidates], f"{seed}\0{caption}"):
        text = join([*candidates[i][1]]) + "".join(stop)
        text = text[0].upper() + text[1:] if caption[0].isupper() else text
        if why_not(caption, text) is None:
            chosen.setdefault(text)
    if not chosen:
        return Negatives((), (hindrances or [reasons.SAME])[0])
    return Negatives(tuple(chosen)[:count])


def _keyed_order(costs: list[float], key: str) -> list[int]:
    """Indices by cost; equal ones in an order that the key decides."""
    digest = hashlib.sha256(key.encode()).digest()
    generator = np.random.default_rng(np.frombuffer(digest, np.uint64))
    return sorted(generator.permutation(len(costs)).tolist(), key=lambda i: costs[i])


def _uncapitalised(word: str) -> str:
    """The first word as it is written inside a sentence."""
    keeps = word in lex.PROPER or (len(word) > 1 and not word[1:].islower())
    return word if keeps else word.lower()


def _split_lists(found: connectives.Split) -> connectives.Split:
    """ "A, B, then C": the comma stands for another "then"."""
    segments, links, names = [], [], []
    for i, segment in enumerate(found.segments):
        name = found.names[i] if i < len(found.names) else ""
        clauses = parse(segment) if name == "then" else None
        if clauses and len(clauses) > 1 and all(c.joint == (",",) for c in clauses[1:]):
            segments += [clause.words for clause in clauses]
            links += [(",",)] * (len(clauses) - 1)
            names += ["list"] * (len(clauses) - 1)
        else:
            segments.append(segment)
        if name:
            links.append(found.links[i])
            names.append(name)
    return replace(found, segments=tuple(segments), links=tuple(links), names=tuple(names))


def _candidates(found: connectives.Split) -> tuple[list[tuple[float, list[str]]], list[str]]:
    """All rearrangements that the grammar can write, as (cost, words), and why others fail."""
    parsed = [
        parse(segment, i > 0 and found.names[i - 1] in ("then", "before", "after"))
        for i, segment in enumerate(found.segments)
    ]
    groups: list[list[int]] = [[0]]  # segments of a unit
    for i, clauses in enumerate(parsed[1:], start=1):
        if clauses and shares_subject(parsed[groups[-1][0]], clauses, found.names[i - 1]):
            groups[-1].append(i)
        else:
            groups.append([i])
    sentence = Sentence(
        found.lead,
        tuple(_unit(group, found, parsed) for group in groups),
        tuple(found.links[group[0] - 1] for group in groups[1:]),
        tuple(found.names[group[0] - 1] for group in groups[1:]),
        found.trail,
    )
    hindrances: list[str] = []
    candidates = list(_rearranged(sentence, hindrances))
    for k, group in enumerate(groups):
        segments = [parsed[i] for i in group]
        if len(group) > 1 and all(segments):
            links = [found.links[i - 1] for i in group[1:]]
            for words in phrase_negatives(segments, links, hindrances):
                texts = [unit.words for unit in sentence.units]
                texts[k] = words
                candidates.append((0.0, sentence.written(texts)))
    return candidates, hindrances


def _unit(group: list[int], found: connectives.Split, parsed) -> Unit:
    words = list(found.segments[group[0]])
    for i in group[1:]:
        words += [*found.links[i - 1], *found.segments[i]]
    clauses, simple = parsed[group[0]], len(group) == 1
    if clauses and _ownerless(group, found, parsed):
        clauses = None
    return Unit(tuple(words), clauses, simple)


def _ownerless(group: list[int], found: connectives.Split, parsed) -> bool:
    """Whether a unit has a verb phrase of which it is not told whose it is."""
    first, clauses = group[0], parsed[group[0]]
    if len(group) > 1:
        return clauses[-1].start == 0
    if clauses[0].kind == "bare" and first and found.names[first - 1] in ("before", "after"):
        return parsed[first - 1] is None or any(c.start for c in parsed[first - 1])
    mixed = clauses[0].kind == "bare" and form_of(clauses) == "mixed"
    return mixed or clauses[0].kind == "verb"


def _orders(units: tuple[Unit, ...]):
    """Orders of the units other than their own; those outside the grammar stay in place."""
    free = [i for i, unit in enumerate(units) if unit.clauses is not None]
    if len(free) <= MAX_UNITS:
        moves = itertools.permutations(free)
    else:
        moves = ([*free[:i], free[i + 1], free[i], *free[i + 2 :]] for i in range(len(free) - 1))
    for move in moves:
        if list(move) != free:
            order = list(range(len(units)))
            for place, index in zip(free, move, strict=True):
                order[place] = index
            yield order


def _rearranged(sentence: Sentence, hindrances: list[str]):
    """Yields (cost, words) of the sentence with its units in other orders."""
    units = sentence.units
    if any(unit.clauses is None for unit in units):
        hindrances.append(reasons.GRAMMAR)
    keys = [sorted(content(unit.words)) for unit in units]
    for order in _orders(units):
        doubled = any(keys[a] == keys[b] and abs(a - b) > 1 for a, b in itertools.pairwise(order))
        if doubled or [keys[i] for i in order] == keys:
            hindrances.append(reasons.SAME)
            continue
        if _stays_in_lists(order, sentence.names):
            continue
        placed, why = references.resolve([unit.words for unit in units], order)
        if placed is None:
            hindrances.append(why)
            continue
        written = write(sentence, order, placed)
        if written is None:
            hindrances.append(reasons.GRAMMAR)
        else:
            yield written


def _stays_in_lists(order: list[int], names) -> bool:
    """Whether only the members of a comma list, whose order is not certain, change places."""
    groups = [0, *itertools.accumulate(name != "list" for name in names)]
    return [groups[i] for i in order] == groups
