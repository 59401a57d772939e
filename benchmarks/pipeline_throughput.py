"""How fast the pipeline delivers batches, and whether a late start costs more than an early one.

    python -m benchmarks.pipeline_throughput [--clips 2000] [--batch 64] [--repeats 5]
    python -m benchmarks.pipeline_throughput --shards 8 5000 --clips 5000 --descriptors 256

Writes records of --seconds at 48 kHz (noise, which no format compresses) to a temporary folder, in
data sets of so many --shards each, reads them once so that they lie in the page cache, and prints,
the data sets in turn, clips per second into batches of --batch, tokens included, and the seconds to
the first batch from step 0 and from step 1,000,000. --descriptors is how many files this process
may have open from then on. Exits with 1 below --least clips/s, where a late start takes half as
long again, or where one data set comes at less than 0.9 of the speed of the first. To open a
file has its price: shards with one short clip each read more slowly.
"""

import argparse
import functools
import resource
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np

from clapjax.audio.config import AudioConfig
from clapjax.audio.host_mel import host_log_mel
from clapjax.data import records
from clapjax.data.config import DataConfig
from clapjax.data.forms import PCM, Form
from clapjax.data.pipeline import train_batches
from clapjax.data.schema import Example
from clapjax.data.tokenizer import load_tokenizer, train_tokenizer
from clapjax.tasks.texts import draw_texts, tokenised

LATE = 1_000_000  # step
RATE = 48_000  # Hz
CAPTION = "a dog barks, then rain falls"


def write(data_dir: Path, clips: int, shards: int, samples: int, form: Form = PCM) -> None:
    """Records as `clapjax records build` leaves them; log-mels of one sound, for they take long."""
    generator = np.random.default_rng(0)
    folder, encode = records.start_build(data_dir), records.serializer("train", form)
    mel = None
    if form.kind == "mel":
        noise = generator.integers(-9000, 9000, samples).astype(np.int16)
        mel = host_log_mel(noise, form.front_end)
    lengths = [clips * (n + 1) // shards - clips * n // shards for n in range(shards)]
    for shard, length in enumerate(lengths):
        writer = records.ShardWriter(folder, f"{shard}", 2**40)
        for index in range(length):
            audio = mel
            if mel is None:
                audio = generator.integers(-9000, 9000, samples).astype(np.int16)
            texts = (CAPTION,), ("rain falls, then a dog barks",)
            writer.write(encode(Example(f"{shard}-{index}", audio, RATE, *texts)))
        writer.close()
        (folder / writer.files[0][0]).rename(folder / records.shard_name("train", shard, shards))
    records.write_metadata(folder, [("train", lengths, 2 * clips * samples)], form)
    records.finish_build(folder, data_dir, {"sample_rate": RATE, "data": form.described()})
    train_tokenizer([CAPTION], data_dir / records.TOKENIZER_FOLDER, 300)


def captioned_batches(place, config: DataConfig, audio: AudioConfig, tokenizer, **order):
    """Batches as contrastive training takes them; `order`: batch_size, seed and start_step."""
    return train_batches(
        place,
        config,
        audio,
        functools.partial(draw_texts, "all"),
        functools.partial(tokenised, tokenizer, 77),
        draws_of_a_row=2,
        **order,
    )


def main() -> int:
    """Measures, prints, and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=10.0, help="96 kB of memory each")
    parser.add_argument("--shards", type=int, nargs="+", default=[8])
    parser.add_argument("--descriptors", type=int, help="files that may be open")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--least", type=float, default=1800.0, help="clips/s")
    args = parser.parse_args()
    samples, count = round(args.seconds * RATE), args.clips // args.batch
    audio = AudioConfig(clip_samples=samples)
    rates = {shards: [] for shards in args.shards}
    waits = {step: [] for step in (0, LATE)}
    with tempfile.TemporaryDirectory() as folder:
        for shards in args.shards:
            write(Path(folder, str(shards)), args.clips, shards, samples)
        tokenizer = load_tokenizer(Path(folder, str(shards), records.TOKENIZER_FOLDER))
        if args.descriptors:
            resource.setrlimit(resource.RLIMIT_NOFILE, (args.descriptors, args.descriptors))

        def start(shards: int, step: int):
            order = {"batch_size": args.batch, "seed": 0, "start_step": step}
            place = Path(folder, str(shards))
            return captioned_batches(place, DataConfig(), audio, tokenizer, **order)

        for shards in args.shards:
            for _ in islice(start(shards, 0), count):  # into the page cache
                pass
        for _ in range(args.repeats):
            for step, seconds in waits.items():
                began = time.perf_counter()
                batches = start(args.shards[0], step)
                next(batches)
                seconds.append(time.perf_counter() - began)
                batches.close()
            for shards, found in rates.items():
                batches = start(shards, 0)
                next(batches)
                began = time.perf_counter()
                for _ in islice(batches, count):
                    pass
                found.append(count * args.batch / (time.perf_counter() - began))
                batches.close()
    middle = {shards: statistics.median(found) for shards, found in rates.items()}
    for shards, rate in middle.items():
        print(f"{shards:,} shards: {rate:,.0f} clips/s into batches of {args.batch} (from "
              f"{min(rates[shards]):,.0f} to {max(rates[shards]):,.0f}), "
              f"{rate * samples * 2e-9:.2f} GB/s")  # fmt: skip
    early, late = (statistics.median(seconds) for seconds in waits.values())
    print(f"first batch from step 0: {early:.3f} s; from step {LATE:,}: {late:.3f} s")
    as_fast = min(middle.values()) >= max(args.least, 0.9 * middle[args.shards[0]])
    return 0 if as_fast and late <= 1.5 * early else 1


if __name__ == "__main__":
    sys.exit(main())
