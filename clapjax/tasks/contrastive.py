"""Contrastive learning of sound and text: CLAP, with T-CLAP's temporal-focused loss."""

import functools

import jax
import jax.numpy as jnp

from clapjax.data.config import DataConfig
from clapjax.losses.config import LossConfig
from clapjax.losses.contrastive import make_contrastive
from clapjax.losses.laion import laion_loss
from clapjax.losses.pairs import GROUP, joined, joined_groups, of_slots, pair_loss
from clapjax.losses.plain import temporal_loss
from clapjax.models.clap import (
    MAX_LOG_SCALE,
    Clap,
    cast_kernels,
    compute_dtype,
    embed_clip,
    init_variables,
)
from clapjax.models.config import ClapConfig
from clapjax.tasks.front_end import front_end, sound_shape
from clapjax.tasks.task import Setting, Task
from clapjax.tasks.texts import (
    FROM_MODEL,
    adapt_to_tokenizer,
    draw_texts,
    keep_tokenizer,
    tokenised,
    workdir_tokenizer,
)


def contrastive(model: ClapConfig, loss: LossConfig, data: DataConfig, tokenizer=None) -> Task:
    """The task; without a tokenizer it has the model's vocabulary, and no batches can be made.

    Rows are the unit-length embeddings (B, D) float32 "audio", "text", "negative" where the loss
    wants captions in a wrong order, (M, D) "reverse" where it wants sounds in one, and with second
    heads "audio_mlp", "text_mlp", "negative_mlp", as they come. Metrics are loss, contrastive_loss,
    logit_scale, and where it is on temporal_loss and temporal_accuracy, NaN in a batch without
    captions in a wrong order. `forward` has "audio" of (waveform, lengths) and "text" of (ids,
    mask).

    Args:
      model: for the vocabulary see `tokenizer`.
      loss: the objective.
      data: which captions count, and the name of the tokenizer.
      tokenizer: of which the model takes the size of the vocabulary, unless it is the model's own
        (FROM_MODEL); a workdir keeps that one.

    Raises:
      ValueError: a loss that does not go with the model.
    """
    check(model, loss)
    if tokenizer is not None and data.tokenizer != FROM_MODEL:
        model = adapt_to_tokenizer(model, tokenizer)
    return Task(
        audio=model.audio,
        init=functools.partial(init_variables, model),
        rows=functools.partial(_rows, model, bool(needs_negatives(loss)), bool(loss.order_pairs)),
        objective=functools.partial(_objective, model, loss),
        features=functools.partial(
            draw_texts, data.text_augment_selection, pairs=bool(loss.order_pairs)
        ),
        draws=2,
        group=GROUP if loss.order_pairs else 1,
        reverses=loss.order_pairs,
        collate=functools.partial(tokenised, tokenizer, model.text.max_length),
        batch_shapes=functools.partial(_batch_shapes, model, loss.order_pairs, data.audio),
        dtype=functools.partial(compute_dtype, model),
        after_update=_clamp_scales,
        forward={
            "audio": functools.partial(_embed_audio, model),
            "text": functools.partial(_embed_text, model),
        },
        keep=functools.partial(keep_tokenizer, data.tokenizer, tokenizer),
        opened=lambda workdir: contrastive(
            model, loss, data, workdir_tokenizer(data.tokenizer, workdir)
        ),
    )


def check(model: ClapConfig, loss: LossConfig) -> None:
    """Raises ValueError where a loss does not go with a model."""
    if loss.mlp_loss and not model.mlp_transforms:
        raise ValueError("loss.mlp_loss needs the second heads: set model.mlp_transforms")
    if (loss.kind == "sigmoid") != model.logit_bias:
        raise ValueError(
            "loss.kind=sigmoid and model.logit_bias=True go together: set both, or neither"
        )


def needs_negatives(loss: LossConfig) -> dict:
    """Fields of a loss that look at captions in a wrong order, with the values that do not."""
    off = {"temporal_weight": 0, "negatives": "none", "order_pairs": 0}
    return {name: value for name, value in off.items() if getattr(loss, name) != value}


