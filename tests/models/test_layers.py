"""Products of low precision: their sums, and their gradients, are float32."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clapjax.models.layers import activate, activated_product, dense, product


@pytest.mark.parametrize("rows", [1, 48, 50, 51])  # the kernel's gradient sums 8, 2 or 1 parts
@pytest.mark.parametrize(("dtype", "rounding"), [(jnp.float32, 2e-6), (jnp.bfloat16, 2**-8)])
def test_product_and_its_gradient(dtype, rounding, rows):
    generator = np.random.default_rng(0)
    x, y, cotangent = (
        jnp.asarray(generator.normal(size=shape), dtype)
        for shape in ((rows, 300), (300, 20), (rows, 20))
    )
    out, pull = jax.vjp(jax.jit(product), x, y)
    dx, dy = pull(cotangent.astype(jnp.float32))
    assert out.dtype == jnp.float32 and dx.dtype == dy.dtype == dtype
    x, y, cotangent = (np.asarray(a, np.float64) for a in (x, y, cotangent))
    # The factors are exact in float64: what is left is the rounding of a gradient to its type.
    for found, wanted, limit in (
        (out, x @ y, 2e-6),
        (dx, cotangent @ y.T, rounding),
        (dy, x.T @ cotangent, rounding),
    ):
        error = np.abs(np.asarray(found, np.float64) - wanted).max()
        assert error <= limit * np.abs(wanted).max()


@pytest.mark.parametrize("activation", ["gelu", "relu", "quick_gelu"])
def test_product_of_an_activation_keeps_its_input_alone(activation):
    generator = np.random.default_rng(0)
    x, y, weights = (
        jnp.asarray(generator.normal(size=shape), jnp.float32)
        for shape in ((50, 30), (30, 20), (50, 20))
    )

    def plain(x, y):
        return product(activate(x, activation), y)

    expected, expected_pull = jax.vjp(plain, x, y)
    found, pull = jax.vjp(lambda x, y: activated_product(x, y, activation), x, y)
    np.testing.assert_array_equal(found, expected)
    for ours, theirs in zip(pull(weights), expected_pull(weights), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    assert sorted(leaf.shape for leaf in jax.tree.leaves(pull)) == [(30, 20), (50, 30)]


class _Layer(nn.Module):
    @nn.compact
    def __call__(self, x):
        return dense(16, "layer", jnp.bfloat16, 0.02)(x)


def test_a_bfloat16_layer_multiplies_bfloat16_in_both_passes():
    """A gradient that came as float32 would be multiplied as float32, at half the speed."""
    x = jnp.ones((4, 8, 32), jnp.bfloat16)
    params = _Layer().init(jax.random.key(0), x)

    def loss(params, x):
        return _Layer().apply(params, x).astype(jnp.float32).sum()

    text = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(params, x).as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert len(products) >= 2  # the gradients of kernel and input; a sum needs no forward product
    assert all(re.search(r"bf16>, tensor<[\dx]+bf16>\) -> tensor<[\dx]+f32>", x) for x in products)
