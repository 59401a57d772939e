"""Models from elsewhere: Hugging Face folders and hub ids, LAION-CLAP, BLAT, clapjax's exports."""

import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clapjax.data.tokenizer import load_tokenizer
from clapjax.interop import blat, huggingface, laion
from clapjax.interop.errors import CheckpointError
from clapjax.interop.files import (
    WEIGHTS,
    read_json,
    read_safetensors,
    read_torch,
    read_weights,
    tensors_of,
)
from clapjax.interop.layout import join_all, own_pairs, pair_up
from clapjax.interop.tables import (
    BLAT_IGNORED,
    LAION_IGNORED,
    TRANSFORMERS_IGNORED,
    blat_rows,
    laion_rows,
    transformers_rows,
)
from clapjax.models.config import ClapConfig, with_vocabulary
from clapjax.plain import from_dict

OWN_CONFIG = "clapjax.json"  # what makes a folder one of clapjax's own
OWN_FORMAT = 1


class Pretrained(NamedTuple):
    """A model that is ready to apply."""

    config: ClapConfig
    variables: dict  # {"params", "batch_stats"} of float32 numpy arrays
    tokenizer: object  # of transformers


def load_pretrained(
    source: str | os.PathLike,
    tokenizer: str | os.PathLike | None = None,
    tower: str | None = None,
) -> Pretrained:
    """Loads a model of another project, or one that clapjax exported.

    Args:
      source: a folder or hub id of `transformers.ClapModel`, a folder that clapjax exported, a
        LAION-CLAP checkpoint (.pt), or a BLAT folder (config.json and a .pth file).
      tokenizer: hub id or folder, in place of the source's own.
      tower: "audio" or "text" to read that one only (the logit scales come along).

    Raises:
      CheckpointError: the source cannot be found, read, or represented; the message says why.
      ImportError: a pickled checkpoint, and no PyTorch to read it with.
    """
    if tower not in (None, "audio", "text"):
        raise ValueError(f"load_pretrained: tower must be 'audio' or 'text', not {tower!r}")
    try:
        return _load(source, tokenizer, tower)
    except CheckpointError as error:
        if os.fspath(source) in str(error):
            raise
        raise CheckpointError(f"{source}: {error}") from error


def _load(source: str | os.PathLike, tokenizer, tower: str | None) -> Pretrained:
    path = Path(source)
    if path.is_file():
        return _load_laion(path, tokenizer, tower)
    folder = path if path.is_dir() else _download(os.fspath(source))
    if (folder / OWN_CONFIG).is_file():
        return _load_own(folder, tokenizer, tower)
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"no model here; expected {OWN_CONFIG} or config.json")
    values = read_json(folder / "config.json")
    if "synthesis" in values:
        raise CheckpointError(
            f"{folder}: a workdir of clapjax, which needs no import; name it where a model is asked"
            " for"
        )
    if isinstance(values.get("text_tokenizer"), dict):
        return _load_blat(folder, tokenizer, tower)
    return _load_transformers(folder, tokenizer, tower)


def _load_transformers(folder: Path, name: str | os.PathLike | None, tower) -> Pretrained:
    theirs = huggingface.read_config(folder / "config.json", tower)
    tokenizer = _tokenizer(name or folder)
    config = huggingface.find_config(folder, theirs, tokenizer.model_max_length, tower)
    config = _check_tokenizer(tokenizer, config, name or folder)
    tensors, file = read_weights(folder)
    if tower == "text":  # as ClapTextModelWithProjection saves it, without scales
        for scale in ("logit_scale_a", "logit_scale_t"):
            tensors.setdefault(scale, np.float32(config.logit_scale_init))
    ignored = TRANSFORMERS_IGNORED + _other_tower(tower, r"{}_(model|projection)\..*")
    pairs = pair_up(transformers_rows(config), config, tower)
    return Pretrained(config, join_all(pairs, tensors, ignored, file), tokenizer)