def _batch_shapes(model: ClapConfig, pairs: int, kind: str, rows: int) -> dict:
    tokens = ("input_ids", "mask", "negative_ids", "negative_mask")
    shapes = {
        "audio": sound_shape(model.audio, kind, rows),
        "has_negative": ((rows,), jnp.bool_),
        "events": ((rows,), jnp.int32),
    } | {name: ((rows, model.text.max_length), jnp.int32) for name in tokens}
    if pairs:
        slots = rows // GROUP * pairs
        shapes |= {
            "reverse_audio": sound_shape(model.audio, kind, slots),
            "reverse_row": ((slots,), jnp.int32),
            "reverse_events": ((rows,), jnp.int32),
        }
    return shapes


# --- both towers ----------------------------------------------------------------------------


def _rows(
    config: ClapConfig,
    negatives: bool,
    pairs: bool,
    variables: dict,
    batch: dict,
    keys,
    setting: Setting,
) -> tuple[dict, dict]:
    """Waveforms and token ids to embeddings, and the next batch statistics."""
    dtype, (augment_key, dropout_key) = compute_dtype(config, setting.platform), keys
    model = Clap(
        config,
        dtype,
        setting.remat,
        platform=setting.platform,
        audio_frozen=setting.layers("audio_encoder"),
        text_frozen=setting.layers("text_encoder"),
    )
    ids, mask = _captions(batch, negatives)
    waveform, lengths = batch["audio"], batch.get("lengths")
    if pairs:
        waveform = jnp.concatenate([waveform, batch["reverse_audio"]])
        if lengths is not None:
            lengths = jnp.concatenate([lengths, batch["reverse_lengths"]])
    (audio, text, *second), updates = model.apply(
        {**variables, "params": cast_kernels(variables["params"], dtype)},
        ids,
        mask,
        front_end(config, waveform, lengths, key=augment_key),
        setting,
        method=_towers,
        rngs={"augment": augment_key, "dropout": dropout_key},
        mutable=["batch_stats"],
    )
    rows = len(batch["audio"])
    named = _named(rows, audio, text, "")
    if second:
        named |= _named(rows, *second, "_mlp")
    return named, updates["batch_stats"]


def _towers(model: Clap, ids, mask, mels: dict, setting: Setting) -> tuple[jax.Array, ...]:
    """Both towers in training, frozen parts as in evaluation."""
    moves = {
        name: not setting.still(name)
        for name in ("audio_encoder", "text_encoder", "audio_transform", "text_transform")
    }
    audio = model.audio(train=moves["audio_encoder"], **mels)
    text = model.text(ids, mask, moves["text_encoder"])
    if not model.config.mlp_transforms:
        return audio, text
    heads = (
        model.audio_transform(audio, not moves["audio_transform"]),
        model.text_transform(text, not moves["text_transform"]),
    )
    return audio, text, *(x.astype(jnp.float32) for x in heads)


def _captions(batch: dict, negatives: bool) -> tuple[jax.Array, jax.Array]:
    """Token ids and mask: (B, L), or (2B, L) with the negatives behind the positives."""
    if not negatives:
        return batch["input_ids"], batch["mask"]
    return tuple(
        jnp.concatenate([batch[positive], batch[negative]])
        for positive, negative in (("input_ids", "negative_ids"), ("mask", "negative_mask"))
    )


def _named(rows: int, audio: jax.Array, text: jax.Array, suffix: str) -> dict[str, jax.Array]:
    """Embeddings by name; behind those of B rows, text has the negatives, audio the reverses."""
    named = {"audio": audio[:rows], "text": text[:rows]}
    if text.shape[0] > rows:
        named["negative"] = text[rows:]
    if audio.shape[0] > rows:
        named["reverse"] = audio[rows:]
    return {name + suffix: x for name, x in named.items()}


def _embed_audio(config: ClapConfig, variables: dict, waveform, lengths, setting: Setting):
    """(B, T) waveforms and (B,) lengths to (B, D)."""
    dtype = compute_dtype(config, setting.platform)
    variables = {**variables, "params": cast_kernels(variables["params"], dtype)}
    double = setting.platform != "tpu"
    model = Clap(config, dtype, platform=setting.platform)
    return embed_clip(model, double, variables, waveform, lengths)


