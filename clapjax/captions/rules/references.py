"""Words that refer to what was said before, when the order of events changes."""

from clapjax.captions.rules import lexicon as lex
from clapjax.captions.rules.clauses import Clause, parse
from clapjax.captions.rules.reasons import refers_back
from clapjax.captions.rules.words import (
    is_adverb,
    is_gerund,
    is_plural,
    lemma,
    number,
    verb_form,
    with_article,
)

# "the distance" is nobody's distance.
PLACES = (
    "background", "distance", "foreground", "end", "same", "time", "ground", "air", "side", "wind",
    "room", "middle", "front",
)  # fmt: skip
CLOSED = (
    lex.DETERMINERS | lex.PREPOSITIONS | lex.SUBORDINATORS | lex.AUXILIARIES | lex.PRONOUNS
    | lex.ADVERBS | {"and", ",", "but", "or", "then", "to"}
)  # fmt: skip
POSSESSIVE = {"his": "he", "her": "she", "its": "it", "their": "they"}
OBJECT = {"him": "he", "them": "they", "himself": "he", "herself": "she", "itself": "it",
          "themselves": "they"}  # fmt: skip


def nouns(words) -> set[str]:
    """Lemmas of the words that may be nouns."""
    low = [word.lower() for word in words]
    return {lemma(word) for word in low if word not in CLOSED and word not in lex.ADJECTIVES}


def refers(words, earlier) -> str | None:
    """The first word of a segment that refers to an earlier one; None where there is none.

    Args:
      words: the segment.
      earlier: the words of all segments before it.
    """
    low = [word.lower() for word in words]
    known = nouns(earlier)
    return next((word for i, word in enumerate(low) if _refers(low, i, known)), None)


def _refers(low: list[str], i: int, known: set[str]) -> bool:
    """Whether low[i] refers to something outside of low, whose nouns `known` has."""
    word, behind = low[i], low[i + 1 : i + 2]
    pronoun = POSSESSIVE.get(word) or OBJECT.get(word) or word
    if pronoun in lex.PRONOUN_NUMBER:
        return not _bound(pronoun, low[:i])
    if word == "another":
        head = lemma(low[_head(low, i + 1)]) if behind else ""
        person = is_gerund(head) and bool(lex.PERSONS & set(low[:i]))  # "another speaking"
        return head not in nouns(low[:i]) and not person
    if word == "one":
        return bool(set(behind) & (lex.AUXILIARIES | lex.SUBORDINATORS))
    if word == "the" and behind and behind[0] not in PLACES:
        return lemma(low[_head(low, i + 1)]) in known
    if word in ("stop", "stops", "stopped"):
        return i > 0 and lemma(low[i - 1]) in known
    return word in lex.REFERRING or word in lex.COMPARATIVES


def _bound(pronoun: str, before: list[str]) -> bool:
    """Whether a pronoun finds its noun in the same segment."""
    persons = {w for w in before if w in lex.PERSONS and w not in lex.GROUPS and not is_plural(w)}
    if pronoun == "he":
        return bool(persons - lex.FEMALE)
    if pronoun == "she":
        return bool(persons - lex.MALE)
    if pronoun == "they":
        return bool(before) and (number(before) == "p" or any(w in lex.PLURAL for w in before))
    if before and before[0] in ("it", "as", "while"):
        return False
    return any(
        word not in CLOSED | lex.PERSONS | lex.ADJECTIVES
        and not is_adverb(word)
        and (verb_form(word) is None or before[i - 1 : i] in (["a"], ["an"], ["the"]))
        for i, word in enumerate(before[:-1])
    )


def _head(low: list[str], start: int) -> int:
    """Index of the last noun of the noun phrase low[start:], which has its article before it."""
    end = start
    while end + 1 < len(low) and low[end + 1] not in CLOSED and not is_gerund(low[end + 1]):
        clauses = parse(low[start - 1 : end + 2])
        if clauses is None or clauses[0].kind != "noun":
            break
        end += 1
    return end


