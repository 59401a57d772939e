"""LAION-CLAP checkpoints: what model they hold, found from the names and shapes of the weights."""

import dataclasses
import math

import numpy as np

from clapjax.audio.config import AudioConfig
from clapjax.audio.mel import mel_filters
from clapjax.interop.errors import CheckpointError
from clapjax.interop.sizes import HEAD_SIZE, Shapes, bert_config
from clapjax.models.config import (
    PANN_BLOCKS,
    ClapConfig,
    FusionConfig,
    HTSATConfig,
    PANNConfig,
    TextConfig,
)
from clapjax.models.presets import audio_preset, text_preset

ANCHOR = "logit_scale_a"  # a name that every checkpoint has
AUDIO, TEXT = "audio_branch.", "text_branch"
# Front ends of its model configurations, and of PANNs and HTS-AT; the filters tell which it is.
FRONT_ENDS = ("laion", "laion-win-1536", "laion-fmax-18k", "laion-fmax-8k-20s")
FRONT_ENDS += ("blat-32k", "blat-16k", "panns-8k")
MAX_LENGTH = 77  # tokens, of all text encoders
TOKENIZERS = {
    "roberta-base": "roberta-base",
    "bert-base": "bert-base-uncased",
    "clip": "openai/clip-vit-base-patch32",
}


