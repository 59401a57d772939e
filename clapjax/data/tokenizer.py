"""Tokenizers: a Hugging Face one by id or folder, or one trained on the records' captions."""

import contextlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

import numpy as np

from clapjax.data.paths import as_path, local_model

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
LEAST_VOCABULARY = 256 + len(SPECIAL)  # all bytes


def train_tokenizer(captions: Iterable[str], folder: str | os.PathLike, vocab_size: int) -> None:
    """Trains a lower-casing byte-level BPE in RoBERTa's layout; saves a Hugging Face folder.

    Args:
      captions: training text; the same text in the same order gives the same tokenizer.
      folder: where tokenizer.json and its configuration go.
      vocab_size: upper bound, special tokens and 256 bytes included.

    Raises:
      ValueError: no captions, or a vocabulary smaller than the bytes.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from tokenizers.trainers import BpeTrainer

    special = list(SPECIAL)
    captions = list(captions)
    if not captions:
        raise ValueError("train_tokenizer: there are no captions")
    if vocab_size < LEAST_VOCABULARY:
        raise ValueError(f"train_tokenizer: vocab_size must be at least {LEAST_VOCABULARY}")
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    # What `PreTrainedTokenizerFast.save_pretrained` leaves, without the seconds of importing it.
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Not by its own `save`, which raises a bare Exception where the disk is full.
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    names = dict(zip(("bos", "pad", "eos", "unk", "mask"), special, strict=True))
    names |= {"cls": "<s>", "sep": "</s>"}
    described = {"tokenizer_class": "PreTrainedTokenizerFast"}
    described |= {f"{name}_token": token for name, token in names.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps(described, indent=2) + "\n")


@contextlib.contextmanager
def without_advice() -> Iterator[None]:
    """For importing transformers: what is taken of it needs no PyTorch, of which it would warn."""
    name = "TRANSFORMERS_NO_ADVISORY_WARNINGS"
    if name in os.environ:
        yield
        return
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name, None)


def load_tokenizer(name: str | os.PathLike):
    """A `transformers` tokenizer from a local folder or a hub id.

    Raises:
      ValueError: there is none of that name, or it cannot pad.
    """
    with without_advice():
        from transformers import AutoTokenizer

    try:
        with local_model(name) as here:
            tokenizer = AutoTokenizer.from_pretrained(here, trust_remote_code=False)
    except (OSError, ValueError) as error:
        if isinstance(name, PurePath) and not name.is_dir():
            raise ValueError(f"{name}: no such folder, and no tokenizer") from error
        where = "folder" if as_path(name).is_dir() else "local folder or reachable hub id"
        raise ValueError(f"tokenizer '{name}' is no {where} with a tokenizer: {error}") from error
    if tokenizer.pad_token_id is None:
        raise ValueError(f"tokenizer '{name}' has no padding token")
    return tokenizer


def tokenize(tokenizer, texts: list[str], max_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and mask of captions, cut and padded to `max_length`.

    Returns:
      ((N, L) int32 ids, (N, L) int32 mask).

    Raises:
      ValueError: a text that is not Unicode, as Python has bytes that are no UTF-8.
    """
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{text!r:.60}: is not Unicode text; give it as UTF-8") from error
    # Padded here: as lists, all that padding costs more than the tokens.
    encoded = tokenizer(texts, truncation=True, max_length=max_length, return_attention_mask=False)[
        "input_ids"
    ]
    places, lengths = np.arange(max_length), np.fromiter(map(len, encoded), int, len(encoded))
    if tokenizer.padding_side == "left":
        places = places[::-1]
    mask = places < lengths[:, None]
    ids = np.full(mask.shape, tokenizer.pad_token_id, np.int32)
    ids[mask] = list(itertools.chain.from_iterable(encoded))
    return ids, mask.astype(np.int32)
