"""Captioning: what a clip sounds like in words, with and without the guidance of its tags."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from clapjax.data.config import DataConfig
from clapjax.data.selection import select_captions
from clapjax.losses.tokens import token_losses
from clapjax.models.captioner import Captioner, init_captioner, write_captions
from clapjax.models.clap import any_length, cast_kernels, compute_dtype
from clapjax.models.config import ClapConfig, DecoderConfig, DecodingConfig
from clapjax.models.presets import decoder_preset
from clapjax.tasks.front_end import front_end, sound_shape
from clapjax.tasks.guidance import (
    caption_ids,
    find_marks,
    guidance_ids,
    guidance_text,
    order_of,
    style_of,
)
from clapjax.tasks.tagging import mixed_sounds
from clapjax.tasks.task import Setting, Task
from clapjax.tasks.texts import keep_tokenizer, workdir_tokenizer


@dataclass(frozen=True)
class CaptioningConfig:
    """The decoder, how it learns, and how it chooses its words."""

    decoder: DecoderConfig = field(default_factory=lambda: decoder_preset("small"))
    decoding: DecodingConfig = field(default_factory=DecodingConfig)  # where nothing else is asked
    label_smoothing: float = 0.1  # share of the probability that all words have in common
    # Of the rows so many are without guidance, so that a model serves without as well as with it.
    unguided: float = 0.3
    # Of the others' tags, orders and styles so many are left out, each for itself.
    guidance_dropout: float = 0.3
    # So many of the rows with tags hear another clip of the batch, so that tags are believed more
    # than what a model that knows its training clips by heart hears.
    audio_dropout: float = 0.0
    # Mix-up of waveforms: into each clip another one of the batch, more quietly; the share of the
    # clip whose caption it is is max(L, 1 - L), L of Beta(mixup, mixup). CNext-trans: 0.4; 0: none.
    mixup: float = 0.0

    def __post_init__(self):
        for name in ("label_smoothing", "unguided", "guidance_dropout", "audio_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"captioning.{name} must be in 0 .. 1, not {getattr(self, name)}")
        if not 0 <= self.mixup < float("inf"):
            raise ValueError(f"captioning.mixup must be >= 0, not {self.mixup}")
        if self.decoding.max_length > self.decoder.max_length:
            raise ValueError(
                f"captioning.decoding.max_length {self.decoding.max_length} is more than the "
                f"decoder's {self.decoder.max_length}"
            )


def captioning(
    model: ClapConfig, config: CaptioningConfig, data: DataConfig, tokenizer=None
) -> Task:
    """The task; without a tokenizer it has the config's vocabulary, and no batches can be made.

    Rows are (B,) float32: "loss" and "missed", sums over a caption's tokens of the smoothed and the
    plain cross-entropy; "right", of how many of them the likeliest is the one; and "tokens", how
    many there are. A batch has "guidance_ids" and "guidance_mask" (B, guidance_length),
    "input_ids" and "mask" (B, max_length), int32 and bool; with mix-up or `audio_dropout` "share"
    (B,) float32, how much of what is heard is the row's own: in [0.5, 1], or 0. Metrics are loss,
    nll (without smoothing) and accuracy, means over the tokens of the batch. `forward` has
    "caption" of (waveform, lengths, guidance_ids, guidance_mask, keys (B, 2) uint32): tokens
    (B, count, max_length) and log probabilities (B, count).

    Args:
      model: of which the audio encoder is taken.
      config: the decoder, which takes the size of the tokenizer's vocabulary, and how it learns.
      data: which captions count, and the name of the tokenizer.
      tokenizer: that of `clapjax.starting.resolve`, which a workdir keeps; or of a workdir.
    """
    if tokenizer is not None:
        decoder = dataclasses.replace(config.decoder, vocab_size=len(tokenizer))
        config = dataclasses.replace(config, decoder=decoder)
    forward = {}
    if tokenizer is not None:
        forward["caption"] = functools.partial(
            caption_clips, model, config, config.decoding, find_marks(tokenizer)
        )
    return Task(
        audio=model.audio,
        init=functools.partial(init_captioner, model, config.decoder),
        rows=functools.partial(_rows, model, config),
        objective=_objective,
        features=functools.partial(_features, config, data.text_augment_selection),
        draws=3,
        collate=functools.partial(_tokenised, tokenizer, config.decoder),
        batch_shapes=functools.partial(_batch_shapes, model, config, data.audio),
        dtype=functools.partial(compute_dtype, model),
        mix=_mixed if config.mixup or config.audio_dropout else lambda batch: batch,
        forward=forward,
        keep=functools.partial(keep_tokenizer, data.tokenizer, tokenizer),
        opened=lambda workdir: captioning(
            model, config, data, workdir_tokenizer(data.tokenizer, workdir)
        ),
    )


# --- batches --------------------------------------------------------------------------------


def _features(config: CaptioningConfig, selection: str, record, draws: Sequence[float]) -> dict:
    """ "caption" and "guidance" as bytes, from a record's features by name; see `captioning`.

    Raises:
      ValueError: a record without captions, or with a text that is not UTF-8.
    """

    def texts(name: str) -> list[str]:
        return [value.decode() for value in record[name].bytes_list.value]

    for name in ("captions", "provenance"):
        if not record[name].bytes_list.value:
            raise ValueError(f"there is no {name}")
    captions = select_captions(texts("captions"), texts("provenance")[0], selection)
    first, second, third = draws
    known = texts("labels"), order_of(texts("events")), style_of("".join(texts("source")))
    guidance, alone = _drawn_guidance(config, *known, second)
    found = {
        "caption": captions[int(first * len(captions))].encode(),
        "guidance": guidance.encode(),
    }
    if config.mixup or config.audio_dropout:
        share = special.betaincinv(config.mixup, config.mixup, third) if config.mixup else 1.0
        found["share"] = np.float32(0 if alone else max(share, 1 - share))
    return found


def _drawn_guidance(
    config: CaptioningConfig, tags: list[str], order: str, style: str, draw: float
) -> tuple[str, bool]:
    """What is left of the guidance, and whether it alone tells what sounds (`audio_dropout`).

    Tags are in any order, lest theirs tells that of the events.
    """
    generator = np.random.default_rng(int(draw * 2**53))
    if generator.random() < config.unguided:
        return "", False
    tags = [tags[index] for index in generator.permutation(len(tags))]
    stay = generator.random(len(tags) + 2) >= config.guidance_dropout
    kept = [tag for tag, stays in zip(tags, stay[2:], strict=True) if stays]
    text = guidance_text(kept, order if stay[0] else "", style if stay[1] else "")
    return text, bool(kept) and generator.random() < config.audio_dropout


def _tokenised(tokenizer, sizes: DecoderConfig, rows: dict) -> dict[str, np.ndarray]:
    """Texts of `_features` to tokens; see `captioning`."""
    ids, mask = caption_ids(tokenizer, [text.decode() for text in rows["caption"]], sizes)
    texts = [text.decode() for text in rows["guidance"]]
    before, before_mask = guidance_ids(tokenizer, texts, sizes)
    others = {name: x for name, x in rows.items() if name not in ("caption", "guidance")}
    return others | {
        "input_ids": ids,
        "mask": mask,
        "guidance_ids": before,
        "guidance_mask": before_mask,
    }


def _batch_shapes(model: ClapConfig, config: CaptioningConfig, kind: str, rows: int) -> dict:
    guidance, caption = config.decoder.guidance_length, config.decoder.max_length
    shapes = {
        "audio": sound_shape(model.audio, kind, rows),
        "input_ids": ((rows, caption), jnp.int32),
        "mask": ((rows, caption), jnp.bool_),
        "guidance_ids": ((rows, guidance), jnp.int32),
        "guidance_mask": ((rows, guidance), jnp.bool_),
    }
    joined = config.mixup or config.audio_dropout
    return shapes | ({"share": ((rows,), jnp.float32)} if joined else {})


def _mixed(batch: dict) -> dict:
    """Each row's sound joined with that of the one as far from the other end of the batch."""
    return {name: x for name, x in batch.items() if name != "share"} | mixed_sounds(batch)


