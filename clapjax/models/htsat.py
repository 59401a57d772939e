"""HTSAT: the hierarchical token-semantic audio transformer (Chen et al., ICASSP 2022).

A Swin transformer over the log-mel image: bicubic stretch in time, fold of four (or
`spec_size / mel_bins`) time chunks on top of one another, windows with relative position bias.
Shapes: B batch, F frames, M mels, S side of the image, H x W tokens, C channels.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from clapjax.models.config import FusionConfig, HTSATConfig
from clapjax.models.feature_fusion import ImageFusion, MelFusion, fusion_input, split_type
from clapjax.models.layers import (
    Mlp,
    attend,
    augment,
    batch_axes,
    dense,
    layer_norm,
    rematerialised,
    where_moving,
)
from clapjax.models.patches import conv_by_patches, conv_of_patches, space_to_depth


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


def relative_index(window: int) -> np.ndarray:
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
    def __call__(
        self,
        x: jax.Array,
        mask: np.ndarray | float,
        deterministic: bool,
        moves: jax.Array | None = None,
    ) -> jax.Array:
        """(B, windows, N, C) to the same."""
        channels = x.shape[-1]
        qkv = dense(3 * channels, "qkv", self.dtype, self.init_std)(x.astype(self.dtype))
        qkv = qkv.reshape(*x.shape[:-1], 3, self.heads, channels // self.heads)
        table = self.param(
            "relative_position_bias",
            nn.initializers.truncated_normal(0.02),
            ((2 * self.window - 1) ** 2, self.heads),
        )
        bias = table[relative_index(self.window)].transpose(2, 0, 1)  # (heads, N, N)
        drop = nn.Dropout(self.attention_dropout, deterministic=deterministic)
        x = attend(
            qkv[..., 0, :, :],
            qkv[..., 1, :, :],
            qkv[..., 2, :, :],
            bias + mask,
            lambda weights: where_moving(moves, drop(weights), weights),
        )
        x = dense(channels, "output", self.dtype, self.init_std)(x)
        return where_moving(moves, nn.Dropout(self.dropout)(x, deterministic=deterministic), x)


class SwinBlock(nn.Module):
    """One Swin block: (shifted) window attention and MLP, both residual."""

    config: HTSATConfig
    heads: int
    deterministic: bool
    dtype: jnp.dtype

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
        mask = _shift_mask(side, window, shift) * jnp.float32(shifted) if shift else 0.0
        y = _roll(y, -shift, shifted)
        y = WindowAttention(
            self.heads,
            window,
            config.dropout,
            config.attention_dropout,
            config.init_std,
            self.dtype,
            name="attention",
        )(_windows(y, window), mask, deterministic, moves)
        y = _unwindows(y, window, side)
        y = _roll(y, shift, shifted)
        dropped = DropPath(name="drop_path1")(y, drop_path, deterministic)
        x = x + where_moving(moves, dropped, y).astype(x.dtype)
        y = layer_norm(config.layer_norm_eps, "norm2")(x)
        hidden = int(config.mlp_ratio * x.shape[-1])
        mlp = Mlp(hidden, config.dropout, self.dtype, config.init_std, name="mlp")
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

    @nn.compact
    def __call__(self, x: jax.Array, drop_path: jax.Array, moves: jax.Array | None):
        """(B, H, W, C), (2,) rates and (2,) bool or None to ((B, H, W, C), None)."""
        for index in range(2):
            name = f"block{index}"
            block = SwinBlock(self.config, self.heads, self.deterministic, self.dtype, name=name)
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

    @nn.compact
    def __call__(self, x: jax.Array, drop_path: jax.Array, moves: jax.Array | None) -> jax.Array:
        """(B, H, W, C) to the same; `drop_path` (depth,) are the blocks' rates."""
        params = jax.tree.map(  # (pairs, ...) of each to (depth, ...)
            lambda a, b: jnp.stack([a, b], 1).reshape(self.depth, *a.shape[1:]),
            self.variables["params"]["block0"],
            self.variables["params"]["block1"],
        )
        block = rematerialised(SwinBlock, self.remat, prevent_cse=False)(
            self.config, self.heads, self.deterministic, self.dtype, parent=None
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
    fusion: FusionConfig = FusionConfig()
    remat: str = "none"  # of each pair of blocks, or of each block
    single_blocks: bool = False  # see SwinStage
    # So many blocks, and what is below the first, run in training as in evaluation; -1: none does.
    frozen: int = -1

    @nn.compact
    def __call__(
        self, log_mel: jax.Array, train: bool, longer: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Encodes log-mels.

        Args:
          log_mel: (B, F, M) float32 dB, or (B, 4, F, M) as `clapjax.audio.fusion` makes them.
          train: batch statistics, SpecAugment, dropout and drop path on; needs the rng streams
            "augment" and "dropout" and a mutable "batch_stats".
          longer: (B,) bool, with four mels: which rows are longer than a clip.

        Returns:
          ((B, width) mean over tokens, (B, H, W, width) tokens), both float32.
        """
        config, (kind, place) = self.config, split_type(self.fusion.type)
        partly, below = train and self.frozen > 0, train and self.frozen < 0
        mel, longer = fusion_input(log_mel, longer, self.fusion.type)
        x = self._batch_norm("batch_norm", below)(mel)  # over each mel bin
        if place == "1d":
            x = MelFusion(kind, self.dtype, name="fusion")(x, longer, below)
        if below:
            x = augment(self.make_rng("augment"), x, config)
        image = fold_mel(x.reshape(-1, *x.shape[-2:]), config.spec_size)  # (B or 4 B, S, S)
        image = image.reshape(*x.shape[:-2], *image.shape[1:]).astype(self.dtype)
        if place == "2d":
            x = self._patches(image[:, 0, :, :, None], below)  # (B, H, W, C)
            x = self._fuse(kind, x, image[:, 1:], longer, below).astype(self.dtype)
        else:  # channels: the four mels of channel_map, or one
            image = image[..., None] if image.ndim == 3 else jnp.moveaxis(image, 1, -1)
            x = self._patches(image, below)
        x = layer_norm(config.layer_norm_eps, "patch_norm")(x)
        if config.position_init_std > 0:
            init = nn.initializers.normal(config.position_init_std)
            x = x + self.param("position", init, x.shape[1:])
        rates = np.linspace(0.0, config.drop_path, sum(config.depths), dtype=np.float32)
        moves = jnp.arange(sum(config.depths)) >= self.frozen
        for stage, (depth, heads) in enumerate(zip(config.depths, config.heads, strict=True)):
            first = sum(config.depths[:stage])
            own = slice(first, first + depth)
            x = self._blocks(stage, depth, heads, train)(
                x, jnp.asarray(rates[own]), moves[own] if partly else None
            )
            if stage + 1 < len(config.depths):
                x = PatchMerging(config, self.dtype, name=f"merge{stage}")(x)
        tokens = layer_norm(config.layer_norm_eps, "norm")(x)
        return self._pool(tokens), tokens

    def _blocks(self, stage: int, depth: int, heads: int, train: bool):
        """A stage as a function of (B, H, W, C), (depth,) rates and (depth,) bool or None."""
        settings, name = (self.config, heads), f"stage{stage}"
        if self.single_blocks and not self.is_initializing():
            return SwinStage(*settings, depth, not train, self.dtype, self.remat, name=name)
        pairs = nn.scan(
            rematerialised(SwinPair, self.remat, prevent_cse=False),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=depth // 2,
        )(*settings, not train, self.dtype, name=name)

        def by_pairs(x: jax.Array, rates: jax.Array, moves: jax.Array | None) -> jax.Array:
            rates, moves = jax.tree.map(lambda a: a.reshape(-1, 2), (rates, moves))
            return pairs(x, rates, moves)[0]

        return by_pairs

    def frames(self, tokens: jax.Array) -> jax.Array:
        """(B, H, W, C) tokens to (B, T, width): the mean over frequency, in order of time.

        With several time segments a frame stands in all of them, as if it lasted throughout.
        """
        return jnp.tile(self._time(tokens), (1, 1, self.config.time_segments))

    def _time(self, tokens: jax.Array) -> jax.Array:
        """(B, H, W, C) to (B, chunks * W, C): rows are (chunk of time, frequency)."""
        batch, height, width, channels = tokens.shape
        chunks = self.config.spec_size // self.mel_bins
        time = tokens.reshape(batch, chunks, height // chunks, width, channels).mean(axis=2)
        return time.reshape(batch, chunks * width, channels)

    def _pool(self, tokens: jax.Array) -> jax.Array:
        """(B, H, W, C) to (B, width): the mean of each time segment, first one first."""
        batch, channels = tokens.shape[0], tokens.shape[-1]
        segments = self._time(tokens).reshape(batch, self.config.time_segments, -1, channels)
        return segments.mean(axis=2).reshape(batch, -1)

    def _fuse(self, kind, x, chunks, longer, train):
        """Joins the patches (B, H, W, C) of the whole with those of the chunks (B, 3, S, S)."""
        size, stride = self.config.patch_size, self.config.patch_stride
        pad = (size - stride) // 2
        kernel, strides = (size, 3 * size), (stride, 3 * stride)
        fuse = ImageFusion(
            kind, kernel, strides, (pad, pad), 2, norm=False, dtype=self.dtype, name="fusion"
        )
        return fuse(x, chunks, longer, train)

    def _batch_norm(self, name: str, train: bool) -> nn.BatchNorm:
        """torch's BatchNorm2d with momentum 0.1, over the global batch."""
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            axis_name=batch_axes(),
            name=name,
        )

    def _patches(self, image: jax.Array, train: bool) -> jax.Array:
        """(B, S, S, 1 or 4) to (B, H, W, C): one projection a patch, or the convolutional stem."""
        config = self.config
        if config.conv_stem:
            image = space_to_depth(image, config.stem_fold)
        for index, width in enumerate(config.conv_stem):
            name = f"stem{index}"
            conv = nn.Conv(
                width,
                (3, 3),
                (2, 2),
                use_bias=False,
                dtype=self.dtype,
                name=name,
                conv_general_dilated=conv_by_patches,
            )
            norm = self._batch_norm(f"{name}_norm", train)
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
            conv_general_dilated=conv_of_patches if size == stride else None,
        )(image)
