"""Hugging Face folders of `transformers.ClapModel`: their configuration, both ways."""

import dataclasses
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from clapjax.audio.config import AudioConfig
from clapjax.data.tokenizer import without_advice
from clapjax.interop.errors import CheckpointError
from clapjax.interop.files import read_json
from clapjax.models.config import ClapConfig, FusionConfig, HTSATConfig, TextConfig
from clapjax.models.swin import relative_index

# Defaults of transformers.ClapFeatureExtractor, for the keys that a preprocessor_config.json lacks.
PREPROCESSOR = {
    "feature_size": 64,
    "sampling_rate": 48_000,
    "hop_length": 480,
    "max_length_s": 10,
    "fft_window_size": 1024,
    "frequency_min": 0,
    "frequency_max": 14_000,
    "truncation": "fusion",
    "padding": "repeatpad",
}
# Settings that transformers has and clapjax has one value of.
AUDIO_FIXED = {
    "hidden_act": "gelu",
    "qkv_bias": True,
    "enable_patch_layer_norm": True,
    "flatten_patch_embeds": True,
    "patch_embed_input_channels": 1,
    "layer_norm_eps": 1e-5,
    "aff_block_r": 4,
}
TEXT_FIXED = {"hidden_act": "gelu"}
FUSED = "aff_2d"  # the one fusion that transformers runs
TRUNCATION = {False: "rand_trunc", True: "fusion"}  # by audio_config.enable_fusion
BANKS = {"rand_trunc": ("slaney", "slaney"), "fusion": ("htk", "none")}  # mel scale and norm


