"""PANN audio encoders: Cnn6, Cnn10 and Cnn14 (Kong et al., 2020) as LAION-CLAP and BLAT have them.

Shapes: B batch, F frames, M mels, T steps of time behind the blocks, C channels.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from clapjax.models.config import PANN_BLOCKS, PANN_HALVINGS, FusionConfig, PANNConfig
from clapjax.models.feature_fusion import ImageFusion, MelFusion, fusion_input, split_type
from clapjax.models.layers import PRODUCT, BatchNorm, augment, rematerialised


class ConvBlock(nn.Module):
    """Convolutions with BatchNorm and ReLU, then average pooling.

    What lies past a row's end is zero before each convolution, as its padding is: a row in a padded
    batch comes out as it does alone.
    """

    width: int
    kernel: int
    convolutions: int
    pool: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, lengths: jax.Array | None, train: bool) -> jax.Array:
        """(B, F, M, C), and the frames (B,) of each row or None, to (B, F/pool, M/pool, width)."""
        mask = _within(x, lengths)
        for index in range(1, self.convolutions + 1):
            convolution = nn.Conv(
                self.width,
                (self.kernel, self.kernel),
                padding=self.kernel // 2,
                use_bias=False,
                kernel_init=nn.initializers.xavier_uniform(),
                dtype=self.dtype,
                name=f"conv{index}",
            )
            x = checkpoint_name(convolution(_zero_outside(x, mask)), PRODUCT)
            x = nn.relu(BatchNorm(name=f"norm{index}")(x, train, mask)).astype(self.dtype)
        return nn.avg_pool(x, (self.pool, self.pool), (self.pool, self.pool))


class PANN(nn.Module):
    """Log-mel spectrograms to pooled embeddings."""

    config: PANNConfig
    arch: str  # "cnn6", "cnn10" or "cnn14"
    fusion: FusionConfig = FusionConfig()
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"  # of each block
    # So many blocks, and what is below the first, run in training as in evaluation; -1: none does.
    frozen: int = -1

    @nn.compact
    def __call__(
        self,
        log_mel: jax.Array,
        train: bool,
        longer: jax.Array | None = None,
        lengths: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Encodes log-mels.

        Args:
          log_mel: (B, F, M) float32 dB, or (B, 4, F, M) as `clapjax.audio.fusion` makes them.
          train: batch statistics, SpecAugment and dropout on; needs the rng streams "augment" and
            "dropout" and a mutable "batch_stats".
          longer: (B,) bool, with four mels: which rows are longer than a clip.
          lengths: (B,) int32 frames of each row, with pooling "length"; None: all of them. A row
            too short for the halvings is heard with the frames behind it.

        Returns:
          ((B, width) pooled, (B, T, width) in order of time), both float32.

        Raises:
          ValueError: a mel too short, or an argument that does not go with the config.
        """
        config, shortest = self.config, 2 ** PANN_HALVINGS[self.arch]
        below = train and self.frozen < 0
        if lengths is not None and config.pooling != "length":
            raise ValueError("the lengths of rows need pann.pooling 'length'")
        if log_mel.shape[-2] < shortest:
            raise ValueError(f"{self.arch} needs {shortest} frames, got {log_mel.shape[-2]}")
        lengths = None if lengths is None else jnp.maximum(lengths, shortest)
        kind, place = split_type(self.fusion.type)
        mel, longer = fusion_input(log_mel, longer, self.fusion.type)
        mel = BatchNorm(name="batch_norm")(mel, below, _within(mel, lengths))
        if place == "1d":
            mel = MelFusion(kind, self.dtype, name="fusion")(mel, longer, below)
        if below:
            mel = augment(self.make_rng("augment"), mel, config)
        x = mel[..., None] if mel.ndim == 3 else jnp.moveaxis(mel, 1, -1)  # (B, F, M, 1 or 4)
        x = (x[..., :1] if place == "2d" else x).astype(self.dtype)

        for index in range(PANN_BLOCKS[self.arch]):
            pool = 2 if index < PANN_HALVINGS[self.arch] else 1
            kernel, convolutions = (5, 1) if self.arch == "cnn6" else (3, 2)
            width = config.base_width * 2**index
            block = rematerialised(ConvBlock, self.remat, static_argnums=(3,))(
                width, kernel, convolutions, pool, self.dtype, name=f"block{index + 1}"
            )
            moves = train and index >= self.frozen
            x = block(x, lengths, moves)
            lengths = None if lengths is None else lengths // pool
            if index == 0 and place == "2d":
                fuse = ImageFusion(kind, (5, 5), (6, 2), (2, 2), 1, True, self.dtype, name="fusion")
                x = fuse(x, mel[:, 1:], longer, below).astype(self.dtype)
            x = nn.Dropout(config.dropout)(x, deterministic=not moves)
        steps = x.astype(jnp.float32).mean(axis=2)  # (B, T, C), none negative
        steps = _zero_outside(steps, _within(steps, lengths))
        return self._head(steps, lengths, train)

    def _head(self, steps: jax.Array, lengths: jax.Array | None, train: bool):
        """(B, T, C) to the embeddings of the whole, max + mean over time, and of each step."""
        width = steps.shape[-1]
        init = nn.initializers.xavier_uniform()
        dense = nn.Dense(width, dtype=self.dtype, kernel_init=init, name="fc")
        drop = nn.Dropout(self.config.head_dropout, deterministic=not train)
        count = steps.shape[1] if lengths is None else lengths[:, None]
        pooled = drop(steps.max(axis=1) + steps.sum(axis=1) / count)
        pooled = drop(nn.relu(dense(pooled.astype(self.dtype))).astype(jnp.float32))
        # LAION-CLAP's fine-grained embedding: max + mean over a step and its two neighbours.
        near = ((3,), (1,), ((1, 1),))
        around = nn.max_pool(steps, *near) + nn.avg_pool(steps, *near)
        return pooled, nn.relu(dense(around.astype(self.dtype))).astype(jnp.float32)

    def frames(self, hidden: jax.Array) -> jax.Array:
        """The second result of a call, which is in order of time already: (B, T, width)."""
        return hidden

    steps = frames


def steps_within(arch: str, lengths: jax.Array) -> jax.Array:
    """Frames (B,) of rows to the steps of time (B,) that an encoder makes of them."""
    shortest = 2 ** PANN_HALVINGS[arch]
    return jnp.maximum(lengths, shortest) // shortest


def _within(x: jax.Array, lengths: jax.Array | None) -> jax.Array | None:
    """(B, F, 1, ...) bool: which frames of (B, F, ...) are a row's own; None: all."""
    if lengths is None:
        return None
    inside = jnp.arange(x.shape[1]) < lengths[:, None]
    return inside.reshape(*inside.shape, *[1] * (x.ndim - 2))


def _zero_outside(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    return x if mask is None else jnp.where(mask, x, 0)
