"""How fast the pipeline delivers batches, and whether a late start costs more than an early one.

    python -m benchmarks.pipeline_throughput [--clips 2000] [--batch 64] [--repeats 5]

Writes records of 10-second clips at 48 kHz (noise, which no format compresses) to a temporary
folder, reads them once so that they lie in the page cache, and prints clips per second into batches
of --batch, tokens included, and the seconds to the first batch from step 0 and from step 1,000,000,
in turn. Exits with 1 below 1,800 clips/s, or where the late start takes half as long again.
"""

import argparse
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np

from clapjax.audio.config import AudioConfig
from clapjax.data import records
from clapjax.data.config import DataConfig
from clapjax.data.pipeline import train_batches
from clapjax.data.schema import Example
from clapjax.data.tokenizer import load_tokenizer, train_tokenizer

LEAST, LATE = 1800, 1_000_000  # clips/s, step
CAPTION = "a dog barks, then rain falls"


def write(data_dir: Path, clips: int) -> None:
    """Records as `clapjax records build` leaves them."""
    generator = np.random.default_rng(0)

    def examples():
        for index in range(clips):
            audio = generator.integers(-9000, 9000, 480_000).astype(np.int16)
            yield Example(str(index), audio, 48_000, (CAPTION,), ("rain falls, then a dog barks",))

    folder = records.start_build(data_dir)
    written = records.write_split(folder, "train", examples(), clips, "array_record", 8)
    records.write_metadata(folder, [written], "array_record")
    build = {"data": {"format": "array_record"}, "sample_rate": 48_000}
    records.finish_build(folder, data_dir, build)
    train_tokenizer([CAPTION], data_dir / records.TOKENIZER_FOLDER, 300)


def main() -> int:
    """Measures, prints, and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=2000, help="0.96 MB of memory each")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "records"
        write(data_dir, args.clips)
        tokenizer = load_tokenizer(data_dir / records.TOKENIZER_FOLDER)

        def start(step: int):
            settings = {"batch_size": args.batch, "seed": 0, "max_length": 77, "start_step": step}
            return train_batches(data_dir, DataConfig(), AudioConfig(), tokenizer, **settings)

        count = args.clips // args.batch
        for _ in islice(start(0), count):  # into the page cache
            pass
        rates, waits = [], {0: [], LATE: []}
        for _ in range(args.repeats):
            for step, seconds in waits.items():
                began = time.perf_counter()
                batches = start(step)
                next(batches)
                seconds.append(time.perf_counter() - began)
                batches.close()
            batches = start(0)
            next(batches)
            began = time.perf_counter()
            for _ in islice(batches, count):
                pass
            rates.append(count * args.batch / (time.perf_counter() - began))
            batches.close()
    rate = statistics.median(rates)
    early, late = (statistics.median(seconds) for seconds in waits.values())
    print(f"{rate:,.0f} clips/s into batches of {args.batch} (from {min(rates):,.0f} to "
          f"{max(rates):,.0f}), {rate * 0.96e-3:.2f} GB/s")  # fmt: skip
    print(f"first batch from step 0: {early:.3f} s; from step {LATE:,}: {late:.3f} s")
    return 0 if rate >= LEAST and late <= 1.5 * early else 1


if __name__ == "__main__":
    sys.exit(main())
