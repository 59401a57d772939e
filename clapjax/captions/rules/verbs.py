"""Where the verb of a clause stands, if it has one.

Words in captions are ambiguous: "barks" is a verb in "a dog barks" and a noun in "two barks". What
stands around them decides; where it does not, the caller leaves the caption alone.
"""

from clapjax.captions.rules import lexicon as lex
from clapjax.captions.rules.words import (
    is_adverb,
    is_gerund,
    is_plural,
    verb_form,
    verb_forms,
)

# Nothing that may be a subject.
NO_SUBJECT = lex.DETERMINERS | lex.PREPOSITIONS | lex.ADJECTIVES | lex.SUBORDINATORS
FEW = (["few"], ["couple"], ["dozen"])  # behind "a"


def phrase_start(low: list[str], verb: int) -> int:
    """Where the verb phrase begins: adverbs in front of the verb belong to it."""
    while verb > 0 and is_adverb(low[verb - 1]):
        verb -= 1
    return verb


def finite_verb(low: list[str], pair: bool = False) -> tuple[int | None, str | None]:
    """The first finite verb of a clause, if possible one with a subject before it.

    Args:
      low: words in lower case, without "as ..." behind them.
      pair: whether "a man and" stands before, which makes the subject plural.

    Returns:
      (index, "aux", "third", "base" or "past"), or (None, None).
    """
    forms = verb_forms()
    for lead in (False, True):
        for i, word in enumerate(low):
            if (phrase_start(low, i) == 0) != lead:
                continue
            if word in lex.AUXILIARIES and (lead or not _can(low, i)):
                return i, "aux"
            if word in forms["third"] and (lead or _third_fits(low, i)):
                return i, "third"
            if word in forms["base"] and (lead or _base_fits(low, i, pair)):
                return i, "base"
            if word in forms["past"] and not lead and _past_fits(low, i):
                return i, "past"
    return None, None


def _can(low: list[str], i: int) -> bool:
    """ "a can" of paint."""
    return low[i] in ("can", "will", "do") and low[i - 1] in lex.DETERMINERS


def _third_fits(low: list[str], i: int) -> bool:
    """Whether low[i], as "barks", is a verb there and no plural noun."""
    j = phrase_start(low, i) - 1
    before, nearby = low[j], "".join(low[i + 1 : i + 2])
    base = verb_forms()["third"][low[i]]
    nouny = base in lex.NOUNS_TOO
    if before in lex.PRONOUNS:
        return before not in ("they", "others")
    if before in lex.DETERMINERS:
        return before in ("one", "another", "each", "this", "that")
    if before in lex.PREPOSITIONS:
        return before in ("by", "past", "outside", "around") and not nouny
    if before.endswith(("'s", "’s")) or before in lex.ADJECTIVES | lex.SUBORDINATORS:
        return False
    if not nouny:
        return True
    if nearby not in ("open", "shut", "idle") and verb_form(nearby) in (
        "aux", "third", "base", "gerund",
    ):  # fmt: skip
        return False  # "wind sounds blow", "ocean waves crashing"
    if is_gerund(before) or before.endswith("ed"):
        return False
    if is_plural(before) and low[0] not in lex.SINGULAR:
        return before in lex.PERSONS | lex.ANIMALS  # "frogs croaks" can only be a slip
    if low[0] in lex.PLURAL or (low[0] in ("a", "the") and low[1:2] in FEW):
        return False
    links = [k for k in range(j + 1) if low[k] in ("of", "with", "from", "by")]
    if links and not lex.DETERMINERS & set(low[links[-1] : j]):
        return False
    return base != "sound" or low[0] in lex.SINGULAR or low[0] == "the"


