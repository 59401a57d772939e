"""HTSAT: the hierarchical token-semantic audio transformer (Chen et al., ICASSP 2022).

A Swin transformer over the log-mel image: bicubic stretch in time, fold of four (or
`spec_size / mel_bins`) time chunks on top of one another, windows with relative position bias.
Shapes: B batch, F frames, M mels, S side of the image, H x W tokens, C channels.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from clapjax.audio.spec_augment import spec_augment
from clapjax.models.config import HTSATConfig
from clapjax.models.layers import Mlp, attend, dense, layer_norm


def bicubic_matrix(size_in: int, size_out: int) -> np.ndarray:
    """Bicubic interpolation as a (size_out, size_in) float32 matrix.

    torch's `interpolate(mode="bicubic", align_corners=True)`: Keys kernel with a = -0.75, edges
    clamped (jax.image.resize has a = -0.5 and half-pixel centres).
    """
    a = -0.75
    position = np.arange(size_out) * ((size_in - 1) / max(1, size_out - 1))
    floor = np.floor(position).astype(int)
    matrix = np.zeros((size_out, size_in))
    for offset in (-1, 0, 1, 2):
        distance = np.abs(position - (floor + offset))
        near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
        far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
        weight = np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
        np.add.at(matrix, (np.arange(size_out), np.clip(floor + offset, 0, size_in - 1)), weight)
    return matrix.astype(np.float32)


def fold_mel(log_mel: jax.Array, spec_size: int) -> jax.Array:
    """Stretches and folds (B, F, M) into the (B, S, S) image that Swin sees (rows: chunk, mel)."""
    batch, frames, mels = log_mel.shape
    chunks = spec_size // mels
    if frames > spec_size * chunks:
        raise ValueError(f"fold_mel: {frames} frames do not fit {spec_size * chunks}")
    if frames < spec_size * chunks:
        stretch = bicubic_matrix(frames, spec_size * chunks)
        log_mel = jnp.einsum("sf,bfm->bsm", stretch, log_mel, precision=jax.lax.Precision.HIGHEST)
    image = log_mel.reshape(batch, chunks, spec_size, mels)
    return image.transpose(0, 1, 3, 2).reshape(batch, spec_size, spec_size)


def _relative_index(window: int) -> np.ndarray:
    """(N, N) row of the bias table for each pair of the N = window**2 tokens."""
    coords = np.stack(np.meshgrid(np.arange(window), np.arange(window), indexing="ij"))
    coords = coords.reshape(2, -1)
    relative = coords[:, :, None] - coords[:, None, :] + window - 1  # (2, N, N)
    return relative[0] * (2 * window - 1) + relative[1]


def _shift_mask(side: int, window: int, shift: int) -> np.ndarray:
    """(windows, 1, N, N) additive mask: tokens that only the cyclic shift joined do not mix."""
    index = np.arange(side)
    region = (index >= side - window).astype(int) + (index >= side - shift)
    image = region[:, None] * 3 + region[None, :]  # (side, side)
    tokens = _windows(image[None, :, :, None], window)[0, :, :, 0]  # (windows, N)
    return np.where(tokens[:, None, :, None] == tokens[:, None, None, :], 0.0, -100.0).astype(
        np.float32
    )


def _windows(x, window: int):
    """(B, H, W, C) to (B, windows, N, C)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // window, window, w // window, window, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, -1, window * window, c)


def _unwindows(x, window: int, side: int):
    """(B, windows, N, C) to (B, H, W, C)."""
    b, c = x.shape[0], x.shape[-1]
    x = x.reshape(b, side // window, side // window, window, window, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, side, side, c)


class DropPath(nn.Module):
    """Stochastic depth per sample (Huang et al., 2016), with a traced rate."""

    @nn.compact
    def __call__(self, x: jax.Array, rate: jax.Array, deterministic: bool) -> jax.Array:
        """(B, ...) to (B, ...)."""
        if deterministic:
            return x
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1.0 - rate, shape)
        return jnp.where(kept, x / (1.0 - rate).astype(x.dtype), jnp.zeros((), x.dtype))


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows, with relative position bias."""

    heads: int
    window: int
    dropout: float
    attention_dropout: float
    init_std: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, mask: np.ndarray | float, deterministic: bool) -> jax.Array:
        """(B, windows, N, C) to the same."""
        channels = x.shape[-1]
        qkv = dense(3 * channels, "qkv", self.dtype, self.init_std)(x.astype(self.dtype))
        qkv = qkv.reshape(*x.shape[:-1], 3, self.heads, channels // self.heads)
        table = self.param(
            "relative_position_bias",
            nn.initializers.truncated_normal(0.02),
            ((2 * self.window - 1) ** 2, self.heads),
        )
        bias = table[_relative_index(self.window)].transpose(2, 0, 1)  # (heads, N, N)
        drop = nn.Dropout(self.attention_dropout, deterministic=deterministic)
        x = attend(qkv[..., 0, :, :], qkv[..., 1, :, :], qkv[..., 2, :, :], bias + mask, drop)
        x = dense(channels, "output", self.dtype, self.init_std)(x)
        return nn.Dropout(self.dropout)(x, deterministic=deterministic)


class SwinBlock(nn.Module):
    """One Swin block: (shifted) window attention and MLP, both residual."""

    config: HTSATConfig
    heads: int
    shift: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, drop_path: jax.Array, deterministic: bool) -> jax.Array:
        """(B, H, W, C) to the same; `drop_path` is this block's rate."""
        config, side = self.config, x.shape[1]
        window = min(config.window_size, side)
        y = layer_norm(config.layer_norm_eps, "norm1")(x)
        mask = _shift_mask(side, window, self.shift) if self.shift else 0.0
        y = jnp.roll(y, (-self.shift, -self.shift), axis=(1, 2)) if self.shift else y
        y = WindowAttention(
            self.heads,
            window,
            config.dropout,
            config.attention_dropout,
            config.init_std,
            self.dtype,
            name="attention",
        )(_windows(y, window), mask, deterministic)
        y = _unwindows(y, window, side)
        y = jnp.roll(y, (self.shift, self.shift), axis=(1, 2)) if self.shift else y
        x = x + DropPath(name="drop_path1")(y, drop_path, deterministic).astype(x.dtype)
        y = layer_norm(config.layer_norm_eps, "norm2")(x)
        hidden = int(config.mlp_ratio * x.shape[-1])
        y = Mlp(hidden, config.dropout, self.dtype, config.init_std, name="mlp")(y, deterministic)
        return x + DropPath(name="drop_path2")(y, drop_path, deterministic).astype(x.dtype)


