"""Settings of one training run."""

import re
from dataclasses import dataclass, field

from clapjax.data.config import DataConfig
from clapjax.models.layers import REMAT

CHECKPOINTS = "checkpoints"  # where they are in a workdir; here, for who reads none needs no Orbax
OPTIMIZERS = ("adamw", "muon")


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, or Muon, with linear warm-up and cosine decay to zero.

    LAION's Adam: learning_rate 1e-4, warmup_steps 3200, warmup_offset 1, b2 0.999,
    weight_decay 0, clip_norm 0.
    """

    # "muon": kernels by Muon (Jordan et al., 2024), whose steps are as long as AdamW's, so that the
    # same rates and decay serve (Liu et al., 2025, arXiv 2502.16982); all else by AdamW.
    kind: str = "adamw"
    learning_rate: float = 5e-4  # at its highest, after the warm-up
    warmup_steps: int = 50  # over which the rate rises from 0
    # Step k (from 0) of the warm-up has (k + warmup_offset) / warmup_steps of the rate. LAION
    # has 1 here, so that its first step moves.
    warmup_offset: int = 0
    b1: float = 0.9  # Adam's decay of the mean of gradients
    b2: float = 0.98  # and of their squares
    eps: float = 1e-8  # Adam's, beside the root of those squares
    weight_decay: float = 0.05  # of kernels and embeddings; biases and norms have none
    clip_norm: float = 1.0  # global gradient norm; 0: not clipped
    # "REGEX=FACTOR": parameters in whose path REGEX is found have FACTOR times the rate; the first
    # that fits counts. ("^encoder/=0.1",) is slow with a pretrained encoder.
    rates: tuple[str, ...] = ()
    # Rate of a layer over that of the layer above it, in each part of the model that has layers,
    # counted down from what is above the last one (Clark et al., 2020); 1: all the same.
    layer_decay: float = 1.0
    # Parts that stay as they are, by their top-level parameter: "NAME", or "NAME:6" for six layers
    # and what is below the first, where a layer is one transformer, Swin or PANN block.
    freeze: tuple[str, ...] = ()
    # Decay of a moving average of the parameters, which is then the model that is evaluated and
    # loaded; 0: none. Step t averages with min(ema, (1 + t) / (10 + t)).
    ema: float = 0.0

    def __post_init__(self):
        if self.kind not in OPTIMIZERS:
            raise ValueError(
                f"optimizer.kind must be one of {', '.join(OPTIMIZERS)}, not {self.kind!r}"
            )
        if not 0 < self.layer_decay <= 1:
            raise ValueError(
                "optimizer.layer_decay must be above 0 and at most 1 (1: all layers learn alike), "
                f"not {self.layer_decay}"
            )
        for name in ("learning_rate", "eps"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"optimizer.{name} must be positive, not {getattr(self, name)}")
        for name in ("warmup_steps", "warmup_offset", "weight_decay", "clip_norm"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"optimizer.{name} must be >= 0, not {getattr(self, name)}")
        for name in ("b1", "b2", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"optimizer.{name} must be in 0 .. 1, not {getattr(self, name)}")
        for item in self.rates:
            split_rate(item)
        for item in self.freeze:
            split_freeze(item)


def split_rate(item: str) -> tuple[re.Pattern, float]:
    """One of OptimizerConfig.rates: its pattern and factor."""
    pattern, equals, factor = item.rpartition("=")
    try:
        if not equals or not 0 <= float(factor) < float("inf"):
            raise ValueError
        return re.compile(pattern), float(factor)
    except (ValueError, re.error):
        raise ValueError(f"optimizer.rates: {item!r} is not REGEX=FACTOR") from None


def split_freeze(item: str) -> tuple[str, int | None]:
    """One of OptimizerConfig.freeze: the part, and how many layers (None: all of it)."""
    part, colon, count = item.partition(":")
    if not part or (colon and not count.isdecimal()):
        raise ValueError(f"optimizer.freeze: {item!r} is not NAME or NAME:COUNT")
    return part, int(count) if colon else None


@dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis; -1 takes all that are left.

    The batch is split over both axes. Parameters, optimiser state and moving average are split over
    "fsdp" too.
    """

    data: int = -1  # devices along the axis that splits the batch alone
    fsdp: int = 1  # and along the one that splits the state too; 1: each device has all of it
    split_above: int = 65_536  # elements; a smaller parameter is whole on every device


@dataclass(frozen=True)
class TrainConfig:
    """A run of any task: all that determines its parameters beside the task and the records."""

    seed: int = 0  # of parameters, order, crops, texts and noise
    batch_size: int = 32  # global
    steps: int = 1000  # batches trained on, in all
    log_every: int = 20  # steps from a line of the log to the next
    checkpoint_every: int = 200  # steps from a checkpoint to the next
    keep_last: int = 2  # so many of the last checkpoints stay
    # A score of the evaluation, as "zero_shot/accuracy": the checkpoint with the highest is kept as
    # well ("-NAME": with the lowest). Each evaluation saves one then.
    keep_best: str = ""
    eval_every: int = 0  # 0: only at the end
    init_from: str = ""  # a model to start from
    # "text": only its text tower, into whose space an audio tower of this config's own is to learn.
    init_tower: str = ""
    # Rows that a device encodes at once, at most; 0: all of its rows. They go through the model in
    # equal parts, one after the other; the loss sees the batch whole.
    rows_per_device: int = 0
    # What the backward pass computes again, of the model's layers: "none", all but the results of
    # dense products ("dots"), or all ("full"). Time for memory. Captions are always computed again.
    remat: str = "none"
    # Captions of a device are put one behind the other into rows of so many tokens, at least
    # model.text.max_length; 0: as it suits that.
    packed_length: int = 0
    # Such rows that are encoded at once; 0: about 1024 tokens, more on a device with many captions.
    packed_rows: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def __post_init__(self):
        for name in ("batch_size", "steps", "log_every", "checkpoint_every", "keep_last"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("eval_every", "rows_per_device", "packed_length", "packed_rows"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, not {getattr(self, name)}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be in 0 .. 2**31 - 1, not {self.seed}")
        if self.init_tower not in ("", "text"):
            raise ValueError(f"init_tower must be 'text' or empty, not {self.init_tower!r}")
        if self.init_tower and not self.init_from:
            raise ValueError("init_tower is a part of init_from: name that model too (--model M)")
        if self.remat not in REMAT:
            raise ValueError(f"remat must be one of {', '.join(REMAT)}, not {self.remat!r}")
