"""The clauses of a stretch of caption.

Enough of a grammar to tell "a man speaks" (finite) from "a man speaking" (gerund) and "a loud bang"
(noun), and to say where it does not reach. Words in captions are ambiguous: "barks" is a verb in
"a dog barks" and a noun in "two barks"; what stands around it decides.
"""

from dataclasses import dataclass, replace

from clapjax.captions.rules import lexicon as lex
from clapjax.captions.rules.words import head, is_adverb, is_gerund, is_plural, number, verb

JOINTS = (",", "and", "&", "or", "but")
# Nothing that may be a subject.
NO_SUBJECT = lex.DETERMINERS | lex.PREPOSITIONS | lex.ADJECTIVES | lex.SUBORDINATORS
# Determiners that may stand for a noun, by the form of verb behind them.
ALONE = {"third": ("one", "another", "each", "this"), "base": ("many", "several", "some", "all")}
# A segment does not end so, nor has an order within: "are then joined by".
DANGLES = (
    (lex.SUBORDINATORS | lex.PREPOSITIONS | lex.DETERMINERS | {*JOINTS, "end", "beginning"})
    - lex.PARTICLES - {"another", "other"}
)  # fmt: skip
ORDERED = {"then", "followed", "before", "after"}
FINITE = ("aux", "third", "base", "past")


@dataclass(frozen=True)
class Clause:
    """A conjunct of a segment."""

    joint: tuple[str, ...]  # what joins it to the one before: () "," "and" ", and"
    words: tuple[str, ...]
    kind: str  # "finite", "gerund", "noun"; without a subject: "verb", "bare" (gerund), "adverbial"
    verbs: tuple[int, ...] = ()  # words that change with the form
    start: int = 0  # of the verb phrase: words[:start] is the subject
    tail: int | None = None  # start of "as ...", "while ..." behind the main clause

    @property
    def subject(self) -> tuple[str, ...]:
        return self.words[: self.start]


def parse(words, subjectless: bool = False) -> tuple[Clause, ...] | None:
    """The clauses of a segment, or None where the grammar does not reach.

    Args:
      words: a stretch between two temporal connectives.
      subjectless: whether it may be a verb phrase whose subject stands before: "then growls".
    """
    low = [word.lower() for word in words]
    if not low or low[0] in lex.PREPOSITIONS or low[-1] in DANGLES or ORDERED & {*low}:
        return None
    clauses: list[Clause] = []
    for joint, piece in _pieces(list(words)):
        last = clauses[-1] if clauses else None
        clause = _read(joint, piece, last, subjectless) if piece else None
        if clause is None or (last is None and clause.kind == "adverbial"):
            return None
        added = [clause] if last is None else _attach(last, clause)
        if added is None:
            return None
        clauses[-1:] = added
    nouns = [clause.words[head(clause.words)] for clause in clauses if clause.kind == "noun"]
    silent = len(nouns) == len(clauses) and lex.PERSONS.issuperset(nouns)
    return None if silent else tuple(clauses)  # "a man" then "a woman talking"


def _pieces(words: list[str]):
    """Yields (joint, words) of the stretches between commas and "and"."""
    joint, piece = [], []
    low = [*(word.lower() for word in words), ""]
    for i, word in enumerate(words):
        listed = {low[i - 1], low[i + 1]} <= lex.ADJECTIVES and i + 2 < len(words)
        if low[i] not in JOINTS or i == 0 or listed:  # "a loud, regular clack"
            piece.append(word)
            continue
        if piece:
            yield tuple(joint), piece
            joint, piece = [], []
        joint.append(word)
    yield tuple(joint), piece


