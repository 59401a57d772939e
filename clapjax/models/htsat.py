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
from clapjax.models.cpu import conv_by_patches
from clapjax.models.feature_fusion import ImageFusion, MelFusion, fusion_input, split_type
from clapjax.models.layers import BatchNorm, augment, layer_norm, rematerialised, unrolled
from clapjax.models.patches import conv_of_patches, space_to_depth
from clapjax.models.swin import PatchMerging, SwinPair, SwinStage


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


class HTSAT(nn.Module):
    """Log-mel spectrograms to pooled embeddings."""

    config: HTSATConfig
    mel_bins: int
    dtype: jnp.dtype = jnp.float32
    fusion: FusionConfig = FusionConfig()
    remat: str = "none"  # of each pair of blocks, or of each block
    platform: str = ""  # see `Clap`
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
          train: batch statistics, SpecAugment, dropout and drop path on; needs the rng streams
            "augment" and "dropout" and a mutable "batch_stats".
          longer: (B,) bool, with four mels: which rows are longer than a clip.
          lengths: None; a PANN's can be other.

        Returns:
          ((B, width) mean over tokens, (B, H, W, width) tokens), both float32.

        Raises:
          ValueError: an argument that does not go with the config.
        """
        if lengths is not None:
            raise ValueError("HTSAT hears whole clips; lengths are for a PANN")
        config, (kind, place) = self.config, split_type(self.fusion.type)
        partly, below = train and self.frozen > 0, train and self.frozen < 0
        mel, longer = fusion_input(log_mel, longer, self.fusion.type)
        x = BatchNorm(name="batch_norm")(mel, below)  # over each mel bin
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
                x = PatchMerging(config, self.dtype, self.platform, name=f"merge{stage}")(x)
        tokens = layer_norm(config.layer_norm_eps, "norm")(x)
        return self._pool(tokens), tokens

    def _blocks(self, stage: int, depth: int, heads: int, train: bool):
        """A stage as a function of (B, H, W, C), (depth,) rates and (depth,) bool or None."""
        settings, name = (self.config, heads), f"stage{stage}"
        if self.platform == "tpu" and not self.is_initializing():
            return SwinStage(
                *settings, depth, not train, self.dtype, self.remat, self.platform, name=name
            )
        pairs = nn.scan(
            rematerialised(SwinPair, self.remat, prevent_cse=False),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=depth // 2,
            unroll=unrolled(depth // 2, self.platform, self.remat, train),
        )(*settings, not train, self.dtype, self.platform, name=name)

        def by_pairs(x: jax.Array, rates: jax.Array, moves: jax.Array | None) -> jax.Array:
            rates, moves = jax.tree.map(lambda a: a.reshape(-1, 2), (rates, moves))
            return pairs(x, rates, moves)[0]

        return by_pairs

    def frames(self, tokens: jax.Array) -> jax.Array:
        """(B, H, W, C) tokens to (B, T, width): the mean over frequency, in order of time.

        With several time segments a frame stands in all of them, as if it lasted throughout.
        """
        return jnp.tile(self.steps(tokens), (1, 1, self.config.time_segments))

    def steps(self, tokens: jax.Array) -> jax.Array:
        """(B, H, W, C) to (B, T, C) in order of time: the mean over frequency."""
        return self.unfolded(tokens).mean(axis=1)

    def unfolded(self, tokens: jax.Array) -> jax.Array:
        """(B, H, W, C), of which rows are (chunk of time, frequency), to (B, frequencies, T, C)."""
        batch, height, width, channels = tokens.shape
        chunks = self.config.spec_size // self.mel_bins
        grid = tokens.reshape(batch, chunks, height // chunks, width, channels).swapaxes(1, 2)
        return grid.reshape(batch, height // chunks, chunks * width, channels)

    def _pool(self, tokens: jax.Array) -> jax.Array:
        """(B, H, W, C) to (B, width): the mean of each time segment, first one first."""
        batch, channels = tokens.shape[0], tokens.shape[-1]
        segments = self.steps(tokens).reshape(batch, self.config.time_segments, -1, channels)
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
                conv_general_dilated=conv_by_patches if self.platform == "cpu" else None,
            )
            image = BatchNorm(name=f"{name}_norm")(conv(image), train)
            image = nn.relu(image).astype(self.dtype)
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
