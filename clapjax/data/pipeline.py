"""tf.data pipeline whose order is a pure function of (seed, step).

Batch `step` holds the samples at positions step * B ... step * B + B - 1 of an endless sequence of
epochs, each a stateless permutation of the split; a host reads its own slice of those positions. So
starting at step N costs what starting at 0 costs, and neither the batches nor the choices made for
a sample depend on the number of hosts. In a mixture each data set has such a sequence of its own.
"""

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from clapjax.audio.config import AudioConfig
from clapjax.audio.fill import fill, truncate
from clapjax.data import records
from clapjax.data.config import DataConfig
from clapjax.data.order import batch_rows, parse_share, shuffled
from clapjax.data.wire import split_audio
from clapjax.memory import keep_memory

ALIGNMENT = 64  # bytes, Eigen's
SOUND = ("audio", "lengths")


def train_batches(
    data_dir: str | os.PathLike,
    config: DataConfig,
    audio: AudioConfig,
    features: Callable[[Mapping, np.random.Generator], dict],
    collate: Callable[[dict], dict],
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    host: int = 0,
    hosts: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
    """Endless training batches from `start_step` on: this host's rows of each global batch.

    Args:
      data_dir: a finished data set in array_record format.
      config: split, mixture, what becomes of long clips, and parallelism.
      audio: clip length and fill mode.
      features: from a record's features by name and a keyed generator to what its row has besides
        its sound: a dict of scalars, bytes or arrays of one shape.
      collate: from the rows' features, stacked (bytes as objects), to what the batch has of them.
      batch_size: global; host h of n reads rows h * B / n ... (h + 1) * B / n - 1.
      seed: of order, crops and caption choice.
      start_step: first step.
      host, hosts: this host's place.

    Returns:
      An iterator of {"audio": (b, clip_samples) int16} and what `collate` makes, b = batch_size /
      hosts. With long_clips "whole" the audio is (b, longest_seconds), zeros behind each row's own
      "lengths": (b,) int32 samples.

    Raises:
      RecordsError: no such data set or split, another format, or another sample rate; from the
        iterator: a damaged shard.
      ValueError: the batch does not divide among the hosts, or the mixture's shares are too many.
    """
    if batch_size % hosts or not 0 <= host < hosts:
        raise ValueError(f"batch_size {batch_size} does not divide among {hosts} hosts ({host})")
    import tensorflow as tf

    keep_memory()  # else half of the time goes into page faults
    load = _loader(data_dir, config, audio, features, batch_size, seed, host, hosts)
    names, types = zip(*((name, tf.as_dtype(x.dtype)) for name, x in load(0).items()), strict=True)
    dataset = (
        tf.data.Dataset.range(start_step, np.iinfo(np.int64).max)
        .map(
            lambda step: tf.numpy_function(
                lambda step: tuple(load(step).values()), [step], types, stateful=False
            ),
            num_parallel_calls=config.workers,
            deterministic=True,
        )
        .prefetch(config.prefetch)
    )
    source, broken = [dataset.as_numpy_iterator()], tf.errors.OpError

    def batches():
        try:
            while source:
                rows = dict(zip(names, next(source[0]), strict=True))
                sound = {name: rows.pop(name) for name in SOUND if name in rows}
                yield sound | collate(rows)
        except broken as error:
            raise records.RecordsError(
                f"{data_dir}: a record cannot be read; see `clapjax records check {data_dir}`"
            ) from error
        finally:
            source.clear()

    iterator = batches()
    # tf.data's threads call back into Python: they must be gone before the interpreter is.
    weakref.finalize(iterator, source.clear)
    return iterator


def _loader(data_dir, config, audio, features, batch_size, seed, host, hosts) -> Callable:
    """A function from a step to this host's rows of its batch: sound, lengths and features."""
    import tensorflow as tf

    mixture = [parse_share(item) for item in config.mixture]
    folders = [data_dir, *(folder for folder, _ in mixture)]
    shares = [share for _, share in mixture]
    batch_rows(0, batch_size, shares)  # which may refuse the shares
    sources = [_open_source(folder, config.split, audio.sample_rate) for folder in folders]
    sizes = np.array([len(source) for source in sources])
    local = slice(host * batch_size // hosts, (host + 1) * batch_size // hosts)
    width = audio.clip_samples
    if config.long_clips == "whole":
        width = max(width, round(config.longest_seconds * audio.sample_rate))

    def load(step: int) -> dict[str, np.ndarray]:
        sets, positions = (x[local] for x in batch_rows(int(step), batch_size, shares))
        indices = shuffled(positions, sizes[sets], sets, seed)
        waveforms = _aligned((len(sets), width))
        lengths = np.full(len(sets), audio.clip_samples, np.int32)
        chosen = []
        for row, (number, position, index) in enumerate(
            zip(sets.tolist(), positions.tolist(), indices.tolist(), strict=True)
        ):
            samples, others = split_audio(sources[number][index])
            record = tf.train.Features.FromString(others).feature
            generator = np.random.default_rng((seed, number, position))
            samples = truncate(samples, width, generator)
            lengths[row] = max(audio.clip_samples, len(samples))
            samples = fill(samples, audio.clip_samples, audio.fill)
            waveforms[row, : len(samples)] = samples
            waveforms[row, len(samples) :] = 0
            chosen.append(features(record, generator))
        sound = {"audio": waveforms, "lengths": lengths}
        if config.long_clips == "cut":
            del sound["lengths"]
        return sound | stacked(chosen)

    return load


def _aligned(shape: tuple[int, int]) -> np.ndarray:
    """An int16 array that begins where TensorFlow takes one over without copying it."""
    size = 2 * shape[0] * shape[1]
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(np.int16).reshape(shape)


def stacked(rows: Iterable[dict]) -> dict[str, np.ndarray]:
    """The features of rows as one array each; bytes as objects."""
    rows = list(rows)

    def column(name: str) -> np.ndarray:
        values = [row[name] for row in rows]
        return np.array(values, object if isinstance(values[0], bytes) else None)

    return {name: column(name) for name in rows[0]}


def _open_source(data_dir, split: str, sample_rate: int):
    """Serialised records by their index, after the data set has been checked."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    build = records.read_build(data_dir)
    if build["data"]["format"] != "array_record":
        raise records.RecordsError(
            f"{data_dir}: training reads by index and needs data.format=array_record"
        )
    if build["sample_rate"] != sample_rate:
        raise records.RecordsError(
            f"{data_dir}: records are at {build['sample_rate']} Hz, the model wants {sample_rate}; "
            "build them with this config"
        )
    size = records.split_size(data_dir, split)
    try:
        source = ArrayRecordDataSource(records.shard_paths(data_dir, split))
    except RuntimeError as error:
        raise records.RecordsError(
            f"{data_dir}: damaged or missing shard ({error}); build it again"
        ) from error
    if len(source) != size:
        raise records.RecordsError(
            f"{data_dir}: {len(source)} records of {size} are there; build it again"
        )
    return source