def _read(joint, piece: list[str], last: Clause | None, subjectless: bool) -> Clause | None:
    """A piece by itself; `last` tells whether its subject has two parts, or stands before."""
    low = [word.lower() for word in piece]
    sub = (i for i in range(1, len(low)) if low[i] in lex.SUBORDINATORS)
    cut = next((i for i in sub if "well" not in low[i - 1 : i + 2]), None)  # "as well as"
    main = low[:cut]
    clause = Clause(joint, tuple(piece), "noun", tail=cut)
    manner = all(is_adverb(word) or word in lex.ADJECTIVES for word in low)
    if manner or low[0] in lex.SUBORDINATORS | lex.PREPOSITIONS:
        # "loudly", "in the distance"; but "in the distance a dog barks" is another clause
        whole = low[0] not in lex.PREPOSITIONS or not any(verb(w)[0] in FINITE for w in low[2:])
        return replace(clause, kind="adverbial") if whole else None
    pair = last is not None and last.kind in ("noun", "bare") and "and" in joint
    forms = [verb(word)[0] for word in main]
    lead = next((i for i, word in enumerate(main) if not is_adverb(word)), 0)
    noun = main[lead + 1 : lead + 2] == ["of"]  # "sounds of", "pounding of"
    leads = forms[lead] in FINITE and not noun and main[lead] not in lex.ADJECTIVES
    if last is None:
        leads = leads and subjectless
    else:
        leads = leads and last.kind in ("finite", "verb") and forms[lead] == _form(last)
    for i in range(1, len(main)):
        if start(main, i) > 0 and is_finite(main, i, pair):
            if leads or forms[i : i + 2] == ["aux", "third"]:
                return None  # "runs idle", "drops the tool used", "are accelerates"
            return replace(clause, kind="finite", verbs=(i,), start=start(main, i))
    i = _gerund(main)
    if leads:
        return replace(clause, kind="verb", verbs=(lead,)) if i in (None, lead + 1) else None
    if i is not None:
        subject = main[: start(main, i)]
        if subject[0] in lex.SINGULAR and forms[len(subject) - 1] == "third":
            return None  # "a woman answers speaking"
        group = lex.GROUPS & {*subject[:2]} and "of" in subject[1:3]
        if lex.PREPOSITIONS & {*subject} and not group:
            return clause  # "the sound of water running"
        return replace(clause, kind="gerund", verbs=(i,), start=len(subject))
    if forms[lead] == "gerund" and not noun:
        return replace(clause, kind="bare", verbs=(lead,))
    return clause if _is_noun_phrase(main, lead) else None


def start(low: list[str], i: int) -> int:
    """Where the verb phrase of the verb low[i] begins: adverbs in front belong to it."""
    while i > 0 and is_adverb(low[i - 1]):
        i -= 1
    return i


def is_finite(low: list[str], i: int, pair: bool = False) -> bool:
    """Whether low[i] is a finite verb of the words before it; `pair`: "a man and" is before."""
    form, base = verb(low[i])
    if form not in FINITE:
        return False
    j = start(low, i) - 1
    subject, before, behind = low[: j + 1], low[j], "".join(low[i + 1 : i + 2])
    nouny = base in lex.SOUNDS
    if before in lex.PRONOUNS:
        return (number([before]) == "p") == (form == "base") or form in ("aux", "past")
    if before in NO_SUBJECT | lex.AUXILIARIES or before.endswith(("'s", "’s")):
        return before in ALONE.get(form, ()) and not (nouny and form == "base")
    if form == "aux":
        return True
    if form == "past":
        return not is_gerund(before) and behind != "by" and low[i] not in lex.ADJECTIVES
    if nouny and behind == "of":
        return False  # "the car engine sounds of"
    if form == "third":
        if not nouny:
            return True
        another = verb(behind)[0] in FINITE and behind not in lex.ADJECTIVES
        if another or is_gerund(behind) or is_gerund(before) or before.endswith("ed"):
            return False  # "wind sounds blow", "ocean waves crashing"
        links = [k for k in range(j + 1) if low[k] in lex.PREPOSITIONS]
        if links and not lex.DETERMINERS & set(low[links[-1] : j]):
            return False  # "the sound of dog barks"
        return number(subject) == "s" and (base != "sound" or low[0] in lex.SINGULAR | {"the"})
    if is_gerund(before) or low[j - 1 : j] == ["to"]:
        return False  # "begins to get quiet"
    if nouny:
        heads = is_plural(before) or before in ("sheep", "fish")
        return (heads and low[0] not in lex.SINGULAR) or (pair and before in lex.PERSONS)
    return number(subject) == "p" or pair or (low[1] in lex.GROUPS and is_plural(before))


