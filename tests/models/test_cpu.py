"""What only XLA:CPU wants has the values of the plain forms, and is used on CPUs alone."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clapjax.models.clap import Clap, init_variables
from clapjax.models.config import HTSATConfig, TextConfig
from clapjax.models.cpu import conv_by_patches, product
from clapjax.models.patches import conv_of_patches
from clapjax.models.presets import small_clap

# Layers of every kind: a convolutional stem, windows of which some are shifted, a text layer.
CONFIG = dataclasses.replace(
    small_clap(),
    htsat=HTSATConfig(
        spec_size=128,
        conv_stem=(4, 8),
        stem_fold=2,
        patch_stride=8,
        embed_dim=8,
        depths=(2,),
        heads=(2,),
        drop_path=0.0,
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


def _gradients(platform: str, dtype):
    """A function of parameters to both embeddings' gradients in training, and the parameters."""
    generator = np.random.default_rng(0)
    mel = generator.normal(-30, 20, (2, CONFIG.audio.frames, 64)).astype(np.float32)
    ids = generator.integers(3, 20, (2, 8))
    model = Clap(CONFIG, dtype, platform=platform)
    shapes = jax.eval_shape(lambda: init_variables(CONFIG, jax.random.key(0)))
    variables = jax.tree.map(
        lambda leaf: np.float32(generator.uniform(0.1, 0.5, leaf.shape)), shapes
    )

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

    return jax.jit(jax.value_and_grad(loss)), variables["params"]


def test_a_model_computes_the_same_with_and_without_them():
    (loss, gradient), (plain_loss, plain_gradient) = (
        function(params)
        for function, params in (_gradients(platform, jnp.float32) for platform in ("cpu", ""))
    )
    assert plain_loss == pytest.approx(float(loss), rel=1e-5)
    size = max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient))
    for left, right in zip(*map(jax.tree.leaves, (plain_gradient, gradient)), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-5 * size)


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_only_the_program_for_cpus_has_them(platform):
    """Patches for convolutions, sums over two axes, and float32 results of bfloat16 layers."""
    function, params = _gradients(platform, jnp.bfloat16)
    target = {"gpu": "cuda"}.get(platform, platform)
    text = function.trace(params).lower(lowering_platforms=(target,)).as_text()
    on_cpu = platform == "cpu"
    assert ("contracting_dims = [0, 1] x [0, 1]" in text) == on_cpu
    assert ("stablehlo.convolution" in text) != on_cpu
    widened = re.findall(
        r"dot_general (.*) :.*bf16>, tensor<[\dx]+bf16>\) -> tensor<[\dx]+f32>", text
    )
    of_layers = [x for x in widened if "batching_dims" not in x]  # the others: attention scores
    assert bool(of_layers) == on_cpu
    # On GPUs attention is in kernels, but for the one token that text's last layer asks for.
    assert len(widened) == {"gpu": 1}.get(platform, len(widened)) > 0


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
