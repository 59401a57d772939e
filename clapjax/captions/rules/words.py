"""Words of a caption: tokens, forms, number."""

import functools
import re

from clapjax.captions.rules import lexicon as lex

WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9'’./-]*[A-Za-z0-9]|[A-Za-z0-9]|,|[^\sA-Za-z0-9,]")
VOWEL = re.compile(r"[aeio]|u(?!n[ai]|s)")  # an hour and a union aside
FORMS = ("third", "gerund", "base", "past")


def tokenize(text: str) -> list[str]:
    """Words, commas, and any other sign on its own."""
    return WORD.findall(text)


def join(words: list[str]) -> str:
    """The inverse of `tokenize` up to spaces."""
    return " ".join(words).replace(" ,", ",")


def gerund(base: str) -> str:
    """speak -> speaking, run -> running, drive -> driving."""
    if base.endswith("ic"):
        return base + "king"
    if base in lex.DOUBLED:
        return base + base[-1] + "ing"
    if base.endswith("ie"):
        return base[:-2] + "ying"
    if base.endswith("e") and not base.endswith(("ee", "oe", "ye")):
        return base[:-1] + "ing"
    return base + "ing"


def third(base: str) -> str:
    """speak -> speaks, crash -> crashes, cry -> cries."""
    if base == "have":
        return "has"
    if re.search(r"(s|x|z|ch|sh|[^o]o)$", base):
        return base + "es"
    if re.search(r"[^aeiou]y$", base):
        return base[:-1] + "ies"
    return base + "s"


def pasts(base: str) -> list[str]:
    """Past and participle."""
    if base in lex.IRREGULAR_PAST:
        return lex.IRREGULAR_PAST[base].split()
    if base.endswith("ic"):
        return [base + "ked"]
    if base in lex.DOUBLED:
        return [base + base[-1] + "ed"]
    if base.endswith("e"):
        return [base + "d"]
    if re.search(r"[^aeiou]y$", base):
        return [base[:-1] + "ied"]
    return [base + "ed"]


@functools.cache
def verb_forms() -> dict[str, dict[str, str]]:
    """Form (one of FORMS) -> word -> base."""
    forms = {form: {} for form in FORMS}
    for base in sorted(lex.VERBS):
        forms["base"][base] = base
        forms["third"][third(base)] = base
        forms["gerund"][gerund(base)] = base
        for word in pasts(base):
            if word != base:
                forms["past"].setdefault(word, base)
    return forms


def verb_form(word: str) -> str | None:
    """ "aux", one of FORMS, or None where a word is no verb."""
    word = word.lower()
    if word in lex.AUXILIARIES:
        return "aux"
    for form in ("third", "base", "gerund", "past"):
        if word in verb_forms()[form]:
            return form
    return "gerund" if is_gerund(word) else None


def lemma(word: str) -> str:
    """A verb's base, a plural noun's singular, or the word itself; lower case."""
    word = word.lower()
    for form in FORMS:
        if word in verb_forms()[form]:
            return verb_forms()[form][word]
    if word in lex.IRREGULAR_PLURALS:
        return lex.IRREGULAR_PLURALS[word]
    if not is_plural(word):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-2] if re.search(r"(s|x|z|ch|sh)es$", word) else word[:-1]


def is_plural(word: str) -> bool:
    """Whether a noun looks plural."""
    word = word.lower()
    if word in lex.IRREGULAR_PLURALS or word in lex.UNMARKED_PLURALS:
        return True
    ends = word.endswith("s") and not word.endswith(("ss", "us", "is", "'s", "’s"))
    return ends and len(word) > 3 and word not in lex.SINGULAR_S


def is_gerund(word: str) -> bool:
    """Whether a word ends as a gerund does and is none of the nouns that do."""
    word = word.lower()
    if word in verb_forms()["gerund"] or word == "being":
        return True
    return word.endswith("ing") and len(word) > 5 and word not in lex.NOT_GERUNDS


def is_adverb(word: str) -> bool:
    """Adverbs that may stand between a subject and its verb."""
    word = word.lower()
    return word in lex.ADVERBS or (word.endswith("ly") and word not in lex.NOT_ADVERBS)


def number(words) -> str:
    """ "s" or "p": the number of a noun phrase."""
    low = [word.lower() for word in words]
    if "and" in low or low[:1] in (["they"], ["others"], ["who"]):
        return "p"
    if not low:
        return "s"
    end = next((k for k in range(1, len(low)) if low[k] in lex.PREPOSITIONS), len(low))
    head = low[:end]
    if head[0] in ("a", "the") and head[1:2] in (["few"], ["couple"], ["dozen"]):
        return "p"
    if head[-1] in lex.GROUPS and low[end : end + 1] == ["of"]:
        plural = any(is_plural(word) for word in low[end:])
        return "p" if plural and head[-1] not in ("series", "swarm", "set", "pair") else "s"
    if head[0] in lex.SINGULAR:
        return "s"
    if head[0] in lex.PLURAL and head[0] != "some":
        return "p"
    return "p" if is_plural(head[-1]) or head[-1] in lex.UNMARKED else "s"


def with_article(words: list[str]) -> list[str]:
    """Corrects a leading "a" or "an" to the word behind it."""
    if len(words) < 2 or words[0].lower() not in ("a", "an"):
        return words
    return ["an" if VOWEL.match(words[1].lower()) else "a", *words[1:]]
