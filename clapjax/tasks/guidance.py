"""What a captioner is told before it writes, and how that and captions become tokens.

Guidance is a text in the words of the captions, so that any labels will do: "sounds; sequential;
dog bark, rain" has the style of captions, how the events follow one another, and the tags. What is
not known is left empty; where nothing is, there is no text at all.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from clapjax.captions.keywords import is_name, plain_label
from clapjax.captions.timeline import JOINER
from clapjax.models.config import DecoderConfig

# How the events of a clip follow one another (Xie et al., arXiv 2306.01533): there is one; several,
# all together; one after the other; or some of them together.
ORDERS = ("one", "simultaneous", "sequential", "complex")


def guidance_text(tags: Sequence[str] = (), order: str = "", style: str = "") -> str:
    """The text that guides; "" where nothing is known.

    Args:
      tags: labels of what sounds, in any order; one of punctuation alone, "_", says nothing.
      order: of ORDERS.
      style: how captions are worded: the name of a data set in training.

    Raises:
      ValueError: another order.
    """
    if order and order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}, not {order!r}")
    parts = plain_words(style), order, ", ".join(plain_label(tag) for tag in tags if is_name(tag))
    return "; ".join(parts) if any(parts) else ""


def plain_words(name: str) -> str:
    """A name without what parts the guidance."""
    return " ".join(name.replace("_", " ").replace(";", " ").replace(",", " ").split())


def order_of(events: Sequence[str]) -> str:
    """Which of ORDERS the `events` of a record have; "" where there are none."""
    if not events:
        return ""
    if len(events) == 1:
        return "simultaneous" if JOINER in events[0] else "one"
    return "complex" if any(JOINER in event for event in events) else "sequential"


def style_of(source: str) -> str:
    """The style of a record's captions: its data set, as its `source` begins."""
    name, colon, _ = source.partition(":")
    return plain_words(name) if colon else ""


class Marks(NamedTuple):
    """Tokens that are no words."""

    begin: int
    end: int  # of a caption; between it and its guidance too
    never: tuple[int, ...]  # that no caption has


def find_marks(tokenizer) -> Marks:
    """Those of a `transformers` tokenizer: begin and end of a text, whatever it calls them.

    Raises:
      ValueError: it has no token that ends a text.
    """

    def first(*names: str) -> int | None:
        return next(
            (i for i in (getattr(tokenizer, n, None) for n in names) if i is not None), None
        )

    end = first("eos_token_id", "sep_token_id")
    if end is None:
        raise ValueError("the tokenizer has no token that ends a text (eos or sep)")
    begin = first("bos_token_id", "cls_token_id")
    never = tuple(sorted(set(tokenizer.all_special_ids) - {end}))
    return Marks(end if begin is None else begin, end, never)


def guidance_ids(
    tokenizer, texts: Sequence[str], sizes: DecoderConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Texts that guide as tokens, at the right end of their slots: begin, words, end.

    Returns:
      ((N, guidance_length) int32 ids, bool which are tokens). Of too many the first are lost: the
      style, then the order, then tags.
    """
    marks, room = find_marks(tokenizer), sizes.guidance_length - 2
    ids = np.full((len(texts), sizes.guidance_length), marks.end, np.int32)
    mask = np.zeros(ids.shape, bool)
    for row, words in enumerate(_words(tokenizer, texts)):
        own = [marks.begin, *words[max(0, len(words) - room) :], marks.end]
        ids[row, -len(own) :], mask[row, -len(own) :] = own, True
    return ids, mask


def caption_ids(
    tokenizer, texts: Sequence[str], sizes: DecoderConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Captions as tokens: words, end.

    Returns:
      ((N, max_length) int32 ids, bool which are tokens). What is too long is cut, and has no end.
    """
    end = find_marks(tokenizer).end
    ids = np.full((len(texts), sizes.max_length), end, np.int32)
    mask = np.zeros(ids.shape, bool)
    for row, words in enumerate(_words(tokenizer, texts)):
        own = [*words, end][: sizes.max_length]
        ids[row, : len(own)], mask[row, : len(own)] = own, True
    return ids, mask


def _words(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts, without any that are no words."""
    if not len(texts):
        return []
    return tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]


def caption_text(tokenizer, ids: Sequence[int]) -> str:
    """The caption that tokens tell, up to their end."""
    end = find_marks(tokenizer).end
    ids = list(ids)
    words = ids[: ids.index(end)] if end in ids else ids
    return " ".join(tokenizer.decode(words, skip_special_tokens=True).split())