def _gerund(low: list[str]) -> int | None:
    """The gerund with a subject before it, as in "a man speaking"."""
    if is_gerund(low[0]) and low[1:2] and (low[1] in NO_SUBJECT or is_adverb(low[1])):
        return None  # "shutting off with a person talking"
    found = []
    for i, word in enumerate(low):
        j = start(low, i) - 1
        noun = j >= 0 and low[j] not in NO_SUBJECT - {"one", "another", "adult"}
        if noun and is_gerund(word) and not set(low[i + 1 : i + 2]) & lex.NOISES:
            found.append(i)
    while len(found) > 1 and found[1] - found[0] == 2 and low[found[0] + 1] not in NO_SUBJECT:
        found.pop(0)  # "a hair drying machine running"
    return found[0] if found else None


def _is_noun_phrase(low: list[str], lead: int) -> bool:
    """Whether words without a verb have a noun, and none of them is an unknown verb."""
    noun = low[head(low)]
    if (lead and low[0] not in lex.ADJECTIVES) or is_adverb(noun):
        return False  # "slowly on a keyboard"
    if noun in NO_SUBJECT - {"another", "high"}:
        return False  # "a loud" then "soft noise"
    if low[0] in lex.SINGULAR - {"another"} and number(low) == "s" and is_plural(noun):
        return False  # "a motorboat glitters over": an unknown verb
    stray = (verb(word) for word in low if word not in lex.ADJECTIVES)
    return not any(form in ("aux", "third") and base not in lex.SOUNDS for form, base in stray)


def _attach(last: Clause, clause: Clause) -> list[Clause] | None:
    """Joins a clause to the one before it: two clauses, or one, or None where that is not clear."""
    joined, ended = "and" in clause.joint, last.tail is not None
    going = last.kind in ("finite", "verb")
    if clause.kind == "adverbial" or {"or", "but"} & {*clause.joint}:
        return _merge(last, clause, "words")
    if clause.kind == "verb":
        # "a man speaks as a dog barks and growls": whose verb it is
        return None if ended else _merge(last, clause, "verbs")
    if clause.kind == "finite" and clause.joint == (",",) and not going:
        return None  # "an engine trying to start, it fails to start"
    if clause.kind == "finite" and not ended:
        shared = last.kind in ("noun", "bare") and joined and _form(clause) == "base"
        return _merge(last, clause, "subjects") if shared else [last, clause]
    listed = going and ((clause.kind == "noun" and joined) or "with" in last.words[last.start :])
    loose = clause.kind == "bare" and not joined and last.kind != "noun" and last.start > 0
    if clause.kind == "bare" and not joined and last.kind == "noun" and len(clause.words) > 1:
        return None  # "a car, honking a horn"
    if ended or loose or (listed and clause.kind in ("noun", "gerund")):
        return _merge(last, clause, "words")
    return [last, clause]


def _form(clause: Clause) -> str | None:
    return verb(clause.words[clause.verbs[-1]])[0]


def _merge(last: Clause, clause: Clause, shared: str) -> list[Clause]:
    """One clause of two, with the verbs of both, both subjects of one verb, or words at its end."""
    offset = len(last.words) + len(clause.joint)
    verbs = tuple(offset + i for i in clause.verbs)
    tail = None if clause.tail is None else offset + clause.tail
    words = (*last.words, *clause.joint, *clause.words)
    if shared == "subjects":
        return [Clause(last.joint, words, "finite", verbs, offset + clause.start, tail)]
    if shared == "verbs":
        return [replace(last, words=words, verbs=(*last.verbs, *verbs), tail=tail)]
    begins = offset if clause.words[0].lower() in lex.SUBORDINATORS else None
    return [replace(last, words=words, tail=begins if last.tail is None else last.tail)]
