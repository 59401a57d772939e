"""Verb phrases that share a subject, in another order: "a dog barks and then growls"."""

import itertools
from dataclasses import replace

from clapjax.captions.rules import lexicon as lex
from clapjax.captions.rules.clauses import Clause, parse
from clapjax.captions.rules.forms import phrase_form, phrase_to, words_of
from clapjax.captions.rules.reasons import AMBIGUOUS, GRAMMAR, refers_back
from clapjax.captions.rules.references import POSSESSIVE, refers
from clapjax.captions.rules.words import is_adverb, is_gerund, lemma, number, verb_forms

PARTICLES = ("up", "down", "off", "away", "past", "by", "over")
# What may follow a gerund that has no bare noun as object.
NO_OBJECT = (
    lex.PREPOSITIONS | lex.DETERMINERS | lex.SUBORDINATORS | lex.PRONOUNS | {"to", "idle", "and"}
)


def shares_subject(host, clauses, link: str) -> bool:
    """Whether a segment is a verb phrase whose subject stands in the segment before.

    Args:
      host: clauses of the first segment of the unit, or None.
      clauses: of the segment behind the connective.
      link: the connective's name.
    """
    if host is None or link not in ("then", "before", "after"):
        return False
    first = clauses[0]
    owner = next((clause.subject for clause in reversed(host) if clause.start), ())
    subject = {word.lower() for word in owner}
    if first.kind == "verb":
        return True
    if first.kind != "bare" or not subject or host[-1].kind not in ("finite", "gerund", "bare"):
        return False
    if first.words[0].lower() == "being":
        return True
    if link != "then":
        return not _has_bare_noun(first)
    base = lemma(first.words[first.verbs[0]])
    if subject & (lex.PERSONS | lex.ANIMALS):
        return base in lex.VOICE_VERBS or base not in lex.NOUNS_TOO
    moves = {word.lower() for word in first.words[1:2]} & set(PARTICLES)
    own = bool(moves) or base in lex.ENGINE_VERBS | lex.MOTION_VERBS
    return own or base not in lex.NOUNS_TOO | lex.HUMAN_VERBS


def _has_bare_noun(first: Clause) -> bool:
    """ "before sizzling food": is that a verb or an adjective?"""
    behind = [word.lower() for word in first.words[first.verbs[0] + 1 :]]
    return bool(behind) and not (
        behind[0] in NO_OBJECT or is_adverb(behind[0]) or is_gerund(behind[0])
    )


def phrase_negatives(segments, links, reasons: list[str]):
    """Yields the words of a unit with its verb phrases in other orders.

    Args:
      segments: clauses of the host segment and of those that share its subject.
      links: connectives between them, as words.
      reasons: takes what stands in the way.
    """
    host = _host(segments, reasons)
    if host is None:
        return
    prefix, first = host
    own = _comma_list(first) if "," in links[0] else [first]
    phrases = [*own, *(clauses[0] for clauses in segments[1:])]
    gaps = [*([(",",)] * (len(own) - 1)), *links]
    rests = [*([[]] * (len(own) - 1)), *(words_of(clauses[1:]) for clauses in segments[1:])]
    forms = [phrase_form(phrase) for phrase in phrases]
    if None in forms or _mixes(forms, gaps):
        reasons.append(GRAMMAR)
        return
    bound = _bound(first, phrases, reasons)
    for order in itertools.permutations(range(len(phrases))):
        behind = all(order.index(i) < order.index(k) for k in bound for i in range(k))
        if list(order) == sorted(order) or not behind:
            continue
        texts = [phrase_to(phrases[i], form) for i, form in zip(order, forms, strict=True)]
        if None in texts:
            reasons.append(GRAMMAR)
            continue
        words = [*prefix, *texts[0]]
        for gap, text, rest in zip(gaps, texts[1:], rests, strict=True):
            words += [*gap, *text, *rest]
        yield words


