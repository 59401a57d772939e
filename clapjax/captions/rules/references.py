"""Words that refer to what was said before: their events cannot be told first."""

from clapjax.captions.rules import lexicon as lex
from clapjax.captions.rules.words import is_adverb, is_gerund, lemma, verb

CLOSED = (
    lex.DETERMINERS | lex.PREPOSITIONS | lex.SUBORDINATORS | lex.AUXILIARIES | lex.PRONOUNS
    | lex.ADVERBS | {"and", ",", "but", "or", "then", "to"}
)  # fmt: skip
OWN = {"his": "he", "her": "she", "its": "it", "their": "they", "him": "he", "them": "they",
       "himself": "he", "herself": "she", "itself": "it", "themselves": "they"}  # fmt: skip


def nouns(words) -> set[str]:
    """Lemmas of the words that may be nouns."""
    low = [word.lower() for word in words]
    return {lemma(word) for word in low if word not in CLOSED and word not in lex.ADJECTIVES}


def refers(words, earlier) -> str | None:
    """The first word of a segment that refers to the words of earlier ones, or None."""
    low = [word.lower() for word in words]
    known = nouns(earlier)
    return next((word for i, word in enumerate(low) if _refers(low, i, known)), None)


def _refers(low: list[str], i: int, known: set[str]) -> bool:
    """Whether low[i] refers to something outside of low, whose nouns `known` has."""
    word, behind = low[i], low[i + 1 : i + 2]
    pronoun = OWN.get(word, word)
    if pronoun in ("he", "it", "she", "they"):
        return not _bound(pronoun, low[:i])
    if word == "one":
        return bool(set(behind) & (lex.AUXILIARIES | lex.SUBORDINATORS))
    if word == "the" and lex.NOISES & {*behind} and low[i + 2 : i + 3] == ["of"]:
        return False  # "the sound of rain": what is behind says which
    if word == "the" and behind and behind[0] not in lex.PLACES:
        rest = low[i + 1 :]
        end = next((k for k, w in enumerate(rest) if w in CLOSED or is_gerund(w)), len(rest))
        return bool({lemma(w) for w in rest[: end or 1]} & known)
    if lemma(word) == "stop":
        return i > 0 and lemma(low[i - 1]) in known
    return {word, verb(word)[1]} & lex.REFERRING != set() or word in lex.COMPARATIVES


def _bound(pronoun: str, before: list[str]) -> bool:
    """Whether a pronoun finds its noun in the same segment."""
    if pronoun in ("he", "she"):
        return bool(lex.PERSONS & {*before})
    things = (w for w in before[:-1] if verb(w)[0] is None and not is_adverb(w))
    return bool(nouns(things) - (lex.PERSONS if pronoun == "it" else set()))
