"""The training step: one pure function of (state, batch)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from clapjax.audio.mel import log_mel
from clapjax.losses.clap import LossConfig, contrastive_loss, temporal_loss
from clapjax.models.clap import MAX_LOG_SCALE, Clap, compute_dtype
from clapjax.training.config import TrainConfig
from clapjax.training.mesh import BATCH_SPEC, batch_sharding, replicated
from clapjax.training.state import TrainState, make_optimizer, make_schedule


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
    platform = mesh.devices.flat[0].platform
    model = Clap(config.model, compute_dtype(config.model, platform))
    optimizer = make_optimizer(config.optimizer, config.steps)
    schedule = make_schedule(config.optimizer, config.steps)
    # Under plain jit, a batch-sharded FFT gathers the batch on CPU and GPU.
    front_end = jax.shard_map(
        lambda audio: log_mel(audio, config.model.audio, double=False),
        mesh=mesh,
        in_specs=BATCH_SPEC,
        out_specs=BATCH_SPEC,
    )

    def step(state: TrainState, batch: dict) -> tuple[TrainState, dict]:
        augment_key, dropout_key = jax.random.split(
            jax.random.fold_in(jax.random.key(config.seed), state.step)
        )
        mel = front_end(batch["audio"])  # (B, F, M)

        def objective(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            ids, mask = _captions(batch, config.loss.temporal_weight > 0)
            (audio, text, scale, _), updates = model.apply(
                variables,
                mel,
                ids,
                mask,
                train=True,
                rngs={"augment": augment_key, "dropout": dropout_key},
                mutable=["batch_stats"],
            )
            weight = _temporal_weight(config.loss, state.step)
            groups = batch["events"] if config.loss.mask_same_events else None
            loss, metrics = _losses(audio, text, scale, batch["has_negative"], weight, groups)
            return loss, (metrics, updates["batch_stats"])

        gradient, (metrics, batch_stats) = jax.grad(objective, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = _clamp_scales(optax.apply_updates(state.params, updates))
        metrics |= {
            "gradient_norm": optax.tree.norm(gradient),
            "learning_rate": schedule(state.step),
        }
        return TrainState(state.step + 1, params, batch_stats, opt_state), metrics

    return jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(replicated(mesh), batch_sharding(mesh)),
        out_shardings=(replicated(mesh), replicated(mesh)),
    )


def _captions(batch: dict, negatives: bool) -> tuple[jax.Array, jax.Array]:
    """Token ids and mask: (B, L), or (2B, L) with the negatives behind the positives."""
    if not negatives:
        return batch["input_ids"], batch["mask"]
    return tuple(
        jnp.concatenate([batch[positive], batch[negative]])
        for positive, negative in (("input_ids", "negative_ids"), ("mask", "negative_mask"))
    )


def _temporal_weight(config: LossConfig, step: jax.Array) -> jax.Array:
    """() float32: lambda, after its ramp."""
    ramp = jnp.minimum(1.0, step / max(1, config.temporal_ramp_steps))
    return config.temporal_weight * (ramp if config.temporal_ramp_steps else 1.0)


def _losses(
    audio: jax.Array,
    text: jax.Array,
    scale: jax.Array,
    valid: jax.Array,
    weight: jax.Array,
    groups: jax.Array | None,
) -> tuple[jax.Array, dict]:
    """The objective and its parts; audio (B, D), text (B, D), or (2B, D) with negatives."""
    rows = audio.shape[0]
    loss = contrastive_loss(audio, text[:rows], scale, groups)
    metrics = {"contrastive_loss": loss, "logit_scale": scale}
    if text.shape[0] > rows:
        temporal = temporal_loss(audio, text[:rows], text[rows:], valid, scale)
        right = jnp.sum(audio * (text[:rows] - text[rows:]), axis=-1) > 0  # (B,)
        count = jnp.maximum(valid.sum(), 1)
        metrics |= {
            "temporal_loss": temporal,
            "temporal_accuracy": jnp.sum(right & valid) / count,
        }
        loss = loss + weight * temporal
    return loss, metrics | {"loss": loss}


def _clamp_scales(params: dict) -> dict:
    """Keeps both log scales in [0, ln 100], as LAION-CLAP does after each step."""
    clamped = {
        name: jnp.clip(params[name], 0.0, MAX_LOG_SCALE)
        for name in ("logit_scale_a", "logit_scale_t")
    }
    return {**params, **clamped}
