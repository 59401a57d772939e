"""Dense layers: what they keep for the backward pass, and in what types they multiply."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clapjax.models.layers import ON_CPU, PLAIN, activate, activated_product, dense


@pytest.mark.parametrize("product", [PLAIN, ON_CPU])
@pytest.mark.parametrize("activation", ["gelu", "relu", "quick_gelu"])
def test_product_of_an_activation_keeps_its_input_alone(activation, product):
    generator = np.random.default_rng(0)
    x, y, weights = (
        jnp.asarray(generator.normal(size=shape), jnp.float32)
        for shape in ((50, 30), (30, 20), (50, 20))
    )

    def plain(x, y):
        return product.of(activate(x, activation), y)

    expected, expected_pull = jax.vjp(plain, x, y)
    found, pull = jax.vjp(lambda x, y: activated_product(x, y, activation, product), x, y)
    np.testing.assert_array_equal(found, expected)
    for ours, theirs in zip(pull(weights), expected_pull(weights), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=3e-6)
    assert sorted(leaf.shape for leaf in jax.tree.leaves(pull)) == [(30, 20), (50, 30)]


class _Layer(nn.Module):
    platform: str

    @nn.compact
    def __call__(self, x):
        return dense(16, "layer", jnp.bfloat16, 0.02, self.platform, activation="gelu")(x)


@pytest.mark.parametrize(("platform", "sums"), [("cpu", "f32"), ("gpu", "bf16"), ("tpu", "bf16")])
def test_a_bfloat16_layer_multiplies_bfloat16_in_both_passes(platform, sums):
    """A gradient that came as float32 would be multiplied as float32, at half the speed."""
    x, layer = jnp.ones((4, 8, 32), jnp.bfloat16), _Layer(platform)
    params = layer.init(jax.random.key(0), x)

    def loss(params, x):
        return layer.apply(params, x).astype(jnp.float32).sum()

    text = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(params, x).as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert len(products) >= 2  # the gradients of kernel and input; a sum needs no forward product
    types = rf"bf16>, tensor<[\dx]+bf16>\) -> tensor<[\dx]+{sums}>"
    assert all(re.search(types, x) for x in products)
