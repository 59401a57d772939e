"""The full training step, at the largest batch that fits and at a larger one in parts."""

import dataclasses
import functools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import jax
from jax.sharding import Mesh

from benchmarks.accelerator.common import (
    Clock,
    Run,
    Setup,
    Skipped,
    fits,
    median_seconds,
    memory_stats,
    program_bytes,
    task_of,
)
from clapjax.planning.chips import datasheet
from clapjax.planning.measure import matrix_rate, random_batch
from clapjax.planning.shapes import (
    activation_bytes,
    batch_shapes,
    local_bytes,
    model_flops,
)
from clapjax.training.deterministic import OPTION
from clapjax.training.mesh import make_mesh
from clapjax.training.state import abstract_state, init_state
from clapjax.training.step import make_train_step

KEYS = (
    "rows",  # of a device, encoded at once
    "micro_batches",
    "batch_size",  # of all devices
    "deterministic",  # compiled as `clapjax train --deterministic` compiles it
    "fits",
    "compile_seconds",
    "step_seconds",
    "pairs_per_second",
    "model_flops_per_second",  # of a device
    "utilization_datasheet",
    "utilization_measured",
    "program_bytes",  # of a device, by the compiler
    "peak_bytes",  # of a device, by its allocator, where this step raised it
)
PROBE = 8  # rows from which the memory of a row is counted


@dataclass(frozen=True)
class Program:
    """A compiled step and what it took."""

    compiled: jax.stages.Compiled
    seconds: float  # to trace and compile


def rows(setup: Setup, clock: Clock, results: dict) -> Iterator[dict | Skipped]:
    """One row for each batch tried: doubled while it fits, or halved until it does."""
    mesh = make_mesh(setup.config.mesh, setup.devices)
    device = mesh.local_devices[0]
    reached = matrix_rate(task_of(setup.config).dtype(device.platform), device)
    size, largest, cost = first_rows(setup, mesh), None, 0.0
    shrinks = False
    while True:
        # One more step must fit into the time: that of the large batch.
        if clock.left() < 2 * cost:
            yield Skipped(f"{size} rows a device")
            break
        start = time.monotonic()
        row = attempt(setup, mesh, size, 1, reached)
        cost = time.monotonic() - start
        yield row
        if row["fits"]:
            largest = size
            if shrinks or 2 * size > setup.most_rows:
                break
            size *= 2
        elif largest or size == 1:
            break
        else:
            shrinks = True
            size //= 2
    if largest is None:
        raise RuntimeError("no batch was found that fits")
    if device.platform == "gpu":  # the others are so already
        if clock.left() < 2 * cost:
            yield Skipped(f"{largest} rows a device, deterministic")
        else:
            yield attempt(setup, mesh, largest, 1, reached, deterministic=True)
    for size in sorted({largest, max(1, largest // 2)}, reverse=True):
        if clock.left() < cost:
            yield Skipped(f"{setup.micro_batches} micro-batches of {size} rows")
            break
        row = attempt(setup, mesh, size, setup.micro_batches, reached)
        yield row
        if row["fits"]:
            break


def first_rows(setup: Setup, mesh: Mesh) -> int:
    """The power of two of rows that a device's memory should hold, before XLA saves on it."""
    if setup.first_rows is not None:
        return setup.first_rows
    limit = memory_stats(mesh.local_devices[0]).get("bytes_limit")
    if limit is None:
        return 64
    config = dataclasses.replace(setup.config, batch_size=PROBE * mesh.size)
    task = task_of(config)
    state = local_bytes(abstract_state(config, task, mesh))
    free = limit - 1.5 * state  # gradients, and kernels in the compute type
    batch = local_bytes(batch_shapes(config, task, mesh))
    row = (activation_bytes(config, task, mesh) + batch) / PROBE
    return 2 ** max(0, math.floor(math.log2(max(1.0, free / row))))


def attempt(
    setup: Setup, mesh: Mesh, size: int, parts: int, reached: float, deterministic: bool = False
) -> dict:
    """Compiles and times one step; `reached` is the measured rate of matrix products."""
    batch_size = size * parts * mesh.size
    config = dataclasses.replace(setup.config, batch_size=batch_size, rows_per_device=size)
    row = dict.fromkeys(KEYS) | {"rows": size, "micro_batches": parts, "batch_size": batch_size}
    row["deterministic"] = deterministic
    return row | fits(_timed, config, mesh, setup.repeats, reached, deterministic)


@functools.lru_cache(maxsize=4)
def compiled_step(config: Run, mesh: Mesh, deterministic: bool = False) -> Program:
    """The step, compiled; kept, for the section on kernels runs the largest one again."""
    start = time.monotonic()
    task = task_of(config)
    step = make_train_step(config, task, mesh)
    traced = step.trace(abstract_state(config, task, mesh), batch_shapes(config, task, mesh))
    compiled = traced.lower().compile({OPTION: True} if deterministic else None)
    return Program(compiled, time.monotonic() - start)


def _timed(
    config: Run, mesh: Mesh, repeats: int, reached: float, deterministic: bool = False
) -> dict:
    # Called as the section on kernels calls it, which finds it then.
    program = compiled_step(config, mesh, *[True] * deterministic)
    device = mesh.local_devices[0]
    before = _peak(device)
    task = task_of(config)
    batch = random_batch(config, task, mesh)
    state = init_state(config, task, mesh)

    def step():
        nonlocal state
        state, _ = program.compiled(state, batch)
        return state

    seconds = median_seconds(step, repeats, warm_up=2)
    peak = _peak(device)
    # What the model needs, without what is computed twice.
    needed = model_flops(config, task, mesh)
    rate, sheet = needed / seconds, datasheet(device.device_kind)
    return {
        "compile_seconds": program.seconds,
        "step_seconds": seconds,
        "pairs_per_second": config.batch_size / seconds,
        "model_flops_per_second": rate,
        "utilization_datasheet": rate / sheet.flops if sheet else None,
        "utilization_measured": rate / reached,
        "program_bytes": program_bytes(program.compiled),
        "peak_bytes": peak if peak and peak > before else None,
    }


def _peak(device: jax.Device) -> int:
    """The most bytes that were ever in use, 0 where the device does not tell."""
    return memory_stats(device).get("peak_bytes_in_use", 0)
