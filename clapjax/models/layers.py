"""Pieces that the encoders are built from."""

import functools
import re
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from clapjax.audio.spec_augment import spec_augment
from clapjax.models import cpu

# What the backward pass finds of a layer: everything, the results of its dense products and
# convolutions (by their name: those behind a custom_vjp no policy sees), or only its input, from
# which it then computes the rest again.
REMAT = ("none", "dots", "full")
PRODUCT = "product"


def initializer(std: float):
    """Normal with `std`, or variance 1 / fan-in (LeCun) where `std` is 0."""
    return nn.initializers.normal(std) if std > 0 else nn.initializers.lecun_normal()


class Product(NamedTuple):
    """A matrix product of (T, I) and (I, O), and (x, y, cotangent) to its gradients of both."""

    of: Callable[[jax.Array, jax.Array], jax.Array]
    gradients: Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def _dot_gradients(x, y, cotangent):
    return jnp.dot(cotangent, y.T), jnp.dot(x.T, cotangent)


PLAIN = Product(jnp.dot, _dot_gradients)
ON_CPU = Product(cpu.product, cpu.product_gradients)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def activated_product(
    x: jax.Array, y: jax.Array, activation: str, product: Product = PLAIN
) -> jax.Array:
    """A product of an activation of x, which the backward pass computes again.

    Kept is x alone: less memory, and a TPU compiles the error function once less per layer.

    Args:
      x, y: (T, I) and (I, O) of one type.
      activation: of `activate`.
      product: in which form.

    Returns:
      (T, O).
    """
    return product.of(activate(x, activation), y)


def _activated_forward(x, y, activation, product):
    return activated_product(x, y, activation, product), (x, y)


def _activated_backward(activation, product, factors, cotangent):
    x, y = factors
    active, pull_back = jax.vjp(lambda x: activate(x, activation), x)
    dactive, dy = product.gradients(active, y, cotangent)
    return *pull_back(dactive), dy


activated_product.defvjp(_activated_forward, _activated_backward)


def dense(
    features: int,
    name: str,
    dtype,
    init_std: float,
    platform: str,
    use_bias: bool = True,
    activation: str = "",
):
    """A dense layer on tokens: float32 parameters, `dtype` compute; for `init_std` see above.

    With an activation, of its input. On the `platform` "cpu" it has that one's product.

    Returns:
      A function of (..., D) to (..., features).
    """
    product = ON_CPU if platform == "cpu" else PLAIN
    layer = nn.Dense(
        features,
        use_bias=use_bias,
        dtype=dtype,
        kernel_init=initializer(init_std),
        dot_general=lambda x, kernel, *_, **__: (
            activated_product(x, kernel, activation, product)
            if activation
            else product.of(x, kernel)
        ),
        name=name,
    )

    def apply(x: jax.Array) -> jax.Array:
        flat = checkpoint_name(layer(x.reshape(-1, x.shape[-1])).astype(dtype), PRODUCT)
        return flat.reshape(*x.shape[:-1], features)

    return apply


def augment(key: jax.Array, mel: jax.Array, config) -> jax.Array:
    """SpecAugment of (B, F, M), or (B, 4, F, M) with the same stripes in a row's four mels.

    `config` is an HTSATConfig or a PANNConfig.
    """
    settings = {
        name: getattr(config, name)
        for name in ("time_stripes", "time_width", "freq_stripes", "freq_width")
    }
    if mel.ndim == 3:
        return spec_augment(key, mel, **settings)
    return mel * spec_augment(key, jnp.ones_like(mel[:, 0]), **settings)[:, None]


def rematerialised(layer: type[nn.Module], remat: str, **options):
    """The layer class with `remat` of REMAT; `options` of nn.remat.

    A layer that is scanned over takes prevent_cse=False: the loop keeps its two passes apart.
    """
    if remat == "none":
        return layer
    keep = jax.checkpoint_policies.save_only_these_names(PRODUCT)
    policy = keep if remat == "dots" else None
    return nn.remat(layer, policy=policy, **options)


def unrolled(layers: int, platform: str, remat: str, train: bool) -> int:
    """How many of the layers that are scanned over stand in a turn of the loop.

    In training on GPUs all: what a loop keeps for its backward pass is copied into arrays of all
    layers and out again, an eighth of a step there. With remat one, for in one turn what the two
    passes compute would be merged.
    """
    return layers if platform == "gpu" and remat == "none" and train else 1


def takes_kernels(platform: str) -> bool:
    """Whether attention is by our kernels: on GPUs, without NVIDIA's from before Ampere.

    Those, as Colab's T4, Pallas refuses. GPUs that are planned for, and not here, are newer.
    """
    if platform != "gpu":
        return False
    try:
        here = jax.local_devices(backend="gpu")
    except RuntimeError:
        return True
    # Of AMD no number.
    versions = [re.match(r"\d+", str(device.compute_capability)) for device in here]
    return all(version is None or int(version[0]) >= 8 for version in versions)


