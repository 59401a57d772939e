"""The training state and its optimiser."""

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from clapjax.models.clap import init_variables
from clapjax.training.config import OptimizerConfig, TrainConfig
from clapjax.training.mesh import replicated


@flax.struct.dataclass
class TrainState:
    """All that a step reads and writes; everything random comes from (seed, step)."""

    step: jax.Array  # () int32: steps done
    params: dict
    batch_stats: dict
    opt_state: optax.OptState


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Linear warm-up from 0, then cosine decay to 0 at `steps`."""
    warmup = min(config.warmup_steps, max(1, steps - 1))
    return optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, steps)


def decay_mask(params: dict) -> dict:
    """True for the parameters under weight decay: kernels and embedding tables."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key in ("kernel", "embedding"), params
    )


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """AdamW behind a global-norm clip."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            make_schedule(config, steps),
            b1=config.b1,
            b2=config.b2,
            eps=config.eps,
            weight_decay=config.weight_decay,
            mask=decay_mask,
        ),
    )


def init_state(config: TrainConfig, mesh: Mesh) -> TrainState:
    """A fresh state on the mesh; the same seed gives the same values on any mesh."""
    optimizer = make_optimizer(config.optimizer, config.steps)

    def init(key):
        variables = init_variables(config.model, key)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=variables["params"],
            batch_stats=variables["batch_stats"],
            opt_state=optimizer.init(variables["params"]),
        )

    return jax.jit(init, out_shardings=replicated(mesh))(jax.random.key(config.seed))
