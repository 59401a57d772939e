"""Frozen configurations of the encoders and of the whole model."""

import math
from dataclasses import dataclass, field, replace

from clapjax.audio.config import AudioConfig

PANN_BLOCKS = {"cnn6": 4, "cnn10": 5, "cnn14": 6}  # convolutional blocks of each PANN
PANN_HALVINGS = {"cnn6": 4, "cnn10": 5, "cnn14": 5}  # how many of them halve the mel
_ATTENTION = ("daf", "aff", "iaff")
FUSION_TYPES = ("none", *(f"{a}_{d}" for d in ("1d", "2d") for a in _ATTENTION), "channel_map")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")


def _positive(group: str, config, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0:
            raise ValueError(f"{group}.{name} must be positive, not {getattr(config, name)}")


@dataclass(frozen=True)
class HTSATConfig:
    """HTSAT audio encoder (Chen et al., 2022); the defaults are LAION-CLAP's HTSAT-tiny."""

    spec_size: int = 256  # side of the folded mel image
    patch_size: int = 4  # side of a patch
    patch_stride: int = 4  # from a patch to the next
    # Widths of 3 x 3 convolutions with stride 2 that replace the patch projection (Xiao et al.,
    # 2021; not in the published HTSAT): a model trained from scratch learns many times faster.
    conv_stem: tuple[int, ...] = ()
    stem_fold: int = 1  # before them, so many x so many neighbours become channels
    embed_dim: int = 96  # width of the first stage; each further one is twice as wide
    depths: tuple[int, ...] = (2, 2, 6, 2)  # even: blocks come in pairs, plain and shifted
    heads: tuple[int, ...] = (4, 8, 16, 32)  # attention heads of each stage
    window_size: int = 8  # side of the windows of attention, in patches
    mlp_ratio: float = 4.0  # hidden width of a block's MLP over its width
    layer_norm_eps: float = 1e-5  # of the norms
    dropout: float = 0.0  # share dropped of what blocks add
    attention_dropout: float = 0.0  # and of attention weights
    drop_path: float = 0.1  # rises linearly over the depth
    init_std: float = 0.02  # of kernels; 0 scales with the fan-in instead, which narrow models need
    # SpecAugment stripes of LAION-CLAP's HTSAT.
    time_stripes: int = 2
    time_width: int = 64  # widest stripe in time, frames
    freq_stripes: int = 2  # and stripes in frequency
    freq_width: int = 8  # widest of those, mels

    # Absolute positions (`ape` in HTSAT's code, off in the published models), drawn with this
    # standard deviation; 0: none.
    position_init_std: float = 0.0
    # Pooling: the mean over all tokens (1, as published), or the means of this many stretches of
    # time side by side, which tell a swapped clip apart from the first step on (docs/order.md).
    time_segments: int = 1

    def __post_init__(self):
        sizes = ("spec_size", "patch_size", "patch_stride", "embed_dim", "window_size", "mlp_ratio")
        _positive("htsat", self, *sizes, "time_segments", "stem_fold")
        if len(self.depths) != len(self.heads):
            raise ValueError(f"htsat: depths {self.depths} and heads {self.heads} differ in length")
        if not self.depths or any(depth < 1 or depth % 2 for depth in self.depths):
            raise ValueError(f"htsat.depths must be even, not {self.depths}")
        if min(self.heads) < 1:
            raise ValueError(f"htsat.heads must be positive, not {self.heads}")
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
        stride = self.stem_fold * 2 ** len(self.conv_stem)
        if self.conv_stem and self.patch_stride != stride:
            raise ValueError(
                f"htsat.patch_stride must be {stride}, what stem_fold {self.stem_fold} and the "
                f"convolutions of conv_stem {self.conv_stem} amount to, not {self.patch_stride}"
            )

    @property
    def token_size(self) -> int:
        """Side of what a token of the last stage stands for, in rows and columns of the image."""
        return self.patch_stride * 2 ** (len(self.depths) - 1)

    @property
    def width(self) -> int:
        """Size of the pooled embedding."""
        return self.embed_dim * 2 ** (len(self.depths) - 1) * self.time_segments


@dataclass(frozen=True)
class PANNConfig:
    """PANN audio encoder (Kong et al., 2020), which one of them: ClapConfig.audio_encoder.

    The defaults are LAION-CLAP's; each block is twice as wide as the one before.
    """

    base_width: int = 64  # channels of the first block
    dropout: float = 0.2  # between blocks
    head_dropout: float = 0.5  # around the dense layer behind the pooling
    # Max + mean over "all" frames, or over each row's own "length", as BLAT has it.
    pooling: str = "all"
    # SpecAugment stripes of LAION-CLAP's PANNs.
    time_stripes: int = 2
    time_width: int = 64  # widest stripe in time, frames
    freq_stripes: int = 2  # and stripes in frequency
    freq_width: int = 8  # widest of those, mels

    def __post_init__(self):
        if self.base_width < 1:
            raise ValueError(f"pann.base_width must be positive, not {self.base_width}")
        for name in ("dropout", "head_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"pann.{name} must be in 0 .. 1, not {getattr(self, name)}")
        _one_of("pann.pooling", self.pooling, ("all", "length"))


@dataclass(frozen=True)
class FusionConfig:
    """Feature fusion of LAION-CLAP: how an encoder hears audio that is longer than a clip.

    The input is then four log-mels (the whole shrunk to a clip, and a chunk from each third). On
    the mel ("1d") or behind the first layer ("2d"), the chunks join the whole by addition (daf) or
    by attention (aff; iaff: twice, Dai et al., 2021); "channel_map" makes them four channels.
    """

    type: str = "none"  # or "channel_map", or daf, aff or iaff as "aff_1d", "aff_2d"
    antialias: bool = False  # of the shrunk mel: torchvision >= 0.17 has it on, transformers off

    def __post_init__(self):
        _one_of("fusion.type", self.type, FUSION_TYPES)


@dataclass(frozen=True)
class TextConfig:
    """Text encoder: BERT, RoBERTa or CLIP; the defaults are roberta-base as LAION-CLAP uses it."""

    # "bert" (which RoBERTa is too): post-norm, all tokens see all; "clip": pre-norm, causal.
    arch: str = "bert"
    positions: str = "roberta"  # counted from pad_id + 1 over the real tokens; "absolute": from 0
    # "pooler" (tanh of a dense layer on the first token), the first token ("cls"), the "mean" of
    # the real tokens, or the last real one ("eos").
    pooling: str = "pooler"
    activation: str = "gelu"  # or "quick_gelu"
    vocab_size: int = 50_265  # of the tokenizer, which sets it
    hidden_size: int = 768  # width
    layers: int = 12  # transformer blocks
    heads: int = 12  # of attention
    intermediate_size: int = 3072  # hidden width of a block's MLP
    max_positions: int = 514  # in the table of positions
    type_vocab_size: int = 1  # token types; only the first is used
    pad_id: int = 1  # token of padding, which the tokenizer sets
    layer_norm_eps: float = 1e-5  # of the norms
    dropout: float = 0.1  # share dropped of what blocks add
    attention_dropout: float = 0.1  # and of attention weights
    max_length: int = 77  # tokens, special ones included
    embedding_std: float = 0.02  # words and token types
    init_std: float = 0.02  # of kernels; 0 scales with the fan-in instead, which narrow models need
    # Words and positions equally loud, as here, keep the order of words audible (docs/order.md).
    position_init_std: float = 0.02

    def __post_init__(self):
        _one_of("text.arch", self.arch, ("bert", "clip"))
        _one_of("text.positions", self.positions, ("roberta", "absolute"))
        _one_of("text.pooling", self.pooling, ("pooler", "cls", "mean", "eos"))
        _one_of("text.activation", self.activation, ("gelu", "quick_gelu"))
        sizes = ("vocab_size", "hidden_size", "layers", "heads", "intermediate_size")
        _positive("text", self, *sizes, "max_positions", "type_vocab_size", "max_length")
        if self.hidden_size % self.heads:
            raise ValueError(f"text: {self.hidden_size} does not divide into {self.heads} heads")
        needed = self.max_length + (self.pad_id + 1 if self.positions == "roberta" else 0)
        if needed > self.max_positions:
            raise ValueError(
                f"text.max_length {self.max_length} needs {needed} positions, there are "
                f"{self.max_positions}"
            )


@dataclass(frozen=True)
class ClapConfig:
    """The two-tower model: front end, encoders, projections and logit scales."""

    audio: AudioConfig = field(default_factory=AudioConfig)
    htsat: HTSATConfig = field(default_factory=HTSATConfig)
    text: TextConfig = field(default_factory=TextConfig)
    projection_size: int = 512  # of the embeddings
    logit_scale_init: float = math.log(1 / 0.07)  # ln of the scale of the logits at first
    logit_bias: bool = False  # a learnt bias of the logits, which loss.kind=sigmoid needs
    logit_bias_init: float = -10.0  # SigLIP's
    compute_dtype: str = "auto"  # "float32", "bfloat16", or "auto": bfloat16 on TPU and GPU
    audio_encoder: str = "htsat"  # or "cnn6", "cnn10", "cnn14"
    pann: PANNConfig = field(default_factory=PANNConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    projection: str = "mlp"  # two dense layers (LAION-CLAP), or "linear": one (BLAT)
    projection_act: str = "relu"  # between the two; or "gelu"
    mlp_transforms: bool = False  # LAION-CLAP's second heads, for loss.mlp_loss
    # 0: x / |x|; else x / (|x| + eps) as BLAT has it.
    normalize_eps: float = 0.0

    def __post_init__(self):
        _one_of("audio_encoder", self.audio_encoder, ("htsat", *PANN_BLOCKS))
        _one_of("projection", self.projection, ("mlp", "linear"))
        _one_of("projection_act", self.projection_act, ("relu", "gelu"))
        _positive("model", self, "projection_size")
        if self.normalize_eps < 0:
            raise ValueError(f"normalize_eps must be >= 0, not {self.normalize_eps}")
        if self.audio_encoder == "htsat":
            self._check_htsat()
        else:
            self._check_pann()

    @property
    def audio_width(self) -> int:
        """Size of the audio encoder's pooled embedding."""
        if self.audio_encoder == "htsat":
            return self.htsat.width
        return self.pann.base_width * 2 ** (PANN_BLOCKS[self.audio_encoder] - 1)

    def _check_htsat(self):
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
        if self.htsat.conv_stem and self.fusion.type.endswith("_2d"):
            raise ValueError(
                f"fusion.type {self.fusion.type} joins patches, which htsat.conv_stem replaces; "
                "use a 1d fusion"
            )

    def _check_pann(self):
        halvings = PANN_HALVINGS[self.audio_encoder]
        if self.audio.mel_bins < 2**halvings or self.audio.frames < 2**halvings:
            raise ValueError(
                f"{self.audio_encoder} halves the mel {halvings} times; {self.audio.frames} "
                f"frames of {self.audio.mel_bins} mels are too few"
            )
        if self.pann.pooling == "length" and self.fusion.type != "none":
            raise ValueError(
                "pann.pooling 'length' hears audio of any length as it is; set fusion.type to none"
            )


@dataclass(frozen=True)
class DecoderConfig:
    """A captioner's decoder: a pre-norm Transformer that attends to the frames of an audio encoder.

    The defaults have the size of CNext-trans (Labbé et al., 2024).
    """

    vocab_size: int = 1000  # of the tokenizer, which sets it
    hidden_size: int = 256  # width
    layers: int = 6  # transformer blocks
    heads: int = 8  # of attention
    intermediate_size: int = 2048  # hidden width of a block's MLP
    activation: str = "gelu"  # or "quick_gelu"
    guidance_length: int = 40  # tokens before a caption, with the two that begin and end them
    max_length: int = 30  # tokens of a caption, its end included
    layer_norm_eps: float = 1e-5  # of the norms
    dropout: float = 0.2  # share dropped of what blocks add, and of words
    attention_dropout: float = 0.0  # and of attention weights
    embedding_std: float = 0.02  # of words and positions
    init_std: float = 0.02  # of kernels; 0 scales with the fan-in instead, which narrow models need

    def __post_init__(self):
        _one_of("decoder.activation", self.activation, ("gelu", "quick_gelu"))
        sizes = ("vocab_size", "hidden_size", "layers", "heads", "intermediate_size")
        _positive("decoder", self, *sizes)
        if self.hidden_size % self.heads:
            raise ValueError(f"decoder: {self.hidden_size} does not divide into {self.heads} heads")
        for name in ("guidance_length", "max_length"):
            if getattr(self, name) < 2:
                raise ValueError(f"decoder.{name} must be at least 2, not {getattr(self, name)}")


@dataclass(frozen=True)
class DecodingConfig:
    """How a captioner chooses its words: by beam search, or by chance from a nucleus of them."""

    beams: int = 3  # hypotheses kept of a clip; 1: greedy
    # Beams of a group see what those before it have said at the same place, and lose `diversity`
    # for each that says the same (diverse beam search: Vijayakumar et al., 2018).
    groups: int = 1  # that the beams divide into
    diversity: float = 0.5  # of several groups
    # Above 0, words are drawn from the likeliest that have this probability together (Holtzman et
    # al., 2020), and there are no beams.
    nucleus: float = 0.0
    temperature: float = 1.0  # of that draw: below 1 the likely are likelier
    count: int = 1  # captions of a clip
    length_penalty: float = 1.0  # the sum of log probabilities counts over length ** length_penalty
    min_length: int = 1  # tokens before the end, at least
    max_length: int = 0  # tokens with the end, at most; 0: as many as the decoder was made for
    no_repeat: int = 0  # so many tokens do not come twice in the same order; 0: they may

    def __post_init__(self):
        _positive("decoding", self, "beams", "groups", "count", "temperature")
        for name in ("diversity", "length_penalty", "min_length", "no_repeat"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"decoding.{name} must be >= 0, not {getattr(self, name)}")
        if not 0 <= self.nucleus <= 1:
            raise ValueError(f"decoding.nucleus must be in 0 .. 1, not {self.nucleus}")
        if self.beams % self.groups:
            raise ValueError(f"decoding.beams {self.beams} do not divide into {self.groups} groups")
        if not self.nucleus and self.count > self.beams:
            raise ValueError(
                f"decoding.count: {self.beams} beams do not give {self.count} captions"
            )
        if self.max_length and not self.min_length < self.max_length:
            raise ValueError(
                f"decoding.max_length {self.max_length} must be above min_length {self.min_length}"
            )


def with_vocabulary(config: ClapConfig, vocab_size: int, pad_id: int) -> ClapConfig:
    """The same model for a tokenizer of another size."""
    text = replace(config.text, vocab_size=vocab_size, pad_id=pad_id)
    return replace(config, text=text)
