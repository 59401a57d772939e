"""The training step: one pure function of (state, batch)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from clapjax.losses.clap import LossConfig, temporal_loss
from clapjax.losses.contrastive import make_contrastive
from clapjax.losses.laion import laion_loss
from clapjax.models.clap import MAX_LOG_SCALE, compute_dtype
from clapjax.training.config import TrainConfig
from clapjax.training.encoder import make_encoder
from clapjax.training.mesh import BATCH_AXES, batch_sharding, replicated, state_specs
from clapjax.training.optimizer import make_optimizer, make_schedule, stop_frozen
from clapjax.training.state import TrainState, abstract_state


def make_train_step(
    config: TrainConfig, mesh: Mesh
) -> Callable[[TrainState, dict], tuple[TrainState, dict]]:
    """The jitted step; the state is donated.

    Args:
      config: model, loss, optimiser and seed.
      mesh: where state and batch live.

    Returns:
      A function of (state, batch of `clapjax.data.pipeline.train_batches`) to (next state, metrics:
      float32 scalars loss, contrastive_loss, temporal_loss, temporal_accuracy, logit_scale,
      gradient_norm, learning_rate).
    """
    state = abstract_state(config, mesh)
    encode = make_encoder(config, mesh, state_specs(state.params, mesh, config.mesh))
    platform = mesh.devices.flat[0].platform
    dtype = compute_dtype(config.model, platform)
    # Dropout by a TPU's own generator costs it less time, and less to compile.
    generator = "rbg" if platform == "tpu" else "threefry2x32"
    contrastive = make_contrastive(config.loss, mesh, BATCH_AXES, dtype)
    optimizer = make_optimizer(config.optimizer, config.steps)
    schedule = make_schedule(config.optimizer, config.steps)

    def step(state: TrainState, batch: dict) -> tuple[TrainState, dict]:
        key = jax.random.fold_in(jax.random.key(config.seed, impl=generator), state.step)
        keys = jax.random.split(key)

        def objective(params):
            params = stop_frozen(config.optimizer, params)
            embeddings, batch_stats = encode(params, state.batch_stats, batch, keys)
            loss, metrics = _losses(config.loss, contrastive, embeddings, params, batch, state.step)
            return loss, (metrics, batch_stats)

        gradient, (metrics, batch_stats) = jax.grad(objective, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = _clamp_scales(optax.apply_updates(state.params, updates))
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


def _temporal_weight(config: LossConfig, step: jax.Array) -> jax.Array:
    """() float32: lambda, after its ramp."""
    ramp = jnp.minimum(1.0, step / max(1, config.temporal_ramp_steps))
    return config.temporal_weight * (ramp if config.temporal_ramp_steps else 1.0)


def _losses(
    config: LossConfig,
    contrastive: Callable[..., jax.Array],
    embeddings: dict[str, jax.Array],
    params: dict,
    batch: dict,
    step: jax.Array,
) -> tuple[jax.Array, dict]:
    """The objective and its parts, from the embeddings (B, D) of the global batch."""
    audio, text = embeddings["audio"], embeddings["text"]
    scale = jnp.exp(jnp.clip(params["logit_scale_a"], 0.0, MAX_LOG_SCALE))
    valid, negative = batch["has_negative"], embeddings.get("negative")
    arguments = {"groups": batch["events"] if config.mask_same_events else None}
    if config.kind == "sigmoid":
        arguments["bias"] = params["logit_bias"]
    if config.negatives != "none":
        arguments |= {"negative": negative, "valid": valid}
    if config.laion:
        transformed = None
        if config.mlp_loss:
            scale_t = jnp.exp(jnp.clip(params["logit_scale_t"], 0.0, MAX_LOG_SCALE))
            transformed = embeddings["audio_mlp"], embeddings["text_mlp"], scale_t
        loss = laion_loss(
            audio, text, scale, transformed=transformed, kappa=config.kappa, **arguments
        )
    else:
        loss = contrastive(audio, text, scale, **arguments)
    metrics = {"contrastive_loss": loss, "logit_scale": scale}
    if config.temporal_weight > 0:
        temporal = temporal_loss(audio, text, negative, valid, scale)
        right = jnp.sum(audio * (text - negative), axis=-1) > 0  # (B,)
        metrics |= {
            "temporal_loss": temporal,
            "temporal_accuracy": jnp.sum(right & valid) / jnp.maximum(valid.sum(), 1),
        }
        loss = loss + _temporal_weight(config, step) * temporal
    return loss, metrics | {"loss": loss}


def _clamp_scales(params: dict) -> dict:
    """Keeps both log scales in [0, ln 100], as LAION-CLAP does after each step."""
    clamped = {
        name: jnp.clip(params[name], 0.0, MAX_LOG_SCALE)
        for name in ("logit_scale_a", "logit_scale_t")
    }
    return {**params, **clamped}


def _average(most: float, state: TrainState, params: dict) -> dict | None:
    """The moving average after a step; its decay rises to `most`, lest it remembers the start."""
    if state.ema is None:
        return None
    decay = jnp.minimum(most, (1.0 + state.step) / (10.0 + state.step))
    return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state.ema, params)
