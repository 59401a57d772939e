"""tf.data pipeline whose order is a pure function of (seed, step).

Batch `step` holds the samples at positions step * B ... step * B + B - 1 of an endless sequence of
epochs, each a stateless permutation of the split; a host reads its own slice of those positions. So
starting at step N costs what starting at 0 costs, and neither the batches nor the choices made for
a sample depend on the number of hosts. In a mixture each data set has such a sequence of its own.
With data.order=blocks an epoch is a permutation by blocks instead (clapjax/data/block_order.py).
Where labels are balanced, the sequence of the first data set is one of labels instead, and of each
label one of its records.
"""

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count

import numpy as np

from clapjax.audio.config import AudioConfig
from clapjax.data import paths, records
from clapjax.data.block_order import block_order
from clapjax.data.blocks import BlockReader
from clapjax.data.config import DataConfig
from clapjax.data.forms import check_form
from clapjax.data.label_index import LabelIndex
from clapjax.data.order import batch_rows, draws, parse_share, shuffled
from clapjax.data.shards import Split, missing_files, reader_pool
from clapjax.data.sounds import Room, room_for
from clapjax.memory import keep_memory


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
      data_dir: a finished data set, on this machine unless it is read by blocks.
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
      An iterator of {"audio": (b, clip_samples) int16, or (b, frames, mel_bins) float16 of records
      that hold log-mels} and what `collate` makes, b = batch_size / hosts; with `reverses`
      "reverse_audio" and "reverse_row", as `Task` has them. With long_clips "whole" the audio is of
      longest_seconds, silence behind each row's own "lengths": (b,) int32 samples.

    Raises:
      RecordsError: no such data set or split, another sample rate, form of sound or front end; from
        the iterator: a damaged shard or a record that lacks something, with its file and its place
        there.
      ValueError: the batch does not divide among the hosts, in whole groups, the mixture's shares
        are too many, or balanced labels are to be read by blocks.
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
    place = batch_size, seed, start_step, host, hosts
    load, room, end = _loader(data_dir, config, audio, take, place, readers)
    types = (tf.as_dtype(room.dtype), tf.int32)
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
        end()
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
    data_dir, config, audio, take, place, readers
) -> tuple[Callable[[int], tuple[np.ndarray, np.ndarray, dict, dict]], Room, Callable[[], None]]:
    """(A function from a step to this host's rows of its batch, what its sound is, its end).

    These are sound, lengths, what there is of sound in wrong orders, and features.
    """
    features, number_of_draws, group, reverses, balance = take
    batch_size, seed, start_step, host, hosts = place
    from tensorflow import train

    mixture = [parse_share(item) for item in config.mixture]
    folders = [data_dir, *(folder for folder, _ in mixture)]
    shares = [share for _, share in mixture]
    batch_rows(0, batch_size, shares)  # which may refuse the shares
    splits = [_open(folder, config, audio, readers) for folder in folders]
    room = room_for(_kind(folders, config, audio), config, audio)
    sizes = np.array([len(split) for split in splits])
    local = slice(host * batch_size // hosts, (host + 1) * batch_size // hosts)

    def rows_of(step: int) -> tuple[np.ndarray, np.ndarray]:
        return tuple(x[local] for x in batch_rows(step, batch_size, shares, group))

    def one_by_one(step: int) -> tuple[np.ndarray, Iterable[tuple[int, bytes]]]:
        sets, positions = rows_of(step)
        indices = shuffled(positions, sizes[sets], sets, seed)
        if balance is not None:
            indices[sets == 0] = balance.draw(positions[sets == 0], seed)
        # File by file, each of which is opened once.
        order = np.lexsort((indices, sets)).tolist()
        return indices, ((row, next(splits[sets[row]].read([indices[row]]))) for row in order)

    read, end = one_by_one, lambda: None
    if config.order == "blocks":
        if balance is not None:
            raise ValueError(
                "tagging.balanced draws one record here and one there: set "
                "--config.data.order=rows, or --config.tagging.balanced=False"
            )
        blocks = _by_blocks(splits, config, rows_of, shares, group, place)
        end = blocks.close

        def read(step: int) -> tuple[np.ndarray, Iterable[tuple[int, bytes]]]:
            indices, found = blocks.take(step)
            return indices, enumerate(found)

    def load(step: int) -> tuple[np.ndarray, np.ndarray, dict, dict]:
        sets, positions = rows_of(step)
        numbers = draws(positions, sets, seed, 1 + number_of_draws)
        sounds = room.empty(len(sets))
        lengths = np.zeros(len(sets), np.int32)
        chosen, reversed_sounds = [None] * len(sets), {}
        indices, data_of_rows = read(step)
        for row, data in data_of_rows:
            try:
                cut, *others = numbers[row]
                record = train.Example.FromString(data).features.feature
                sound = room.cut(record, cut)
                chosen[row] = features(record, others)
                if reverses and chosen[row].pop("reverse"):
                    reversed_sounds[row] = room.cut(record, cut, negative=True)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                where = splits[int(sets[row])].place(int(indices[row]))
                raise records.RecordsError(f"{where}: {reason}") from error
            lengths[row] = len(sound)
            room.put(sounds, row, sound)
        further = {}
        if reverses:
            further = _in_slots(reversed_sounds, sounds, lengths, group, reverses, room)
        return sounds, room.samples(lengths), further, stacked(chosen)

    return load, room, end


def _by_blocks(splits, config, rows_of, shares, group, place) -> BlockReader:
    """What reads a host's rows by blocks.

    Each set has its share of the window, so that all use theirs up in as many steps.
    """
    batch_size, seed, start_step, _, _ = place
    rows = [float(share if isinstance(share, int) else share * batch_size) for share in shares]
    rows.insert(0, batch_size - sum(rows))
    orders = [
        block_order(
            [length for length in split.layers[0].lengths if length],
            block_rows=config.block_rows,
            window_blocks=max(1, round(config.window_blocks * own / batch_size)),
            lanes=config.lanes,
            width=max(1, int(own) // group),
            number=number,
            seed=seed,
        )
        for number, (split, own) in enumerate(zip(splits, rows, strict=True))
    ]
    ahead = max(
        int(order.largest_window / own) + 2
        for order, own in zip(orders, rows, strict=True)
        if own > 0
    )
    return BlockReader(splits, orders, rows_of, config.reads, ahead, start_step)


def _in_slots(
    sounds: dict[int, np.ndarray],
    rows_sounds: np.ndarray,
    lengths: np.ndarray,
    group: int,
    reverses: int,
    room: Room,
) -> dict[str, np.ndarray]:
    """Sounds in a wrong order, by the rows that have one, as a batch has them: see `Task`."""
    slots = len(rows_sounds) // group * reverses
    found = room.empty(slots)
    of_slots, rows = np.empty(slots, np.int32), np.full(slots, -1, np.int32)
    for slot in range(slots):
        first, place = slot // reverses * group, slot % reverses
        there = [row for row in range(first, first + group) if row in sounds]
        if place < len(there):
            rows[slot] = there[place] - first
            sound = sounds[there[place]]
        else:  # silence would move the batch statistics
            sound = rows_sounds[first + place, : lengths[first + place]]
        of_slots[slot] = len(sound)
        room.put(found, slot, sound)
    of_slots = room.samples(of_slots)
    return {"reverse_audio": found, "reverse_lengths": of_slots, "reverse_row": rows}


def stacked(rows: Iterable[dict]) -> dict[str, np.ndarray]:
    """The features of rows as one array each; bytes as objects."""
    rows = list(rows)

    def column(name: str) -> np.ndarray:
        values = [row[name] for row in rows]
        return np.array(values, object if isinstance(values[0], bytes) else None)

    return {name: column(name) for name in rows[0]}


def _kind(folders: list, config: DataConfig, audio: AudioConfig) -> str:
    """What a batch holds of all the data sets: "pcm" or "mel"."""
    kinds = {
        folder: check_form(
            os.fspath(folder), records.read_form(folder), config.split, config.audio, audio
        )
        for folder in folders
    }
    if len(set(kinds.values())) > 1:
        held = ", ".join(f"{folder} {kind}" for folder, kind in kinds.items())
        raise records.RecordsError(
            f"data.mixture: log-mels and samples do not go into one batch ({held}); build all alike"
        )
    return next(iter(kinds.values()))


def _open(data_dir, config: DataConfig, audio: AudioConfig, readers: Callable) -> Split:
    """The records to read by their index, after the data set has been checked."""
    split = config.split
    records.check_rate(data_dir, audio.sample_rate)
    opened = records.open_split(data_dir, split, readers)
    if not len(opened):
        raise records.RecordsError(f"{data_dir}: split {split} is empty")
    for layer in opened.layers:
        if not paths.is_local(paths.as_path(layer.files[0])):
            if config.order == "blocks":
                continue
            raise records.RecordsError(
                f"{layer.files[0]}: one record here and one there is too slow to read from a "
                "bucket; set --config.data.order=blocks, or copy the data set to this machine"
            )
        if missing := missing_files(layer.files):
            raise records.RecordsError(f"{missing[0]}: missing shard; build it again")
    return opened
