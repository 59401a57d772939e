"""The kernels for GPUs against the matrix products that they stand for; interpreted where there is
no GPU."""

import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from clapjax.models import layers, text_kernel, window_kernel
from clapjax.models.clap import Clap, init_variables
from clapjax.models.layers import attend
from clapjax.models.presets import small_clap
from clapjax.models.swin import _roll, _unwindows, _windows, shift_mask
from clapjax.planning.flops import matrix_flops

INTERPRET = jax.default_backend() != "gpu"
window_attention = functools.partial(window_kernel.window_attention, interpret=INTERPRET)
text_attention = functools.partial(text_kernel.text_attention, interpret=INTERPRET)
# Sums of float32; on a GPU too, where the default would be TF32.
pytestmark = pytest.mark.usefixtures("precise")


@pytest.fixture
def precise():
    with jax.default_matmul_precision("highest"):
        yield


def random(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def by_windows(qkv, bias, side, window, shift):
    """As the Swin transformer's authors have it: roll, cut out, attend, put back, roll back."""
    batch, tokens, _, heads, dim = qkv.shape
    image = _roll(qkv.reshape(batch, side, side, -1), -shift, True)
    own = _windows(image, window).reshape(batch, -1, window * window, 3, heads, dim)
    if shift:
        bias = bias + shift_mask(side, window, shift)
    mixed = attend(*(own[..., kind, :, :] for kind in range(3)), bias, lambda weights: weights)
    return _roll(_unwindows(mixed, window, side), shift, True).reshape(batch, tokens, heads, dim)


def check(ours, theirs, cotangent, *inputs):
    """Values and gradients of both."""
    ours, pull_ours = jax.vjp(ours, *inputs)
    theirs, pull_theirs = jax.vjp(theirs, *inputs)
    np.testing.assert_allclose(ours, theirs, atol=3e-6)
    for found, wanted in zip(pull_ours(cotangent), pull_theirs(cotangent), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("batch", "side", "window", "shift", "heads", "dim"),
    [(3, 16, 8, 0, 2, 24), (20, 16, 8, 4, 1, 24), (2, 8, 4, 2, 1, 32), (1, 8, 8, 0, 2, 16)],
)
def test_windows_in_one_kernel(batch, side, window, shift, heads, dim):
    qkv = random(0, batch, side**2, 3, heads, dim)
    bias, cotangent = random(1, heads, window**2, window**2), random(2, *qkv.shape[:2], heads, dim)
    sizes = side, window, shift
    check(
        lambda qkv, bias: window_attention(qkv, bias, *sizes),
        lambda qkv, bias: by_windows(qkv, bias, *sizes),
        cotangent,
        qkv,
        bias,
    )


@pytest.mark.parametrize(
    ("batch", "length", "heads", "dim", "lines", "rate"),
    [(2, 77, 2, 64, 1, 0.0), (2, 40, 3, 16, 40, 0.25), (1, 128, 1, 24, 1, 0.5)],
)
def test_texts_in_one_kernel(batch, length, heads, dim, lines, rate):
    qkv, cotangent = random(0, batch, length, 3, heads, dim), random(1, batch, length, heads, dim)
    seen = jax.random.bernoulli(jax.random.key(2), 0.7, (batch, lines, length))
    seen = seen.at[..., 0].set(True).at[0, 0].set(False)  # nothing to look at: all alike
    bias = jnp.where(seen, 0.0, jnp.finfo(jnp.float32).min)
    kept = jax.random.bernoulli(jax.random.key(3), 1 - rate, (batch, heads, length, length))

    def plain(qkv):
        kinds = (qkv[:, :, kind] for kind in range(3))
        mixed = attend(*kinds, bias[:, None], lambda weights: weights * kept / (1 - rate))
        return mixed.reshape(cotangent.shape)

    given = kept if rate else None
    check(lambda qkv: text_attention(qkv, bias, given, rate), plain, cotangent, qkv)


@pytest.mark.skipif(jax.device_count() < 2, reason="one device")
def test_each_device_its_rows():
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    qkv, bias = random(0, 4, 64, 3, 1, 16), random(1, 1, 16, 16)

    def split(attention, **options):
        def objective(qkv, bias):
            bias = jax.lax.pcast(bias, "data", to="varying") if not options else bias
            mixed = attention(qkv, bias, 8, 4, 2)
            return jax.lax.psum(jnp.sum(jnp.square(mixed)), "data")

        specs = {"in_specs": (P("data"), P()), "out_specs": P()}
        return jax.jit(jax.grad(jax.shard_map(objective, mesh=mesh, **specs, **options), (0, 1)))

    # Interpreted, a kernel's body is not a kernel to the check of what varies over the mesh.
    found = split(window_attention, **{"check_vma": False} if INTERPRET else {})(qkv, bias)
    whole = jax.grad(lambda q, b: jnp.sum(jnp.square(by_windows(q, b, 8, 4, 2))), (0, 1))
    for ours, theirs in zip(found, whole(qkv, bias), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
    # For a GPU it is, and compiles as such.
    traced = split(window_kernel.window_attention).trace(qkv, bias)
    program = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert program.count("window_attention") >= 2 and "triton" in program


def test_a_model_for_gpus_computes_the_same(monkeypatch):
    for module, name in ((window_kernel, "window_attention"), (text_kernel, "text_attention")):
        monkeypatch.setattr(module, name, {"w": window_attention, "t": text_attention}[name[0]])
    config = small_clap()
    config = dataclasses.replace(
        config, text=dataclasses.replace(config.text, vocab_size=100, max_length=12)
    )
    variables = init_variables(config, jax.random.key(0))
    mels = random(1, 2, 1 + config.audio.clip_samples // config.audio.hop_length, 64) * 10 - 40
    ids = jax.random.randint(jax.random.key(2), (2, 12), 5, 100)
    mask = jnp.arange(12) < jnp.array([[12], [7]])

    def loss(params, platform):
        model = Clap(config, jnp.dtype("float32"), platform=platform)
        apply = functools.partial(model.apply, variables | {"params": params})
        audio = apply(mels, method="audio")
        return jnp.sum(audio * apply(ids, mask, method="text"))

    gradient = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    (ours, mine), (theirs, wanted) = (gradient(variables["params"], x) for x in ("gpu", "cpu"))
    assert float(ours) == pytest.approx(float(theirs), abs=1e-5)
    for found, other in zip(jax.tree.leaves(mine), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(found, other, atol=2e-5 * max(1.0, float(jnp.abs(other).max())))


def test_a_kernel_counts_what_it_computes():
    qkv, bias = random(0, 2, 64, 3, 2, 24), random(1, 2, 64, 64)

    def count(function):
        return matrix_flops(jax.jit(function).trace(qkv, bias).jaxpr)

    products = 2 * 2 * 2 * 64 * 64 * 24  # one, of all windows and heads
    assert count(lambda q, b: window_attention(q, b, 8, 8, 0)) == 2 * products
    # The backward pass computes the scores again.
    gradient = jax.grad(lambda q, b: window_attention(q, b, 8, 8, 0).sum())
    assert count(gradient) == 7 * products


@pytest.mark.parametrize(
    ("capability", "kernels"), [("7.5", False), ("8.0", True), ("12.0", True), ("gfx942", True)]
)
def test_gpus_that_pallas_refuses_do_without(monkeypatch, capability, kernels):
    """The T4 of Colab's free runtime is one."""
    here = [SimpleNamespace(compute_capability=capability)]
    monkeypatch.setattr(layers.jax, "local_devices", lambda backend: here)
    config = small_clap()
    model = Clap(config, platform="gpu")
    variables = jax.eval_shape(lambda: init_variables(config, jax.random.key(0)))
    mels = jnp.zeros((1, 1 + config.audio.clip_samples // config.audio.hop_length, 64))
    ids = jnp.zeros((1, 8), jnp.int32)
    for method, inputs in (("audio", (mels,)), ("text", (ids, ids == 0))):
        apply = functools.partial(model.apply, method=method)
        assert ("pallas_call" in str(jax.make_jaxpr(apply)(variables, *inputs))) is kernels
