"""The clauses of a stretch of caption.

A small grammar of English for captions: enough to tell "a man speaks" (finite) from "a man
speaking" (gerund) and "a loud bang" (noun), and to say where it does not reach.
"""

from dataclasses import dataclass, replace

from clapjax.captions.rules import lexicon as lex
from clapjax.captions.rules.verbs import (
    finite_verb,
    gerund_verb,
    has_stray_verb,
    is_adverbial,
    leading_gerund,
    may_be_verb,
    phrase_start,
)
from clapjax.captions.rules.words import is_adverb, is_gerund, number, verb_form, verb_forms

IDIOMS = (
    "back and forth", "up and down", "on and off", "over and over", "in and out", "to and fro",
    "again and again", "more and more", "off and on", "round and round", "left and right",
    "far and near", "near and far",
)  # fmt: skip
# Their objects are sounds: "makes clicks and whistles".
SOUND_MAKERS = ("make", "emit", "produce", "give", "hear", "have")
JOINTS = (",", "and", "&", "or", "but")


@dataclass(frozen=True)
class Clause:
    """A conjunct of a segment."""

    joint: tuple[str, ...]  # what joins it to the one before: () "," "and" ", and"
    words: tuple[str, ...]
    kind: str  # "finite", "past", "gerund", "noun"; without a subject: "verb" or "bare" (gerund)
    verbs: tuple[int, ...] = ()  # words that change with the form
    start: int = 0  # of the verb phrase: words[:start] is the subject
    tail: int | None = None  # start of "as ...", "while ..." behind the main clause

    @property
    def subject(self) -> tuple[str, ...]:
        return self.words[: self.start]

    @property
    def phrase(self) -> tuple[str, ...]:
        """The verb phrase with all that follows it."""
        return self.words[self.start :]

    @property
    def inner(self) -> tuple[str, ...]:
        """The words behind "as", "while" and the like."""
        return () if self.tail is None else self.words[self.tail + 1 :]


def parse(words, subjectless: bool = False) -> tuple[Clause, ...] | None:
    """The clauses of a segment, or None where the grammar does not reach.

    Args:
      words: a stretch between two temporal connectives.
      subjectless: whether it may be a verb phrase whose subject stands before: "then growls".
    """
    clauses: list[Clause] = []
    if {word.lower() for word in words} & {"then", "followed"}:
        return None  # "are then joined by": an order within
    for joint, piece in _pieces(list(words)):
        low = [word.lower() for word in piece]
        if not low or (not clauses and low[0] in lex.PREPOSITIONS):
            return None
        last = clauses[-1] if clauses else None
        clause = _read(joint, piece, last, subjectless)
        if clause is None or (last is None and clause.kind == "adverbial"):
            return None
        added = [clause] if last is None else _attach(last, clause, subjectless)
        if added is None:
            return None
        clauses[-1:] = added
    return tuple(clauses) or None


def _pieces(words: list[str]) -> list[tuple[tuple[str, ...], list[str]]]:
    """Splits at commas and "and", but not inside idioms or between adjectives."""
    low = [word.lower() for word in words]
    pieces, joint, piece = [], (), []
    i = 0
    while i < len(words):
        end = i
        while end < len(low) and low[end] in JOINTS:
            end += 1
        if end == i or (not piece and not pieces) or _stays(low, i, end):
            end = max(end, i + 1)
            piece += words[i:end]
        elif end == len(low):
            return [((), [])]  # a dangling "and"
        else:
            pieces.append((joint, piece))
            joint, piece = tuple(words[i:end]), []
        i = end
    return [*pieces, (joint, piece)]


def _stays(low: list[str], start: int, end: int) -> bool:
    """Whether the joint low[start:end] joins less than clauses or nouns."""
    before, after = low[start - 1], "".join(low[end : end + 1])
    lead = low[start - 2] if start > 1 else "a"
    if " ".join(low[start - 1 : end + 1]) in IDIOMS or (is_adverb(before) and is_adverb(after)):
        return True
    if before in lex.COMPARATIVES and after in lex.COMPARATIVES | lex.ADVERBS:
        return True
    described = before.endswith("ed") or (is_gerund(before) and is_gerund(after))
    if described and start > 1 and lead in ("a", "an"):
        return True  # a prolonged, nasal snoring; a rattling, idling sound
    if before not in lex.ADJECTIVES:
        return False
    if is_adverb(lead) or lead in lex.DETERMINERS | lex.ADJECTIVES | lex.PREPOSITIONS:
        return True  # a loud, regular clack
    return after in lex.ADJECTIVES and end + 1 == len(low)  # hollow and soft


def _read(joint, piece: list[str], last: Clause | None, subjectless: bool) -> Clause | None:
    """A piece by itself; `last` only tells whether its subject has two parts."""
    low = [word.lower() for word in piece]
    cut = _tail(low)
    main = low[:cut]
    clause = Clause(tuple(joint), tuple(piece), "noun", tail=cut)
    if low[0] in lex.SUBORDINATORS or is_adverbial(low):
        return replace(clause, kind="adverbial")
    pair = last is not None and last.kind in ("noun", "bare") and "and" in joint
    verb, form = finite_verb(main, pair)
    if form == "aux" and verb_form("".join(main[verb + 1 : verb + 2])) == "third":
        return None  # "is runs"
    if verb is not None and phrase_start(main, verb) > 0:
        kind = "past" if form == "past" else "finite"
        return replace(clause, kind=kind, verbs=(verb,), start=phrase_start(main, verb))
    continues = last is not None and last.kind in ("finite", "verb")
    if verb is not None and (continues or (last is None and subjectless)):
        return replace(clause, kind="verb", verbs=(verb,))
    if subjectless and last is None and may_be_verb(main):
        return None
    verb = gerund_verb(main)
    if verb is not None:
        start = phrase_start(main, verb)
        plain = _plain_subject(main[:start])
        return replace(clause, kind="gerund", verbs=(verb,), start=start) if plain else clause
    verb = leading_gerund(main)
    if verb is not None:
        return replace(clause, kind="bare", verbs=(verb,))
    return None if has_stray_verb(low) else clause


