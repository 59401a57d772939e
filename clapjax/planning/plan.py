"""What a training step needs, before a chip is rented: memory, FLOPs, exchanges, time.

The real step of a config is compiled for a TPU topology by XLA's own compiler, on any machine.
"""

import dataclasses
import math
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh

from clapjax.planning.flops import matrix_flops
from clapjax.planning.hlo import collectives, memory_traffic
from clapjax.tasks.task import Task
from clapjax.training.config import TrainConfig
from clapjax.training.mesh import (
    BATCH_AXES,
    batch_sharding,
    make_mesh,
    micro_batches,
    state_specs,
)
from clapjax.training.rows import make_rows
from clapjax.training.state import abstract_state
from clapjax.training.step import make_train_step, setting


@dataclass(frozen=True)
class Chip:
    """Peak rates of one JAX device, from cloud.google.com/tpu/docs/system-architecture-tpu-vm."""

    flops: float  # bfloat16, per second
    memory: float  # bytes per second of HBM
    links: float  # bytes per second that all its interconnects send


CHIPS = {
    "TPU v2": Chip(22.5e12, 350e9, 62e9),
    "TPU v3": Chip(61.5e12, 450e9, 82e9),
    "TPU v4": Chip(275e12, 1228e9, 300e9),
    "TPU v5 lite": Chip(197e12, 819e9, 200e9),
    "TPU v5": Chip(459e12, 2765e9, 600e9),
    "TPU v6 lite": Chip(918e12, 1640e9, 448e9),
    "TPU7x": Chip(1153e12, 3690e9, 600e9),
}


def topology_mesh(config: TrainConfig, topology: str) -> Mesh:
    """The config's mesh over the devices of a TPU topology, none of which needs to exist.

    Args:
      config: for its mesh.
      topology: as "v5e:16x16".

    Raises:
      ValueError: no such topology, or one that the mesh's axes do not multiply to.
      ModuleNotFoundError: libtpu, the compiler, is not installed.
    """
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # else libtpu looks for a TPU's metadata
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # it is not going to touch a TPU
    try:
        import libtpu  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "--topology needs libtpu, XLA's compiler for TPUs: pip install libtpu (into an "
            'environment of its own, or set JAX_PLATFORMS=cpu; pip install "clapjax[tpu]" has it)',
            name="libtpu",
        ) from error
    try:
        devices = topologies.get_topology_desc(topology, platform="tpu").devices
    except (jax.errors.JaxRuntimeError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"no topology {topology!r}, which looks like v5e:16x16 ({reason})"
        ) from error
    return make_mesh(config.mesh, devices)


def batch_shapes(config: TrainConfig, task: Task, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes and shardings of a task's batches on a mesh."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
        for name, (shape, dtype) in task.batch_shapes(config.batch_size).items()
    }


