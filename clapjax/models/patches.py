"""Convolutions whose windows do not overlap, or hardly: matrix products of patches.

Their gradients are matrix products too. XLA's own for the kernel of a convolution is slow on CPUs
where channels are few, and slow to compile for TPUs where windows do not overlap.
"""

import jax
import jax.numpy as jnp


def space_to_depth(image: jax.Array, fold: int) -> jax.Array:
    """(B, S, S, C) to (B, S / fold, S / fold, fold * fold * C): neighbours become channels."""
    batch, side, _, channels = image.shape
    image = image.reshape(batch, side // fold, fold, side // fold, fold, channels)
    return image.transpose(0, 1, 3, 2, 4, 5).reshape(batch, side // fold, side // fold, -1)


def conv_by_patches(x: jax.Array, kernel: jax.Array, *_, **__) -> jax.Array:
    """3 x 3 convolution with stride 2 and "SAME" padding of an even image, as one matrix product.

    Args:
      x: (B, S, S, C).
      kernel: (3, 3, C, K).

    Returns:
      (B, S / 2, S / 2, K).
    """
    batch, side, _, channels = x.shape
    x = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    patches = [
        x[:, row : row + side - 1 : 2, column : column + side - 1 : 2]
        for row in range(3)
        for column in range(3)
    ]
    patches = jnp.concatenate(patches, axis=-1).reshape(-1, 9 * channels)
    return (patches @ kernel.reshape(9 * channels, -1)).reshape(batch, side // 2, side // 2, -1)


def conv_of_patches(x: jax.Array, kernel: jax.Array, *_, **__) -> jax.Array:
    """Convolution whose stride is the size of its kernel, without padding.

    Args:
      x: (B, S, S, C).
      kernel: (P, P, C, K).

    Returns:
      (B, S / P, S / P, K).
    """
    size, features = kernel.shape[0], kernel.shape[-1]
    return space_to_depth(x, size) @ kernel.reshape(-1, features)
