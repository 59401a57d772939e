"""Settings of one training run."""

from dataclasses import dataclass, field

from clapjax.data.config import DataConfig
from clapjax.losses.clap import LossConfig
from clapjax.models.config import ClapConfig, small_clap


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with linear warm-up and cosine decay to zero."""

    learning_rate: float = 5e-4
    warmup_steps: int = 50
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-8
    weight_decay: float = 0.05  # of kernels and embeddings; biases and norms have none
    clip_norm: float = 1.0  # global gradient norm


@dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis; -1 takes all that are left."""

    data: int = -1
    fsdp: int = 1


@dataclass(frozen=True)
class TrainConfig:
    """Everything that determines the trained parameters, together with the records."""

    seed: int = 0
    batch_size: int = 32  # global
    steps: int = 1000
    log_every: int = 20
    checkpoint_every: int = 200
    eval_every: int = 0  # 0: only at the end
    data: DataConfig = field(default_factory=DataConfig)
    model: ClapConfig = field(default_factory=small_clap)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def __post_init__(self):
        for name in ("batch_size", "steps", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be in 0 .. 2**31 - 1, not {self.seed}")
