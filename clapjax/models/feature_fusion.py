"""Feature fusion of LAION-CLAP: three chunks of a long recording join its shrunk whole.

Addition (daf) or attention (aff, iaff; Dai et al., WACV 2021) on the normalised mel ("1d") or
behind an encoder's first layer ("2d"). A row that is not longer than a clip comes out as it came
in, whatever the rows beside it are, and adds nothing to the batch statistics of these modules.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from clapjax.models.layers import BatchNorm


def split_type(fusion_type: str) -> tuple[str, str]:
    """ "aff_2d" to ("aff", "2d"); "none" and "channel_map" have no second part."""
    kind, _, place = fusion_type.partition("_")
    return (kind, place) if place in ("1d", "2d") else (fusion_type, "")


def fusion_input(
    log_mel: jax.Array, longer: jax.Array | None, fusion_type: str
) -> tuple[jax.Array, jax.Array | None]:
    """What an encoder with this fusion works on.

    Args:
      log_mel: (B, F, M) of clips, or (B, 4, F, M) as `clapjax.audio.fusion` makes them.
      longer: (B,) bool or None; given with four mels, but for channel_map.
      fusion_type: FusionConfig.type.

    Returns:
      (B, F, M) and None without fusion, else (B, 4, F, M) and (B,) bool; a clip alone is its own
      whole, and not longer.

    Raises:
      ValueError: four mels without fusion, or without `longer`.
    """
    if log_mel.ndim == 3:
        if fusion_type == "none":
            return log_mel, None
        four = jnp.broadcast_to(log_mel[:, None], (log_mel.shape[0], 4, *log_mel.shape[1:]))
        return four, jnp.zeros(log_mel.shape[0], bool)
    if log_mel.ndim != 4 or log_mel.shape[1] != 4:
        raise ValueError(f"expected mels (B, F, M) or (B, 4, F, M), got {log_mel.shape}")
    if fusion_type == "none":
        raise ValueError("four mels for each row, but the model's fusion.type is 'none'")
    if longer is None and fusion_type != "channel_map":
        raise ValueError("four mels need `longer`, which rows are longer than a clip")
    return log_mel, longer


class Attention(nn.Module):
    """One attention branch: two 1 x 1 convolutions to a quarter of the channels and back."""

    dtype: jnp.dtype
    reduction: int = 4

    @nn.compact
    def __call__(self, x: jax.Array, longer: jax.Array, train: bool) -> jax.Array:
        """(B, ..., C) and (B,) bool to (B, ..., C) float32 logits."""
        channels = x.shape[-1]
        mask = _rows(longer, x)
        x = nn.Dense(max(1, channels // self.reduction), dtype=self.dtype, name="conv1")(x)
        x = nn.relu(BatchNorm(name="norm1")(x, train, mask))
        x = nn.Dense(channels, dtype=self.dtype, name="conv2")(x)
        return BatchNorm(name="norm2")(x, train, mask)


class Fusion(nn.Module):
    """Joins two feature maps of one shape."""

    kind: str  # "daf", "aff" or "iaff"
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, local: jax.Array, longer: jax.Array, train: bool):
        """(B, ..., C) features of the whole and of the chunks, (B,) bool, to (B, ..., C) float32.

        Only the rows in `longer` are joined.
        """
        x, local = x.astype(jnp.float32), local.astype(jnp.float32)
        if self.kind == "daf":
            return jnp.where(_rows(longer, x), x + local, x)
        spatial = tuple(range(1, x.ndim - 1))
        local_att, global_att = (
            Attention(self.dtype, name=name) for name in ("local_att", "global_att")
        )

        def weigh(both: jax.Array, near: Attention) -> jax.Array:
            whole = global_att(both.mean(spatial, keepdims=True), longer, train)
            return nn.sigmoid(near(both, longer, train) + whole)

        weight = weigh(x + local, local_att)
        if self.kind == "iaff":
            # As LAION-CLAP has it: the first round's global_att again, and no factor 2.
            first = x * weight + local * (1 - weight)
            weight = weigh(first, Attention(self.dtype, name="local_att2"))
            joined = x * weight + local * (1 - weight)
        else:
            joined = 2 * x * weight + 2 * local * (1 - weight)
        return jnp.where(_rows(longer, x), joined, x)


class MelFusion(nn.Module):
    """1d fusion: on normalised log-mels, whose bins are the channels."""

    kind: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, mels: jax.Array, longer: jax.Array, train: bool) -> jax.Array:
        """(B, 4, F, M) [whole, front, middle, back] and (B,) bool to (B, F, M)."""
        batch, _, frames, bins = mels.shape
        conv = nn.Conv(bins, (5,), (3,), padding=2, dtype=self.dtype, name="mel_conv1d")
        local = conv(mels[:, 1:].reshape(batch * 3, frames, bins))  # (B * 3, about F / 3, M)
        mask = jnp.repeat(longer, 3)[:, None, None]
        local = BatchNorm(name="mel_conv1d_norm")(local, train, mask)
        local = _fit(local.reshape(batch, -1, bins), frames, axis=1)
        return Fusion(self.kind, self.dtype, name="fusion_model")(mels[:, 0], local, longer, train)


class ImageFusion(nn.Module):
    """2d fusion: each chunk through a convolution that is three times as coarse in time."""

    kind: str
    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int]
    time_axis: int  # 1 or 2: the axis of (B, H, W, C) along which the chunks stand in a row
    norm: bool  # BatchNorm and ReLU behind the convolution
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, chunks: jax.Array, longer: jax.Array, train: bool):
        """(B, H, W, C) features of the whole, (B, 3, H', W') chunks, (B,) bool, to (B, H, W, C)."""
        batch, channels = x.shape[0], x.shape[-1]
        local = nn.Conv(
            channels,
            self.kernel,
            self.strides,
            padding=[(pad, pad) for pad in self.padding],
            dtype=self.dtype,
            name="mel_conv2d",
        )(chunks.reshape(batch * 3, *chunks.shape[2:], 1))
        if self.norm:
            mask = jnp.repeat(longer, 3)[:, None, None, None]
            local = nn.relu(BatchNorm(name="mel_conv2d_norm")(local, train, mask))
        local = local.reshape(batch, 3, *local.shape[1:])
        local = jnp.concatenate([local[:, i] for i in range(3)], axis=self.time_axis)
        local = _fit(local, x.shape[self.time_axis], self.time_axis)
        return Fusion(self.kind, self.dtype, name="fusion_model")(x, local, longer, train)


def _rows(longer: jax.Array, x: jax.Array) -> jax.Array:
    """(B,) to (B, 1, ..., 1) bool with as many axes as `x`."""
    return longer.astype(bool).reshape(-1, *[1] * (x.ndim - 1))


def _fit(x: jax.Array, size: int, axis: int) -> jax.Array:
    """Cuts `x` along an axis, or pads it with zeros behind."""
    x = jax.lax.slice_in_dim(x, 0, min(size, x.shape[axis]), axis=axis)
    missing = [(0, size - x.shape[axis] if i == axis else 0) for i in range(x.ndim)]
    return jnp.pad(x, missing)
