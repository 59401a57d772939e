"""Temporal connectives of a caption, and the segments between them."""

import re
from dataclasses import dataclass

HASTE = r"(?:suddenly|finally|eventually|immediately|shortly)"  # no manner, which the verb keeps
ADVERBS = r"(?:(?:closely|shortly|immediately|quickly|soon|briefly|later|suddenly|directly) )?"
SOON = r"(?:(?:closely|shortly|immediately|soon|later) )?"  # no adverb of the verb before it
SPAN = (
    r"(?:(?<!for )(?:a few |several |some |two )?(?:moments|seconds|minutes) "
    r"|some ?time |a while |much )?"
)

# name -> pattern over lower-case words joined by spaces, commas included as words.
PATTERNS = {
    # {l} followed by {r}: {r} is a noun or a gerund; so is {l} behind "is".
    "follow": rf"(?:, )?(?:and )?(?:then )?(?:which )?(?:(?:is|are|was|were|being|gets) )?{SOON}"
    rf"(?:(?:followed|proceeded|succeeded) {ADVERBS}(?:by|with)|following by|follow by"
    r"|followed(?! (?:by|with|closely|shortly|immediately|soon|quickly|briefly|later|and|my) ))",
    "precede": rf"(?:, )?(?:(?:is|are|was|were|being) )?{SOON}preceded {ADVERBS}by",
    "lead": r"(?:, )?(?:and )?(?:leading (?:in)?to|giving way to|ending (?:with|in))",
    "end": r"(?:, )?(?:and )?(?:then )?ends (?:with|in)",
    "then": rf"(?:, )?(?:(?:and|but|&) )?then(?: {HASTE})?(?: ,)?"
    rf"|(?:, )?(?:and )?{SPAN}(?:later|afterwards?|subsequently|thereafter)(?: on)?(?: ,)?"
    r"|(?:, )?and (?:finally|eventually|lastly|next)(?: ,)?|, (?:finally|eventually)(?: ,)?"
    r"|(?:, )?(?:and )?(?:soon |shortly )?after (?:which|that)(?: ,)?",
    "before": rf"(?:, )?(?:and )?(?:(?:shortly|just|right) )?{SPAN}before(?: {HASTE})?",
    "after": rf"(?:, )?(?:and )?(?:(?:shortly|just|right|soon|immediately) )?{SPAN}after",
}
CONNECTIVE = re.compile(
    "|".join(f"(?P<{name}>(?<!\\S)(?:{pattern})(?!\\S))" for name, pattern in PATTERNS.items())
)
# The same words where they do not put two events in order.
NOT_BEFORE_THEN = re.compile(r"\b(?:now|is|are|was|were|since|until|which|that|who)$")
AN_IDLING, REVVING_ENGINE = re.compile(r" (?:a|an|the) \w+ing$"), re.compile(r" \w+ing \w")
NOT_AFTER = re.compile(
    r"(?:and during|the other|another|each|a (?:few|while|moment|short|brief|second|pause|time|bit"
    r"|long|couple)|some (?:time|seconds|silence)|one|every|time|it|this|being|silence|several"
    r"|two seconds|word|day)(?!\S)"
)
FIRST = re.compile(r"(?:at first|first|firstly|initially) (?:, )?")
BEGINS = re.compile(r"(?:.* )?(?:begins?|starts?|beginning|starting)(?: off| out)? with ")
# "While music plays, ..."; "In a quiet room, ...", of six words at most
LEADING_PHRASE = re.compile(r"(?:as|while) |(?:in|at|on)(?: [^ ,]+){1,5} ,")
LEADING = re.compile(r"(?:(?:shortly|right|just|soon) )?(after|before|following) ")
# Any of these makes a caption one that states an order.
STATED = re.compile(
    r"\b(?:followed|following by|follow by|then|before|after|afterwards?|later|subsequently"
    r"|thereafter|finally|eventually|lastly|preceded by|proceeded by|succeeded by"
    r"|leading (?:in)?to|leads (?:in)?to|ending (?:with|in)|ends with"
    r"|(?:begins?|starts?|beginning|starting) with)\b"
)
TOGETHER = re.compile(r"\b(?:as|while|whilst|with|and|during|when|alongside|amid|amidst)\b|,")

