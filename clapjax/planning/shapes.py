"""What a step holds and computes, from shapes alone."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from clapjax.planning.flops import matrix_flops
from clapjax.tasks.task import Task
from clapjax.training.config import TrainConfig
from clapjax.training.mesh import BATCH_AXES, batch_sharding, micro_batches, state_specs
from clapjax.training.rows import make_rows
from clapjax.training.state import TrainState, abstract_state
from clapjax.training.step import make_train_step, setting

TOKENS = 20  # of a text, special ones included, where what is counted depends on it


def batch_shapes(config: TrainConfig, task: Task, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes and shardings of a task's batches on a mesh."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
        for name, (shape, dtype) in task.batch_shapes(config.batch_size).items()
    }


def local_bytes(tree) -> int:
    """Bytes on one device of a tree of `jax.ShapeDtypeStruct` with shardings."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )


def traced_step(config: TrainConfig, task: Task, mesh: Mesh) -> jax.stages.Traced:
    """The step for a mesh, traced but not compiled."""
    state, batch = abstract_state(config, task, mesh), batch_shapes(config, task, mesh)
    return make_train_step(config, task, mesh).trace(state, batch)


def text_turns(config: TrainConfig, task: Task, mesh: Mesh, tokens: float = TOKENS) -> int | None:
    """Turns of a task's loop over texts of so many tokens each; None: it has no such loop."""
    if task.turns is None:
        return None
    return task.turns(config.batch_size // mesh.size, setting(config, mesh), tokens)


def step_flops(config: TrainConfig, task: Task, mesh: Mesh, traced: jax.stages.Traced) -> int:
    """What one device computes in a traced step, of texts of TOKENS."""
    return matrix_flops(traced.jaxpr, mesh.size, text_turns(config, task, mesh))


def model_flops(config: TrainConfig, task: Task, mesh: Mesh) -> int:
    """What one device has to compute in a step: once each, however the memory is saved."""
    whole = dataclasses.replace(config, rows_per_device=0, remat="none")
    turns = text_turns(whole, task, mesh)
    return matrix_flops(traced_step(whole, task, mesh).jaxpr, mesh.size, turns, again=False)


def held_bytes(state: TrainState, batch: dict) -> dict[str, int]:
    """What stays on a device during a step: "parameters", "optimizer" and "batch"."""
    return {
        "parameters": local_bytes((state.params, state.batch_stats, state.ema)),
        "optimizer": local_bytes(state.opt_state),
        "batch": local_bytes(batch),
    }


def activation_bytes(config: TrainConfig, task: Task, mesh: Mesh) -> int:
    """What one device keeps of a (micro-)batch for the backward pass, before XLA saves on it."""
    rows = config.batch_size // mesh.size // micro_batches(config, mesh.size, task.group)
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
