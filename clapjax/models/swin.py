"""Swin transformer (Liu et al., ICCV 2021): windowed attention, its blocks, and their stages.

Shapes: B batch, H x W tokens, C channels; a window has N of them.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from clapjax.models.config import HTSATConfig
from clapjax.models.layers import (
    Mlp,
    attend,
    dense,
    layer_norm,
    rematerialised,
    takes_kernels,
    where_moving,
)

ONE_TILE = (16, 64)  # tokens of a window that the kernel for GPUs takes


def relative_index(window: int) -> np.ndarray:
    """(N, N) row of the bias table for each pair of the N = window**2 tokens."""
    coords = np.stack(np.meshgrid(np.arange(window), np.arange(window), indexing="ij"))
    coords = coords.reshape(2, -1)
    relative = coords[:, :, None] - coords[:, None, :] + window - 1  # (2, N, N)
    return relative[0] * (2 * window - 1) + relative[1]


def shift_mask(side: int, window: int, shift: int) -> np.ndarray:
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
    shift: int  # cyclic, of the windows
    dropout: float
    attention_dropout: float
    init_std: float
    dtype: jnp.dtype
    platform: str = ""

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        shifted: jax.Array | bool,
        deterministic: bool,
        moves: jax.Array | None = None,
    ) -> jax.Array:
        """(B, H, W, C) to the same; `shifted`: whether windows are, if they can be."""
        table = self.param(
            "relative_position_bias",
            nn.initializers.truncated_normal(0.02),
            ((2 * self.window - 1) ** 2, self.heads),
        )
        bias = table[relative_index(self.window)].transpose(2, 0, 1)  # (heads, N, N)
        still = deterministic or self.attention_dropout == 0.0
        if takes_kernels(self.platform) and still and self.window**2 in ONE_TILE:
            x = self._fused(x, bias)
        else:
            x = self._plain(x, bias, shifted, deterministic, moves)
        return where_moving(moves, nn.Dropout(self.dropout)(x, deterministic=deterministic), x)

    def _layers(self, channels: int):
        settings = (self.dtype, self.init_std, self.platform)
        return dense(3 * channels, "qkv", *settings), dense(channels, "output", *settings)

    def _fused(self, x: jax.Array, bias: jax.Array) -> jax.Array:
        """(B, H, W, C) to the same, by the kernel for GPUs, which finds the windows itself."""
        from clapjax.models.window_kernel import window_attention  # Pallas is slow to import

        batch, side, _, channels = x.shape
        embed, output = self._layers(channels)
        qkv = embed(x.astype(self.dtype)).reshape(batch, side**2, 3, self.heads, -1)
        x = window_attention(qkv, bias, side, self.window, self.shift)
        return output(x.reshape(batch, side, side, channels))

    def _plain(self, x, bias, shifted, deterministic, moves) -> jax.Array:
        """(B, H, W, C) to the same, by matrix products over windows that are cut out."""
        side, channels = x.shape[1], x.shape[-1]
        embed, output = self._layers(channels)
        drop = nn.Dropout(self.attention_dropout, deterministic=deterministic)
        if self.shift:
            mask = shift_mask(side, self.window, self.shift) * jnp.float32(shifted)
            bias = bias + mask
        x = _windows(_roll(x, -self.shift, shifted), self.window)
        qkv = embed(x.astype(self.dtype))
        qkv = qkv.reshape(*x.shape[:-1], 3, self.heads, channels // self.heads)
        x = attend(
            qkv[..., 0, :, :],
            qkv[..., 1, :, :],
            qkv[..., 2, :, :],
            bias,
            lambda weights: where_moving(moves, drop(weights), weights),
        )
        return _roll(_unwindows(output(x), self.window, side), self.shift, shifted)


class SwinBlock(nn.Module):
    """One Swin block: (shifted) window attention and MLP, both residual."""

    config: HTSATConfig
    heads: int
    deterministic: bool
    dtype: jnp.dtype
    platform: str = ""

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        drop_path: jax.Array,
        shifted: jax.Array | bool,
        moves: jax.Array | None = None,
    ) -> jax.Array:
        """(B, H, W, C) to the same; `drop_path` is this block's rate.

        `moves` () bool: whether it has dropout and drop path, if there are any; None: yes.
        """
        config, side, deterministic = self.config, x.shape[1], self.deterministic
        window = min(config.window_size, side)
        shift = window // 2 if side > window and shifted is not False else 0
        y = layer_norm(config.layer_norm_eps, "norm1")(x)
        y = WindowAttention(
            self.heads,
            window,
            shift,
            config.dropout,
            config.attention_dropout,
            config.init_std,
            self.dtype,
            self.platform,
            name="attention",
        )(y, shifted, deterministic, moves)
        dropped = DropPath(name="drop_path1")(y, drop_path, deterministic)
        x = x + where_moving(moves, dropped, y).astype(x.dtype)
        y = layer_norm(config.layer_norm_eps, "norm2")(x)
        hidden = int(config.mlp_ratio * x.shape[-1])
        mlp = Mlp(
            hidden,
            config.dropout,
            self.dtype,
            config.init_std,
            platform=self.platform,
            name="mlp",
        )
        y = mlp(y, deterministic, moves)
        dropped = DropPath(name="drop_path2")(y, drop_path, deterministic)
        return x + where_moving(moves, dropped, y).astype(x.dtype)


def _roll(x: jax.Array, shift: int, shifted: jax.Array | bool) -> jax.Array:
    """(B, H, W, C) rolled along H and W where `shifted`."""
    if not shift:
        return x

    def roll(x):
        return jnp.roll(x, (shift, shift), axis=(1, 2))

    return roll(x) if shifted is True else jax.lax.cond(shifted, roll, lambda x: x, x)


class SwinPair(nn.Module):
    """A plain and a shifted block: the unit that is scanned over."""

    config: HTSATConfig
    heads: int
    deterministic: bool
    dtype: jnp.dtype
    platform: str = ""

    @nn.compact
    def __call__(self, x: jax.Array, drop_path: jax.Array, moves: jax.Array | None):
        """(B, H, W, C), (2,) rates and (2,) bool or None to ((B, H, W, C), None)."""
        settings = (self.config, self.heads, self.deterministic, self.dtype, self.platform)
        for index in range(2):
            block = SwinBlock(*settings, name=f"block{index}")
            x = block(x, drop_path[index], index == 1, None if moves is None else moves[index])
        return x, None


class SwinStage(nn.Module):
    """The blocks of a stage scanned over one by one, with the parameters of a scan over pairs.

    Less to compile than pairs, which counts on TPUs; CPUs run slower for it.
    """

    config: HTSATConfig
    heads: int
    depth: int
    deterministic: bool
    dtype: jnp.dtype
    remat: str
    platform: str

    @nn.compact
    def __call__(self, x: jax.Array, drop_path: jax.Array, moves: jax.Array | None) -> jax.Array:
        """(B, H, W, C) to the same; `drop_path` (depth,) are the blocks' rates."""
        params = jax.tree.map(  # (pairs, ...) of each to (depth, ...)
            lambda a, b: jnp.stack([a, b], 1).reshape(self.depth, *a.shape[1:]),
            self.variables["params"]["block0"],
            self.variables["params"]["block1"],
        )
        block = rematerialised(SwinBlock, self.remat, prevent_cse=False)(
            self.config, self.heads, self.deterministic, self.dtype, self.platform, parent=None
        )
        key = None if self.deterministic else self.make_rng("dropout")

        def one(x, inputs):
            params, rate, number, moving = inputs
            rngs = {} if key is None else {"dropout": jax.random.fold_in(key, number)}
            odd = number % 2 == 1
            return block.apply({"params": params}, x, rate, odd, moving, rngs=rngs), None

        return jax.lax.scan(one, x, (params, drop_path, jnp.arange(self.depth), moves))[0]


class PatchMerging(nn.Module):
    """Halves the image: 2 x 2 neighbours concatenated, normalised and projected to 2C."""

    config: HTSATConfig
    dtype: jnp.dtype
    platform: str = ""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, H, W, C) to (B, H/2, W/2, 2C)."""
        batch, height, width, channels = x.shape
        # One permutation: the gradient of four slices costs a GPU many times as much.
        merged = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
        merged = merged.transpose(0, 1, 3, 4, 2, 5)  # of neighbours, the column counts first
        merged = merged.reshape(batch, height // 2, width // 2, 4 * channels)
        merged = layer_norm(self.config.layer_norm_eps, "norm")(merged)
        settings = (self.dtype, self.config.init_std, self.platform)
        reduce = dense(2 * channels, "reduction", *settings, use_bias=False)
        merged = reduce(merged.astype(self.dtype))
        return merged.astype(x.dtype)
