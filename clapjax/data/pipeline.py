"""tf.data pipeline whose order is a pure function of (seed, step).

Batch `step` holds the samples at positions step * B ... step * B + B - 1 of an endless sequence of
epochs, each a stateless permutation of the split; a host reads its own slice of those positions. So
starting at step N costs what starting at 0 costs, and neither the batches nor the choices made for
a sample depend on the number of hosts. In a mixture each data set has such a sequence of its own.
"""

import os
import weakref
import zlib
from collections.abc import Callable, Iterator

import numpy as np

from clapjax.audio.config import AudioConfig
from clapjax.audio.fill import fill, truncate
from clapjax.data import paths, records
from clapjax.data.config import DataConfig
from clapjax.data.order import batch_rows, draws, parse_share, shuffled
from clapjax.data.selection import select_captions
from clapjax.data.shards import Split, missing_files, reader_pool
from clapjax.data.tokenizer import tokenize
from clapjax.memory import keep_memory

ALIGNMENT = 64  # bytes, Eigen's
NAMES = ("audio", "lengths", "caption", "negative", "has_negative", "events")
NEEDED = ("audio", "captions", "provenance")  # of a record
LARGEST = 2**31 - 1  # int32


def train_batches(
    data_dir: str | os.PathLike,
    config: DataConfig,
    audio: AudioConfig,
    tokenizer,
    *,
    max_length: int,
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
      tokenizer: a `transformers` tokenizer.
      max_length: tokens per caption.
      batch_size: global; host h of n reads rows h * B / n ... (h + 1) * B / n - 1.
      seed: of order, crops and caption choice.
      start_step: first step.
      host, hosts: this host's place.

    Returns:
      An iterator of {"audio": (b, clip_samples) int16, "input_ids", "mask", "negative_ids",
      "negative_mask": (b, max_length) int32, "has_negative": (b,) bool, "events": (b,) int32},
      b = batch_size / hosts; equal positive "events" mean the same events in the same order, 0 that
      they are unknown. With long_clips "whole" the audio is (b, longest_seconds), zeros behind each
      row's own "lengths": (b,) int32 samples.

    Raises:
      RecordsError: no such data set or split, or another sample rate; from the iterator: a damaged
        shard or a record that lacks something, with its file and its place there.
      ValueError: the batch does not divide among the hosts, or the mixture's shares are too many.
    """
    if batch_size % hosts or not 0 <= host < hosts:
        raise ValueError(f"batch_size {batch_size} does not divide among {hosts} hosts ({host})")
    import tensorflow as tf

    keep_memory()  # else half of the time goes into page faults
    load = _loader(data_dir, config, audio, batch_size, seed, host, hosts)
    types = (tf.int16, tf.int32, tf.string, tf.string, tf.bool, tf.int32)
    failures = {}  # step to what went wrong, of which TensorFlow would keep the text alone

    def load_or_note(step: np.int64) -> tuple:
        try:
            return load(int(step))
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

    def batches():
        try:
            while source:
                try:
                    made = next(source[0])
                except broken as error:
                    if failures:  # batches come in order: it is the first of those that failed
                        raise failures[min(failures)] from None
                    raise records.RecordsError(f"{data_dir}: {error}") from error
                rows = dict(zip(NAMES, made, strict=True))
                if config.long_clips == "cut":
                    del rows["lengths"]
                yield _with_tokens(rows, tokenizer, max_length)
        finally:
            source.clear()

    iterator = batches()
    # tf.data's threads call back into Python: they must be gone before the interpreter is.
    weakref.finalize(iterator, source.clear)
    return iterator


def _with_tokens(batch: dict, tokenizer, max_length: int) -> dict[str, np.ndarray]:
    texts = [text.decode() for text in (*batch.pop("caption"), *batch.pop("negative"))]
    ids, mask = tokenize(tokenizer, texts, max_length)
    rows = len(ids) // 2
    return batch | {
        "input_ids": ids[:rows],
        "mask": mask[:rows],
        "negative_ids": ids[rows:],
        "negative_mask": mask[rows:],
    }


def _loader(data_dir, config, audio, batch_size, seed, host, hosts) -> Callable[[int], tuple]:
    """A function from a step to this host's rows of its batch, as NAMES has them."""
    mixture = [parse_share(item) for item in config.mixture]
    folders = [data_dir, *(folder for folder, _ in mixture)]
    shares = [share for _, share in mixture]
    batch_rows(0, batch_size, shares)  # which may refuse the shares
    readers = reader_pool()
    splits = [_open(folder, config.split, audio.sample_rate, readers) for folder in folders]
    sizes = np.array([len(split) for split in splits])
    local = slice(host * batch_size // hosts, (host + 1) * batch_size // hosts)
    width = audio.clip_samples
    if config.long_clips == "whole":
        width = max(width, round(config.longest_seconds * audio.sample_rate))

    def load(step: int) -> tuple:
        sets, positions = (x[local] for x in batch_rows(step, batch_size, shares))
        indices = shuffled(positions, sizes[sets], sets, seed)
        numbers = draws(positions, sets, seed, 3)
        waveforms = _aligned((len(sets), width))
        lengths = np.zeros(len(sets), np.int32)
        chosen = [None] * len(sets)
        # File by file, each of which is opened once.
        for row in np.lexsort((indices, sets)).tolist():
            number, index = int(sets[row]), int(indices[row])
            (data,) = splits[number].read([index])
            try:
                samples, chosen[row] = _sample(data, width, audio, config, *numbers[row])
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                raise records.RecordsError(f"{splits[number].place(index)}: {reason}") from error
            lengths[row] = len(samples)
            waveforms[row, : len(samples)] = samples
            waveforms[row, len(samples) :] = 0
        caption, negative, has_negative, events = zip(*chosen, strict=True)
        return (
            waveforms,
            lengths,
            np.array(caption, object),
            np.array(negative, object),
            np.array(has_negative),
            np.array(events, np.int32),
        )

    return load


def _aligned(shape: tuple[int, int]) -> np.ndarray:
    """An int16 array that begins where TensorFlow takes one over without copying it."""
    size = 2 * shape[0] * shape[1]
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(np.int16).reshape(shape)


def _sample(
    data: bytes,
    width: int,
    audio: AudioConfig,
    config: DataConfig,
    cut: float,
    first: float,
    second: float,
) -> tuple[np.ndarray, tuple[bytes, bytes, bool, int]]:
    """Samples of a serialised record, a clip at least and `width` at most, and its `_choose`.

    What is cut out and chosen depends on three random numbers in [0, 1).
    """
    from tensorflow import train

    record = train.Example.FromString(data).features.feature
    for name in NEEDED:
        if not record[name].bytes_list.value:
            raise ValueError(f"there is no {name}")
    samples = np.frombuffer(record["audio"].bytes_list.value[0], np.int16)
    samples = fill(truncate(samples, width, cut), audio.clip_samples, audio.fill)
    return samples, _choose(record, config.text_augment_selection, first, second)


def _choose(record, selection: str, first: float, second: float) -> tuple[bytes, bytes, bool, int]:
    """A caption, a negative or b"", whether there is one, and a number for the events' sequence."""
    kinds = record["provenance"].bytes_list.value[0].decode()
    captions = select_captions(record["captions"].bytes_list.value, kinds, selection)
    negatives = record["negative_captions"].bytes_list.value
    events = record["events"].bytes_list.value
    caption = captions[int(first * len(captions))]
    negative = negatives[int(second * len(negatives))] if negatives else b""
    for text in (caption, negative):
        text.decode()  # fails here, where it is known whose they are
    return (
        caption,
        negative,
        bool(negatives),
        zlib.crc32(b"\n".join(events)) % LARGEST + 1 if events else 0,
    )


def _open(data_dir, split: str, sample_rate: int, readers: Callable) -> Split:
    """The records to read by their index, after the data set has been checked."""
    found = records.read_build(data_dir)["sample_rate"]
    if found != sample_rate:
        raise records.RecordsError(
            f"{data_dir}: records are at {found} Hz, the model wants {sample_rate}; "
            "build them with this config"
        )
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
