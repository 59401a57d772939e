"""Words of a caption: tokens, forms, number. lemminflect is loaded when first used."""

import functools
import re

from clapjax.captions.rules import lexicon as lex

WORD = re.compile(r"\w[\w'’./-]*\w|\w|,|[^\s\w,]")
TAGS = {"third": ("VBZ",), "base": ("VB",), "gerund": ("VBG",), "past": ("VBD", "VBN")}
# Where lemminflect is wrong: "baaaing", "mimicing", "he have".
IRREGULAR = {
    ("have", "third"): "has", ("baa", "gerund"): "baaing", ("baa", "past"): "baaed",
    ("mimic", "gerund"): "mimicking", ("mimic", "past"): "mimicked",
}  # fmt: skip


def tokenize(text: str) -> list[str]:
    """Words, commas, and any other sign on its own."""
    return WORD.findall(text)


def join(words: list[str]) -> str:
    """The inverse of `tokenize` up to spaces."""
    return " ".join(words).replace(" ,", ",")


@functools.cache
def inflect(base: str, form: str) -> tuple[str, ...]:
    """Spellings of a verb's form (a key of TAGS), the usual one first."""
    import lemminflect

    if (base, form) in IRREGULAR:
        return (IRREGULAR[base, form],)
    return tuple(word for tag in TAGS[form] for word in lemminflect.getInflection(base, tag))


@functools.cache
def _listed() -> dict[str, tuple[str, str]]:
    """(form, base) of every form of the verbs that the dictionary alone does not tell."""
    found: dict[str, tuple[str, str]] = {}
    for form in TAGS:
        for base in sorted(lex.VERBS | lex.SOUNDS):
            for word in inflect(base, form):
                found.setdefault(word, (form, base))
    return found


@functools.cache
def verb(word: str) -> tuple[str | None, str]:
    """(form, base) of a verb, in lower case; the form is "aux", a key of TAGS, or None.

    Words that the dictionary has as nothing else are verbs; others are where `lexicon` says so.
    """
    import lemminflect

    word = word.lower()
    if word in lex.AUXILIARIES:
        return "aux", lemminflect.getLemma(word, "AUX")[0]
    if word in _listed():
        return _listed()[word]
    kinds = lemminflect.getAllLemmas(word)
    if set(kinds) == {"VERB"} and word not in lex.NOT:
        base = kinds["VERB"][0]
        return next((form for form in TAGS if word in inflect(base, form)), None), base
    if is_gerund(word):
        return "gerund", lemminflect.getLemma(word, "VERB")[0]
    return None, word


@functools.cache
def singular(word: str) -> str:
    """The singular of a noun, or the word itself; lower case."""
    import lemminflect

    word = word.lower()
    form, base = verb(word)
    if form == "third" and base in lex.SOUNDS:
        return base
    if word == "people" or not word.isalpha():
        return "person" if word == "people" else word
    if lemminflect.getAllLemmas(word) and not lemminflect.getAllLemmas(word, "NOUN"):
        return word
    return lemminflect.getLemma(word, "NOUN")[0]


def lemma(word: str) -> str:
    """A verb's base, a plural noun's singular, or the word itself; lower case."""
    form, base = verb(word)
    return singular(word) if form is None else base


def is_plural(word: str) -> bool:
    """Whether a noun is plural; sheep are not."""
    return word.lower() in lex.PLURALS or (len(word) > 2 and singular(word) != word.lower())


def is_gerund(word: str) -> bool:
    """Whether a word ends as a gerund does and is none of the nouns that do."""
    word = word.lower()
    return word.endswith("ing") and len(word) > 4 and word not in lex.NOT


def is_adverb(word: str) -> bool:
    """Adverbs that may stand between a subject and its verb."""
    word = word.lower()
    return word in lex.ADVERBS or (word.endswith("ly") and word not in lex.NOT)


def head(low: list[str]) -> int:
    """Index of the noun of a noun phrase in lower case."""
    return next((k for k in range(1, len(low)) if low[k] in lex.PREPOSITIONS), len(low)) - 1


def number(words) -> str:
    """ "s" or "p": the number of a noun phrase."""
    low = [word.lower() for word in words] or ["it"]
    if "and" in low or low[0] in ("they", "others", "who"):
        return "p"
    first, end = low[0], head(low) + 1
    noun = low[end - 1]
    if first in ("a", "the") and low[1:2] in (["few"], ["couple"], ["dozen"]):
        return "p"
    if noun in lex.GROUPS and low[end : end + 1] == ["of"]:
        return "p" if any(is_plural(word) for word in low[end:]) else "s"
    if first in lex.SINGULAR:
        return "s"
    return "p" if first in lex.PLURAL or is_plural(noun) or noun in lex.UNMARKED else "s"
