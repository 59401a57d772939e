"""Models from elsewhere: Hugging Face folders and hub ids, LAION-CLAP, BLAT, PANNs, our exports."""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clapjax.data.paths import local_model
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
from clapjax.interop.tagger import PretrainedTagger, find_head, read_tagger
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
    revision: str | None = None,
) -> Pretrained:
    """Loads a model of another project, or one that clapjax exported.

    Args:
      source: a folder or hub id of `transformers.ClapModel`, a folder that clapjax exported, a
        LAION-CLAP checkpoint (.pt), or a BLAT folder (config.json and a .pth file).
      tokenizer: hub id or folder, in place of the source's own.
      tower: "audio" or "text" to read that one only (the logit scales come along).
      revision: of a hub id, the branch, tag or commit.

    Raises:
      CheckpointError: the source cannot be found, read, or represented; the message says why.
      ImportError: a pickled checkpoint, and no PyTorch to read it with.
    """
    found = load_any(source, tokenizer, tower, revision)
    if isinstance(found, PretrainedTagger):
        raise CheckpointError(
            f"{source}: a tagger alone, which has no embeddings; `clapjax tag --model {source}` "
            "takes it as it is"
        )
    return found


def load_any(
    source: str | os.PathLike,
    tokenizer: str | os.PathLike | None = None,
    tower: str | None = None,
    revision: str | None = None,
) -> Pretrained | PretrainedTagger:
    """As `load_pretrained`, and the tagger of a checkpoint that has nothing else (PANNs, HTS-AT).

    It has the names of AudioSet's labels where their table lies beside it, else numbers.
    """
    if tower not in (None, "audio", "text"):
        raise ValueError(f"load_pretrained: tower must be 'audio' or 'text', not {tower!r}")
    with _named(source), local_model(source) as here:
        path = _without_revision(here, revision)
        if path.is_file():
            tensors = _read_file(path)
            if laion.AUDIO not in (find_head(tensors) or laion.AUDIO):
                return read_tagger(tensors, path)
            return _load_laion(path, tensors, tokenizer, tower)
        folder, values = _find_folder(here, revision)
        if values is None:
            return _load_own(folder, tokenizer, tower)
        if _is_blat(values):
            return _load_blat(folder, tokenizer, tower)
        return _load_transformers(folder, tokenizer, tower)


def load_tagger(
    source: str | os.PathLike,
    labels: Sequence[str] | str | os.PathLike | None = None,
    revision: str | None = None,
) -> PretrainedTagger:
    """Loads the tagger that a checkpoint is, or has beside its towers.

    Args:
      source: a checkpoint of PANNs (Cnn6, Cnn10, Cnn14), HTS-AT or LAION-CLAP, or a BLAT folder.
      labels: their names, or a file of them, which `clapjax.interop.tagger.label_names` explains.
      revision: as for `load_pretrained`.

    Raises:
      CheckpointError: as `load_pretrained`; or it has no tagging head.
      ValueError: as `label_names`.
      ImportError: as `load_pretrained`.
    """
    with _named(source), local_model(source) as here:
        path = _without_revision(here, revision)
        if path.is_file():
            return read_tagger(_read_file(path), path, labels)
        folder, values = _find_folder(here, revision)
        if values is None or not _is_blat(values):
            raise CheckpointError(f"{source}: a CLAP model in a layout that has no tagging head")
        tensors, file = _read_blat(folder)
        config = blat.find_config(values, folder / "config.json", tensors)
        return read_tagger(tensors, file, labels, config)


@contextlib.contextmanager
def _named(source: str | os.PathLike) -> Iterator[None]:
    """A CheckpointError names what was to be loaded."""
    try:
        yield
    except FileNotFoundError as error:  # in a bucket
        raise CheckpointError(str(error)) from error
    except CheckpointError as error:
        if os.fspath(source) in str(error):
            raise
        raise CheckpointError(f"{source}: {error}") from error


def _without_revision(source: str | os.PathLike, revision: str | None) -> Path:
    """The path that a source is, if it is one; what is here already has no revisions."""
    path = Path(source)
    if revision is not None and path.exists():
        raise CheckpointError(f"{path}: is here already; revision={revision!r} is of a hub id")
    return path


def _find_folder(source: str | os.PathLike, revision: str | None) -> tuple[Path, dict | None]:
    """The folder of a model, and its config.json; None where it is one of clapjax's exports."""
    path = Path(source)
    folder = path if path.is_dir() else _download(os.fspath(source), revision)
    if (folder / OWN_CONFIG).is_file():
        return folder, None
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"no model here; expected {OWN_CONFIG} or config.json")
    values = read_json(folder / "config.json")
    if "synthesis" in values:
        raise CheckpointError(
            f"{folder}: a workdir of clapjax, which needs no import; name it where a model is asked"
            " for"
        )
    return folder, values


def _is_blat(values: dict) -> bool:
    return isinstance(values.get("text_tokenizer"), dict)


def _read_file(file: Path) -> dict[str, np.ndarray]:
    if file.suffix == ".safetensors":
        return read_safetensors(file)
    return tensors_of(read_torch(file), file)


def _read_blat(folder: Path) -> tuple[dict[str, np.ndarray], Path]:
    file = blat.find_weights(folder)
    return tensors_of(read_torch(file), file), file


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


def _load_laion(file: Path, found: dict, name: str | os.PathLike | None, tower) -> Pretrained:
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
    settings, (tensors, file) = read_json(folder / "config.json"), _read_blat(folder)
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


def _download(source: str, revision: str | None) -> Path:
    """The folder of a hub id, from the hub or its local cache; pickles only without safetensors."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    is_id = re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", source)
    if not is_id or source.endswith((".pt", ".pth")):
        raise CheckpointError(f"{source}: no such file or folder")
    try:
        wanted = ["*.json", "*.txt", "*.safetensors"]
        folder = Path(snapshot_download(source, revision=revision, allow_patterns=wanted))
        if not any(folder.glob("*.safetensors")):
            snapshot_download(source, revision=revision, allow_patterns=["*.bin"])
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{source}: no such file or folder, nor a model on the Hugging Face hub that could be "
            f"reached ({reason})"
        ) from error
    return folder
