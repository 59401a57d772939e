"""Which captions of a record count: LAION-CLAP's text_augment_selection.

A record holds what was published first, then what a model made of the tags. Its provenance is one
word where all its texts came to be in one way, else one for each, the captions first and then the
negative captions: "human;human;keyword;rules".
"""

import re
from collections import Counter
from collections.abc import Sequence

from clapjax.data.schema import SEPARATOR

SELECTIONS = ("none", "all", "augment_only")


def join_provenance(kinds: Sequence[str]) -> str:
    """The provenance of a record whose captions came to be in these ways, in their order."""
    return SEPARATOR.join(kinds) if len(set(kinds)) > 1 else kinds[0]


def select_captions(captions: Sequence, provenance: str, selection: str) -> Sequence:
    """The captions that a selection leaves; all where none would be left, as in LAION-CLAP.

    Args:
      captions: of a record, those published first; at least one.
      provenance: of the record.
      selection: "none" leaves those as published, "augment_only" the others, "all" both.
    """
    kinds = provenance.split(SEPARATOR)[: len(captions)]
    if selection == "all" or len(kinds) != len(captions):
        return captions
    augmented = selection == "augment_only"
    chosen = [c for c, kind in zip(captions, kinds, strict=True) if (kind != kinds[0]) == augmented]
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
