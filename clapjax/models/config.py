"""Frozen configurations of the encoders, and presets for the published sizes."""

import dataclasses
import math
from dataclasses import dataclass, field

from clapjax.audio.config import AudioConfig


@dataclass(frozen=True)
class HTSATConfig:
    """HTSAT audio encoder (Chen et al., 2022); the defaults are LAION-CLAP's HTSAT-tiny."""

    spec_size: int = 256  # side of the folded mel image
    patch_size: int = 4
    patch_stride: int = 4
    # Widths of 3 x 3 convolutions with stride 2 that replace the patch projection (Xiao et al.,
    # 2021; not in the published HTSAT): a model trained from scratch learns many times faster.
    conv_stem: tuple[int, ...] = ()
    embed_dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)  # even: blocks come in pairs, plain and shifted
    heads: tuple[int, ...] = (4, 8, 16, 32)
    window_size: int = 8
    mlp_ratio: float = 4.0
    layer_norm_eps: float = 1e-5
    dropout: float = 0.0
    attention_dropout: float = 0.0
    drop_path: float = 0.1  # rises linearly over the depth
    init_std: float = 0.02  # of kernels; 0 scales with the fan-in instead, which narrow models need
    # SpecAugment stripes of LAION-CLAP's HTSAT.
    time_stripes: int = 2
    time_width: int = 64
    freq_stripes: int = 2
    freq_width: int = 8

    # Absolute positions (`ape` in HTSAT's code, off in the published models), drawn with this
    # standard deviation; 0: none.
    position_init_std: float = 0.0
    # Pooling: the mean over all tokens (1, as published), or the means of this many stretches of
    # time side by side, which tell a swapped clip apart from the first step on (docs/order.md).
    time_segments: int = 1

    def __post_init__(self):
        if len(self.depths) != len(self.heads):
            raise ValueError(f"htsat: depths {self.depths} and heads {self.heads} differ in length")
        if any(depth % 2 for depth in self.depths):
            raise ValueError(f"htsat.depths must be even, not {self.depths}")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"htsat.drop_path must be in 0 .. 1, not {self.drop_path}")
        last = self.spec_size // self.patch_stride // 2 ** (len(self.depths) - 1)
        if last * 2 ** (len(self.depths) - 1) * self.patch_stride != self.spec_size:
            raise ValueError(f"htsat.spec_size {self.spec_size} does not halve to the last stage")
        for stage, heads in enumerate(self.heads):
            width, side = (
                self.embed_dim * 2**stage,
                self.spec_size // self.patch_stride // 2**stage,
            )
            if width % heads or (side > self.window_size and side % self.window_size):
                raise ValueError(
                    f"htsat: stage {stage} is {side} x {side} tokens of width {width}, which does "
                    f"not divide into {heads} heads and windows of {self.window_size}"
                )
        if self.conv_stem and self.patch_stride != 2 ** len(self.conv_stem):
            raise ValueError(
                f"htsat.patch_stride must be {2 ** len(self.conv_stem)}, what the convolutions of "
                f"conv_stem {self.conv_stem} amount to, not {self.patch_stride}"
            )

    @property
    def width(self) -> int:
        """Size of the pooled embedding."""
        return self.embed_dim * 2 ** (len(self.depths) - 1) * self.time_segments


@dataclass(frozen=True)
class TextConfig:
    """RoBERTa-type text encoder; the defaults are roberta-base as LAION-CLAP uses it."""

    vocab_size: int = 50_265
    hidden_size: int = 768
    layers: int = 12
    heads: int = 12
    intermediate_size: int = 3072
    max_positions: int = 514  # RoBERTa counts positions from pad_id + 1
    type_vocab_size: int = 1
    pad_id: int = 1
    layer_norm_eps: float = 1e-5
    dropout: float = 0.1
    attention_dropout: float = 0.1
    max_length: int = 77  # tokens, special ones included
    embedding_std: float = 0.02  # words and token types
    init_std: float = 0.02  # of kernels; 0 scales with the fan-in instead, which narrow models need
    # Words and positions equally loud, as here, keep the order of words audible (docs/order.md).
    position_init_std: float = 0.02

    def __post_init__(self):
        if self.hidden_size % self.heads:
            raise ValueError(f"text: {self.hidden_size} does not divide into {self.heads} heads")
        if self.max_length + self.pad_id + 1 > self.max_positions:
            raise ValueError(
                f"text.max_length {self.max_length} needs {self.max_length + self.pad_id + 1} "
                f"positions, there are {self.max_positions}"
            )


