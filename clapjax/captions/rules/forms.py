"""Events in the form that their place asks for: "a man speaks" <-> "a man speaking"."""

from dataclasses import dataclass

from clapjax.captions.rules import connectives
from clapjax.captions.rules.clauses import Clause
from clapjax.captions.rules.words import inflect, is_adverb, is_gerund, number, verb

BE = ("is", "are", "was", "were")


def form_of(clauses: tuple[Clause, ...]) -> str:
    """ "finite", "nominal" (nouns and gerunds) or "mixed"."""
    finite = {clause.kind in ("finite", "verb") for clause in clauses}
    return "mixed" if len(finite) > 1 else "finite" if True in finite else "nominal"


def words_of(clauses) -> list[str]:
    """The words of a segment as they stand."""
    return [word for clause in clauses for word in (*clause.joint, *clause.words)]


def converted(clauses, convert) -> list[str] | None:
    """The words of a segment, `convert`ed clause by clause; None where one of them is None."""
    words: list[str] = []
    for i, clause in enumerate(clauses):
        part = convert(clause)
        if part is None:
            return None
        last = i > 0 and i == len(clauses) - 1
        words += ["and"] if last and clause.joint == (",",) else clause.joint  # "A, B": "A and B"
        words += part
    return words


def nominal(clause: Clause) -> list[str] | None:
    """The words of a clause as a noun or with a gerund, or None where that is not known."""
    words, i = list(clause.words), clause.verbs[0] if clause.verbs else 0
    if clause.kind != "finite":
        return words
    if words[0].lower() == "there" and i == 1:
        return words[2:] if words[1] in BE and len(words) > 2 else None
    happens = len(clause.verbs) == 1 and verb(words[i])[1] in ("occur", "happen")
    if happens:  # "rustling occurs" is "rustling"
        return words[: clause.start] + words[i + 1 :]
    phrase = phrase_to(clause, "gerund")
    return None if phrase is None else [*clause.subject, *phrase]


def finite(clause: Clause) -> list[str] | None:
    """The words of a clause with a finite verb, or None where that is not known."""
    if clause.kind == "finite":
        return list(clause.words)
    inner = clause.words[clause.tail :] if clause.tail is not None else ()
    if clause.kind != "gerund" or "," in clause.words or "and" in inner:
        return None  # what follows may be a gerund of the main clause
    phrase = phrase_to(clause, "third" if number(clause.subject) == "s" else "base")
    doubtful = phrase is None or any(is_gerund(word) for word in phrase[1:])
    return None if doubtful else [*clause.subject, *phrase]


def phrase_form(clause: Clause) -> str | None:
    """A key of TAGS, "is" or "are" (with a gerund), or another auxiliary's "aux"."""
    i = clause.verbs[0]
    behind = next((w for w in clause.words[i + 1 :] if not is_adverb(w)), "")
    word = clause.words[i].lower()
    return word if word in ("is", "are") and is_gerund(behind) else verb(word)[0]


def phrase_to(clause: Clause, form: str) -> list[str] | None:
    """A verb phrase with all its verbs in another form of `phrase_form`, or None where unknown."""
    words = [clause.words[0].lower(), *clause.words[1:]]
    for count, i in enumerate(clause.verbs):
        form = "gerund" if count and form in BE else form  # "is speaking and laughing"
        old, base = verb(words[i])
        k = next((k for k in range(i + 1, len(words)) if not is_adverb(words[k])), i)
        going = k > i and is_gerund(words[k])
        if words[i] in ("is", "are", "being"):
            if words[i] != "being" and going:  # "is revving", "is being blown"
                words[i] = form if form in ("is", "are") else ""
                words[k] = words[k] if words[i] or form == "gerund" else _inflected(words[k], form)
            elif form == "gerund" and verb(words[k])[0] != "past":
                return None  # "is in the background"
            else:
                words[i] = {"third": "is", "base": "are", "gerund": "being"}[form]
        elif old not in ("third", "base", "gerund"):
            return None
        elif old != form:
            if going and base in ("stop", "begin", "start"):
                if form != "gerund" or base == "stop" or k > i + 1:
                    return None  # no "stopping barking", no "beginning laughing"
                words[k] = f"to {verb(words[k])[1]}"
            words[i] = _inflected(words[i], form)
    return [word for word in words[clause.start :] if word]


def _inflected(word: str, form: str) -> str:
    base = verb(word)[1]
    return f"{form} {inflect(base, 'gerund')[0]}" if form in BE else inflect(base, form)[0]


@dataclass(frozen=True)
class Events:
    """Events that move together: a segment, with the verb phrases that share its subject."""

    words: tuple[str, ...]
    clauses: tuple[Clause, ...]  # of the first segment
    simple: bool = True  # one segment

    @property
    def form(self) -> str:
        """What its place asks for; "any" where nouns stand, which fit beside everything."""
        nouns = all(clause.kind == "noun" for clause in self.clauses)
        return "any" if nouns else form_of(self.clauses)


def write(
    found: connectives.Split, own: list[Events], events: list[Events]
) -> tuple[float, list[str]] | None:
    """The sentence with other events in its places, each in the form that its place asks for.

    Args:
      found: the connectives; its segments are not read.
      own: what stands in the places.
      events: what is to stand there.

    Returns:
      (cost, words), the cost being how far forms are from what was asked; None where that fails.
    """
    texts, links, total = [], list(found.links), 0.0
    for place, unit in enumerate(events):
        around = ("", *found.names, "")[place : place + 2]
        link = found.links[place] if place < len(found.links) else ()
        be = next((word for word in link if word.lower() in BE), None)
        wanted = own[place].form
        if be is not None:
            if wanted not in ("nominal", "any") or "which" in link or "and" in link:
                return None  # "as shots are followed by screams": a clause of its own
            wanted = "nominal"
        if around[0] in connectives.NOMINAL:
            wanted = "nominal"
        fitted = _fit(unit, wanted, around) if unit != own[place] else (list(unit.words), 0.0)
        if fitted is None:
            return None
        texts.append(fitted[0])
        total += fitted[1]
        if be is not None:
            pair = ("is", "are") if be in ("is", "are") else ("was", "were")
            links[place] = tuple(pair[_many(unit)] if word == be else word for word in link)
    return total, found.written(texts, links)


def _fit(unit: Events, wanted: str, around) -> tuple[list[str], float] | None:
    """A moved unit's words between two connectives, and how far they are from the wanted form."""
    clauses, form, (left, right) = unit.clauses, form_of(unit.clauses), around
    if not unit.simple:
        return (list(unit.words), 0.5) if form == wanted and left != "lead-in" else None
    if clauses[0].kind == "bare" and {"before", "after", "lead-in"} & {*around}:
        return None  # its subject would be sought in the other event
    if form == wanted != "nominal" or wanted in ("any", "mixed"):
        return converted(clauses, lambda clause: clause.words), 0.0
    nouns = unit.form == "any" and "lead-in" not in around
    first = right in connectives.NOMINAL and left == ""  # "a bang followed by ..."
    words, cost = converted(clauses, nominal if wanted == "nominal" else finite), 0.0
    if words is None and wanted != "nominal" and (first or nouns):
        words, cost = converted(clauses, nominal), 0.5 if first else 1.0
    return None if words is None else (words, cost)


def _many(unit: Events) -> bool:
    """Whether "are" follows a noun phrase or a gerund with its subject."""
    clause = unit.clauses[0]
    return len(unit.clauses) > 1 or number(clause.subject or clause.words[: clause.tail]) == "p"
