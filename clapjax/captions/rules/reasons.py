"""Why a caption has no negative: one short text each, so that they can be counted."""

NO_ORDER = "no order of events is stated"
TOGETHER = "the events sound together"
SAME = "the same event on both sides"
GRAMMAR = "wording outside the grammar"
SIGNS = "punctuation outside the grammar"
AMBIGUOUS = "whose verb it is cannot be told"


def refers_back(word: str) -> str:
    """An event that can only be told behind another: "a louder bang", "barks again"."""
    return f"refers back: {word}"
