"""tf.data pipeline whose order is a pure function of (seed, step).

Batch `step` holds the samples at positions step * B ... step * B + B - 1 of an endless sequence of
epochs, each a stateless permutation of the split; a host reads its own slice of those positions. So
starting at step N costs what starting at 0 costs, and neither the batches nor the choices made for
a sample depend on the number of hosts.
"""

import os
import weakref
from collections.abc import Iterator

import numpy as np

from clapjax.audio.config import AudioConfig
from clapjax.data import records
from clapjax.data.config import DataConfig
from clapjax.data.schema import features
from clapjax.data.tokenizer import tokenize

MAX_INDEX = 2**31 - 1


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
      data_dir: a finished data set in array_record format.
      config: split and parallelism.
      audio: clip length and fill mode; long clips are cropped at a keyed offset.
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
      they are unknown.

    Raises:
      RecordsError: no such data set or split, another format, or another sample rate; from the
        iterator: a damaged shard.
      ValueError: the batch does not divide among the hosts.
    """
    if batch_size % hosts or not 0 <= host < hosts:
        raise ValueError(f"batch_size {batch_size} does not divide among {hosts} hosts ({host})")
    dataset = _sample_dataset(
        data_dir, config, audio, batch_size, seed, start_step, host, hosts
    ).batch(batch_size // hosts, drop_remainder=True)
    source = [dataset.prefetch(config.prefetch).as_numpy_iterator()]
    import tensorflow as tf

    def batches():
        try:
            while source:
                yield _with_tokens(next(source[0]), tokenizer, max_length)
        except tf.errors.OpError as error:
            raise records.RecordsError(
                f"{data_dir}: a record cannot be read; see `clapjax records check {data_dir}`"
            ) from error
        finally:
            source.clear()

    iterator = batches()
    # tf.data's threads call back into Python: they must be gone before the interpreter is.
    weakref.finalize(iterator, source.clear)
    return iterator


def _with_tokens(batch: dict, tokenizer, max_length: int) -> dict[str, np.ndarray]:
    texts = [text.decode() for text in np.concatenate([batch["caption"], batch["negative"]])]
    ids, mask = tokenize(tokenizer, texts, max_length)
    rows = len(batch["caption"])
    return {
        "audio": batch["audio"],
        "input_ids": ids[:rows],
        "mask": mask[:rows],
        "negative_ids": ids[rows:],
        "negative_mask": mask[rows:],
        "has_negative": batch["has_negative"],
        "events": batch["events"],
    }


def _sample_dataset(data_dir, config, audio, batch_size, seed, start_step, host, hosts):
    """A tf.data.Dataset of this host's samples, in order, from `start_step` on."""
    import tensorflow as tf

    read = _open_reader(data_dir, config.split, audio.sample_rate)
    size = records.split_size(data_dir, config.split)
    local = batch_size // hosts
    parser = features()

    def position(step):  # this host's positions in the endless sequence
        return step * batch_size + host * local + tf.range(local, dtype=tf.int64)

    def sample(position):
        epoch = tf.cast(position // size, tf.int32)
        index = tf.random.experimental.index_shuffle(
            tf.cast(position % size, tf.int32), tf.stack([seed, epoch]), size - 1
        )
        serialized = tf.numpy_function(read, [index], tf.string, stateful=False)
        record = parser.deserialize_example(tf.ensure_shape(serialized, ()))
        key = tf.stack([seed, tf.cast(position % MAX_INDEX, tf.int32)])
        return _choose(record, audio, key)

    steps = tf.data.Dataset.range(start_step, np.iinfo(np.int64).max)
    positions = steps.flat_map(lambda step: tf.data.Dataset.from_tensor_slices(position(step)))
    return positions.map(sample, num_parallel_calls=config.workers, deterministic=True)


def _choose(record: dict, audio: AudioConfig, key) -> dict:
    """One caption, one negative and one clip-long waveform of a record, chosen by `key`."""
    import tensorflow as tf

    def draw(count, salt: int):
        seed, position = tf.unstack(key)
        mixed = tf.bitwise.bitwise_xor(seed, salt * 0x5BD1E995 % MAX_INDEX)
        return tf.random.stateless_uniform((), tf.stack([mixed, position]), 0, count, tf.int32)

    def pick(texts, salt):
        count = tf.shape(texts)[0]
        return tf.cond(count > 0, lambda: texts[draw(tf.maximum(count, 1), salt)], lambda: "")

    samples = record["audio"]
    spare = tf.maximum(tf.size(samples) - audio.clip_samples, 0)
    start = draw(spare + 1, 3)
    samples = fill(samples[start : start + audio.clip_samples], audio)
    return {
        "audio": tf.ensure_shape(samples, (audio.clip_samples,)),
        "caption": pick(record["captions"], 1),
        "negative": pick(record["negative_captions"], 2),
        "has_negative": tf.shape(record["negative_captions"])[0] > 0,
        "events": _events_id(record["events"]),
    }


def _events_id(events):
    """() int32: a hash of the sequence of events, 1 ... 2**31 - 1, or 0 where there is none."""
    import tensorflow as tf

    joined = tf.strings.reduce_join(events, separator="\n")
    bucket = tf.strings.to_hash_bucket_fast(joined, MAX_INDEX - 1)
    return tf.where(tf.size(events) > 0, tf.cast(bucket, tf.int32) + 1, 0)


def fill(samples, audio: AudioConfig):
    """`clapjax.audio.fill.fill` as TensorFlow operations, for (T,) T <= clip_samples."""
    import tensorflow as tf

    length = tf.maximum(tf.size(samples), 1)
    if audio.fill == "pad":
        copies = 1
    else:
        copies = audio.clip_samples // length + (1 if audio.fill == "repeat" else 0)
    tiled = tf.tile(samples, [copies])[: audio.clip_samples]
    return tf.pad(tiled, [[0, audio.clip_samples - tf.size(tiled)]])


def _open_reader(data_dir, split: str, sample_rate: int):
    """A function from record index to serialised bytes, after the data set has been checked."""
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
    try:
        source = ArrayRecordDataSource(records.shard_paths(data_dir, split))
    except RuntimeError as error:
        raise records.RecordsError(
            f"{data_dir}: damaged or missing shard ({error}); build it again"
        ) from error

    def read(index: np.int32) -> bytes:
        return source[int(index)]

    return read
