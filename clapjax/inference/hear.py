"""Audio of any kind and length through a model: what is taken, how it is cut, what comes out."""

import numbers
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np

from clapjax.audio.files import MAX_SECONDS, AudioError
from clapjax.inference.batches import in_batches
from clapjax.inference.inputs import Audio
from clapjax.inference.pieces import THREADS, Cutter, Failure, stream
from clapjax.models.clap import any_length
from clapjax.models.config import ClapConfig

WHOLE_SECONDS = 600.0  # heard as they are: some 3 GiB in a Cnn14
LONG = ("truncate", "windows", "fusion", "whole")


def default_long(config: ClapConfig) -> str:
    """How a model hears what is longer than a clip where nothing else is asked for."""
    if config.fusion.type != "none":
        return "fusion"
    return "whole" if any_length(config) else "truncate"


def make_cutter(
    config: ClapConfig,
    sampling_rate: int | None = None,
    long: str | None = None,
    hop: float | None = None,
) -> Cutter:
    """How inputs are cut for a model.

    Args:
      config: of the model.
      sampling_rate: Hz of arrays that come without; None: the model's, with a warning.
      long: of LONG; None: `default_long`.
      hop: seconds between windows; None: a clip.

    Raises:
      ValueError: no such `long`, or one that this model has not; or a hop that does not go with it.
    """
    audio, unfilled = config.audio, any_length(config)
    clip_seconds = audio.clip_samples / audio.sample_rate
    long = default_long(config) if long is None else long
    if long not in LONG:
        raise ValueError(f"long must be one of {', '.join(LONG)}, not {long!r}")
    if long == "fusion" and config.fusion.type == "none":
        raise ValueError("long='fusion': this model has no feature fusion; try 'windows'")
    if long == "whole" and not unfilled:
        raise ValueError("long='whole': this model hears clips only; try 'windows'")
    if hop is not None and long != "windows":
        raise ValueError(f"hop is for long='windows', not for {long!r}")
    if hop is not None and not (isinstance(hop, numbers.Real) and 0 < hop <= clip_seconds):
        raise ValueError(f"hop must be in 0 .. {clip_seconds:g} s (a clip), not {hop!r}")
    return Cutter(
        audio,
        long if long in ("truncate", "windows") else "whole",
        sampling_rate,
        hop=audio.clip_samples if hop is None else max(1, round(hop * audio.sample_rate)),
        filled=not unfilled,
        max_seconds=WHOLE_SECONDS if long == "whole" else MAX_SECONDS,
    )


def hear(
    function: Callable[[np.ndarray, np.ndarray], jax.Array],
    cutter: Cutter,
    inputs: Iterable[Audio],
    batch_size: int,
    devices: int = 1,
    workers: int = THREADS,
) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray] | AudioError]]:
    """Runs inputs through a model; a broken one does not stop the others.

    Args:
      function: of (B, S) float32 samples and (B,) int32 lengths to (B, ...).
      cutter: how they are cut.
      inputs: the audio.
      batch_size: clips at once; of longer pieces fewer.
      devices: that share them: each has as many on any number of them, for the sake of the same
        bits.
      workers: threads that decode.

    Yields:
      (number of the input, its (times (N, 2) s, results (N, ...)) or its error); inputs of another
      length may come first.
    """
    clip = cutter.audio.clip_samples
    rows = (
        (part, None if isinstance(part, Failure) else (part.samples, np.int32(part.length)))
        for part in stream(cutter, inputs, workers)
    )
    parts: dict[int, list] = {}  # of inputs that are not complete; without their samples
    failed = set()

    def at_once(length: int) -> int:
        return devices * max(1, batch_size // devices * clip // length)

    for part, result in in_batches(rows, function, at_once):
        if isinstance(part, Failure):
            failed.add(part.index)
            parts.pop(part.index, None)
            yield part.index, part.error
        elif part.index not in failed:
            parts.setdefault(part.index, []).append(((part.start, part.end), result))
            if part.last:
                times, results = zip(*parts.pop(part.index), strict=True)
                yield part.index, (np.array(times), np.stack(results))
