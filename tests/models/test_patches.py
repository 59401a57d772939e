"""Matrix products of patches against XLA's own convolutions, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clapjax.models.patches import conv_by_patches, conv_of_patches


@pytest.mark.parametrize(
    ("convolve", "size", "stride", "padding"),
    [
        (conv_by_patches, 3, 2, "SAME"),
        (conv_of_patches, 2, 2, "VALID"),
        (conv_of_patches, 4, 4, "VALID"),
        (conv_of_patches, 1, 1, "VALID"),
    ],
)
def test_values_and_gradients_equal_a_convolution(convolve, size, stride, padding):
    generator = np.random.default_rng(0)
    image = generator.normal(size=(2, 8, 8, 3)).astype(np.float32)
    kernel = generator.normal(size=(size, size, 3, 5)).astype(np.float32)

    def expected(image, kernel):
        return jax.lax.conv_general_dilated(
            image, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def run(convolve):
        value, pull_back = jax.vjp(convolve, jnp.asarray(image), jnp.asarray(kernel))
        return value, *pull_back(jnp.cos(jnp.arange(value.size)).reshape(value.shape))

    for found, wanted in zip(run(convolve), run(expected), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)