def _base_fits(low: list[str], i: int, pair: bool) -> bool:
    """Whether low[i], as "bark", is a verb there."""
    j = phrase_start(low, i) - 1
    before = low[j]
    nouny = low[i] in lex.NOUNS_TOO
    if before in lex.PRONOUNS:
        return before in ("they", "others", "who")
    if low[i] == "idle" and before.startswith("run"):
        return False
    if verb_forms()["third"].get(before, "run") not in lex.NOUNS_TOO:
        return False  # "goes idle"
    if before in ("many", "several", "some", "all", "both", "multiple") and not nouny:
        return True
    if before in NO_SUBJECT or before in lex.AUXILIARIES or is_gerund(before):
        return False
    if low[j - 1 : j] == ["to"]:
        return False  # "begins to get quiet"
    if is_plural(before) or before in lex.UNMARKED:
        return True
    head = next((k for k in range(1, j) if low[k] in lex.PREPOSITIONS), None)
    if head is not None and is_plural(low[head - 1]):
        return True  # "birds in a tree chirp"
    if any(is_plural(word) for word in low[1:j]) and not nouny:
        return low[0] not in lex.SINGULAR or bool(lex.GROUPS & set(low[:j]))
    return pair and (not nouny or before in lex.PERSONS | lex.ANIMALS)


def _past_fits(low: list[str], i: int) -> bool:
    """Whether low[i], as "barked", is a verb there and no participle."""
    before = low[phrase_start(low, i) - 1]
    if before in NO_SUBJECT or before in lex.AUXILIARIES:
        return False
    return before not in ("being", "get", "gets", "getting") and low[i + 1 : i + 2] != ["by"]


def gerund_verb(low: list[str]) -> int | None:
    """The first gerund with a subject before it: "a man speaking"."""
    first = leading_gerund(low)
    nearby = low[first + 1 : first + 2] if first is not None else []
    if nearby and (nearby[0] in lex.PREPOSITIONS | lex.DETERMINERS or is_adverb(nearby[0])):
        return None  # "shutting off with a person talking"
    nounless = NO_SUBJECT - {"one", "another", "others", "inside", "outside"}
    found = []
    for i, word in enumerate(low):
        j = phrase_start(low, i) - 1
        noun = j >= 0 and low[j] not in nounless and not low[j].endswith("ed")
        if noun and is_gerund(word) and not set(low[i + 1 : i + 2]) & lex.NOISES:
            found.append(i)
    while len(found) > 1 and _compound(low, *found[:2]):
        found.pop(0)
    return found[0] if found else None


def _compound(low: list[str], first: int, second: int) -> bool:
    """ "a hair drying machine running": whether the first gerund belongs to the noun."""
    between = low[first + 1 : second]
    closed = lex.PREPOSITIONS | lex.DETERMINERS
    return len(between) == 1 and between[0] not in closed and not is_adverb(between[0])


def leading_gerund(low: list[str]) -> int | None:
    """The gerund that a clause without a subject begins with, adverbs aside."""
    first = next((i for i, word in enumerate(low) if not is_adverb(word)), None)
    return first if first is not None and is_gerund(low[first]) else None


def has_stray_verb(low: list[str]) -> bool:
    """Whether what seems a noun phrase holds a word that must be a finite verb."""
    thirds = verb_forms()["third"]
    if low[0] in verb_forms()["past"] and (len(low) == 1 or is_adverbial(low[1:])):
        return True  # "and then revved"
    end = next((k for k in range(1, len(low)) if low[k] in lex.PREPOSITIONS), len(low))
    if low[0] in ("a", "an") and is_plural(low[end - 1]) and low[1:2] not in FEW:
        return low[end - 1] not in thirds  # "a motorboat glitters over": an unknown verb
    return any(
        (word in lex.AUXILIARIES and low[i - 1 : i] not in (["a"], ["the"]))
        or thirds.get(word, "bark") not in lex.NOUNS_TOO
        for i, word in enumerate(low)
    )


def may_be_verb(low: list[str]) -> bool:
    """Whether a phrase begins with an unknown word in -s that is hardly a noun: "glints twice"."""
    behind = low[1] if len(low) > 1 else "of"
    if not is_plural(low[0]) or verb_form(low[0]) is not None or is_gerund(behind):
        return False
    noun = low[0] in ("footsteps", "gunshots") or behind in ("of", "in", "from", "with", "on")
    return not noun


def is_adverbial(low: list[str]) -> bool:
    """ "in the distance", "loudly": no clause of its own."""
    if all(is_adverb(word) or word in lex.ADJECTIVES or word == "and" for word in low):
        return True
    leads = low[0] in lex.PREPOSITIONS or (is_adverb(low[0]) and low[-1] in lex.PREPOSITIONS)
    return leads and finite_verb(low)[0] is None
