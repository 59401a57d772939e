"""What only XLA:CPU wants has the values of the plain forms, and is used on CPUs alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clapjax.models.clap import Clap, init_variables
from clapjax.models.config import TextConfig
from clapjax.models.cpu import conv_by_patches, product
from clapjax.models.patches import conv_of_patches
from clapjax.models.presets import small_clap

PLATFORMS = ("cpu", "gpu", "tpu")
# Every kind of layer: a convolutional stem, windows that shift, merged patches, a text tower.
SMALL = small_clap()
SMALL = dataclasses.replace(
    SMALL,
    htsat=dataclasses.replace(
        SMALL.htsat,
        conv_stem=(4, 4, 8),
        embed_dim=8,
        depths=(2, 2),
        heads=(2, 2),
        window_size=4,
        drop_path=0.0,
        time_segments=1,
    ),
    text=TextConfig(
        vocab_size=20,
        hidden_size=16,
        layers=1,
        heads=2,
        intermediate_size=32,
        max_positions=20,
        max_length=8,
        dropout=0.0,
        attention_dropout=0.0,
    ),
    projection_size=8,
)


def _gradient(platform: str, dtype):
    """A function of parameters: the gradient of both towers in training, as `platform` has it."""
    variables = init_variables(SMALL, jax.random.key(0))
    generator = np.random.default_rng(0)
    mel = generator.normal(-30, 20, (2, SMALL.audio.frames, 64)).astype(np.float32)
    ids = generator.integers(3, 20, (2, 8))
    model = Clap(SMALL, dtype, platform=platform)

    def loss(params):
        (audio, text, *_), _ = model.apply(
            {**variables, "params": params},
            mel,
            ids,
            np.ones_like(ids),
            train=True,
            rngs={"augment": jax.random.key(1), "dropout": jax.random.key(2)},
            mutable=["batch_stats"],
        )
        return jnp.sum(jnp.cos(jnp.arange(audio.size).reshape(audio.shape)) * (audio + 2 * text))

    return jax.value_and_grad(loss), variables["params"]


def test_the_model_is_the_same_on_any_platform():
    found = {}
    for platform in PLATFORMS:
        gradient, params = _gradient(platform, jnp.float32)
        found[platform] = jax.jit(gradient)(params)
    for platform in ("gpu", "tpu"):
        np.testing.assert_allclose(found[platform][0], found["cpu"][0], rtol=1e-5)
        for left, right in zip(
            *(jax.tree.leaves(found[p]) for p in (platform, "cpu")), strict=True
        ):
            np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-4 * np.abs(right).max())


@pytest.mark.parametrize("platform", PLATFORMS)
def test_only_cpus_have_these_forms(platform):
    """In the traced program: sums over two axes; float32 results of bfloat16; no convolution."""
    gradient, params = _gradient(platform, jnp.bfloat16)
    text = (
        jax.jit(gradient)
        .trace(params)
        .lower(lowering_platforms=(platform.replace("gpu", "cuda"),))
        .as_text()
    )
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    in_parts = [line for line in products if "contracting_dims = [0, 1] x [0, 1]" in line]
    assert bool(in_parts) == (platform == "cpu")
    assert ("stablehlo.convolution" in text) == (platform != "cpu")
    # The others have float32 results of attention scores and of the loss alone.
    widened = [x for x in products if "bf16>) -> tensor" in x and x.rstrip().endswith("f32>")]
    assert all("batching_dims" in line for line in widened) == (platform != "cpu")


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
