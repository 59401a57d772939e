"""A segment in another form: "a man speaks" <-> "a man speaking"."""

from clapjax.captions.rules import lexicon as lex
from clapjax.captions.rules.clauses import Clause
from clapjax.captions.rules.verbs import leading_gerund
from clapjax.captions.rules.words import gerund, is_adverb, number, third, verb_forms

BE = ("is", "are", "was", "were")
HAPPEN = ("occurs", "occur", "happens", "happen")
HEARD = ("heard", "audible", "present", "ongoing")  # "birds can be heard" is "birds"


def form_of(clauses: tuple[Clause, ...]) -> str:
    """ "finite", "nominal" (nouns and gerunds) or "mixed"."""
    kinds = {clause.kind for clause in clauses}
    if kinds & {"finite", "past", "verb"}:
        return "mixed" if kinds & {"gerund", "bare"} else "finite"
    return "nominal"


def words_of(clauses) -> list[str]:
    """The words of a segment as they stand."""
    return [word for clause in clauses for word in (*clause.joint, *clause.words)]


def to_nominal(clauses: tuple[Clause, ...]) -> list[str] | None:
    """The words of a segment as nouns and gerunds, or None where that is not known."""
    words: list[str] = []
    for i, clause in enumerate(clauses):
        part = _clause_to_gerund(clause) if clause.kind == "finite" else list(clause.words)
        if part is None or clause.kind == "past":
            return None
        last = i > 0 and i == len(clauses) - 1
        words += ["and"] if last and clause.joint == (",",) else clause.joint
        words += part
    return words


def to_finite(clauses: tuple[Clause, ...]) -> list[str] | None:
    """The words of a segment with every gerund finite, or None where that is not known."""
    words: list[str] = []
    for clause in clauses:
        part = list(clause.words)
        if clause.kind == "gerund":
            if "," in part or (clause.tail is not None and "and" in clause.inner):
                return None  # what follows may be a gerund of the main clause
            phrase = phrase_to(clause, "third" if number(clause.subject) == "s" else "base")
            if phrase is None:
                return None
            part = [*clause.subject, *phrase]
        elif clause.kind != "finite":
            return None
        words += [*clause.joint, *part]
    return words


def _clause_to_gerund(clause: Clause) -> list[str] | None:
    words, first = list(clause.words), clause.verbs[0]
    low = [word.lower() for word in words]
    if len(clause.verbs) == 1:
        if low[0] == "there" and first == 1:
            return words[2:] if low[1] in BE and len(words) > 2 else None
        heard = [k for k in range(first, min(first + 4, len(low))) if low[k] in HEARD]
        if low[first] in lex.AUXILIARIES and heard:
            return words[: clause.start] + words[heard[0] + 1 :]
        if low[first] in HAPPEN:  # "rustling occurs" is "rustling"
            return words[:first] + words[first + 1 :]
    phrase = phrase_to(clause, "gerund")
    return None if phrase is None else [*clause.subject, *phrase]


def phrase_form(clause: Clause) -> str | None:
    """The form of a clause's verb phrase.

    "third", "base" (passives as well), "gerund", or "is"/"are" with a gerund; None for tenses that
    are left alone.
    """
    low = [word.lower() for word in clause.words]
    i = clause.verbs[0]
    if low[i] in ("is", "are"):
        simple = "third" if low[i] == "is" else "base"
        return simple if _progressive(low, i) is None else low[i]
    forms = verb_forms()
    known = (form for form in ("third", "base", "gerund") if low[i] in forms[form])
    return "gerund" if low[i] == "being" else next(known, None)


def _progressive(low: list[str], i: int) -> int | None:
    """Where the gerund of "is revving" stands, if low[i] is such an "is"."""
    k = next((k for k in range(i + 1, len(low)) if not is_adverb(low[k])), None)
    return k if low[i] in ("is", "are") and k and low[k] in verb_forms()["gerund"] else None


def phrase_to(clause: Clause, form: str) -> list[str] | None:
    """A verb phrase with all its verbs in another form.

    Args:
      clause: its kind is "finite", "gerund", "verb" or "bare".
      form: as `phrase_form` tells it.
    """
    words = list(clause.words)
    low = [word.lower() for word in words]
    for count, i in enumerate(clause.verbs):
        k = _progressive(low, i)
        if k is not None and form in ("third", "base"):  # "is revving" -> "revs"
            base = verb_forms()["gerund"][low[k]]
            words[i], words[k] = "", third(base) if form == "third" else base
            continue
        new = _verb_to(low, i, form, count == 0)
        if new is None:
            return None
        words[i] = new
        if new.endswith(("beginning", "starting")) and leading_gerund(low[i + 1 : i + 2]) == 0:
            base = verb_forms()["gerund"].get(low[i + 1])
            if base is not None and low[i] != new:  # "beginning to laugh"
                words[i + 1] = f"to {base}"
    return [word for word in words[clause.start :] if word]


def _verb_to(low: list[str], i: int, form: str, first: bool) -> str | None:
    """The word at i in another form; "" where it goes, None where that is not known."""
    word, forms = low[i], verb_forms()
    singular = form in ("third", "is")
    if word in ("is", "are"):
        if form != "gerund":
            return "is" if singular else "are"
        going = _progressive(low, i) is not None or low[i + 1 : i + 2] == ["being"]
        return "" if going else "being"
    if word == "being":
        return "being" if form == "gerund" else "is" if singular else "are"
    known = [forms[kind][word] for kind in ("third", "base", "gerund") if word in forms[kind]]
    if not known:
        return None
    base = known[0]
    if form == "gerund":
        stopping = base == "stop" and leading_gerund(low[i + 1 : i + 2]) == 0
        return None if stopping else gerund(base)  # no "stopping barking"
    if form in ("is", "are"):
        return f"{form} {gerund(base)}" if first else gerund(base)
    return third(base) if singular else base
