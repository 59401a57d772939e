"""What the training loop needs of a task: how it is set up, what it computes, and from what."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from clapjax.audio.config import AudioConfig
from clapjax.data.label_index import LabelIndex
from clapjax.data.paths import as_path


@dataclass(frozen=True)
class Setting:
    """Under what a task's rows and objective are computed; constants of the compiled program."""

    mesh: Mesh  # the global batch is split over all its axes
    remat: str = "none"  # what of its layers the backward pass computes again
    # Parts of the model that do not move, by their top-level parameter: with None all of it, else
    # what is below its first layer and so many layers. They run as in evaluation: nothing in them
    # is random, and their statistics stay.
    frozen: Mapping[str, int | None] = field(default_factory=dict)
    packed_length: int = 0  # tokens of a row of texts; 0: as it suits the longest
    packed_rows: int = 0  # such rows at once; 0: as it suits how many there are

    @property
    def platform(self) -> str:
        """Of its devices: "cpu", "gpu" or "tpu"."""
        return self.mesh.devices.flat[0].platform

    def still(self, part: str) -> bool:
        """Whether all of a part is frozen."""
        return part in self.frozen and self.frozen[part] is None

    def layers(self, part: str) -> int:
        """How many layers of a part are frozen, 0: what is below the first; -1: not even that."""
        count = self.frozen.get(part)
        return -1 if count is None else count


def _same(tree):
    return tree


def _nothing(data_dir: str | os.PathLike, workdir: Path) -> None:
    """Keeps nothing."""


@dataclass(frozen=True)
class Task:
    """What is learned, as functions; no mesh, no state, and nothing of how it is trained.

    B rows are those of one device, N those of the global batch. A batch is a dict of arrays, rows
    first: "audio" (B, clip_samples) int16, or (B, frames, mel_bins) float16 of records that hold
    log-mels, "lengths" (B,) int32 samples of each row where rows may be longer than a clip, and
    what `features` and `collate` make. With `reverses`, M = B / group * reverses: "reverse_audio"
    and "reverse_lengths" alike, and "reverse_row" (M,) int32, the row of the group that it belongs
    to, or -1 where it is another row's sound that stands in.
    """

    audio: AudioConfig  # of the sound in a batch
    # A key to fresh {"params", "batch_stats"}.
    init: Callable[[jax.Array], dict]
    # (variables, batch, keys (2,), setting) to (dict of arrays (B, ...), next batch_stats). Runs on
    # each device's own rows under `jax.shard_map`. The keys are for "augment" and "dropout".
    rows: Callable[[dict, dict, jax.Array, Setting], tuple[dict, dict]]
    # (rows (N, ...), params, batch (N, ...), step (), setting) to (loss (), metrics by name).
    objective: Callable[[dict, dict, dict, jax.Array, Setting], tuple[jax.Array, dict]]
    # (a record's features by name, `draws` random numbers in [0, 1)) to a dict of scalars, bytes or
    # arrays of one shape: what a row has besides its sound.
    features: Callable[[Mapping[str, Any], Sequence[float]], dict]
    # How many rows to {name: (shape, type)} of a whole batch, for planning.
    batch_shapes: Callable[[int], dict[str, tuple[tuple[int, ...], Any]]]
    # A platform to the type that matrix products run in there.
    dtype: Callable[[str], jnp.dtype]
    # As `rows`, of more outputs and no statistics, for all rows of a device whatever part of them
    # goes through `rows` at once; it sees to its memory itself.
    beside: Callable[[dict, dict, jax.Array, Setting], dict] | None = None
    # (B, setting, tokens of a text) to the turns of a loop in `beside` that ends with its texts.
    turns: Callable[[int, Setting, float], int] | None = None
    draws: int = 0  # random numbers that `features` takes
    # Rows that stay together, on a device and in a micro-batch, and of how many of them a batch has
    # the sound in a wrong order too. `features` says as "reverse" which rows have one.
    group: int = 1
    reverses: int = 0
    # Of the records of --data_dir, by which their labels come equally often; None: as they are.
    balance: LabelIndex | None = None
    # The features of rows, stacked, to what a batch holds.
    collate: Callable[[dict], dict[str, np.ndarray]] = _same
    # The whole batch (N, ...) to the one that is trained on, where rows take from one another.
    mix: Callable[[dict], dict] = _same
    # Parameters after a step to those that count.
    after_update: Callable[[dict], dict] = _same
    # What evaluation asks of the model: name to (variables, *arrays (B, ...), setting) to (B, ...);
    # deterministic, each row for itself.
    forward: Mapping[str, Callable[..., jax.Array]] = field(default_factory=dict)
    # Copies what the task takes from the records, as a tokenizer, to a workdir. One process does.
    keep: Callable[[str | os.PathLike, Path], None] = _nothing
    # The task as a workdir completes it, by what `keep` has left there; None: it is complete.
    opened: Callable[[Path], "Task"] | None = None

    def open(self, workdir: str | os.PathLike) -> "Task":
        """The task with what is kept in a workdir."""
        return self if self.opened is None else self.opened(as_path(workdir))
