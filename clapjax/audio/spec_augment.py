"""SpecAugment on the device (Park et al., 2019; stripes as in torchlibrosa's DropStripes)."""

import jax
import jax.numpy as jnp


def drop_stripes(
    key: jax.Array, features: jax.Array, *, axis: int, stripes: int, width: int
) -> jax.Array:
    """Sets `stripes` random stripes along `axis` to zero, drawn for each row apart.

    Args:
      key: PRNG key.
      features: (B, F, M).
      axis: 1 (time) or 2 (frequency).
      stripes: number of stripes.
      width: stripe widths are uniform in [0, width).

    Returns:
      (B, F, M), same dtype.
    """
    batch, size = features.shape[0], features.shape[axis]
    width_key, start_key = jax.random.split(key)
    widths = jax.random.randint(width_key, (batch, stripes), 0, max(1, min(width, size)))
    starts = jnp.floor(
        jax.random.uniform(start_key, (batch, stripes)) * (size - widths)
    )  # (B, stripes)
    position = jnp.arange(size)
    inside = (position >= starts[..., None]) & (position < (starts + widths)[..., None])
    dropped = inside.any(axis=1)  # (B, size)
    shape = [batch, 1, 1]
    shape[axis] = size
    return jnp.where(dropped.reshape(shape), 0.0, features).astype(features.dtype)


def spec_augment(
    key: jax.Array,
    features: jax.Array,
    *,
    time_stripes: int,
    time_width: int,
    freq_stripes: int,
    freq_width: int,
) -> jax.Array:
    """Drops time stripes, then frequency stripes, of (B, F, M) normalised log-mels."""
    time_key, freq_key = jax.random.split(key)
    features = drop_stripes(time_key, features, axis=1, stripes=time_stripes, width=time_width)
    return drop_stripes(freq_key, features, axis=2, stripes=freq_stripes, width=freq_width)
