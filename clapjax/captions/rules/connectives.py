"""Temporal connectives of a caption, and the segments between them."""

import re
from dataclasses import dataclass

from clapjax.captions.rules import lexicon as lex
from clapjax.captions.rules.words import tokenize

JOIN, BE = r"(?:, )?(?:(?:and|but|&) )?", r"(?:(?:is|are|was|were|being) )?"
HASTE = r"(?:suddenly|finally|eventually|immediately|shortly)"  # no manner, which the verb keeps
ADVERBS = r"(?:(?:closely|shortly|immediately|quickly|soon|briefly|later|suddenly|directly) )?"
SOON = r"(?:(?:closely|shortly|immediately|soon|later|just|right) )?"  # no adverb of a verb before
SPAN = (
    r"(?:(?:a few |several |some |two )?(?:moments|seconds|minutes) |some ?time |a while |much )?"
)
# name -> pattern over lower-case words joined by spaces, commas included as words.
PATTERNS = {
    # {l} followed by {r}: {r} is a noun or a gerund; so is {l} in front of "is".
    "follow": rf"{JOIN}(?:then )?(?:which )?{BE}{SOON}(?:followed|proceeded|succeeded) {ADVERBS}"
    r"(?:by|with)",
    "precede": rf"(?:, )?{BE}{SOON}preceded {ADVERBS}by",
    "lead": rf"{JOIN}(?:leading (?:in)?to|giving way to|ending (?:with|in))",
    "then": rf"{JOIN}then(?: {HASTE})?(?: ,)?|{JOIN}(?:soon |shortly )?after (?:which|that)(?: ,)?"
    rf"|{JOIN}{SPAN}(?:later|afterwards?|subsequently|thereafter)(?: on)?(?: ,)?"
    r"|(?:, )?and (?:finally|eventually|lastly|next)(?: ,)?|, (?:finally|eventually)(?: ,)?",
    "before": rf"{JOIN}{SOON}{SPAN}before(?: {HASTE})?",
    "after": rf"{JOIN}{SOON}{SPAN}after",
}
CONNECTIVE = re.compile(
    "|".join(f"(?P<{name}>(?<!\\S)(?:{pattern})(?!\\S))" for name, pattern in PATTERNS.items())
)
# The same words where they do not put two events in order.
AN_IDLING = re.compile(r"\b(?:a|an|the) \w+ing$")  # "then revving engine"
NOT_THEN = {"now", "is", "are", "until", "since", "than", "one"}
NOT_AFTER = re.compile(
    r"(?:and during|the other|another|each|a (?:few|while|moment|short|brief|second|pause|time|bit"
    r"|long|couple)|some (?:time|seconds|silence)|one|every|time|it|this|being|silence|several"
    r"|two seconds|word|day)(?!\S)"
)
FIRST = re.compile(r"(?:at first|first|firstly|initially) (?:, )?")
LEADING = re.compile(r"(?:(?:shortly|right|just|soon) )?(after|before|following) ")
# Any of these makes a caption one that states an order.
STATED = re.compile(
    r"\b(?:followed|following by|follow by|then|before|after|afterwards?|later|subsequently"
    r"|thereafter|finally|eventually|lastly|preceded by|proceeded by|succeeded by"
    r"|leading (?:in)?to|leads (?:in)?to|ending (?:with|in)|ends with"
    r"|(?:begins?|starts?|beginning|starting) with)\b"
)
TOGETHER = re.compile(r"\b(?:as|while|whilst|with|and|during|when|alongside|amid|amidst)\b|,")

NOMINAL = ("follow", "precede", "lead")  # a noun or a gerund stands behind them
SHARING = ("then", "before", "after")  # a verb phrase without a subject may stand behind them
BACKWARDS = ("after", "precede")  # what is said first sounds last


@dataclass(frozen=True)
class Split:
    """A caption cut at its connectives: lead segments[0] links[0] segments[1] ..."""

    lead: tuple[str, ...]  # words in front that stay: "First", "After"
    segments: tuple[tuple[str, ...], ...]
    links: tuple[tuple[str, ...], ...]  # connectives as written
    names: tuple[str, ...]  # their kinds: keys of PATTERNS, or "lead-in" of "After A, B"

    def written(self, texts, links=None) -> list[str]:
        """The words of the sentence with these texts in the places of its segments."""
        words = [*self.lead, *texts[0]]
        for link, text in zip(links or self.links, texts[1:], strict=True):
            words += [*link, *text]
        return words


def sounding_order(found: Split) -> list[int]:
    """Indices of the segments, the one that sounds first in front."""
    order = [0]
    for i, name in enumerate(found.names):
        backwards = name in BACKWARDS or (name == "lead-in" and found.lead[-1].lower() == "before")
        place = order.index(i)
        order.insert(place if backwards else place + 1, i + 1)
    return order


def states_order(caption: str) -> bool:
    """Whether a caption has a sequential connective at all."""
    return STATED.search(caption.lower()) is not None


def split_text(caption: str) -> Split | None:
    """`split` of a caption as it is written."""
    words = [word for word in tokenize(caption) if word[0].isalnum() or word == ","]
    return split([words[0].lower(), *words[1:]]) if words else None


def split(words: list[str]) -> Split | None:
    """Cuts words and commas at the connectives; None where none orders two segments."""
    lead, words, comma = _cut_lead(words)
    segments, links, names, start = [], [], [], 0
    if comma is not None:
        segments, links, names = [words[:comma]], [words[comma : comma + 1]], ["lead-in"]
        start = comma + 1
    text = " ".join(words).lower()
    offsets = [0]
    for word in words:
        offsets.append(offsets[-1] + len(word) + 1)
    for match in CONNECTIVE.finditer(text, offsets[start]):
        first, last = offsets.index(match.start()), offsets.index(match.end() + 1)
        if first <= start or last == len(words) or not _orders(match, text):
            continue
        segments.append(words[start:first])
        links.append(words[first:last])
        names.append(match.lastgroup)
        start = last
    if not links:
        return None
    segments.append(words[start:])
    return Split(tuple(lead), tuple(map(tuple, segments)), tuple(map(tuple, links)), tuple(names))


def _orders(match: re.Match, text: str) -> bool:
    """Whether a match puts what stands before it and behind it in order."""
    name, before, behind = match.lastgroup, text[: match.start()].strip(), text[match.end() :]
    told = before.split()
    if told[-1] in lex.SUBORDINATORS | NOT_THEN:
        return False  # "as moments later goats bleat"
    if name in SHARING and {"that", "which", "who"} & {*told}:
        return False  # "a baby who coos then cries"
    if name == "then":
        return not AN_IDLING.search(before) or behind.split()[0] in lex.DETERMINERS
    return name != "after" or not NOT_AFTER.match(behind.strip())


def _cut_lead(words: list[str]) -> tuple[list[str], list[str], int | None]:
    """(Words in front that stay, the others, where in those "After A, B" has its comma or None)."""
    text = " ".join(words).lower() + " "
    commas = [i for i, word in enumerate(words) if word == ","]
    match = LEADING.match(text)
    if match:
        size = match.group(0).count(" ")
        if len(commas) != 1 or commas[0] <= size or NOT_AFTER.match(text[match.end() :]):
            return [], words, None
        return words[:size], words[size:], commas[0] - size
    first = FIRST.match(text)
    size = first.group(0).count(" ") if first else 0
    return words[:size], words[size:], None
