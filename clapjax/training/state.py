"""The training state: what a step reads and writes, and how it begins."""

import sys
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from clapjax.tasks.task import Task
from clapjax.training import distributed
from clapjax.training.config import TrainConfig
from clapjax.training.mesh import state_shardings
from clapjax.training.optimizer import make_optimizer


@flax.struct.dataclass
class TrainState:
    """All that a step reads and writes; everything random comes from (seed, step)."""

    step: jax.Array  # () int32: steps done
    params: dict
    batch_stats: dict
    opt_state: optax.OptState
    ema: dict | None = None  # moving average of params, where it is on

    def variables(self) -> dict:
        """{"params", "batch_stats"} of the model as it stands: averaged where that is on."""
        params = self.params if self.ema is None else self.ema
        return {"params": params, "batch_stats": self.batch_stats}


def init_state(config: TrainConfig, task: Task, mesh: Mesh) -> TrainState:
    """A fresh state on the mesh; the same seed gives the same values on any mesh."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(config, task, mesh))
    # The seed is an argument, lest XLA draws all parameters as constants while it compiles.
    draw = jax.jit(lambda seed: _fresh(config, task, seed), out_shardings=shardings)
    return draw(np.int32(config.seed))


def abstract_state(config: TrainConfig, task: Task, mesh: Mesh) -> TrainState:
    """The shapes, types and shardings of `init_state`; nothing is computed."""
    shapes = jax.eval_shape(lambda: _fresh(config, task, 0))
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        state_shardings(shapes, mesh, config.mesh),
    )


def _fresh(config: TrainConfig, task: Task, seed: int | jax.Array) -> TrainState:
    variables = task.init(jax.random.key(seed))
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=make_optimizer(config.optimizer, config.steps).init(params),
        ema=params if config.optimizer.ema else None,
    )


def start_from(state: TrainState, variables: dict) -> tuple[TrainState, list[str]]:
    """Puts another model's variables into a fresh state.

    Args:
      state: of `init_state`.
      variables: {"params", "batch_stats"} of arrays; parts of them may be missing.

    Returns:
      (the state, paths of the parameters that stayed as they were drawn).

    Raises:
      ValueError: no variable fits, there is one that this model has not, or one has another shape.
    """
    new, problems = [], []

    def flat(tree) -> dict:
        leaves = jax.tree.leaves_with_path(tree)
        return {"/".join(key.key for key in path): leaf for path, leaf in leaves}

    given = {"params": flat(variables["params"]), "stats": flat(variables.get("batch_stats", {}))}

    def fill(kind, tree):
        left = dict(given[kind])

        def leaf(path, old):
            name = "/".join(key.key for key in path)
            value = left.pop(name, None)
            if value is None:
                if kind == "params":
                    new.append(name)
                return old
            if np.shape(value) != old.shape:
                problems.append(f"{name} is {np.shape(value)}, not {old.shape}")
                return old
            value = np.asarray(value, old.dtype)
            return jax.make_array_from_callback(old.shape, old.sharding, lambda index: value[index])

        filled = jax.tree_util.tree_map_with_path(leaf, tree)
        problems.extend(f"{name} is not in this model" for name in left)
        return filled

    params, batch_stats = fill("params", state.params), fill("stats", state.batch_stats)
    if not given["params"]:
        problems.append("it has no parameters")
    if problems:
        shown = "; ".join(problems[:3]) + ("; ..." if len(problems) > 3 else "")
        raise ValueError(f"init_from: the model does not fit this config: {shown}")
    ema = None if state.ema is None else jax.tree.map(jnp.copy, params)
    return state.replace(params=params, batch_stats=batch_stats, ema=ema), new


def load_into(state: TrainState, source: str, load: Callable[[str], dict] | None) -> TrainState:
    """`start_from` of what `load` makes of `source`, with a line that says what stays new."""
    if load is None:
        raise ValueError("init_from is set, but train() was given nothing to load it with")
    state, new = start_from(state, load(source))
    if distributed.is_main():
        kept = f", but {len(new)} parameters are new: {', '.join(new[:5])}" if new else ""
        print(f"starts from {source}{kept}", file=sys.stderr, flush=True)
    return state