def _mixes(forms: list[str], gaps) -> bool:
    """ "speaks then laughing": a gerund where "then" asks for the form of the first verb."""
    if forms[0] not in ("third", "base"):
        return False
    chained = zip(forms[1:], gaps, strict=True)
    return any(form == "gerund" and ("then" in gap or gap == (",",)) for form, gap in chained)


def _bound(first: Clause, phrases: list[Clause], reasons: list[str]) -> set[int]:
    """The phrases that refer to an earlier one."""
    bound = set()
    living = {word.lower() for word in first.subject} & (lex.PERSONS | lex.ANIMALS)
    for k, phrase in enumerate(phrases[1:], start=1):
        earlier = [word for other in phrases[:k] for word in other.phrase]
        low = [word.lower() for word in phrase.phrase]
        word = refers(_without_own(low), earlier)
        if word is None and lemma(low[0]) == "stop" and (living or len(low) > 1):
            word = low[0]
        if word is not None:
            reasons.append(refers_back(word))
            bound.add(k)
    return bound


def _without_own(low: list[str]) -> list[str]:
    """Leaves out the pronouns that mean the shared subject: "his", "as it", "itself"."""
    return [
        word
        for i, word in enumerate(low)
        if word not in POSSESSIVE
        and not word.endswith("self")
        and not (word in lex.PRONOUN_NUMBER and set(low[i - 1 : i]) & lex.SUBORDINATORS)
    ]


def _host(segments, reasons: list[str]) -> tuple[list[str], Clause] | None:
    """(words before the first verb phrase, its clause) of the subject that the others share."""
    options = _subjects(segments[0], [])
    if not options or options[0][1].kind not in ("finite", "gerund"):
        reasons.append(GRAMMAR)
        return None
    others = [clauses[0] for clauses in segments[1:]]
    fitting = [option for option in options if all(_agrees(option[1], c) for c in others)]
    if len(fitting) != 1:
        reasons.append(AMBIGUOUS)
        return None
    return fitting[0]


def _subjects(clauses, before: list[str]) -> list[tuple[list[str], Clause]]:
    """The last clause and those inside its "as ...", whose verb phrases may be continued."""
    host = clauses[-1]
    lead = [*before, *words_of(clauses[:-1]), *host.joint]
    options = [([*lead, *host.subject], host)]
    if host.tail is not None:
        inner = parse(host.inner)
        if inner is None or host.words[host.tail].lower() in ("who", "which", "that"):
            return []  # "a baby who coos then cries"
        if inner[-1].kind in ("finite", "gerund"):
            options += _subjects(inner, [*lead, *host.words[: host.tail + 1]])
    return options


def _agrees(host: Clause, other: Clause) -> bool:
    """Whether a subject takes a verb phrase, by number and by kind."""
    word = other.words[other.verbs[0]].lower()
    base = lemma(word)
    if other.kind == "verb":
        singular = word in verb_forms()["third"] or word in ("is", "was", "has")
        if number(host.subject) != ("s" if singular else "p") and host.subject[0] != "some":
            return False
        if word in ("is", "are"):
            base = next((lemma(w) for w in other.words[1:] if is_gerund(w)), word)
    living = {word.lower() for word in host.subject} & (lex.PERSONS | lex.ANIMALS)
    if base in lex.HUMAN_VERBS - {"whistle", "sigh"}:
        return bool(living)
    driven = bool(set(other.words[1:2]) & lex.DETERMINERS)  # "revs a motorcycle"
    return driven or base not in lex.ENGINE_VERBS or not living


def _comma_list(clause: Clause) -> list[Clause]:
    """ "a motor idles, accelerates" + ", then slows": every verb a phrase of its own."""
    cuts = [verb for verb in clause.verbs[1:] if clause.words[verb - 1] == ","]
    if not cuts or len(cuts) < len(clause.verbs) - 1 or clause.tail is not None:
        return [clause]
    head = replace(clause, words=clause.words[: cuts[0] - 1], verbs=clause.verbs[:1])
    edges = itertools.pairwise([*cuts, len(clause.words) + 1])
    rest = [Clause((), clause.words[start : end - 1], "verb", (0,)) for start, end in edges]
    return [head, *rest]
