"""Which captions of a record count: LAION-CLAP's text_augment_selection, or kinds by name.

A record holds what was published first, then what a model made of the tags. Its provenance is one
word where all its texts came to be in one way, else one for each, the captions first and then the
negative captions: "human;human;keyword;rules".
"""

import re
from collections import Counter
from collections.abc import Sequence

from clapjax.data.schema import PROVENANCES, SEPARATOR

SELECTIONS = ("none", "all", "augment_only")


def join_provenance(kinds: Sequence[str]) -> str:
    """The provenance of a record whose captions came to be in these ways, in their order."""
    return SEPARATOR.join(kinds) if len(set(kinds)) > 1 else kinds[0]


def check_selection(selection: str) -> None:
    """Raises ValueError where it is neither of SELECTIONS nor names kinds."""
    wrong = [] if selection in SELECTIONS else selection.split(",")
    kinds = [word.rstrip(":") for word in PROVENANCES]
    wrong = [word for word in wrong if word.strip().partition(":")[0] not in kinds]
    if wrong:
        raise ValueError(
            f"data.text_augment_selection must be one of {', '.join(SELECTIONS)}, or name kinds of "
            f"captions with commas between them ({', '.join(kinds)}, llm:MODEL ...), not "
            f"{selection!r}"
        )


def is_of_kind(word: str, kinds: Sequence[str]) -> bool:
    """Whether a word of a provenance is one of some kinds: "llm:x" is "llm:x", and "llm" too."""
    return word in kinds or word.partition(":")[0] in kinds


def select_captions(captions: Sequence, provenance: str, selection: str) -> Sequence:
    """The captions that a selection leaves; all where none would be left, as in LAION-CLAP.

    Args:
      captions: of a record, those published first; at least one.
      provenance: of the record.
      selection: "none" leaves those as published, "augment_only" the others, "all" both; or kinds,
        "human,captioner", leave those that came to be so.
    """
    words = provenance.split(SEPARATOR)[: len(captions)]
    if selection == "all" or len(words) != len(captions):
        return captions
    if selection in SELECTIONS:
        augmented = selection == "augment_only"
        stays = [(word != words[0]) == augmented for word in words]
    else:
        kinds = [kind.strip() for kind in selection.split(",")]
        stays = [is_of_kind(word, kinds) for word in words]
    chosen = [caption for caption, stay in zip(captions, stays, strict=True) if stay]
    return chosen or captions


def nearest_text(text: str, others: Sequence[str]) -> str:
    """Of other texts the one that has the most words in common with a text, or the first of these.

    A clip with five captions has negatives of some of them: this is the caption that a negative was
    made of, or a negative of a caption, since the two differ in the order of their words alone.
    """
    words = _words(text)
    return max(others, key=lambda other: (words & _words(other)).total())


def _words(text: str) -> Counter:
    return Counter(re.findall(r"\w+", text.lower()))