# --- model and objective --------------------------------------------------------------------


def _rows(
    model: ClapConfig,
    config: CaptioningConfig,
    variables: dict,
    batch: dict,
    keys,
    setting: Setting,
) -> tuple[dict, dict]:
    """Waveforms and captions to what each caption costs, and the next batch statistics."""
    dtype, (augment_key, dropout_key) = compute_dtype(model, setting.platform), keys
    captioner = Captioner(
        model,
        config.decoder,
        dtype,
        setting.remat,
        setting.platform,
        setting.layers("audio_encoder"),
        setting.layers("decoder"),
    )
    # All but the last token, whose next one is not asked for.
    tokens = jnp.concatenate([batch["guidance_ids"], batch["input_ids"][:, :-1]], axis=1)
    real = jnp.concatenate([batch["guidance_mask"], batch["mask"][:, :-1]], axis=1)
    params = cast_kernels(variables["params"], dtype)
    hidden, updates = captioner.apply(
        {**variables, "params": params},
        tokens[:, None],
        real,
        **front_end(model, batch["audio"], batch.get("lengths"), key=augment_key),
        audio_train=not setting.still("audio_encoder"),
        train=not setting.still("decoder"),
        rngs={"augment": augment_key, "dropout": dropout_key},
        mutable=["batch_stats"],
    )
    hidden = hidden[:, 0, config.decoder.guidance_length - 1 :]  # (B, max_length, D)
    found = token_losses(
        hidden.reshape(-1, hidden.shape[-1]).astype(dtype),
        params["decoder"]["word"]["embedding"],
        batch["input_ids"].reshape(-1),
        config.label_smoothing,
    )
    mask = batch["mask"].astype(jnp.float32)
    sums = [jnp.sum(mask * x.reshape(mask.shape), axis=1) for x in found]
    rows = dict(zip(("loss", "missed", "right"), sums, strict=True))
    return rows | {"tokens": mask.sum(axis=1)}, updates["batch_stats"]


