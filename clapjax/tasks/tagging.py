"""Tagging: which labels a clip has, by an audio encoder and a head."""

import functools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import special

from clapjax.data.label_index import read_index, records_by_label, write_index
from clapjax.data.paths import as_path, write_text
from clapjax.data.records import RecordsError, build_id
from clapjax.models.clap import any_length, cast_kernels, compute_dtype
from clapjax.models.config import ClapConfig
from clapjax.models.tagger import Tagger, check_head, init_tagger
from clapjax.plain import read_json
from clapjax.tasks.front_end import front_end, mixed, sound_shape, turned
from clapjax.tasks.task import Setting, Task

LABELS_FILE = "labels.json"
BALANCE_FILE = "balance.npz"  # which records have each label
LOSSES = ("bce", "ce")
PLANNED = 527  # labels for a plan where the config names none: as many as AudioSet has


@dataclass(frozen=True)
class TaggingConfig:
    """What is told apart, and how it is learned."""

    labels: tuple[str, ...] = ()  # none: all that the records' training split has
    # "bce": each label for itself (binary cross-entropy); "ce": the labels of a clip share one
    # probability (cross-entropy), which suits clips with one label.
    loss: str = "bce"
    # Mix-up (Zhang et al., 2018) of waveforms: each clip with another one of the batch, L of it
    # and 1 - L of that, and so its targets; L is of Beta(mixup, mixup). LAION-CLAP has 0.5, PANNs 1
    # (both of log-mels); 0: none.
    mixup: float = 0.0
    # Whether each clip begins at a random place, and goes on behind its end with its beginning.
    shift: bool = False
    # "linear": of the encoder's pooled embedding; "token_semantic": of HTSAT's tokens in time and
    # frequency, as HTS-AT has it.
    head: str = "linear"
    # Whether all labels come equally often, as PANNs and HTS-AT draw AudioSet: each row is of a
    # record that has the label whose turn it is. Records of data.mixture come as they are.
    balanced: bool = False

    def __post_init__(self):
        if not 0 <= self.mixup < float("inf"):
            raise ValueError(f"tagging.mixup must be >= 0, not {self.mixup}")
        if self.loss not in LOSSES:
            raise ValueError(f"tagging.loss must be one of {', '.join(LOSSES)}, not {self.loss!r}")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("tagging.labels: one is there twice")


def tagging(
    model: ClapConfig, config: TaggingConfig, split: str = "train", kind: str = "pcm"
) -> Task:
    """The task; without labels it stands for PLANNED of them, and no batches can be made.

    Rows are "logits" (B, labels) float32. A batch has "targets" (B, labels) bool; with mix-up
    "share" (B,) float32 in [0, 1], how much of a mixture is the row's own; with shifts "shift" (B,)
    float32 in [0, 1), how much of its length it moves. Metrics are loss and accuracy: how often the
    likeliest label is one of the clip's (of a mixture: its share of it). `forward` has "audio" of
    (waveform, lengths): a probability for each label.

    Args:
      model: of which the audio encoder is taken.
      config: the labels, the head and the loss.
      split: of the records, whose labels are taken where the config names none.
      kind: `DataConfig.audio`, for planning.

    Raises:
      ValueError: a head that does not go with the audio encoder.
    """
    check_head(model, config.head)
    count = len(config.labels) or PLANNED
    tagger = Tagger(model, count, head_kind=config.head)
    changes = {"draws": 2, "mix": functools.partial(_changed, config.loss, model.audio.hop_length)}
    return Task(
        audio=model.audio,
        init=functools.partial(init_tagger, model, count, head_kind=config.head),
        rows=functools.partial(_rows, tagger),
        objective=functools.partial(_objective, config.loss),
        features=functools.partial(_features, config),
        batch_shapes=functools.partial(_batch_shapes, model, count, config, kind),
        dtype=functools.partial(compute_dtype, model),
        forward={"audio": functools.partial(_probabilities, tagger, config.loss)},
        keep=functools.partial(keep_labels, config, split),
        opened=lambda workdir: replace(
            tagging(model, workdir_settings(config, workdir), split, kind),
            balance=read_index(workdir / BALANCE_FILE)[0] if config.balanced else None,
        ),
        **(changes if config.mixup or config.shift else {}),
    )


