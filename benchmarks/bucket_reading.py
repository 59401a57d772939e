"""How fast records are read by blocks from a bucket whose server takes its time.

    python -m benchmarks.bucket_reading [--delay 0.06] [--clips 4096] [--least 1000]

Writes records of 10 s at 48 kHz (noise), as log-mels or in another --form, to a temporary folder,
serves it as a bucket that waits so long before each answer, and prints clips per second into
batches, tokens included, and the seconds to the first batch from step 0 and from step 1,000,000,
in turn. Exits with 1 below --least clips/s, or where a late start takes half as long again.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from benchmarks.pipeline_throughput import LATE, captioned_batches, write
from benchmarks.slow_bucket import BUCKET, slow_bucket
from clapjax.audio.config import AudioConfig
from clapjax.data import records
from clapjax.data.config import DataConfig
from clapjax.data.forms import KINDS, Form
from clapjax.data.tokenizer import load_tokenizer


def main() -> int:
    """Measures, prints, and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--delay", type=float, default=0.06, help="s before each answer")
    parser.add_argument("--clips", type=int, default=4096)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--form", choices=KINDS, default="mel")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--reads", type=int, default=DataConfig().reads)
    parser.add_argument("--workers", type=int, default=DataConfig().workers)
    parser.add_argument("--least", type=float, default=1000.0, help="clips/s")
    args = parser.parse_args()
    audio, count = AudioConfig(), args.clips // args.batch
    config = DataConfig(order="blocks", reads=args.reads, workers=args.workers)
    rates, costs, waits = [], [], {0: [], LATE: []}
    with tempfile.TemporaryDirectory() as folder:
        form = Form(args.form, audio, ("train",))
        write(Path(folder, "records"), args.clips, args.shards, audio.clip_samples, form)
        size = sum(file.stat().st_size for file in Path(folder, "records").iterdir())
        tokenizer = load_tokenizer(Path(folder, "records", records.TOKENIZER_FOLDER))
        with slow_bucket(Path(folder), args.delay) as environment:
            os.environ.update(environment)

            def start(step: int):
                order = {"batch_size": args.batch, "seed": 0, "start_step": step}
                place = f"s3://{BUCKET}/records"
                return captioned_batches(place, config, audio, tokenizer, **order)

            batches = start(0)  # imports, and connections
            next(batches)
            batches.close()
            for _ in range(args.repeats):
                for step, seconds in waits.items():
                    began = time.perf_counter()
                    batches = start(step)
                    next(batches)
                    seconds.append(time.perf_counter() - began)
                    batches.close()
                batches = start(0)
                next(batches)
                began, worked = time.perf_counter(), time.process_time()
                for _ in islice(batches, 2 * count):  # two epochs
                    pass
                rates.append(2 * count * args.batch / (time.perf_counter() - began))
                costs.append((time.process_time() - worked) / (2 * count * args.batch))
                batches.close()
    rate = statistics.median(rates)
    print(
        f"{args.form}, {1000 * args.delay:.0f} ms an answer, {config.reads} reads of "
        f"{config.block_rows} records at once: {rate:,.0f} clips/s into batches of {args.batch} "
        f"(from {min(rates):,.0f} to {max(rates):,.0f}), {rate * size / args.clips / 1e6:,.0f} MB/s"
    )
    print(f"{1000 * statistics.median(costs):.2f} ms of CPU a clip, the server's not counted")
    early, late = (statistics.median(seconds) for seconds in waits.values())
    print(f"first batch from step 0: {early:.3f} s; from step {LATE:,}: {late:.3f} s")
    return 0 if rate >= args.least and late <= 1.5 * early else 1


if __name__ == "__main__":
    sys.exit(main())