def plan(config: TrainConfig, task: Task, topology: str) -> dict:
    """Compiles a config's step for a topology.

    Args:
      config: the run.
      task: what is learned.
      topology: as "v5e:16x16".

    Returns:
      A dict for JSON, with numbers per device: "fits", "hbm_bytes_per_device" (what the program
      takes), "hbm_limit_bytes", "memory" (its parts), "flops", "model_flops" (without what is
      computed twice), "collectives" (by kind: count and bytes of a step), "roofline" (seconds, and
      the utilisation of model FLOPs at that pace), "advice" where it does not fit,
      "compile_seconds".

    Raises:
      ValueError: no such topology, or the batch does not divide among its devices.
      ModuleNotFoundError: libtpu is not installed.
    """
    mesh = topology_mesh(config, topology)
    parts = micro_batches(config, mesh.size)
    start = time.monotonic()
    state, batch = abstract_state(config, task, mesh), batch_shapes(config, task, mesh)
    traced = make_train_step(config, task, mesh).trace(state, batch)
    kind = mesh.devices.flat[0].device_kind
    report = {
        "topology": topology,
        "device": kind,
        "devices": mesh.size,
        "batch_size": config.batch_size,
        "micro_batches": parts,
        "rows_per_micro_batch": config.batch_size // mesh.size // parts,
        "remat": config.remat,
        "mesh": dict(mesh.shape),
        "memory": {
            "parameters": local_bytes((state.params, state.batch_stats, state.ema)),
            "optimizer": local_bytes(state.opt_state),
            "batch": local_bytes(batch),
            "activations": activation_bytes(config, task, mesh),
        },
        "flops": matrix_flops(traced.jaxpr, mesh.size),
        "model_flops": model_flops(config, task, mesh),
    }
    report["hbm_limit_bytes"] = memory_limit(mesh)
    text = None
    try:
        compiled = traced.lower().compile()
        used = compiled.memory_analysis()
        report["memory"]["temporaries"] = used.temp_size_in_bytes
        report["hbm_bytes_per_device"] = (
            used.argument_size_in_bytes
            + used.output_size_in_bytes
            - used.alias_size_in_bytes
            + used.temp_size_in_bytes
            + used.generated_code_size_in_bytes
        )
        text = compiled.as_text()
    except jax.errors.JaxRuntimeError as error:
        taken, _ = _out_of_memory(error)
        held = sum(report["memory"][name] for name in ("parameters", "optimizer", "batch"))
        report["hbm_bytes_per_device"] = max(taken, held)
        report["memory"]["temporaries"] = max(0, taken - held)
    report["fits"] = text is not None and (
        report["hbm_bytes_per_device"] <= report["hbm_limit_bytes"]
    )
    report["compile_seconds"] = round(time.monotonic() - start, 1)
    if text is not None:
        report["collectives"] = exchanges(text)
        report["roofline"] = _roofline(report, text, CHIPS.get(kind))
    report["advice"] = [] if report["fits"] else advice(config, report)
    return report


def local_bytes(tree) -> int:
    """Bytes on one device of a tree of `jax.ShapeDtypeStruct` with shardings."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )


def activation_bytes(config: TrainConfig, task: Task, mesh: Mesh) -> int:
    """What one device keeps of a (micro-)batch for the backward pass, before XLA saves on it."""
    rows = config.batch_size // mesh.size // micro_batches(config, mesh.size)
    one = Mesh(mesh.devices.reshape(-1)[:1].reshape(1, 1), BATCH_AXES)
    part = dataclasses.replace(config, batch_size=rows, rows_per_device=0)
    state, batch = abstract_state(part, task, one), batch_shapes(part, task, one)
    rows_of = make_rows(task, setting(part, one), state_specs(state.params, one, part.mesh))
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0)))

    def residuals(params, batch_stats, batch, keys):
        return jax.vjp(lambda p: rows_of(p, batch_stats, batch, keys)[0], params)[1]

    kept = jax.tree.leaves(jax.eval_shape(residuals, state.params, state.batch_stats, batch, keys))
    held = math.fsum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state.params))
    return max(0, int(sum(_size(x) for x in kept) - held))  # the parameters are among them


def _size(x) -> int:
    itemsize = 4 if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x.dtype.itemsize
    return x.size * itemsize


def model_flops(config: TrainConfig, task: Task, mesh: Mesh) -> int:
    """What one device has to compute in a step: once each, however the memory is saved."""
    whole = dataclasses.replace(config, rows_per_device=0, remat="none")
    traced = make_train_step(whole, task, mesh).trace(
        abstract_state(whole, task, mesh), batch_shapes(whole, task, mesh)
    )
    return matrix_flops(traced.jaxpr, mesh.size)


def memory_limit(mesh: Mesh) -> int:
    """Bytes that a program may take on a device of a topology; the compiler knows."""
    one = jax.sharding.SingleDeviceSharding(mesh.devices.flat[0])
    huge = jax.ShapeDtypeStruct((2**42,), jnp.int8, sharding=one)
    try:
        jax.jit(lambda x: x + 1).trace(huge).lower().compile()
    except jax.errors.JaxRuntimeError as error:
        return _out_of_memory(error)[1]
    raise AssertionError("a program of 8 TiB compiled")


def _out_of_memory(error: Exception) -> tuple[int, int]:
    """(bytes taken, bytes there are) of the compiler's complaint; another error goes on."""
    size = r"([\d.]+)([KMGTP]?)"
    match = re.search(rf"Used {size} of {size} hbm", str(error)) or re.search(
        rf"temporaries \({size}\) exceeds available HBM \({size}\)", str(error)
    )
    if match is None:
        raise error
    unit = {"": 1} | {letter: 2 ** (10 * power) for power, letter in enumerate("KMGTP", 1)}
    taken, taken_unit, limit, limit_unit = match.groups()
    return int(float(taken) * unit[taken_unit]), int(float(limit) * unit[limit_unit])