def _load_laion(file: Path, name: str | os.PathLike | None, tower) -> Pretrained:
    if file.suffix == ".safetensors":
        found = read_safetensors(file)
    else:
        found = tensors_of(read_torch(file), file)
    tensors = laion.strip_prefix(found)
    config, kind = laion.find_config(tensors)
    name = name or laion.TOKENIZERS[kind]
    tokenizer = _tokenizer(name, "; a LAION-CLAP checkpoint has none: name one")
    config = _check_tokenizer(tokenizer, config, name)
    pairs = pair_up(laion_rows(config), config, tower)
    ignored = LAION_IGNORED + _other_tower(tower, r"{}_(branch|projection)\..*")
    if tower == "audio":  # CLIP's text encoder stands outside text_branch
        ignored += r"|token_embedding\..*|positional_embedding|ln_final\..*"
    return Pretrained(config, join_all(pairs, tensors, ignored, file), tokenizer)


def _load_blat(folder: Path, name: str | os.PathLike | None, tower) -> Pretrained:
    settings, file = read_json(folder / "config.json"), blat.find_weights(folder)
    tensors = tensors_of(read_torch(file), file)
    config = blat.find_config(settings, folder / "config.json", tensors)
    name = name or blat.tokenizer_name(settings, folder / "config.json")
    tokenizer = _tokenizer(name, "; name another one")
    config = _check_tokenizer(tokenizer, config, name)
    pairs = pair_up(blat_rows(config), config, tower)
    ignored = BLAT_IGNORED + _other_tower(tower, r"{}_(encoder|proj)\..*")
    return Pretrained(config, join_all(pairs, tensors, ignored, file), tokenizer)


def _load_own(folder: Path, name: str | os.PathLike | None, tower) -> Pretrained:
    file = folder / OWN_CONFIG
    values = read_json(file)
    if values.get("format") != OWN_FORMAT:
        raise CheckpointError(
            f"{file}: format is {values.get('format')!r}; this clapjax reads {OWN_FORMAT}"
        )
    try:
        config = from_dict(ClapConfig, values.get("model"), "model")
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from error
    tokenizer = _tokenizer(name or folder)
    config = _check_tokenizer(tokenizer, config, name or folder)
    ignored = "$^" + _other_tower(tower, r"[a-z_]+/{}_.*")
    tensors = read_safetensors(folder / WEIGHTS)
    variables = join_all(own_pairs(config, tower), tensors, ignored, folder / WEIGHTS)
    return Pretrained(config, variables, tokenizer)


def _other_tower(tower: str | None, pattern: str) -> str:
    """A further alternative of a regular expression: the names of the tower that is not wanted."""
    return "" if tower is None else "|" + pattern.format({"audio": "text", "text": "audio"}[tower])


def _tokenizer(name: str | os.PathLike, hint: str = ""):
    try:
        return load_tokenizer(name)
    except Exception as error:  # the tokenizers library raises plain Exception for a damaged file
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{name}: no usable tokenizer{hint} ({reason})") from error


def _check_tokenizer(tokenizer, config: ClapConfig, name: str | os.PathLike) -> ClapConfig:
    """The config with the tokenizer's padding, which only RoBERTa's positions depend on.

    Raises:
      CheckpointError: the tokenizer is another model's.
    """
    if len(tokenizer) > config.text.vocab_size:
        raise CheckpointError(
            f"{name}: the tokenizer has {len(tokenizer)} tokens, the model {config.text.vocab_size}"
        )
    pad = tokenizer.pad_token_id
    if config.text.positions == "roberta" and pad != config.text.pad_id:
        raise CheckpointError(
            f"{name}: the tokenizer pads with token {pad}, the model expects {config.text.pad_id}"
        )
    return with_vocabulary(config, config.text.vocab_size, pad)


def _download(source: str) -> Path:
    """The folder of a hub id, from the hub or its local cache; pickles only without safetensors."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    is_id = re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", source)
    if not is_id or source.endswith((".pt", ".pth")):
        raise CheckpointError(f"{source}: no such file or folder")
    try:
        wanted = ["*.json", "*.txt", "*.safetensors"]
        folder = Path(snapshot_download(source, allow_patterns=wanted))
        if not any(folder.glob("*.safetensors")):
            snapshot_download(source, allow_patterns=["*.bin"])
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{source}: no such file or folder, nor a model on the Hugging Face hub that could be "
            f"reached ({reason})"
        ) from error
    return folder