def _objective(
    rows: dict, params: dict, batch: dict, step: jax.Array, setting: Setting
) -> tuple[jax.Array, dict]:
    """The mean over the tokens of the global batch."""
    tokens = rows["tokens"].sum()
    nll, accuracy = rows["missed"].sum() / tokens, rows["right"].sum() / tokens
    return rows["loss"].sum() / tokens, {"nll": nll, "accuracy": accuracy}


def caption_clips(
    model: ClapConfig,
    config: CaptioningConfig,
    decoding: DecodingConfig,
    marks,
    variables: dict,
    waveform: jax.Array,
    lengths: jax.Array,
    guidance: jax.Array,
    real: jax.Array,
    keys: jax.Array,
    setting: Setting,
) -> tuple[jax.Array, jax.Array]:
    """Captions of clips as tokens, with their log probabilities: see `write_captions`.

    Args:
      model, config, variables: the model.
      decoding: how words are chosen.
      marks: of `find_marks`.
      waveform, lengths: (B, T) samples, and (B,) how many of them each row has.
      guidance, real: (B, guidance_length), of `guidance_ids`.
      keys: (B, 2) uint32.
      setting: where it runs.
    """
    dtype = compute_dtype(model, setting.platform)
    variables = {**variables, "params": cast_kernels(variables["params"], dtype)}
    captioner = Captioner(model, config.decoder, dtype, platform=setting.platform)
    frames, heard = hear_clips(captioner, variables, waveform, lengths)
    return write_captions(
        captioner,
        variables,
        frames,
        heard,
        guidance,
        real,
        keys,
        decoding,
        marks.end,
        marks.never,
    )


def hear_clips(
    captioner: Captioner, variables: dict, waveform: jax.Array, lengths: jax.Array
) -> tuple[jax.Array, jax.Array | None]:
    """Clips (B, T), of (B,) samples each, to what captions are written of: see `Captioner.hear`."""
    model = captioner.config
    if not any_length(model) and model.fusion.type == "none":
        lengths = None
    mels = front_end(model, waveform, lengths, double=captioner.platform != "tpu")
    return captioner.apply(variables, method="hear", **mels)


def workdir_settings(
    config: CaptioningConfig, name: str, workdir: str | os.PathLike
) -> tuple[CaptioningConfig, object]:
    """The settings of a run with its vocabulary, and its tokenizer.

    Args:
      config: as the run has it.
      name: its `data.tokenizer`.
      workdir: of the run.
    """
    tokenizer = workdir_tokenizer(name, workdir)
    decoder = dataclasses.replace(config.decoder, vocab_size=len(tokenizer))
    return dataclasses.replace(config, decoder=decoder), tokenizer