def exchanges(text: str) -> dict[str, dict[str, int]]:
    """Collectives of a compiled module's `as_text()`: {kind: {"count", "bytes"} of a run}."""
    kinds: dict[str, dict[str, int]] = {}
    for x in collectives(text):
        row = kinds.setdefault(x.kind, {"count": 0, "bytes": 0})
        row["count"] += x.times
        row["bytes"] += x.times * x.bytes
    return kinds


def _roofline(report: dict, text: str, chip: Chip | None) -> dict | None:
    """Least seconds of a step, if nothing waited: the slowest of the chip's three engines."""
    if chip is None:
        return None
    # An all-reduce sends its bytes twice around; a reduce-scatter n times its result.
    factor = {"all-reduce": 2, "reduce-scatter": report["mesh"]["fsdp"]}
    sent = sum(factor.get(kind, 1) * x["bytes"] for kind, x in report["collectives"].items())
    seconds = {
        "compute_seconds": report["flops"] / chip.flops,
        "memory_seconds": memory_traffic(text) / chip.memory,
        "exchange_seconds": sent / chip.links,
    }
    step = max(seconds.values())
    utilization = report["model_flops"] / step / chip.flops
    return seconds | {
        "step_seconds": step,
        "clips_per_second": report["batch_size"] / step,
        "model_flops_utilization": utilization,
    }


def advice(config: TrainConfig, report: dict) -> list[str]:
    """What to change where a step does not fit, most useful first."""
    memory, limit = report["memory"], report["hbm_limit_bytes"]
    state = memory["parameters"] + memory["optimizer"]
    rows = report["rows_per_micro_batch"]
    found = []
    if memory["temporaries"] + memory["batch"] > limit - state and rows > 1:
        # What a part takes shrinks with its rows; the next power of two that leaves a tenth free.
        over = memory["temporaries"] / max(1, 0.9 * (limit - state - memory["batch"]))
        parts = 2 ** max(1, math.ceil(math.log2(max(over, 1))))
        while rows % parts and parts < rows:
            parts *= 2
        found.append(f"--config.rows_per_device={rows // min(parts, rows)}")
    if config.remat != "full":
        found.append("--config.remat=full")
    if state > limit / 4 and config.mesh.fsdp < report["devices"]:
        found.append(f"--config.mesh.fsdp={min(8, report['devices'])}")
    return found or ["a smaller --config.batch_size, or more devices"]


def largest_batch(
    config: TrainConfig, task: Task, topology: str, shown: Callable[[dict], None]
) -> dict | None:
    """Doubles the batch while it fits, or halves it until it does.

    Args:
      config, task, topology: as for `plan`; it starts at config.batch_size.
      shown: called with each plan.

    Returns:
      The plan of the largest batch that fits; None where not even one row a device does.
    """
    best, size, grows = None, config.batch_size, None
    while size >= 1:
        tried = dataclasses.replace(config, batch_size=size)
        try:
            report = plan(tried, task, topology)
        except ValueError:
            if best is None and grows is None:
                raise  # the batch that was asked for
            return best
        shown(report)
        if grows is None:
            grows = report["fits"]
        if report["fits"]:
            best = report
        if report["fits"] != grows or (report["fits"] and not grows):
            return best
        size = size * 2 if grows else size // 2
    return best