def _embed_text(config: ClapConfig, variables: dict, ids, mask, setting: Setting):
    """(B, L) token ids and mask to (B, D)."""
    dtype = compute_dtype(config, setting.platform)
    variables = {**variables, "params": cast_kernels(variables["params"], dtype)}
    model = Clap(config, dtype, platform=setting.platform)
    return model.apply(variables, ids, mask, method="text")


# --- objective ------------------------------------------------------------------------------


def _objective(
    model: ClapConfig,
    config: LossConfig,
    embeddings: dict[str, jax.Array],
    params: dict,
    batch: dict,
    step: jax.Array,
    setting: Setting,
) -> tuple[jax.Array, dict]:
    """The objective and its parts, from the embeddings (N, D) of the global batch."""
    scale = jnp.exp(jnp.clip(params["logit_scale_a"], 0.0, MAX_LOG_SCALE))
    loss = _contrastive_loss(model, config, embeddings, params, batch, scale, setting)
    metrics = {"contrastive_loss": loss, "logit_scale": scale}
    if config.temporal_weight > 0:
        audio, text, negative = (embeddings[name] for name in ("audio", "text", "negative"))
        valid = batch["has_negative"]
        if config.order_pairs:
            more = embeddings["reverse"], batch["reverse_row"]
            temporal = pair_loss(audio, text, negative, valid, *more, scale)
        else:
            temporal = temporal_loss(audio, text, negative, valid, scale)
        right = jnp.sum(audio * (text - negative), axis=-1) > 0  # (N,)
        count = valid.sum()
        metrics |= {
            "temporal_loss": jnp.where(count > 0, temporal, jnp.nan),
            "temporal_accuracy": jnp.sum(right & valid) / count,  # NaN where there is none
        }
        loss = loss + _temporal_weight(config, step) * temporal
    return loss, metrics


def _contrastive_loss(
    model: ClapConfig,
    config: LossConfig,
    embeddings: dict[str, jax.Array],
    params: dict,
    batch: dict,
    scale: jax.Array,
    setting: Setting,
) -> jax.Array:
    """The contrastive part, over N rows and with order pairs M slots."""
    mesh = setting.mesh
    loss_of = make_contrastive(
        config, mesh, mesh.axis_names, compute_dtype(model, setting.platform)
    )
    audio, text, negative = embeddings["audio"], embeddings["text"], embeddings.get("negative")
    arguments = {"groups": batch["events"] if config.mask_same_events else None}
    if config.kind == "sigmoid":
        arguments["bias"] = params["logit_bias"]
    if config.negatives != "none":
        arguments |= {"negative": negative, "valid": batch["has_negative"]}
    if config.laion:
        transformed = None
        if config.mlp_loss:
            scale_t = jnp.exp(jnp.clip(params["logit_scale_t"], 0.0, MAX_LOG_SCALE))
            transformed = embeddings["audio_mlp"], embeddings["text_mlp"], scale_t
        return laion_loss(
            audio, text, scale, transformed=transformed, kappa=config.kappa, **arguments
        )
    if not config.order_pairs:
        return loss_of(audio, text, scale, **arguments)
    slots = batch["reverse_row"]
    audio = joined(audio, embeddings["reverse"])  # (N + M, D)
    text = joined(text, of_slots(negative, slots))
    arguments["groups"] = joined_groups(arguments["groups"], batch["reverse_events"], slots)
    there = jnp.sum(arguments["groups"] >= 0)  # an empty slot costs 0, and is counted
    return len(audio) / there * loss_of(audio, text, scale, **arguments)


def _temporal_weight(config: LossConfig, step: jax.Array) -> jax.Array:
    """() float32: lambda, after its ramp."""
    ramp = jnp.minimum(1.0, step / max(1, config.temporal_ramp_steps))
    return config.temporal_weight * (ramp if config.temporal_ramp_steps else 1.0)


def _clamp_scales(params: dict) -> dict:
    """Keeps both log scales in [0, ln 100], as LAION-CLAP does after each step."""
    clamped = {
        name: jnp.clip(params[name], 0.0, MAX_LOG_SCALE)
        for name in ("logit_scale_a", "logit_scale_t")
    }
    return {**params, **clamped}