def batch_axes() -> tuple[str, ...] | None:
    """The mesh axes that this code's batch is split over: those of the `jax.shard_map` around it.

    None under plain jit, where arrays are whole. Batch statistics are taken over these axes too.
    """
    return jax.sharding.get_abstract_mesh().manual_axes or None


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


def activate(x: jax.Array, name: str) -> jax.Array:
    """ "relu", "gelu" (exact) or "quick_gelu" (OpenAI's CLIP)."""
    if name == "quick_gelu":
        return x * nn.sigmoid(1.702 * x)
    if name == "relu":
        return nn.relu(x)
    # As torch has it; of nn.gelu the complementary error function costs several times as much.
    wide = x.astype(jnp.float32)
    return (0.5 * wide * (1.0 + jax.lax.erf(wide * np.float32(np.sqrt(0.5))))).astype(x.dtype)


def where_moving(moves: jax.Array | None, noisy: jax.Array, still: jax.Array) -> jax.Array:
    """What dropout made of `still`, where a layer is not frozen; `moves` () bool, None: it is not.

    Layers that are scanned over are one program, so which of them are frozen is data.
    """
    return noisy if moves is None else jnp.where(moves, noisy, still)


class Mlp(nn.Module):
    """Dense, activation, Dense, dropout."""

    hidden: int
    dropout: float
    dtype: jnp.dtype
    init_std: float
    activation: str = "gelu"
    platform: str = ""  # of `dense`

    @nn.compact
    def __call__(
        self, x: jax.Array, deterministic: bool, moves: jax.Array | None = None
    ) -> jax.Array:
        """(..., D) to (..., D)."""
        width, settings = x.shape[-1], (self.dtype, self.init_std, self.platform)
        x = dense(self.hidden, "up", *settings)(x.astype(self.dtype))
        x = dense(width, "down", *settings, activation=self.activation)(x)
        return where_moving(moves, nn.Dropout(self.dropout)(x, deterministic=deterministic), x)


class Projection(nn.Module):
    """A head: Linear, activation, dropout, Linear (LAION-CLAP), or one Linear alone (BLAT)."""

    features: int
    dtype: jnp.dtype
    kind: str = "mlp"  # or "linear"
    activation: str = "relu"
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        """(..., D) to (..., features)."""
        x = nn.Dense(self.features, dtype=self.dtype, name="linear1")(x.astype(self.dtype))
        if self.kind == "linear":
            return x
        x = activate(x, self.activation)
        x = nn.Dropout(self.dropout)(x, deterministic=deterministic)
        return nn.Dense(self.features, dtype=self.dtype, name="linear2")(x)


class BatchNorm(nn.Module):
    """BatchNorm over all axes but the last, in float32; with a mask only the places under it count.

    In training the statistics are those of the unmasked places of the global batch; where there are
    none (no clip of the batch is longer than a clip, say) the running ones serve and stay as they
    are. momentum and epsilon are torch's defaults.
    """

    epsilon: float = 1e-5
    momentum: float = 0.9  # torch's 0.1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
        """(..., C), and a bool mask that broadcasts to it or None, to (..., C) float32."""
        channels = x.shape[-1:]
        x = x.astype(jnp.float32)
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        mean, var = running_mean.value, running_var.value
        if train:
            mean, var = _moments(x, mask, mean, var)
        if train and not self.is_initializing():
            for running, batch in ((running_mean, mean), (running_var, var)):
                running.value = self.momentum * running.value + (1 - self.momentum) * batch
        return (x - mean) * (jax.lax.rsqrt(var + self.epsilon) * scale) + bias


def _moments(x, mask, mean, var):
    """Mean and (biased) variance (C,) of (..., C) under the mask; the given ones under none.

    Summed are differences from the given mean: one pass, one exchange, and little cancels.
    """
    axes, devices = tuple(range(x.ndim - 1)), batch_axes()
    away = x - mean if mask is None else jnp.where(mask, x - mean, 0.0)
    sums = [away.sum(axes), jnp.square(away).sum(axes)]
    if mask is not None:
        sums.append(jnp.broadcast_to(mask, x.shape).astype(jnp.float32).sum(axes))
    sums = jnp.stack(sums)
    if devices is not None:
        sums = jax.lax.psum(sums, devices)
    if mask is None:
        count = x[..., 0].size * (1 if devices is None else jax.lax.axis_size(devices))
    else:
        count = sums[2]
    shift, spread = sums[:2] / jnp.maximum(count, 1)
    batch_var = jnp.maximum(spread - jnp.square(shift), 0.0)
    return jnp.where(count > 0, mean + shift, mean), jnp.where(count > 0, batch_var, var)