class SwinPair(nn.Module):
    """A plain and a shifted block: the unit that is scanned over."""

    config: HTSATConfig
    heads: int
    deterministic: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, drop_path: jax.Array):
        """(B, H, W, C) and (2,) rates to ((B, H, W, C), None), as `nn.scan` wants it."""
        window = self.config.window_size
        shift = window // 2 if x.shape[1] > window else 0
        for index, by in enumerate((0, shift)):
            block = SwinBlock(self.config, self.heads, by, self.dtype, name=f"block{index}")
            x = block(x, drop_path[index], self.deterministic)
        return x, None


class PatchMerging(nn.Module):
    """Halves the image: 2 x 2 neighbours concatenated, normalised and projected to 2C."""

    config: HTSATConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, H, W, C) to (B, H/2, W/2, 2C)."""
        parts = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        merged = layer_norm(self.config.layer_norm_eps, "norm")(jnp.concatenate(parts, axis=-1))
        width = 2 * x.shape[-1]
        reduce = dense(width, "reduction", self.dtype, self.config.init_std, use_bias=False)
        merged = reduce(merged.astype(self.dtype))
        return merged.astype(x.dtype)


class HTSAT(nn.Module):
    """Log-mel spectrograms to pooled embeddings."""

    config: HTSATConfig
    mel_bins: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, log_mel: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Encodes log-mels.

        Args:
          log_mel: (B, F, M) float32 dB.
          train: batch statistics, SpecAugment, dropout and drop path on; needs the rng streams
            "augment" and "dropout" and a mutable "batch_stats".

        Returns:
          ((B, width) mean over tokens, (B, H, W, width) tokens), both float32.
        """
        config = self.config
        x = nn.BatchNorm(
            use_running_average=not train, momentum=0.9, epsilon=1e-5, name="batch_norm"
        )(log_mel)  # over each mel bin, as torch's BatchNorm2d with momentum 0.1
        if train:
            x = spec_augment(
                self.make_rng("augment"),
                x,
                time_stripes=config.time_stripes,
                time_width=config.time_width,
                freq_stripes=config.freq_stripes,
                freq_width=config.freq_width,
            )
        image = fold_mel(x, config.spec_size)[..., None]  # (B, S, S, 1)
        x = self._patches(image.astype(self.dtype), train)  # (B, H, W, C)
        x = layer_norm(config.layer_norm_eps, "patch_norm")(x)
        if config.position_init_std > 0:
            init = nn.initializers.normal(config.position_init_std)
            x = x + self.param("position", init, x.shape[1:])
        rates = np.linspace(0.0, config.drop_path, sum(config.depths), dtype=np.float32)
        for stage, (depth, heads) in enumerate(zip(config.depths, config.heads, strict=True)):
            first = sum(config.depths[:stage])
            pairs = nn.scan(
                SwinPair,
                variable_axes={"params": 0},
                split_rngs={"params": True, "dropout": True},
                length=depth // 2,
            )(config, heads, not train, self.dtype, name=f"stage{stage}")
            x, _ = pairs(x, jnp.asarray(rates[first : first + depth].reshape(-1, 2)))
            if stage + 1 < len(config.depths):
                x = PatchMerging(config, self.dtype, name=f"merge{stage}")(x)
        tokens = layer_norm(config.layer_norm_eps, "norm")(x)
        return self._pool(tokens), tokens

    def _pool(self, tokens: jax.Array) -> jax.Array:
        """(B, H, W, C) to (B, width): the mean of each time segment, first one first."""
        batch, height, width, channels = tokens.shape
        chunks = self.config.spec_size // self.mel_bins
        time = tokens.reshape(batch, chunks, height // chunks, width, channels).mean(axis=2)
        return (
            time.reshape(batch, self.config.time_segments, -1, channels)
            .mean(axis=2)
            .reshape(batch, -1)
        )

    def _patches(self, image: jax.Array, train: bool) -> jax.Array:
        """(B, S, S, 1) to (B, H, W, C): one projection a patch, or the convolutional stem."""
        config = self.config
        for index, width in enumerate(config.conv_stem):
            name = f"stem{index}"
            conv = nn.Conv(width, (3, 3), (2, 2), use_bias=False, dtype=self.dtype, name=name)
            norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, name=f"{name}_norm")
            image = nn.relu(norm(conv(image))).astype(self.dtype)
        size, stride, pad = config.patch_size, config.patch_stride, 0
        if config.conv_stem:
            size = stride = 1
        else:
            pad = (size - stride) // 2
        return nn.Conv(
            config.embed_dim,
            (size, size),
            (stride, stride),
            padding=((pad, pad), (pad, pad)),
            dtype=self.dtype,
            name="patch_embed",
        )(image)
