"""A captioner: clips a second of its encoder, captions a second, and the training step."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks.accelerator import training
from benchmarks.accelerator.common import Clock, Setup, Skipped, fits, task_of
from benchmarks.accelerator.embedding import timed, waveforms
from clapjax.models.captioner import Captioner
from clapjax.models.clap import cast_kernels, compute_dtype
from clapjax.models.config import DecodingConfig
from clapjax.planning.measure import matrix_rate
from clapjax.tasks.captioning import caption_clips, hear_clips
from clapjax.tasks.guidance import Marks
from clapjax.tasks.task import Setting
from clapjax.training.mesh import make_mesh

KEYS = (
    "work",
    "batch",
    "dtype",
    "fits",
    "compile_seconds",
    "seconds",
    "per_second",  # clips or captions
    "encoder_per_second",  # clips, without a decoder: the limit of captions
    "utilization_datasheet",
    "utilization_measured",
)
ENCODER, STEP = "encoder alone", "training step"
BEAMS = 3


def rows(setup: Setup, clock: Clock, results: dict) -> Iterator[dict | Skipped]:
    """The encoder, captions in two ways, and the step at the largest batch of a few that fits."""
    cost, limit = 0.0, None
    for work, function, variables in _ways(setup):
        if clock.left() < cost:
            yield Skipped(work)
            continue
        start = time.monotonic()
        row = _generation(setup, work, function, variables)
        if work == ENCODER:
            limit = row["per_second"]
        yield row if work == ENCODER else row | {"encoder_per_second": limit}
        cost = time.monotonic() - start
    mesh = make_mesh(setup.captioner.mesh, setup.devices)
    device = mesh.local_devices[0]
    dtype = task_of(setup.captioner).dtype(device.platform)
    reached = matrix_rate(dtype, device)
    setup = dataclasses.replace(setup, config=setup.captioner)
    size = setup.captioner.rows_per_device
    while size:
        if clock.left() < cost:
            yield Skipped(f"{STEP}, {size} rows a device")
            return
        start = time.monotonic()
        found = training.attempt(setup, mesh, size, 1, reached)
        row = {key: found.get(key) for key in KEYS} | {"work": STEP, "dtype": str(dtype)}
        yield row | {
            "batch": found["batch_size"],
            "seconds": found["step_seconds"],
            "per_second": found["pairs_per_second"],
        }
        if found["fits"]:
            return
        cost = time.monotonic() - start
        size //= 2
    raise RuntimeError("no batch was found that fits")


def _ways(setup: Setup) -> Iterator[tuple[str, Callable, dict]]:
    """(name, function of variables and a batch's arrays, variables) of what writes captions."""
    device, run = setup.devices[0], setup.captioner
    settings = run.captioning
    sizes, dtype = settings.decoder, compute_dtype(run.model, device.platform)
    model = Captioner(run.model, sizes, dtype, platform=device.platform)
    with jax.default_device(device):
        variables = jax.jit(task_of(run).init)(jax.random.key(0))
        variables["params"] = cast_kernels(variables["params"], dtype)
    yield ENCODER, lambda variables, *arrays: hear_clips(model, variables, *arrays[:2]), variables
    where = Setting(Mesh(np.array([device]), ("data",)))
    marks = Marks(begin=0, end=0, never=())
    for work, beams in (("greedy", 1), (f"{BEAMS} beams", BEAMS)):
        # Random weights would end their captions anywhere.
        decoding = DecodingConfig(beams=beams, min_length=sizes.max_length - 1)
        write = functools.partial(caption_clips, run.model, settings, decoding, marks)
        yield work, lambda *arrays, write=write: write(*arrays, where), variables


def _generation(setup: Setup, work: str, function: Callable, variables: dict) -> dict:
    """A row of one function of `_ways`, of as many clips as the setup says."""
    run, batch, device = setup.captioner, setup.caption_batch, setup.devices[0]
    sizes = run.captioning.decoder
    generator = np.random.default_rng(0)
    guidance = generator.integers(1, sizes.vocab_size, (batch, sizes.guidance_length))
    inputs = (
        *waveforms(run.model, batch),
        np.full(batch, run.model.audio.clip_samples, np.int32),
        guidance.astype(np.int32),
        np.ones(guidance.shape, bool),
        np.zeros((batch, 2), np.uint32),
    )
    row = dict.fromkeys(KEYS) | {"work": work, "batch": batch}
    row["dtype"] = str(compute_dtype(run.model, device.platform))
    return row | fits(timed, function, variables, inputs, device, setup.repeats)