# --- labels and batches ---------------------------------------------------------------------


def keep_labels(
    config: TaggingConfig, split: str, data_dir: str | os.PathLike, workdir: Path
) -> None:
    """Writes the labels of a run to its workdir: the config's, or the records', sorted.

    Where they are balanced, which records have each label too; that is not looked for again.

    Raises:
      RecordsError: there are none, or no record has one.
      ValueError: one label alone is to share a probability with others.
    """
    labels, index = config.labels, workdir / BALANCE_FILE
    source = f"{build_id(data_dir)} {split} {labels}" if config.balanced else ""
    if config.balanced and index.is_file() and read_index(index)[1] == source:
        return
    index.unlink(missing_ok=True)  # it may be of other labels than those that are written now
    found = records_by_label(data_dir, split) if config.balanced or not labels else {}
    labels = labels or tuple(sorted(found))
    if not labels or config.balanced and not found.keys() & set(labels):
        what = "one of tagging.labels" if labels else "a label"
        raise RecordsError(f"{data_dir}: no record of the split {split!r} has {what}")
    if config.loss == "ce" and len(labels) == 1:
        raise ValueError(
            f"tagging.loss=ce: {labels[0]!r} alone always has 100 %; set "
            "--config.tagging.loss=bce, or give it other labels to be told from"
        )
    write_text(workdir / LABELS_FILE, json.dumps(list(labels)) + "\n")
    if config.balanced:
        write_index(index, [found.get(label, []) for label in labels], source)


def workdir_labels(workdir: str | os.PathLike) -> tuple[str, ...]:
    """The labels of a run, in the order of its head's outputs.

    Raises:
      ValueError: the file is missing or damaged.
    """
    file = as_path(workdir) / LABELS_FILE
    labels = read_json(file, list)
    if not labels or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"{file}: damaged (no list of labels)")
    return tuple(labels)


def workdir_settings(config: TaggingConfig, workdir: str | os.PathLike) -> TaggingConfig:
    """The settings of a run with its labels."""
    return replace(config, labels=workdir_labels(workdir))


def _features(config: TaggingConfig, record, draws: Sequence[float]) -> dict:
    """ "targets" (labels,) bool; a label that is not among them counts nothing. See `tagging`."""
    own = {label.decode() for label in record["labels"].bytes_list.value}
    found = {"targets": np.array([label in own for label in config.labels])}
    if config.mixup:
        found["share"] = np.float32(special.betaincinv(config.mixup, config.mixup, draws[0]))
    if config.shift:
        found["shift"] = np.float32(draws[1])
    return found


def _batch_shapes(
    model: ClapConfig, count: int, config: TaggingConfig, kind: str, rows: int
) -> dict:
    drawn = {"share": config.mixup > 0, "shift": config.shift}
    return {
        "audio": sound_shape(model.audio, kind, rows),
        "targets": ((rows, count), jnp.bool_),
    } | {name: ((rows,), jnp.float32) for name, used in drawn.items() if used}


def _changed(loss: str, hop: int, batch: dict) -> dict:
    """The batch with its clips shifted, and then mixed, as far as it has draws for it."""
    if "shift" in batch:
        batch = _shifted(hop, batch)
    return _mixed(loss, batch) if "share" in batch else batch


def _shifted(hop: int, batch: dict) -> dict:
    """Each row turned round in its own length, of which "shift" is the part."""
    drawn = {name: x for name, x in batch.items() if name != "shift"}
    return drawn | {"audio": turned(batch["audio"], batch.get("lengths"), batch["shift"], hop)}