def resolve(segments: list[tuple[str, ...]], order: list[int]):
    """Keeps references right in another order of segments.

    "a dog barks", "the dog growls" in the other order are "a dog growls", "the dog barks"; "a man
    speaks", "he laughs" are "a man laughs", "he speaks". A segment whose reference cannot be handed
    over must stay behind all that it may refer to.

    Args:
      segments: in the order in which the caption names them.
      order: indices of the segments, as they are to be named.

    Returns:
      (segments by their old index, None), or (None, the reason why not).
    """
    placed = [tuple(segment) for segment in segments]
    for later in range(1, len(segments)):
        earlier = [word for segment in segments[:later] for word in segment]
        word = refers(segments[later], earlier)
        ahead = [i for i in range(later) if order.index(i) > order.index(later)]
        if word is None or not ahead:
            continue
        handed = _hand_over(placed, ahead, later)
        if handed is None:
            return None, refers_back(word)
        placed = handed
    return placed, None


def _hand_over(placed, ahead: list[int], later: int):
    """Exchanges a reference and its noun between two segments, or None."""
    if len(ahead) != 1:
        return None
    first = ahead[0]
    for exchange in (_exchange_pronoun, _exchange_article):
        both = exchange(list(placed[first]), list(placed[later]))
        if both is not None:
            noun, reference = both
            others = [w for i, s in enumerate(placed) if i < later and i != first for w in s]
            if refers(reference, others) is None:
                return [
                    tuple(noun) if i == first else tuple(reference) if i == later else segment
                    for i, segment in enumerate(placed)
                ]
    return None


def _exchange_pronoun(first: list[str], later: list[str]):
    """("a man speaks", "he laughs") -> ("he speaks", "a man laughs")."""
    before, after = parse(first), parse(later)
    if not before or not after or after[0].kind != "finite" or before[0].kind != "finite":
        return None
    pronoun = [word.lower() for word in after[0].subject]
    if len(pronoun) != 1 or pronoun[0] not in lex.PRONOUN_NUMBER:
        return None
    fitting = [clause for clause in before if clause.kind == "finite" and _fits(pronoun[0], clause)]
    if len(fitting) != 1 or fitting[0] is not before[0] or before[0].tail is not None:
        return None
    subject = list(before[0].subject)
    return [*pronoun, *first[len(subject) :]], [*subject, *later[1:]]


def _fits(pronoun: str, clause: Clause) -> bool:
    low = [word.lower() for word in clause.subject]
    if number(low) != lex.PRONOUN_NUMBER[pronoun]:
        return False
    persons = set(low) & lex.PERSONS
    if pronoun == "he":
        return bool(persons - lex.FEMALE)
    if pronoun == "she":
        return bool(persons - lex.MALE)
    return pronoun == "they" or not persons


def _exchange_article(first: list[str], later: list[str]):
    """("a big dog barks", "the dog growls") -> ("the dog barks", "a big dog growls").

    "another" only changes places with the article: another thing may be of another kind.
    """
    low, low_first = [word.lower() for word in later], [word.lower() for word in first]
    for i, word in enumerate(low[:-1]):
        if word not in ("the", "another"):
            continue
        end = _head(low, i + 1)
        if i == 0 and end + 1 == len(low):
            continue  # "after the cat": no event of its own
        noun = lemma(low[end])
        articles = [k for k, article in enumerate(low_first[:-1]) if article in ("a", "an", "one")]
        ends = {k: _head(low_first, k + 1) for k in articles}
        places = [k for k in articles if lemma(low_first[ends[k]]) == noun]
        once = all([lemma(w) for w in words].count(noun) == 1 for words in (low, low_first))
        if len(places) != 1 or not once:
            continue
        k = places[0]
        if word == "another":
            new = with_article(["a", *later[i + 1 :]])
            return [*first[:k], word, *first[k + 1 :]], [*later[:i], *new]
        named, meant = first[k : ends[k] + 1], later[i : end + 1]
        return [*first[:k], *meant, *first[ends[k] + 1 :]], [*later[:i], *named, *later[end + 1 :]]
    return None
