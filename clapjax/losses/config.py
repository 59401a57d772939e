"""The configuration of the training objective."""

from dataclasses import dataclass

from clapjax.losses.pairs import GROUP

CHOICES = {
    "kind": ("softmax", "sigmoid"),
    "implementation": ("auto", "plain", "ring"),
    "negatives": ("none", "own", "all"),
}


@dataclass(frozen=True)
class LossConfig:
    """The training objective L = L_contrastive + temporal_weight * L_temporal."""

    temporal_weight: float = 0.5  # lambda of T-CLAP, equation 2
    # Steps over which the weight rises linearly from 0: a model trained from scratch must know the
    # events before their order can teach it anything but noise. Not from the paper.
    temporal_ramp_steps: int = 0
    # Clips in which the same events sound in the same order are not each other's negatives. Not
    # from the papers, whose human captions seldom coincide as template captions do.
    mask_same_events: bool = False
    kind: str = "softmax"  # contrastive loss: "softmax" (CLIP) or "sigmoid" (SigLIP)
    # "plain" builds the N x N logits, "ring" never does; "auto" takes "ring" where they are many.
    implementation: str = "auto"
    # Captions in a wrong order as further negatives of the audio: "none", each sample its "own"
    # (of those that have one), or "all" of the batch's.
    negatives: str = "none"
    # Order pairs: of every four rows, how many at most are there a second time, as the sound in the
    # wrong order with the wrong caption (clapjax/losses/pairs.py). Not from the paper.
    order_pairs: int = 0
    tile: int = 1024  # rows and columns of a tile of the ring, at most
    # LAION-CLAP's options, see clapjax/losses/laion.py; plain softmax without further negatives.
    mlp_loss: bool = False  # needs model.mlp_transforms
    kappa: float = 0.0  # its weight_loss_kappa; 0: all samples count alike

    def __post_init__(self):
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"loss.{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}"
                )
        if not 0 <= self.order_pairs <= GROUP:
            raise ValueError(
                f"loss.order_pairs must be in 0..{GROUP}, of every {GROUP} rows, not "
                f"{self.order_pairs}"
            )
        if self.order_pairs and self.negatives != "none":
            raise ValueError(
                "loss.order_pairs goes with loss.negatives=none: wrong captions are captions of "
                "the batch then"
            )
        if self.tile < 1:
            raise ValueError(f"loss.tile must be positive, not {self.tile}")
        if self.temporal_ramp_steps < 0:
            raise ValueError(
                f"loss.temporal_ramp_steps must be >= 0, not {self.temporal_ramp_steps}"
            )
        if not 0 <= self.temporal_weight < float("inf"):
            raise ValueError(f"loss.temporal_weight must be >= 0, not {self.temporal_weight}")
        if not 0 <= self.kappa < float("inf"):
            raise ValueError(f"loss.kappa must be >= 0, not {self.kappa}")
        asked = (self.kind, self.negatives, self.implementation == "ring", self.order_pairs)
        if self.laion and asked != ("softmax", "none", False, 0):
            raise ValueError(
                "loss.mlp_loss and loss.kappa go with loss.kind=softmax, loss.negatives=none and "
                "without loss.implementation=ring and loss.order_pairs"
            )

    @property
    def laion(self) -> bool:
        """Whether one of LAION-CLAP's options is on."""
        return self.mlp_loss or self.kappa > 0