def _mixed(loss: str, batch: dict) -> dict:
    """Each row joined with the one that is as far from the other end of the batch.

    So have it LAION-CLAP and PANNs, of log-mels. Over the whole batch it is the same on any mesh
    and in any micro-batches.

    Returns:
      The batch, "audio" float32 as `front_end.mixed` has it and "targets" (N, labels) float32: with
      "ce" the shares of the labels of each clip, which then share that of the clip. Of two clips
      that do not end together, "lengths" has the longer's.
    """
    share = batch["share"][:, None]
    targets = batch["targets"].astype(jnp.float32)
    if loss == "ce":
        targets = _shares(targets)
    found = mixed_sounds(batch)
    found["targets"] = share * targets + (1 - share) * targets[::-1]
    return {name: x for name, x in batch.items() if name != "share"} | found


def mixed_sounds(batch: dict) -> dict:
    """The "audio" and "lengths" of a batch that `_mixed` makes of its "share"."""
    found = {"audio": mixed(batch["audio"], batch["share"])}
    if "lengths" in batch:
        found["lengths"] = jnp.maximum(batch["lengths"], batch["lengths"][::-1])
    return found


def _shares(targets: jax.Array) -> jax.Array:
    """(N, labels) float32, each row's labels summing up to 1; 0 where there is none."""
    return targets / jnp.maximum(targets.sum(axis=1, keepdims=True), 1)


# --- model and objective --------------------------------------------------------------------


def _rows(
    tagger: Tagger, variables: dict, batch: dict, keys, setting: Setting
) -> tuple[dict, dict]:
    """Waveforms to logits, and the next batch statistics."""
    augment_key, dropout_key = keys
    model = _on(tagger, setting)
    logits, updates = model.apply(
        {**variables, "params": cast_encoder(variables["params"], model.dtype)},
        train=not setting.still("audio_encoder"),
        **front_end(model.config, batch["audio"], batch.get("lengths"), key=augment_key),
        rngs={"augment": augment_key, "dropout": dropout_key},
        mutable=["batch_stats"],
    )
    return {"logits": logits}, updates["batch_stats"]


def _on(tagger: Tagger, setting: Setting) -> Tagger:
    """The module for the devices of a setting, and for what is frozen in it."""
    return tagger.clone(
        dtype=compute_dtype(tagger.config, setting.platform),
        remat=setting.remat,
        platform=setting.platform,
        frozen=setting.layers("audio_encoder"),
    )


def cast_encoder(params: dict, dtype: jnp.dtype) -> dict:
    """The encoder's kernels in the type that its products run in; the head stays float32."""
    return {**params, "audio_encoder": cast_kernels(params["audio_encoder"], dtype)}


def _probabilities(
    tagger: Tagger, loss: str, variables: dict, waveform, lengths, setting: Setting
) -> jax.Array:
    """(B, T) waveforms and (B,) lengths to (B, labels)."""
    model = _on(tagger, setting)
    config = model.config
    if not any_length(config) and config.fusion.type == "none":
        lengths = None
    logits = model.apply(
        {**variables, "params": cast_encoder(variables["params"], model.dtype)},
        **front_end(config, waveform, lengths, double=setting.platform != "tpu"),
    )
    return jax.nn.sigmoid(logits) if loss == "bce" else jax.nn.softmax(logits)


def _objective(
    loss: str, rows: dict, params: dict, batch: dict, step: jax.Array, setting: Setting
) -> tuple[jax.Array, dict]:
    """The mean over the global batch; with "ce" over its rows that have a label."""
    logits, targets = rows["logits"], batch["targets"].astype(jnp.float32)  # (N, labels)
    labelled = targets.sum(axis=1)  # (N,)
    some = jnp.maximum(jnp.sum(labelled > 0), 1)
    if loss == "bce":
        value = optax.sigmoid_binary_cross_entropy(logits, targets).mean()
    else:
        value = optax.softmax_cross_entropy(logits, _shares(targets)).sum() / some
    likeliest = jnp.take_along_axis(targets, logits.argmax(axis=1)[:, None], axis=1)
    return value, {"accuracy": likeliest.sum() / some}
