"""The texts of a run: its tokenizer, and what a row of a batch says of its record."""

import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clapjax.data.forms import has_negative
from clapjax.data.paths import as_path, copy_folder, local_folder, put_folder, remove_folder
from clapjax.data.records import TOKENIZER_FOLDER
from clapjax.data.selection import select_captions
from clapjax.data.tokenizer import load_tokenizer, tokenize
from clapjax.models.config import ClapConfig, with_vocabulary

FROM_MODEL = "model"  # data.tokenizer: that of the model which the run starts from
LARGEST = 2**31 - 1  # int32


def keep_tokenizer(name: str, given, data_dir: str | os.PathLike, workdir: Path) -> None:
    """Puts the tokenizer of a run into its workdir: the records' own, one given, or one by name.

    Raises:
      ValueError: a run of a model's own tokenizer has none.
    """
    kept = workdir / TOKENIZER_FOLDER
    if name == "records":
        copy_folder(as_path(data_dir) / TOKENIZER_FOLDER, kept)
        return
    if given is None and kept.is_dir():
        return
    if given is None and name == FROM_MODEL:
        raise ValueError(
            f"data.tokenizer={FROM_MODEL}: no tokenizer in {kept}; it comes with --model"
        )
    with local_folder(workdir, TOKENIZER_FOLDER) as folder:
        (load_tokenizer(name) if given is None else given).save_pretrained(folder)
        remove_folder(kept)
        put_folder(folder, kept)


def workdir_tokenizer(name: str, workdir: str | os.PathLike):
    """The tokenizer of a run: the one kept in its workdir, or in an old workdir the named one."""
    kept = as_path(workdir) / TOKENIZER_FOLDER
    own = name in ("records", FROM_MODEL) or kept.is_dir()
    return load_tokenizer(kept if own else name)


def workdir_model(
    model: ClapConfig, name: str, workdir: str | os.PathLike
) -> tuple[ClapConfig, object]:
    """The model of a run with its vocabulary, and its tokenizer.

    Args:
      model: as the run's config has it.
      name: its `data.tokenizer`.
      workdir: of the run.
    """
    tokenizer = workdir_tokenizer(name, workdir)
    return model if name == FROM_MODEL else adapt_to_tokenizer(model, tokenizer), tokenizer


def adapt_to_tokenizer(model: ClapConfig, tokenizer) -> ClapConfig:
    """The model with the text encoder's vocabulary set to the tokenizer's."""
    return with_vocabulary(model, len(tokenizer), tokenizer.pad_token_id)


def draw_texts(selection: str, record, draws: Sequence[float], pairs: bool = False) -> dict:
    """What a row has besides its sound, from a record's features and two random numbers in [0, 1).

    The first chooses the caption, the second the negative, which may be that of another caption of
    the record (docs/order.md: measured beside negatives of the very caption).

    Returns:
      "caption" and "negative" (b"" where there is none), bytes; "has_negative"; "events": equal
      positive numbers mean the same events in the same order, 0 that they are unknown. With `pairs`
      "reverse", whether the record has sound in the order that the negative tells, and
      "reverse_events", as "events", of that order.

    Raises:
      ValueError: a record without captions, or with a text that is not UTF-8.
    """
    for name in ("captions", "provenance"):
        if not record[name].bytes_list.value:
            raise ValueError(f"there is no {name}")
    kinds = record["provenance"].bytes_list.value[0].decode()
    captions = select_captions(record["captions"].bytes_list.value, kinds, selection)
    negatives = record["negative_captions"].bytes_list.value
    events = record["events"].bytes_list.value
    first, second = draws
    caption = captions[int(first * len(captions))]
    negative = negatives[int(second * len(negatives))] if negatives else b""
    found = {"has_negative": bool(negatives), "events": _event_group(events)}
    if pairs:
        reversed_events = _reversed_events(record)
        found["reverse"] = bool(negatives and reversed_events)
        found["reverse_events"] = _event_group(reversed_events)
    for text in (caption, negative):
        text.decode()  # fails here, where it is known whose they are
    return found | {"caption": caption, "negative": negative}


def _event_group(events: Sequence[bytes]) -> np.int32:
    return np.int32(zlib.crc32(b"\n".join(events)) % LARGEST + 1 if events else 0)


def _reversed_events(record) -> Sequence[bytes]:
    """What sounds in a record's sound in a wrong order; () where that is not known.

    Of three events there are several wrong orders, and which one is heard or told is not recorded.
    """
    events = record["events"].bytes_list.value
    return events[::-1] if has_negative(record) and len(events) == 2 else ()


def tokenised(tokenizer, max_length: int, rows: dict) -> dict[str, np.ndarray]:
    """Texts of `draw_texts` to "input_ids", "mask", "negative_ids", "negative_mask".

    These are (B, max_length) int32; what is no text stays as it is.
    """
    texts = [text.decode() for text in (*rows["caption"], *rows["negative"])]
    ids, mask = tokenize(tokenizer, texts, max_length)
    count = len(ids) // 2
    others = {name: x for name, x in rows.items() if name not in ("caption", "negative")}
    return others | {
        "input_ids": ids[:count],
        "mask": mask[:count],
        "negative_ids": ids[count:],
        "negative_mask": mask[count:],
    }
