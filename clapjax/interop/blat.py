"""BLAT's folders: config.json, and a .pth file of its Cnn14 and BERT."""

import dataclasses
from pathlib import Path

import numpy as np

from clapjax.interop.errors import CheckpointError
from clapjax.interop.sizes import Shapes, bert_config
from clapjax.models.config import ClapConfig
from clapjax.models.presets import blat_clap

AUDIO_TYPE, TEXT_TYPE = "models.audio_encoder.Cnn14", "models.text_encoder.Bert"
RATES = (32_000, 16_000)  # Hz


def find_weights(folder: Path) -> Path:
    """The one .pth file beside config.json.

    Raises:
      CheckpointError: there is none, or several.
    """
    files = sorted(folder.glob("*.pth"))
    if len(files) != 1:
        raise CheckpointError(f"{folder}: expected one .pth file beside config.json, found {files}")
    return files[0]


def tokenizer_name(settings: dict, file: Path) -> str:
    """The tokenizer that a config.json names."""
    name = _get(settings, file, "text_tokenizer", "type")
    if not isinstance(name, str):
        raise CheckpointError(f"{file}: text_tokenizer.type must be a name, not {name!r}")
    return name


def find_config(settings: dict, file: Path, tensors: dict[str, np.ndarray]) -> ClapConfig:
    """The config of a BLAT model, from its config.json and the shapes of its weights.

    Raises:
      CheckpointError: another encoder than Cnn14 with BERT, or a setting that is missing.
    """
    for tower, wanted in (("audio_encoder", AUDIO_TYPE), ("text_encoder", TEXT_TYPE)):
        found = _get(settings, file, "model", tower, "type")
        if found != wanted:
            raise CheckpointError(f"{file}: {tower} is {found!r}; clapjax reads {wanted}")
    rate = _get(settings, file, "model", "audio_encoder", "args", "sample_rate")
    if rate not in RATES:
        raise CheckpointError(f"{file}: sample_rate is {rate!r}, none of {RATES}")
    shapes, published = Shapes.of(tensors), blat_clap(rate)
    try:
        width = shapes["audio_encoder.conv_block1.conv1.weight"][0]
        max_length = _get(settings, file, "text_tokenizer", "max_length")
        return dataclasses.replace(
            published,
            text=bert_config(shapes, "text_encoder.model", published.text, max_length),
            projection_size=shapes["audio_proj.weight"][0],
            pann=dataclasses.replace(published.pann, base_width=width),
        )
    except (ValueError, TypeError, ArithmeticError, IndexError) as error:
        raise CheckpointError(f"{file.parent}: no BLAT model that is known; {error}") from error


def _get(settings: dict, file: Path, *path: str):
    value = settings
    for key in path:
        if not isinstance(value, dict) or key not in value:
            raise CheckpointError(f"{file}: no {'.'.join(path)} in it")
        value = value[key]
    return value
