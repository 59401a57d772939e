"""Convolutions whose windows do not overlap: matrix products of patches.

Their gradients are matrix products too. XLA's own for the kernel of such a convolution is slow on
CPUs, and slow to compile for TPUs.
"""

import jax


def space_to_depth(image: jax.Array, fold: int) -> jax.Array:
    """(B, S, S, C) to (B, S / fold, S / fold, fold * fold * C): neighbours become channels."""
    batch, side, _, channels = image.shape
    image = image.reshape(batch, side // fold, fold, side // fold, fold, channels)
    return image.transpose(0, 1, 3, 2, 4, 5).reshape(batch, side // fold, side // fold, -1)


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
