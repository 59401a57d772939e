"""A step's memory counted in its trace, for devices whose compiler is not here."""

import dataclasses
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from clapjax.planning.chips import GIB, Hardware, datasheet
from clapjax.planning.liveness import peak_bytes
from clapjax.planning.shapes import (
    batch_shapes,
    held_bytes,
    local_bytes,
    model_flops,
    step_flops,
    traced_step,
)
from clapjax.tasks.task import Task
from clapjax.training.config import MeshConfig, TrainConfig
from clapjax.training.mesh import BATCH_AXES, make_mesh, micro_batches, state_specs
from clapjax.training.rows import make_rows
from clapjax.training.state import abstract_state
from clapjax.training.step import setting

# What a compiled program takes beyond what is counted: more of the same for layouts and copies, and
# its code. By the full-size programs that docs/planning.md compares; of rows that are encoded in
# parts XLA keeps more.
MARGIN, MARGIN_IN_PARTS = 1.15, 1.4
CODE = int(1.5 * GIB)


@dataclass(frozen=True)
class Absent:
    """A device that is not here; a trace looks at no more of it."""

    id: int
    platform: str
    device_kind: str
    slice_index: int
    process_index: int = 0


def absent_mesh(config: MeshConfig, devices: Hardware) -> Mesh:
    """The config's mesh over devices none of which needs to exist, for traces only.

    Raises:
      ValueError: the axes do not multiply to the number of devices.
    """

    def absent(platform: str) -> list[Absent]:
        each = devices.devices // devices.slices
        return [Absent(i, platform, devices.kind, i // each) for i in range(devices.devices)]

    # As GPUs first: where a TPU lies in its slice is known to libtpu alone, and nothing to a trace.
    shape = make_mesh(config, absent("gpu")).devices.shape
    those = absent(devices.platform)
    return Mesh(np.array(those).reshape(shape), BATCH_AXES, axis_types=(AxisType.Auto,) * 2)


def counted(config: TrainConfig, make_task: Callable, devices: Hardware) -> dict:
    """Counts the memory of a config's step; a part of the report of `plan.plan`.

    Raises:
      ValueError: the mesh or the batch does not divide among the devices.
    """
    start = time.monotonic()
    mesh = absent_mesh(config.mesh, devices)
    task = make_task(config)
    memory = held_bytes(abstract_state(config, task, mesh), batch_shapes(config, task, mesh))
    margin = MARGIN if micro_batches(config, mesh.size, task.group) == 1 else MARGIN_IN_PARTS
    memory["temporaries"] = int(margin * temporaries(config, make_task, mesh)) + CODE
    return {
        "how": "counted",
        "mesh": dict(mesh.shape),
        "memory": memory,
        "bytes": sum(memory.values()),
        "fits": sum(memory.values()) <= devices.bytes,
        "seconds": round(time.monotonic() - start, 1),
    }


def counted_flops(config: TrainConfig, make_task: Callable, devices: Hardware) -> dict:
    """Counts its FLOPs; another part of the report."""
    task = make_task(config)
    mesh = absent_mesh(config.mesh, devices)
    flops = step_flops(config, task, mesh, traced_step(config, task, mesh))
    return {
        "flops": flops,
        "model_flops": model_flops(config, task, mesh),
        "roofline": {"compute_seconds": flops / datasheet(devices.kind).flops},
    }


def temporaries(config: TrainConfig, make_task: Callable, mesh: Mesh) -> int:
    """Bytes that a device holds at most beside its state and its batch."""
    alone = dataclasses.replace(
        config, batch_size=config.batch_size // mesh.size, mesh=MeshConfig()
    )
    found = _alone_bytes(alone, make_task, mesh.devices.flat[0].platform)
    if mesh.size == 1:
        return found
    task = make_task(config)
    if mesh.shape["fsdp"] > 1:  # split parameters are gathered
        found += sum(
            x.size * x.dtype.itemsize
            for x in jax.tree.leaves(abstract_state(config, task, mesh).params)
        )
    return found + _objective_bytes(config, task, mesh)


@functools.lru_cache
def _alone_bytes(config: TrainConfig, make_task: Callable, platform: str) -> int:
    """What a device does with its rows, as if it were alone: the loss over them alone, too."""
    one = Absent(0, platform, "", 0)
    mesh = Mesh(np.array([[one]]), BATCH_AXES, axis_types=(AxisType.Auto,) * 2)
    task = make_task(config)
    state, batch = abstract_state(config, task, mesh), batch_shapes(config, task, mesh)
    peak = peak_bytes(traced_step(config, task, mesh).jaxpr, len(jax.tree.leaves(state)))
    return peak - local_bytes((state, batch))


def _objective_bytes(config: TrainConfig, task: Task, mesh: Mesh) -> int:
    """What the loss over all devices' rows, with its gradient, takes on one of them."""
    where = setting(config, mesh)
    state, batch = abstract_state(config, task, mesh), batch_shapes(config, task, mesh)
    rows_of = make_rows(task, where, state_specs(state.params, mesh, config.mesh))
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0)))
    outputs, _ = jax.eval_shape(rows_of, state.params, state.batch_stats, batch, keys)

    def gradient(outputs, params, batch, step):
        return jax.grad(lambda x: task.objective(x, params, batch, step, where)[0])(outputs)

    traced = jax.jit(gradient).trace(outputs, state.params, batch, state.step)
    arguments = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((state.params, batch)))
    return max(0, peak_bytes(traced.jaxpr, devices=mesh.size) - arguments // mesh.size)