def find_config(folder: Path, theirs, max_length: int, tower: str | None = None) -> ClapConfig:
    """The config of a Hugging Face folder.

    Args:
      folder: with preprocessor_config.json, which the text tower can do without.
      theirs: what `read_config` found in its config.json.
      max_length: the tokenizer's limit in tokens.
      tower: "text" where only that one is wanted; the other's settings are then defaults.

    Raises:
      CheckpointError: a file is missing or damaged, or says something that clapjax has not.
    """
    file, audio, text = folder / "config.json", theirs.audio_config, theirs.text_config
    for part, fixed in ((audio, AUDIO_FIXED), (text, TEXT_FIXED)):
        for name, only in fixed.items():
            if getattr(part, name) != only:
                raise CheckpointError(
                    f"{file}: {part.base_config_key}.{name} is {getattr(part, name)!r}; "
                    f"clapjax has only {only!r}"
                )
    if not theirs.logit_scale_init_value > 0:
        raise CheckpointError(f"{file}: logit_scale_init_value must be positive")
    try:
        config = ClapConfig(
            text=_text(text, max_length),
            projection_size=theirs.projection_dim,
            projection_act=theirs.projection_hidden_act,
            logit_scale_init=math.log(theirs.logit_scale_init_value),
        )
        if tower == "text":
            return config
        config = dataclasses.replace(
            config,
            audio=_front_end(_preprocessor(folder)),
            htsat=_htsat(audio),
            fusion=FusionConfig(type=FUSED if audio.enable_fusion else "none"),
        )
    except CheckpointError:
        raise
    except (ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise CheckpointError(f"{folder}: {error}") from error
    if audio.enable_fusion and audio.fusion_type not in (None, FUSED):
        raise CheckpointError(
            f"{file}: audio_config.fusion_type is {audio.fusion_type!r}; transformers runs only "
            f"{FUSED!r}, and so does clapjax with its checkpoints"
        )
    if _bank(config.audio) != BANKS[TRUNCATION[audio.enable_fusion]]:
        raise CheckpointError(
            f"{folder}: preprocessor_config.json does not go with audio_config.enable_fusion "
            f"{audio.enable_fusion}: truncation must be {TRUNCATION[audio.enable_fusion]!r}"
        )
    if config.htsat.width != audio.hidden_size:
        raise CheckpointError(
            f"{file}: audio_config.hidden_size is {audio.hidden_size}, but "
            f"patch_embeds_hidden_size and depths make {config.htsat.width}"
        )
    return config


def read_config(file: Path, tower: str | None = None):
    """A config.json as `transformers.ClapConfig`, whose defaults fill what the file leaves out.

    Raises:
      CheckpointError: missing, damaged, another model's, or that of the other tower alone.
    """
    with without_advice():
        from transformers import ClapConfig as TransformersConfig

    values = read_json(file)
    kind = values.get("model_type")
    if kind == "clap_text_model":  # what ClapTextModelWithProjection saves
        if tower != "text":
            raise CheckpointError(f"{file}: of a text tower alone; load it with towers='text'")
        shared = {"projection_dim", "projection_hidden_act"} & values.keys()
        values = {"text_config": values} | {name: values[name] for name in shared}
    elif kind != "clap":
        raise CheckpointError(f"{file}: model_type is {kind!r}, not 'clap'")
    try:
        return TransformersConfig.from_dict(values)
    except Exception as error:  # transformers checks some values and trips over others
        raise CheckpointError(f"{file}: {' '.join(str(error).split())}") from error


def _preprocessor(folder: Path) -> dict:
    """The feature extractor's settings, from either of the files that transformers writes."""
    file = folder / "preprocessor_config.json"
    if file.is_file():
        return PREPROCESSOR | read_json(file)
    combined = folder / "processor_config.json"  # transformers 5
    if combined.is_file():
        inside = read_json(combined).get("feature_extractor")
        if isinstance(inside, dict):
            return PREPROCESSOR | inside
    raise CheckpointError(
        f"{folder}: no {file.name} here; without it neither the sample rate nor the mel filters "
        "of the model are known"
    )


def _front_end(settings: dict) -> AudioConfig:
    if settings["truncation"] not in list(BANKS):
        raise ValueError(f"truncation {settings['truncation']!r} is none of {', '.join(BANKS)}")
    scale, norm = BANKS[settings["truncation"]]
    rate = _number(settings, "sampling_rate")
    return AudioConfig(
        sample_rate=int(rate),
        clip_samples=int(_number(settings, "max_length_s") * rate),
        fill=settings["padding"],
        window_length=int(_number(settings, "fft_window_size")),
        hop_length=int(_number(settings, "hop_length")),
        mel_bins=int(_number(settings, "feature_size")),
        fmin=float(_number(settings, "frequency_min")),
        fmax=float(_number(settings, "frequency_max")),
        mel_scale=scale,
        mel_norm=norm,
    )


def _number(settings: dict, name: str) -> float:
    value = settings[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"preprocessor_config.json: {name} must be a number, not {value!r}")
    return value


def _htsat(audio) -> HTSATConfig:
    return HTSATConfig(
        spec_size=audio.spec_size,
        patch_size=_side(audio.patch_size, "patch_size"),
        patch_stride=_side(audio.patch_stride, "patch_stride"),
        embed_dim=audio.patch_embeds_hidden_size,
        depths=tuple(audio.depths),
        heads=tuple(audio.num_attention_heads),
        window_size=audio.window_size,
        mlp_ratio=float(audio.mlp_ratio),
        dropout=float(audio.hidden_dropout_prob),
        attention_dropout=float(audio.attention_probs_dropout_prob),
        drop_path=float(audio.drop_path_rate),
    )


def _side(value, name: str) -> int:
    sides = {value} if isinstance(value, int) else set(value)
    if len(sides) != 1:
        raise ValueError(f"audio_config.{name} is {value}; clapjax has only squares")
    return sides.pop()


def _text(text, max_length: int) -> TextConfig:
    pad = text.pad_token_id
    if pad is None:
        raise ValueError("config.json: text_config.pad_token_id is missing")
    return TextConfig(
        vocab_size=text.vocab_size,
        hidden_size=text.hidden_size,
        layers=text.num_hidden_layers,
        heads=text.num_attention_heads,
        intermediate_size=text.intermediate_size,
        max_positions=text.max_position_embeddings,
        type_vocab_size=text.type_vocab_size,
        pad_id=pad,
        layer_norm_eps=float(text.layer_norm_eps),
        dropout=float(text.hidden_dropout_prob),
        attention_dropout=float(text.attention_probs_dropout_prob),
        max_length=min(max_length, text.max_position_embeddings - pad - 1),
    )


def why_not(config: ClapConfig) -> list[str]:
    """All that `transformers.ClapModel` cannot represent of a model."""
    why = _why_not_audio(config) + _why_not_text(config.text)
    if config.projection != "mlp":
        why.append(f"its projections are {config.projection}, not mlp")
    if config.mlp_transforms:
        why.append("it has the heads of mlp_loss (mlp_transforms)")
    if config.logit_bias:
        why.append("its logits have a bias (logit_bias)")
    if config.normalize_eps:
        why.append(f"it normalises with normalize_eps {config.normalize_eps:g}")
    return why


def _why_not_audio(config: ClapConfig) -> list[str]:
    audio, htsat, fusion = config.audio, config.htsat, config.fusion
    why, fused = [], fusion.type == FUSED
    if config.audio_encoder != "htsat":
        why.append(f"its audio encoder is {config.audio_encoder}, not htsat")
    else:
        if htsat.conv_stem:
            why.append("its patches come from a convolutional stem (htsat.conv_stem)")
        if htsat.time_segments != 1:
            why.append(f"it pools {htsat.time_segments} stretches of time (htsat.time_segments)")
        if htsat.position_init_std > 0:
            why.append("it has absolute positions (htsat.position_init_std)")
        if htsat.layer_norm_eps != AUDIO_FIXED["layer_norm_eps"]:
            why.append(f"htsat.layer_norm_eps is {htsat.layer_norm_eps:g}, not 1e-05")
    if fusion.type not in ("none", FUSED) or fusion.antialias:
        why.append(f"its fusion is {fusion}, not {FUSED} without antialias")
    if _bank(audio) != BANKS[TRUNCATION[fused]]:
        expected = "/".join(BANKS[TRUNCATION[fused]])
        why.append(f"its mel filters are {'/'.join(_bank(audio))}, not {expected}")
    if fused and audio.mel_bins != 64:
        why.append(f"it fuses {audio.mel_bins} mels, not 64")
    if audio.clip_samples % audio.sample_rate:
        why.append(f"its clips of {audio.clip_samples} samples are no whole seconds")
    return why


def _why_not_text(text: TextConfig) -> list[str]:
    found = (text.arch, text.positions, text.pooling, text.activation)
    if found == ("bert", "roberta", "pooler", "gelu"):
        return []
    what = f"{text.arch}, {text.positions} positions, {text.pooling}, {text.activation}"
    return [f"its text encoder is none of RoBERTa's ({what})"]


def _bank(audio: AudioConfig) -> tuple[str, str]:
    return audio.mel_scale, audio.mel_norm


def to_config(config: ClapConfig, tokenizer) -> dict:
    """config.json of a model of which `why_not` finds nothing."""
    with without_advice():
        from transformers import ClapConfig as TransformersConfig

    htsat, text = config.htsat, config.text
    theirs = TransformersConfig(
        audio_config={
            "spec_size": htsat.spec_size,
            "num_mel_bins": config.audio.mel_bins,
            "patch_size": htsat.patch_size,
            "patch_stride": [htsat.patch_stride] * 2,
            "patch_embeds_hidden_size": htsat.embed_dim,
            "hidden_size": htsat.width,
            "depths": list(htsat.depths),
            "num_attention_heads": list(htsat.heads),
            "num_hidden_layers": len(htsat.depths),
            "window_size": htsat.window_size,
            "mlp_ratio": htsat.mlp_ratio,
            "hidden_dropout_prob": htsat.dropout,
            "attention_probs_dropout_prob": htsat.attention_dropout,
            "drop_path_rate": htsat.drop_path,
            "enable_fusion": config.fusion.type == FUSED,
            "fusion_type": FUSED if config.fusion.type == FUSED else None,
            **AUDIO_FIXED,
        },
        text_config={
            "vocab_size": text.vocab_size,
            "hidden_size": text.hidden_size,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "intermediate_size": text.intermediate_size,
            "max_position_embeddings": text.max_positions,
            "type_vocab_size": text.type_vocab_size,
            "pad_token_id": text.pad_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "layer_norm_eps": text.layer_norm_eps,
            "hidden_dropout_prob": text.dropout,
            "attention_probs_dropout_prob": text.attention_dropout,
            **TEXT_FIXED,
        },
        projection_dim=config.projection_size,
        projection_hidden_act=config.projection_act,
        logit_scale_init_value=math.exp(config.logit_scale_init),
    )
    return {"architectures": ["ClapModel"], "dtype": "float32"} | theirs.to_dict()


def to_preprocessor(config: ClapConfig) -> dict:
    """preprocessor_config.json of the same."""
    audio = config.audio
    return {
        "feature_extractor_type": "ClapFeatureExtractor",
        "processor_class": "ClapProcessor",
        "feature_size": audio.mel_bins,
        "sampling_rate": audio.sample_rate,
        "hop_length": audio.hop_length,
        "max_length_s": audio.clip_samples // audio.sample_rate,
        "fft_window_size": audio.window_length,
        "frequency_min": audio.fmin,
        "frequency_max": audio.fmax,
        "truncation": TRUNCATION[config.fusion.type == FUSED],
        "padding": audio.fill,
        "padding_value": 0.0,
        "padding_side": "right",
        "return_attention_mask": False,
        "top_db": None,
    }


def buffers(config: ClapConfig, weights: Iterable[str]) -> dict[str, np.ndarray]:
    """The tensors of a ClapModel that are no weights, so that nothing is missing on loading."""
    positions = np.arange(config.text.max_positions, dtype=np.int64)[None]
    out = {
        "text_model.embeddings.position_ids": positions,
        "text_model.embeddings.token_type_ids": np.zeros_like(positions),
    }
    index = relative_index(config.htsat.window_size).astype(np.int64)
    for name in weights:
        module, _, kind = name.rpartition(".")
        if kind == "running_mean":
            out[f"{module}.num_batches_tracked"] = np.zeros((), np.int64)
        elif kind == "relative_position_bias_table":
            out[f"{module}.relative_position_index"] = index
    return out
