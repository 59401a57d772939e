"""The forms of the contrastive loss: time and memory of value and gradient."""

import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp

from benchmarks.accelerator.common import Clock, Setup, Skipped, fits, median_seconds
from benchmarks.loss_memory import LOSSES, random_arguments, value_and_gradient
from clapjax.losses.config import LossConfig
from clapjax.losses.laion import laion_loss
from clapjax.training.mesh import make_mesh

KEYS = ("loss", "form", "batch", "dtype", "fits", "compile_seconds", "seconds", "temporary_bytes")
KAPPA = "softmax, kappa"


def rows(setup: Setup, clock: Clock, results: dict) -> Iterator[dict | Skipped]:
    """One row for each loss, form and batch; small batches first."""
    mesh = make_mesh(setup.config.mesh, setup.devices)
    low = jnp.dtype("float32" if setup.devices[0].platform == "cpu" else "bfloat16")
    tile = LossConfig().tile
    cost = 0.0
    for batch in setup.loss_batches:
        for name, form in [(name, form) for name in LOSSES for form in ("plain", "ring")] + [
            ("softmax", "gathered"),
            (KAPPA, "plain"),
        ]:
            if clock.left() < cost:
                yield Skipped(f"{name}, {form}, {batch:,} rows")
                continue
            start = time.monotonic()
            dtype = jnp.dtype("float32") if name == KAPPA else low  # its embeddings are float32
            if name == KAPPA:
                function = kappa_gradient()
            else:
                function = value_and_gradient(form, name, mesh, tile, dtype)
            row = {"loss": name, "form": form, "batch": batch, "dtype": str(dtype)}
            row = dict.fromkeys(KEYS) | row
            yield row | fits(_timed, function, mesh, batch, dtype, setup.repeats)
            cost = time.monotonic() - start


def kappa_gradient() -> Callable:
    """LAION-CLAP's weighting, with the arguments of `value_and_gradient`'s functions."""

    def objective(audio, text, scale, bias, negative, groups):
        return laion_loss(audio, text, scale, kappa=0.1)

    return jax.jit(jax.value_and_grad(objective, argnums=(0, 1, 2)))


def _timed(function: Callable, mesh, batch: int, dtype: jnp.dtype, repeats: int) -> dict:
    inputs = random_arguments(mesh, batch, dtype)
    start = time.monotonic()
    compiled = function.lower(*inputs).compile()
    compile_seconds = time.monotonic() - start
    analysis = compiled.memory_analysis()
    return {
        "compile_seconds": compile_seconds,
        "seconds": median_seconds(lambda: compiled(*inputs), repeats),
        "temporary_bytes": analysis.temp_size_in_bytes if analysis else None,
    }