@dataclass(frozen=True)
class ClapConfig:
    """The two-tower model: front end, encoders, projections and logit scales."""

    audio: AudioConfig = field(default_factory=AudioConfig)
    htsat: HTSATConfig = field(default_factory=HTSATConfig)
    text: TextConfig = field(default_factory=TextConfig)
    projection_size: int = 512
    logit_scale_init: float = math.log(1 / 0.07)
    compute_dtype: str = "auto"  # "float32", "bfloat16", or "auto": bfloat16 on TPU and GPU

    def __post_init__(self):
        if self.htsat.spec_size % self.audio.mel_bins:
            raise ValueError(
                f"htsat.spec_size {self.htsat.spec_size} is no multiple of "
                f"{self.audio.mel_bins} mels"
            )
        width = self.htsat.spec_size**2 // self.audio.mel_bins
        steps = width // self.htsat.patch_stride // 2 ** (len(self.htsat.depths) - 1)
        if steps % self.htsat.time_segments:
            raise ValueError(
                f"htsat.time_segments {self.htsat.time_segments} does not divide the {steps} steps "
                "of time that the last stage has"
            )
        if self.audio.frames > width:
            raise ValueError(
                f"audio: {self.audio.frames} frames do not fit HTSAT's {width}; raise hop_length "
                "or shorten clip_samples"
            )


def htsat_preset(name: str) -> HTSATConfig:
    """LAION-CLAP's "tiny", "base" and "large", or "small" for training on a CPU."""
    presets = {
        "tiny": HTSATConfig(),
        "base": HTSATConfig(embed_dim=128, depths=(2, 2, 12, 2)),
        "large": HTSATConfig(embed_dim=256, depths=(2, 2, 12, 2)),
        "small": HTSATConfig(
            spec_size=128,
            patch_size=16,
            patch_stride=16,
            conv_stem=(16, 32, 64, 128),
            embed_dim=128,
            depths=(2,),
            heads=(4,),
            time_width=24,
            init_std=0.0,
            time_segments=4,
            drop_path=0.0,
        ),
    }
    if name not in presets:
        raise ValueError(f"no HTSAT preset {name!r}; there are {', '.join(presets)}")
    return presets[name]


def text_preset(name: str) -> TextConfig:
    """ "roberta-base", or "small" for training on a CPU."""
    presets = {
        "roberta-base": TextConfig(),
        "small": TextConfig(
            vocab_size=1000,
            hidden_size=128,
            layers=2,
            heads=4,
            intermediate_size=512,
            max_positions=66,
            max_length=24,
            embedding_std=0.05,
            position_init_std=0.1,
            init_std=0.0,
            dropout=0.0,
            attention_dropout=0.0,
        ),
    }
    if name not in presets:
        raise ValueError(f"no text preset {name!r}; there are {', '.join(presets)}")
    return presets[name]


def small_clap() -> ClapConfig:
    """A model that learns on two CPU cores: 10 s at 16 kHz, 25 frames a second, 64 tokens."""
    audio = AudioConfig(sample_rate=16_000, clip_samples=160_000, hop_length=640, fmax=7_600.0)
    text = text_preset("small")
    return ClapConfig(audio=audio, htsat=htsat_preset("small"), text=text, projection_size=256)


def with_vocabulary(config: ClapConfig, vocab_size: int, pad_id: int) -> ClapConfig:
    """The same model for a tokenizer of another size."""
    text = dataclasses.replace(config.text, vocab_size=vocab_size, pad_id=pad_id)
    return dataclasses.replace(config, text=text)