NOMINAL = ("follow", "precede", "lead", "end")  # a noun or a gerund stands behind them
BACKWARDS = ("after", "precede")  # what is said first sounds last


@dataclass(frozen=True)
class Split:
    """A caption cut at its connectives: lead segments[0] links[0] segments[1] ..."""

    lead: tuple[str, ...]  # words in front that stay: "First", "After", "While music plays,"
    segments: tuple[tuple[str, ...], ...]
    links: tuple[tuple[str, ...], ...]  # connectives as written
    names: tuple[str, ...]  # their kinds: keys of PATTERNS, or "lead-in" of "After A, B"
    trail: tuple[str, ...]  # words behind that stay: "at the end"


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


def split(words: list[str]) -> Split | None:
    """Cuts a caption at its connectives; None where there is none that orders two segments.

    Args:
      words: tokens, commas among them, no full stop.
    """
    words, trail = _cut_trail(words)
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
        if first <= start or last == len(words) or not _orders(match, text, lead):
            continue
        segments.append(words[start:first])
        links.append(_repaired(words[first:last]))
        names.append(match.lastgroup)
        start = last
    if not links:
        return None
    segments.append(words[start:])
    return Split(tuple(lead), _tuples(segments), _tuples(links), tuple(names), tuple(trail))


def _tuples(lists) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(words) for words in lists)


def _repaired(link: list[str]) -> list[str]:
    """ "followed", "following by", "follow by" -> "followed by"."""
    low = [word.lower() for word in link]
    if low == ["and", "followed", "by"]:
        return link[1:]
    if low[-1] == "followed":
        return [*link, "by"]
    return [*link[:-2], "followed", "by"] if low[-2:-1] in (["following"], ["follow"]) else link


def _orders(match: re.Match, text: str, lead: list[str]) -> bool:
    """Whether a match puts what stands before it and behind it in order."""
    name, before, behind = match.lastgroup, text[: match.start()].strip(), text[match.end() :]
    if name == "then":
        adjectives = AN_IDLING.search(before) and REVVING_ENGINE.match(behind)
        return not NOT_BEFORE_THEN.search(before) and not adjectives
    if name == "before":
        return not behind.startswith(" and after") and not before.endswith((" as", " than"))
    if name == "end":  # its subject is that of "begins with"
        return lead[-1:] == ["with"]
    if name == "after":
        return not NOT_AFTER.match(behind.strip()) and not before.endswith((" before", " one"))
    return True


def _cut_trail(words: list[str]) -> tuple[list[str], list[str]]:
    low = [word.lower() for word in words]
    for size in (3, 2):
        if size < len(low) and " ".join(low[-size:]) in (
            "at the end", "towards the end", "toward the end", "in the end", "near the end",
        ):  # fmt: skip
            return words[:-size], words[-size:]
    return words, []


def _cut_lead(words: list[str]) -> tuple[list[str], list[str], int | None]:
    """Words in front that stay where they are.

    Returns:
      (those, the others, where in the others the comma of "After A, B" stands or None).
    """
    text = " ".join(words).lower() + " "
    commas = [i for i, word in enumerate(words) if word == ","]
    match = LEADING.match(text)
    if match:
        size = match.group(0).count(" ")
        if len(commas) != 1 or commas[0] <= size or NOT_AFTER.match(text[match.end() :]):
            return [], words, None
        return words[:size], words[size:], commas[0] - size
    size = 0
    if first := FIRST.match(text):
        size = first.group(0).count(" ")
    elif commas and LEADING_PHRASE.match(text):
        size = commas[0] + 1
    elif (match := BEGINS.match(text)) and not CONNECTIVE.search(match.group(0)):
        size = match.group(0).count(" ")
    return words[:size], words[size:], None
