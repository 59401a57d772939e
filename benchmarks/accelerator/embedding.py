"""How many clips and captions a second one device embeds."""

import functools
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np

from benchmarks.accelerator.common import Clock, Setup, Skipped, fits, median_seconds
from clapjax.models.clap import (
    Clap,
    cast_kernels,
    compute_dtype,
    embed_waveform,
    init_variables,
)
from clapjax.models.config import ClapConfig

KEYS = ("input", "batch", "dtype", "fits", "compile_seconds", "seconds", "per_second")


def rows(setup: Setup, clock: Clock, results: dict) -> Iterator[dict | Skipped]:
    """One row for each input and batch: captions as token ids, clips as waveforms."""
    device, config = setup.devices[0], setup.config.model
    dtype = compute_dtype(config, device.platform)
    model = Clap(config, dtype, platform=device.platform)
    with jax.default_device(device):
        variables = jax.jit(lambda key: init_variables(config, key))(jax.random.key(0))
        variables["params"] = cast_kernels(variables["params"], dtype)  # as clapjax.load does
    captions = functools.partial(model.apply, method="text")
    double = functools.partial(embed_waveform, model)
    single = functools.partial(embed_waveform, model, double=False)
    batches = setup.embed_batches
    sweep = [("captions", captions, batch) for batch in batches]
    # The library computes spectra in float64, where there is such an FFT.
    if device.platform != "tpu":
        sweep += [("clips", double, batch) for batch in batches]
    sweep += [
        ("clips, float32 FFT", single, batch)
        for batch in (batches if device.platform == "tpu" else batches[-1:])
    ]
    cost = 0.0
    for name, function, batch in sweep:
        if clock.left() < cost:
            yield Skipped(f"{name}, batch {batch}")
            continue
        start = time.monotonic()
        row = dict.fromkeys(KEYS) | {"input": name, "batch": batch, "dtype": str(dtype)}
        inputs = _tokens(config, batch) if function is captions else waveforms(config, batch)
        yield row | fits(timed, function, variables, inputs, device, setup.repeats)
        cost = time.monotonic() - start


def _tokens(config: ClapConfig, batch: int) -> tuple[np.ndarray, ...]:
    """Ids and mask of captions as long as the model takes them, (batch, L) int32 each."""
    shape = (batch, config.text.max_length)
    ids = np.random.default_rng(0).integers(5, config.text.vocab_size, shape).astype(np.int32)
    return ids, np.ones_like(ids)


def waveforms(config: ClapConfig, batch: int) -> tuple[np.ndarray, ...]:
    """(batch, clip_samples) float32 noise."""
    generator = np.random.default_rng(0)
    return (generator.random((batch, config.audio.clip_samples), np.float32) - 0.5,)


def timed(function: Callable, variables: dict, inputs: tuple, device, repeats: int) -> dict:
    """Figures of a function of variables and inputs (rows first), jitted, on a device."""
    inputs = jax.device_put(inputs, device)
    start = time.monotonic()
    compiled = jax.jit(function).lower(variables, *inputs).compile()
    compile_seconds = time.monotonic() - start
    seconds = median_seconds(lambda: compiled(variables, *inputs), repeats)
    return {
        "compile_seconds": compile_seconds,
        "seconds": seconds,
        "per_second": len(inputs[0]) / seconds,
    }