def strip_prefix(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors without what stands before their names ("module.", "model.", both).

    Raises:
      CheckpointError: not a LAION-CLAP checkpoint.
    """
    prefix = next((name.removesuffix(ANCHOR) for name in tensors if name.endswith(ANCHOR)), None)
    if prefix is None:
        raise CheckpointError(f"no {ANCHOR} in it; not a LAION-CLAP checkpoint")
    return {name.removeprefix(prefix): value for name, value in tensors.items()}


def find_config(tensors: dict[str, np.ndarray]) -> tuple[ClapConfig, str]:
    """The config of a checkpoint, and which text encoder it has (a key of TOKENIZERS).

    Raises:
      CheckpointError: the weights are those of no known model, or the ones that tell are missing.
    """
    shapes = Shapes.of(tensors)
    try:
        kind, text = _text(shapes)
        size = shapes["text_projection.2.weight"][0]
        config = ClapConfig(**find_audio(tensors, AUDIO), text=text, projection_size=size)
    except (ValueError, ArithmeticError, IndexError) as error:
        raise CheckpointError(f"no LAION-CLAP model that is known; {error}") from error
    return config, kind


def find_audio(tensors: dict[str, np.ndarray], prefix: str) -> dict:
    """The fields of a `ClapConfig` that tell the audio encoder whose weights have a prefix.

    Raises:
      CheckpointError: it is none that is known, or weights are missing that would tell.
      ValueError: they do not go together.
    """
    shapes = Shapes.of(tensors)
    encoder, htsat, pann = _encoder(shapes, prefix)
    fusion = _fusion(shapes, prefix, encoder)
    front = _front_end(tensors, shapes, prefix)
    if fusion != "none":  # torchaudio's filters instead of librosa's
        front = dataclasses.replace(front, mel_scale="htk", mel_norm="none")
    return {
        "audio": front,
        "audio_encoder": encoder,
        "htsat": htsat,
        "pann": pann,
        "fusion": FusionConfig(type=fusion),
    }


def _front_end(tensors: dict[str, np.ndarray], shapes: Shapes, prefix: str) -> AudioConfig:
    """The front end whose filters the checkpoint carries; of a LAION-CLAP without, its default."""
    name = f"{prefix}logmel_extractor.melW"
    if name not in tensors and prefix == AUDIO:
        return audio_preset(FRONT_ENDS[0])
    for front in map(audio_preset, FRONT_ENDS):
        filters = mel_filters(front)
        if filters.shape == shapes[name] and np.allclose(filters, tensors[name], atol=1e-6):
            return front
    raise CheckpointError(f"{name} holds the filters of no front end that is known")


def _encoder(shapes: Shapes, prefix: str) -> tuple[str, HTSATConfig, PANNConfig]:
    """("htsat" or a PANN's name, and the two configs, of which the other one is the default)."""
    if f"{prefix}patch_embed.proj.weight" in shapes:
        return "htsat", _htsat(shapes, prefix), PANNConfig()
    width = shapes[f"{prefix}conv_block1.conv1.weight"][0]
    blocks = shapes.count(f"{prefix}conv_block{{}}.conv1.weight", first=1)
    for name, count in PANN_BLOCKS.items():
        if blocks == count:
            return name, HTSATConfig(), PANNConfig(base_width=width)
    raise CheckpointError(f"a PANN of {blocks} blocks is none of {', '.join(PANN_BLOCKS)}")


def _htsat(shapes: Shapes, prefix: str) -> HTSATConfig:
    embed_dim, _, patch, _ = shapes[f"{prefix}patch_embed.proj.weight"]
    block = f"{prefix}layers.{{}}.blocks.{{}}"
    stages = shapes.count(block.format("{}", 0) + ".norm1.weight")
    tables = [
        shapes[block.format(stage, 0) + ".attn.relative_position_bias_table"]
        for stage in range(stages)
    ]  # ((2 * window - 1) ** 2, heads)
    if not tables:
        raise CheckpointError(f"no {block.format(0, 0)}, which would tell what model this is")
    return HTSATConfig(
        patch_size=patch,
        patch_stride=patch,
        embed_dim=embed_dim,
        depths=tuple(
            shapes.count(block.format(stage, "{}") + ".norm1.weight") for stage in range(stages)
        ),
        heads=tuple(heads for _, heads in tables),
        window_size=(math.isqrt(tables[0][0]) + 1) // 2,
        mlp_ratio=shapes[block.format(0, 0) + ".mlp.fc1.weight"][0] / embed_dim,
    )


def _fusion(shapes: Shapes, prefix: str, encoder: str) -> str:
    """A value of FusionConfig.type."""
    first = "patch_embed.proj" if encoder == "htsat" else "conv_block1.conv1"
    if shapes[f"{prefix}{first}.weight"][1] == 4:
        return "channel_map"
    inside = f"{prefix}patch_embed." if encoder == "htsat" else prefix
    for place, where in (("1d", f"{prefix}mel_conv1d"), ("2d", f"{inside}mel_conv2d")):
        if not any(name.startswith(f"{where}.") for name in shapes):
            continue
        model = f"{inside if place == '2d' else prefix}fusion_model"
        for kind, attention in (("iaff", "local_att2"), ("aff", "local_att")):
            if any(name.startswith(f"{model}.{attention}.") for name in shapes):
                return f"{kind}_{place}"
        return f"daf_{place}"
    return "none"


def _text(shapes: Shapes) -> tuple[str, TextConfig]:
    """(kind, config) of the text encoder."""
    if f"{TEXT}.shared.weight" in shapes:
        raise CheckpointError("its text encoder is BART, which clapjax does not have")
    if f"{TEXT}.resblocks.0.ln_1.weight" in shapes:
        return "clip", _clip(shapes)
    types, _ = shapes[f"{TEXT}.embeddings.token_type_embeddings.weight"]
    positions, _ = shapes[f"{TEXT}.embeddings.position_embeddings.weight"]
    kind, offset = ("roberta-base", 2) if types == 1 else ("bert-base", 0)
    max_length = min(MAX_LENGTH, positions - offset)
    return kind, bert_config(shapes, TEXT, text_preset(kind), max_length)


def _clip(shapes: Shapes) -> TextConfig:
    layer = f"{TEXT}.resblocks.{{}}.mlp.c_fc.weight"
    vocab_size, width = shapes["token_embedding.weight"]
    positions, _ = shapes["positional_embedding"]
    return dataclasses.replace(
        text_preset("clip"),
        vocab_size=vocab_size,
        hidden_size=width,
        layers=shapes.count(layer),
        heads=max(1, width // HEAD_SIZE),
        intermediate_size=shapes[layer.format(0)][0],
        max_positions=positions,
        max_length=min(MAX_LENGTH, positions),
    )
