"""tf.data pipeline whose order is a pure function of (seed, step).

Batch `step` holds the samples at positions step * B ... step * B + B - 1 of an endless sequence of
epochs, each a stateless permutation of the split; a host reads its own slice of those positions. So
starting at step N costs what starting at 0 costs, and neither the batches nor the choices made for
a sample depend on the number of hosts. In a mixture each data set has such a sequence of its own.
Where labels are balanced, the sequence of the first data set is one of labels instead, and of each
label one of its records.
"""

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count

import numpy as np

from clapjax.audio.config import AudioConfig
from clapjax.audio.fill import fill, truncate
from clapjax.data import paths, records
from clapjax.data.config import DataConfig
from clapjax.data.label_index import LabelIndex
from clapjax.data.order import batch_rows, draws, parse_share, shuffled
from clapjax.data.shards import Split, missing_files, reader_pool
from clapjax.memory import keep_memory

ALIGNMENT = 64  # bytes, Eigen's


def train_batches(
    data_dir: str | os.PathLike,
    config: DataConfig,
    audio: AudioConfig,
    features: Callable[[Mapping, np.ndarray], dict],
    collate: Callable[[dict], dict],
    *,
    draws_of_a_row: int,
    group: int = 1,
    reverses: int = 0,
    balance: LabelIndex | None = None,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    host: int = 0,
    hosts: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
    """Endless training batches from `start_step` on: this host's rows of each global batch.

    Args:
      data_dir: a finished data set on this machine.
      config: split, mixture, what becomes of long clips, and parallelism.
      audio: clip length and fill mode.
      features: from a record's features by name and some random numbers in [0, 1) to what its row
        has besides its sound: a dict of scalars, bytes or arrays of one shape.
      collate: from the rows' features, stacked (bytes as objects), to what the batch has of them.
      draws_of_a_row: how many random numbers `features` is given.
      group, reverses: of every `group` rows, the first `reverses` whose features are true at
        "reverse" come a second time, as their sound in a wrong order.
      balance: the records of `data_dir` by label, which then come equally often.
      batch_size: global; host h of n reads rows h * B / n ... (h + 1) * B / n - 1.
      seed: of order, crops and caption choice.
      start_step: first step.
      host, hosts: this host's place.

    Returns:
      An iterator of {"audio": (b, clip_samples) int16} and what `collate` makes, b = batch_size /
      hosts; with `reverses` "reverse_audio" and "reverse_row", as `Task` has them. With long_clips
      "whole" the audio is (b, longest_seconds), zeros behind each row's own "lengths": (b,) int32
      samples.

    Raises:
      RecordsError: no such data set or split, or another sample rate; from the iterator: a damaged
        shard or a record that lacks something, with its file and its place there.
      ValueError: the batch does not divide among the hosts, in whole groups, or the mixture's
        shares are too many.
    """
    if batch_size % (hosts * group) or not 0 <= host < hosts:
        groups = f", {group} rows together" if group > 1 else ""
        raise ValueError(
            f"batch_size {batch_size} does not divide among {hosts} hosts ({host}){groups}"
        )
    import tensorflow as tf

    keep_memory()  # else half of the time goes into page faults
    readers = reader_pool()
    take = features, draws_of_a_row, group, reverses, balance
    load = _loader(data_dir, config, audio, take, batch_size, seed, host, hosts, readers)
    types = (tf.int16, tf.int32)
    # Step to its sound in wrong orders and its rows' features, or to what went wrong, of which
    # TensorFlow would keep the text.
    made: dict[int, list[dict]] = {}
    failures: dict[int, Exception] = {}

    def load_or_note(step: np.int64) -> tuple[np.ndarray, np.ndarray]:
        try:
            waveforms, lengths, *made[int(step)] = load(int(step))
            return waveforms, lengths
        except Exception as error:
            failures[int(step)] = error
            raise

    dataset = (
        tf.data.Dataset.range(start_step, np.iinfo(np.int64).max)
        .map(
            lambda step: tf.numpy_function(load_or_note, [step], types, stateful=False),
            num_parallel_calls=config.workers,
            deterministic=True,
        )
        .prefetch(config.prefetch)
    )
    source, broken = [dataset.as_numpy_iterator()], tf.errors.OpError

    def close():
        source.clear()
        readers.cache_clear()  # TensorFlow keeps `load` for ever, but no file shall stay open

    def batches():
        try:
            for step in count(start_step):
                if not source:
                    return
                try:
                    waveforms, lengths = next(source[0])
                except broken as error:
                    if failures:  # batches come in order: it is the first of those that failed
                        raise failures[min(failures)] from None
                    raise records.RecordsError(f"{data_dir}: {error}") from error
                sound, rows = made.pop(step)
                sound |= {"audio": waveforms, "lengths": lengths}
                if config.long_clips != "whole":
                    sound = {name: x for name, x in sound.items() if not name.endswith("lengths")}
                yield sound | collate(rows)
        finally:
            close()

    iterator = batches()
    # tf.data's threads call back into Python: they must be gone before the interpreter is.
    weakref.finalize(iterator, close)
    return iterator


def _loader(
    data_dir, config, audio, take, batch_size, seed, host, hosts, readers
) -> Callable[[int], tuple[np.ndarray, np.ndarray, dict, dict]]:
    """A function from a step to this host's rows of its batch.

    These are sound, lengths, what there is of sound in wrong orders, and features.
    """
    features, number_of_draws, group, reverses, balance = take
    from tensorflow import train

    mixture = [parse_share(item) for item in config.mixture]
    folders = [data_dir, *(folder for folder, _ in mixture)]
    shares = [share for _, share in mixture]
    batch_rows(0, batch_size, shares)  # which may refuse the shares
    splits = [_open(folder, config.split, audio.sample_rate, readers) for folder in folders]
    sizes = np.array([len(split) for split in splits])
    local = slice(host * batch_size // hosts, (host + 1) * batch_size // hosts)
    width = audio.clip_samples
    if config.long_clips == "whole":
        width = max(width, round(config.longest_seconds * audio.sample_rate))

    def load(step: int) -> tuple[np.ndarray, np.ndarray, dict, dict]:
        sets, positions = (x[local] for x in batch_rows(step, batch_size, shares, group))
        indices = shuffled(positions, sizes[sets], sets, seed)
        if balance is not None:
            indices[sets == 0] = balance.draw(positions[sets == 0], seed)
        numbers = draws(positions, sets, seed, 1 + number_of_draws)
        waveforms = _aligned((len(sets), width))
        lengths = np.zeros(len(sets), np.int32)
        chosen, reversed_sounds = [None] * len(sets), {}
        # File by file, each of which is opened once.
        for row in np.lexsort((indices, sets)).tolist():
            number, index = int(sets[row]), int(indices[row])
            (data,) = splits[number].read([index])
            try:
                cut, *others = numbers[row]
                record = train.Example.FromString(data).features.feature
                samples = _sound(record, "audio", width, audio, cut)
                chosen[row] = features(record, others)
                if reverses and chosen[row].pop("reverse"):
                    reversed_sounds[row] = _sound(record, "negative_audio", width, audio, cut)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                raise records.RecordsError(f"{splits[number].place(index)}: {reason}") from error
            lengths[row] = len(samples)
            waveforms[row, : len(samples)] = samples
            waveforms[row, len(samples) :] = 0
        further = {}
        if reverses:
            further = _in_slots(reversed_sounds, waveforms, lengths, group, reverses)
        return waveforms, lengths, further, stacked(chosen)

    return load


def _in_slots(
    sounds: dict[int, np.ndarray],
    waveforms: np.ndarray,
    lengths: np.ndarray,
    group: int,
    reverses: int,
) -> dict[str, np.ndarray]:
    """Sounds in a wrong order, by the rows that have one, as a batch has them: see `Task`."""
    slots = len(waveforms) // group * reverses
    found = np.empty((slots, waveforms.shape[1]), np.int16)
    of_slots, rows = np.empty(slots, np.int32), np.full(slots, -1, np.int32)
    for slot in range(slots):
        first, place = slot // reverses * group, slot % reverses
        there = [row for row in range(first, first + group) if row in sounds]
        if place < len(there):
            rows[slot] = there[place] - first
            samples = sounds[there[place]]
        else:  # silence would move the batch statistics
            samples = waveforms[first + place, : lengths[first + place]]
        of_slots[slot] = len(samples)
        found[slot, : len(samples)], found[slot, len(samples) :] = samples, 0
    return {"reverse_audio": found, "reverse_lengths": of_slots, "reverse_row": rows}


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


def _sound(record, name: str, width: int, audio: AudioConfig, cut: float) -> np.ndarray:
    """Samples of a record, a clip at least and `width` at most, cut at a place in [0, 1)."""
    if not record[name].bytes_list.value:
        raise ValueError(f"there is no {name}")
    samples = np.frombuffer(record[name].bytes_list.value[0], np.int16)
    return fill(truncate(samples, width, cut), audio.clip_samples, audio.fill)


def _open(data_dir, split: str, sample_rate: int, readers: Callable) -> Split:
    """The records to read by their index, after the data set has been checked."""
    records.check_rate(data_dir, sample_rate)
    opened = records.open_split(data_dir, split, readers)
    if not len(opened):
        raise records.RecordsError(f"{data_dir}: split {split} is empty")
    for layer in opened.layers:
        if not paths.is_local(paths.as_path(layer.files[0])):
            raise records.RecordsError(
                f"{layer.files[0]}: training reads records of this machine; copy the data set here"
            )
        if missing := missing_files(layer.files):
            raise records.RecordsError(f"{missing[0]}: missing shard; build it again")
    return opened
