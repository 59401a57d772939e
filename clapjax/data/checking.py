"""Reads every record of a data set and lists what is wrong: shard by shard, in processes."""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor

from clapjax.data.records import open_builder, open_split, parser
from clapjax.data.shards import RecordsError, Shards, Split, merged, reader_pool

Progress = Callable[[Iterable, int, str], Iterable]


def check(
    data_dir: str | os.PathLike,
    processes: int = 1,
    progress: Progress = lambda items, total, what: items,
) -> list[str]:
    """What is wrong with a data set; empty where it is sound.

    Args:
      data_dir: the data set, here or in a bucket.
      processes: that read shards; 1: this one.
      progress: as in `build_records`; it counts shards.

    Raises:
      RecordsError: not a finished data set, or not that of its audio.
    """
    splits = open_builder(data_dir).info.splits
    shards, found, ids = [], [], set()
    for split in splits:
        layers = open_split(data_dir, split).layers
        for number in range(len(layers[0].files)):
            shards.append((split, tuple(layer.only(number) for layer in layers)))
    last = {split: number for number, (split, _) in enumerate(shards)}
    counts = dict.fromkeys(splits, 0)
    with contextlib.ExitStack() as stack:
        run = map
        if processes > 1:
            context = multiprocessing.get_context("spawn")  # TensorFlow's threads survive no fork
            run = stack.enter_context(ProcessPoolExecutor(processes, context)).map
        looked = progress(run(_check_shard, shards), len(shards), "shards checked")
        for number, ((split, _), (problems, own)) in enumerate(zip(shards, looked, strict=True)):
            found += problems
            counts[split] += len(own)
            for id in own:
                if id in ids:
                    found.append(f"{split}/{id}: id is not unique")
                ids.add(id)
            announced = splits[split].num_examples
            if number == last[split] and counts[split] != announced:
                found.append(f"{split}: {counts[split]} records readable, {announced} announced")
    return found


def _check_shard(shard: tuple[str, tuple[Shards, ...]]) -> tuple[list[str], list[str]]:
    """(What is wrong with a shard, the ids of those of its records that can be read)."""
    split, layers = shard
    whole, parse, found, ids = Split(layers, reader_pool()), parser(), [], []
    try:
        for index, parts in enumerate(whole.scan_layers()):
            try:
                example = parse(merged(parts))
                below = {parse(part).id for part in parts[1:]} - {example.id}
            except RecordsError as error:
                found.append(f"{whole.place(index)}: {error}")
                continue
            ids.append(example.id)
            found += [f"{split}/{example.id}: lies over the audio of {id}" for id in below]
            found += [f"{split}/{example.id}: {problem}" for problem in example.problems()]
    except RecordsError as error:
        found.append(str(error))
    return found, ids
