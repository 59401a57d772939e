"""Pieces that both encoders are built from."""

import flax.linen as nn
import jax
import jax.numpy as jnp


def initializer(std: float):
    """Normal with `std`, or variance 1 / fan-in (LeCun) where `std` is 0."""
    return nn.initializers.normal(std) if std > 0 else nn.initializers.lecun_normal()


def dense(features: int, name: str, dtype, init_std: float, use_bias: bool = True):
    """A dense layer on tokens: float32 parameters, `dtype` compute; for `init_std` see above.

    Returns:
      A function of (..., D) to (..., features). It multiplies (tokens, D): XLA:CPU takes twice as
      long over the gradient of a product with several leading dimensions.
    """
    layer = nn.Dense(
        features, use_bias=use_bias, dtype=dtype, kernel_init=initializer(init_std), name=name
    )

    def apply(x: jax.Array) -> jax.Array:
        return layer(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], features)

    return apply


def layer_norm(epsilon: float, name: str):
    """LayerNorm in float32, whatever the compute type."""
    return nn.LayerNorm(epsilon=epsilon, dtype=jnp.float32, name=name)


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array, dropout: nn.Module
) -> jax.Array:
    """Scaled dot-product attention with an additive bias; softmax in float32.

    Args:
      query, key, value: (..., N, heads, head_dim).
      bias: broadcastable to (..., heads, N, N).
      dropout: called on the probabilities.

    Returns:
      (..., N, heads * head_dim) in the type of `value`.
    """
    scale = query.shape[-1] ** -0.5
    scores = jnp.einsum(
        "...qhd,...khd->...hqk", query * scale, key, preferred_element_type=jnp.float32
    )
    weights = dropout(nn.softmax(scores + bias, axis=-1)).astype(value.dtype)
    mixed = jnp.einsum("...hqk,...khd->...qhd", weights, value)
    return mixed.reshape(*mixed.shape[:-2], -1)


class Mlp(nn.Module):
    """Dense, exact GELU, Dense, dropout."""

    hidden: int
    dropout: float
    dtype: jnp.dtype
    init_std: float

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """(..., D) to (..., D)."""
        width = x.shape[-1]
        x = dense(self.hidden, "up", self.dtype, self.init_std)(x.astype(self.dtype))
        x = nn.gelu(x, approximate=False)
        x = dense(width, "down", self.dtype, self.init_std)(x)
        return nn.Dropout(self.dropout)(x, deterministic=deterministic)


class Projection(nn.Module):
    """LAION-CLAP's projection head: Linear, ReLU, Linear."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, D) to (B, features)."""
        x = nn.Dense(self.features, dtype=self.dtype, name="linear1")(x.astype(self.dtype))
        return nn.Dense(self.features, dtype=self.dtype, name="linear2")(nn.relu(x))
