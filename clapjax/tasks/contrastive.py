"""Contrastive learning of sound and text: CLAP, with T-CLAP's temporal-focused loss."""

import dataclasses
import functools
import math

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
from clapjax.models.packing import Packing, Sizes, encoded, pack, packed_sizes
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
        rows=functools.partial(_rows, model, bool(loss.order_pairs)),
        beside=functools.partial(_texts, model, bool(needs_negatives(loss))),
        turns=functools.partial(_turns, model, bool(needs_negatives(loss))),
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
            f"loss.kind={loss.kind} wants model.logit_bias={loss.kind == 'sigmoid'}, which is "
            f"{model.logit_bias}: the bias is of the sigmoid loss"
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
    config: ClapConfig, pairs: bool, variables: dict, batch: dict, keys, setting: Setting
) -> tuple[dict, dict]:
    """Waveforms to embeddings, and the next batch statistics."""
    dtype, (augment_key, dropout_key) = compute_dtype(config, setting.platform), keys
    waveform, lengths = batch["audio"], batch.get("lengths")
    if pairs:
        waveform = jnp.concatenate([waveform, batch["reverse_audio"]])
        if lengths is not None:
            lengths = jnp.concatenate([lengths, batch["reverse_lengths"]])
    (audio, *second), updates = _model(config, setting).apply(
        {**variables, "params": cast_kernels(variables["params"], dtype)},
        front_end(config, waveform, lengths, key=augment_key),
        setting,
        method=_audio_tower,
        rngs={"augment": augment_key, "dropout": dropout_key},
        mutable=["batch_stats"],
    )
    return _named("audio", "reverse", len(batch["audio"]), audio, *second), updates["batch_stats"]


def _texts(
    config: ClapConfig, negatives: bool, variables: dict, batch: dict, keys, setting: Setting
) -> dict:
    """Token ids to embeddings; of a negative that is not there, some that cost nothing."""
    dtype, key = compute_dtype(config, setting.platform), jax.random.fold_in(keys[1], 1)
    rows, pooling = len(batch["input_ids"]), config.text.pooling
    ids, mask, there = batch["input_ids"], batch["mask"], jnp.ones(rows, bool)
    if negatives:
        ids = jnp.concatenate([ids, batch["negative_ids"]])
        mask = jnp.concatenate([mask, batch["negative_mask"]])
        there = jnp.concatenate([there, batch["has_negative"]])
    sizes = caption_sizes(config, len(ids), setting)
    moving, still = {}, {}
    for name, tree in variables["params"].items():
        if not name.startswith("audio"):
            (still if setting.still(name) else moving)[name] = tree
    # A chunk is computed again as a whole, so none of its layers has to be by itself.
    model = _model(config, dataclasses.replace(setting, remat="none"))
    train = not setting.still("text_encoder")

    def apply(params: dict, *arguments, key: jax.Array, **options) -> jax.Array:
        params = {"params": cast_kernels(params, dtype)}
        return model.apply(params, *arguments, rngs={"dropout": key}, **options)

    def encode(params: dict, ids: jax.Array, packing: Packing, key: jax.Array) -> jax.Array:
        return apply(params, ids, None, train, packing, key=key, method="text")

    packed = pack(ids, mask, there, sizes)
    width = config.projection_size
    text = encoded(encode, moving, still, packed, key, width, sizes, pooling)
    second = []
    if config.mlp_transforms:
        second = [apply(moving | still, text, setting, key=key, method=_text_transform)]
    return _named("text", "negative", rows, text, *second)


def caption_sizes(config: ClapConfig, captions: int, setting: Setting) -> Sizes:
    """How so many captions of a device are packed."""
    given = setting.packed_length, setting.packed_rows
    return packed_sizes(captions, config.text.max_length, *given)


def _turns(config: ClapConfig, negatives: bool, rows: int, setting: Setting, tokens: float) -> int:
    """Chunks that a device's captions, all of so many tokens, fill; with a negative for each."""
    captions = rows * (2 if negatives else 1)
    sizes = caption_sizes(config, captions, setting)
    used = -(-captions // (sizes.length // max(1, min(math.ceil(tokens), config.text.max_length))))
    return -(-used // sizes.rows)


def _model(config: ClapConfig, setting: Setting) -> Clap:
    """The model in training."""
    return Clap(
        config,
        compute_dtype(config, setting.platform),
        setting.remat,
        platform=setting.platform,
        audio_frozen=setting.layers("audio_encoder"),
        text_frozen=setting.layers("text_encoder"),
    )


def _audio_tower(model: Clap, mels: dict, setting: Setting) -> tuple[jax.Array, ...]:
    """The audio tower with its second head, frozen parts as in evaluation."""
    audio = model.audio(train=not setting.still("audio_encoder"), **mels)
    if not model.config.mlp_transforms:
        return (audio,)
    transformed = model.audio_transform(audio, setting.still("audio_transform"))
    return audio, transformed.astype(jnp.float32)


def _text_transform(model: Clap, text: jax.Array, setting: Setting) -> jax.Array:
    """The second head of the text tower."""
    return model.text_transform(text, setting.still("text_transform")).astype(jnp.float32)


def _named(right: str, wrong: str, rows: int, *embeddings: jax.Array) -> dict[str, jax.Array]:
    """Embeddings by name, with those of second heads; behind those of B rows are the wrong ones."""
    named = {}
    for suffix, x in zip(("", "_mlp"), embeddings, strict=False):
        named[right + suffix] = x[:rows]
        if len(x) > rows:
            named[wrong + suffix] = x[rows:]
    return named


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
