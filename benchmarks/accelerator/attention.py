"""Window attention of the audio encoder, stage by stage: the model's form beside others."""

import time
from collections.abc import Callable, Iterator

import jax

from benchmarks.accelerator.common import Clock, Setup, Skipped, fits, median_seconds, task_of
from clapjax.models.config import HTSATConfig
from clapjax.models.layers import attend
from clapjax.models.swin import shift_mask

KEYS = ("stage", "form", "batch", "dtype", "fits", "compile_seconds", "forward", "both")


def rows(setup: Setup, clock: Clock, results: dict) -> Iterator[dict | Skipped]:
    """One row for each stage and form: seconds of the values, and of values and gradients."""
    config, device = setup.config.model.htsat, setup.devices[0]
    dtype = task_of(setup.config).dtype(device.platform)
    cost = 0.0
    for stage in range(len(config.depths)):
        for name, form in _forms(device.platform).items():
            if clock.left() < cost:
                yield Skipped(f"{name}, stage {stage}")
                continue
            start = time.monotonic()
            row = dict.fromkeys(KEYS) | {"stage": stage, "form": name, "dtype": str(dtype)}
            row["batch"] = setup.attention_batch
            with jax.default_device(device):
                inputs, sizes = _inputs(config, stage, setup.attention_batch, dtype)
                yield row | fits(_timed, form, inputs, sizes, setup.repeats)
            cost = time.monotonic() - start


def _forms(platform: str) -> dict[str, Callable]:
    """Functions of qkv (B, T, 3, h, d), bias (h, N, N) and (side, window, shift).

    But for the kernel, which finds them itself, they take the tokens as if windows were cut out.
    """
    forms = {"matrix products": _products}
    if platform == "gpu":
        from clapjax.models.window_kernel import window_attention

        forms |= {"one kernel": window_attention, "cuDNN, without shift": _cudnn}
    return forms


def _products(qkv: jax.Array, bias: jax.Array, side: int, window: int, shift: int) -> jax.Array:
    own = qkv.reshape(len(qkv), -1, window * window, *qkv.shape[2:])
    if shift:
        bias = bias + shift_mask(side, window, shift)
    kinds = (own[..., kind, :, :] for kind in range(3))
    return attend(*kinds, bias, lambda weights: weights).reshape(*qkv.shape[:2], *qkv.shape[3:])


def _cudnn(qkv: jax.Array, bias: jax.Array, side: int, window: int, shift: int) -> jax.Array:
    """Its bias cannot differ between the windows of an image, as a shift's mask does."""
    own = qkv.reshape(-1, window * window, *qkv.shape[2:])
    mixed = jax.nn.dot_product_attention(
        own[:, :, 0],
        own[:, :, 1],
        own[:, :, 2],
        bias=bias[None].astype(qkv.dtype),
        implementation="cudnn",
    )
    return mixed.reshape(*qkv.shape[:2], *qkv.shape[3:])


def _inputs(config: HTSATConfig, stage: int, batch: int, dtype) -> tuple[tuple, tuple]:
    """Random (qkv, bias, cotangent) of a stage, and its (side, window, shift)."""
    side = config.spec_size // config.patch_stride // 2**stage
    window = min(config.window_size, side)
    heads = config.heads[stage]
    dim = config.embed_dim * 2**stage // heads
    keys = jax.random.split(jax.random.key(stage), 3)
    qkv = jax.random.normal(keys[0], (batch, side**2, 3, heads, dim), dtype)
    bias = jax.random.normal(keys[1], (heads, window**2, window**2))
    cotangent = jax.random.normal(keys[2], (batch, side**2, heads, dim), dtype)
    return (qkv, bias, cotangent), (side, window, window // 2 if side > window else 0)


def _timed(form: Callable, inputs: tuple, sizes: tuple, repeats: int) -> dict:
    qkv, bias, cotangent = inputs

    def function(qkv, bias):
        return form(qkv, bias, *sizes)

    start = time.monotonic()
    forward = jax.jit(function).lower(qkv, bias).compile()
    both = jax.jit(lambda qkv, bias, out: jax.vjp(function, qkv, bias)[1](out))
    both = both.lower(qkv, bias, cotangent).compile()
    return {
        "compile_seconds": time.monotonic() - start,
        "forward": median_seconds(lambda: forward(qkv, bias), repeats),
        "both": median_seconds(lambda: both(qkv, bias, cotangent), repeats),
    }
