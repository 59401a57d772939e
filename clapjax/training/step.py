"""The training step: one pure function of (state, batch)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from clapjax.tasks.task import Setting, Task
from clapjax.training.config import TrainConfig
from clapjax.training.mesh import batch_sharding, micro_batches, replicated, state_specs
from clapjax.training.optimizer import frozen_parts, make_optimizer, make_schedule, stop_frozen
from clapjax.training.rows import make_rows
from clapjax.training.state import TrainState, abstract_state


def setting(config: TrainConfig, mesh: Mesh) -> Setting:
    """Under what a run computes its task."""
    packing = {"packed_length": config.packed_length, "packed_rows": config.packed_rows}
    return Setting(mesh, config.remat, frozen_parts(config.optimizer), **packing)


def make_train_step(
    config: TrainConfig, task: Task, mesh: Mesh
) -> Callable[[TrainState, dict], tuple[TrainState, dict]]:
    """The jitted step; the state is donated.

    Args:
      config: optimiser, seed, rows_per_device, remat and packing.
      task: what is learned.
      mesh: where state and batch live.

    Returns:
      A function of (state, batch of the task) to (next state, metrics: float32 scalars loss,
      gradient_norm, learning_rate, and the task's own).
    """
    state, where = abstract_state(config, task, mesh), setting(config, mesh)
    specs = state_specs(state.params, mesh, config.mesh)
    rows = make_rows(task, where, specs, micro_batches(config, mesh.size, task.group))
    # Dropout by a generator of the device's own costs less time, and less to compile.
    generator = "threefry2x32" if where.platform == "cpu" else "rbg"
    optimizer = make_optimizer(config.optimizer, config.steps)
    schedule = make_schedule(config.optimizer, config.steps)

    def step(state: TrainState, batch: dict) -> tuple[TrainState, dict]:
        key = jax.random.fold_in(jax.random.key(config.seed, impl=generator), state.step)
        keys = jax.random.split(key)
        batch = task.mix(batch)

        def objective(params):
            params = stop_frozen(config.optimizer, params)
            outputs, batch_stats = rows(params, state.batch_stats, batch, keys)
            loss, metrics = task.objective(outputs, params, batch, state.step, where)
            return loss, (metrics | {"loss": loss}, batch_stats)

        gradient, (metrics, batch_stats) = jax.grad(objective, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = task.after_update(optax.apply_updates(state.params, updates))
        metrics |= {
            "gradient_norm": optax.tree.norm(gradient),
            "learning_rate": schedule(state.step),
        }
        ema = _average(config.optimizer.ema, state, params)
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema), metrics

    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    return jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
    )


def _average(most: float, state: TrainState, params: dict) -> dict | None:
    """The moving average after a step; its decay rises to `most`, lest it remembers the start."""
    if state.ema is None:
        return None
    decay = jnp.minimum(most, (1.0 + state.step) / (10.0 + state.step))
    return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state.ema, params)