def _tail(low: list[str]) -> int | None:
    """Where "as ...", "while ...", "that ..." begins."""
    for i in range(1, len(low)):
        compared = low[i + 1 : i + 2] in (["well"], ["if"], ["though"]) or low[i - 1] == "well"
        if low[i] in lex.SUBORDINATORS and not (low[i] == "as" and compared):
            return i
    return None


def _plain_subject(low: list[str]) -> bool:
    """Whether a subject can take a finite verb: no "with", no "sound of"."""
    return not any(
        word in lex.PREPOSITIONS and not (word == "of" and low[i - 1] in lex.GROUPS)
        for i, word in enumerate(low)
    )


def _attach(last: Clause, clause: Clause, subjectless: bool) -> list[Clause] | None:
    """Joins a clause to the one before it: two clauses, or one, or None where that is not clear."""
    ended = last.tail is not None
    joined = "and" in clause.joint
    if clause.kind == "adverbial" or "or" in clause.joint:
        return _extend(last, clause)
    if clause.kind in ("finite", "past"):
        if ended:
            return _extend(last, clause)
        shared = last.kind == "bare" or (last.kind == "noun" and number(clause.subject) == "s")
        if shared and joined and verb_form(clause.words[clause.verbs[0]]) == "base":
            return _share(last, clause)
    elif clause.kind == "verb":
        return _continue(last, clause)
    elif clause.kind == "gerund":
        if last.kind in ("finite", "past"):
            inner = [word.lower() for word in last.inner]
            if ended and finite_verb(inner)[0] is None:
                return _extend(last, clause)
            if "with" in (word.lower() for word in last.phrase):
                return _extend(last, clause)
        heads = {clause.subject[-1].lower(), last.words[-1].lower()}
        two = heads <= lex.PERSONS or heads <= lex.ANIMALS
        if two and joined and last.kind in ("noun", "bare"):
            return _share(last, clause)
    elif ended or (clause.kind == "noun" and last.kind in ("finite", "past", "verb")):
        return _extend(last, clause)
    elif clause.kind == "bare":
        if last.kind == "bare" and subjectless:
            return _merge(last, clause)
        if last.kind in ("finite", "past", "verb", "gerund") and not joined:
            return _extend(last, clause)
        if last.kind == "gerund" and does_too(last.subject, clause.words[clause.verbs[0]]):
            return _merge(last, clause)
    return [last, clause]


def _extend(last: Clause, clause: Clause) -> list[Clause]:
    """Takes a clause into the one before it, as words that do not change."""
    begins = len(last.words) + len(clause.joint)
    tail = last.tail
    if tail is None and clause.words[0].lower() in lex.SUBORDINATORS:
        tail = begins
    return [replace(last, words=(*last.words, *clause.joint, *clause.words), tail=tail)]


def _merge(last: Clause, clause: Clause) -> list[Clause]:
    """Takes a clause into the one before it, with verbs of its own."""
    offset = len(last.words) + len(clause.joint)
    return [
        replace(
            last,
            words=(*last.words, *clause.joint, *clause.words),
            verbs=(*last.verbs, *(offset + verb for verb in clause.verbs)),
            tail=last.tail if clause.tail is None else offset + clause.tail,
        )
    ]


def _share(last: Clause, clause: Clause) -> list[Clause]:
    """ "a man" + "and a woman speak": one clause with two subjects."""
    offset = len(last.words) + len(clause.joint)
    return [
        replace(
            clause,
            joint=last.joint,
            words=(*last.words, *clause.joint, *clause.words),
            verbs=tuple(offset + verb for verb in clause.verbs),
            start=offset + clause.start,
            tail=None if clause.tail is None else offset + clause.tail,
        )
    ]


def _continue(last: Clause, clause: Clause) -> list[Clause] | None:
    """ "a man laughs" + "and speaks"; or only a noun, as in "makes a beep" + "and clicks"."""
    word, first = clause.words[clause.verbs[0]].lower(), last.words[last.verbs[-1]].lower()
    form, first_form = verb_form(word), verb_form(first)
    base = verb_forms()[form].get(word) if form != "aux" else "be"
    first_base = verb_forms()["third"].get(first) or verb_forms()["base"].get(first)
    if base in lex.NOUNS_TOO and first_base in SOUND_MAKERS and len(clause.words) == 1:
        return _extend(last, clause)
    if last.tail is not None:
        inner_form = finite_verb([word.lower() for word in last.inner])[1]
        known = inner_form == form != first_form  # else it cannot be told whose verb it is
        return _extend(last, clause) if known else None
    if form == first_form or "aux" in (form, first_form):
        return _merge(last, clause)
    return _extend(last, clause) if base in lex.NOUNS_TOO else None


def does_too(subject, word: str) -> bool:
    """Whether "a man speaking" + "and laughing" is one man."""
    base = verb_forms()["gerund"].get(word.lower(), word.lower())
    heads = {part.lower() for part in subject}
    if heads & lex.PERSONS:
        return base in lex.VOICE_VERBS
    if heads & lex.ANIMALS:
        return base in lex.VOICE_VERBS - lex.HUMAN_VERBS
    return base in lex.ENGINE_VERBS
