"""What the forms of records take and give: bytes, CPU, and clips a second.

    python -m benchmarks.forms [--esc10 FOLDER] [--repeats 5]

Builds the embedded sounds, and ESC-10 where its folder is named, as PCM, FLAC and log-mels for the
default front end (10 s at 48 kHz), and prints of each the bytes of a training record, clips per
second into batches of 32 (all in turn, the middle of --repeats), and CPU milliseconds of a clip of
10 s to read and, of all records, to build. Exits with 1 where a batch of FLAC is not that of PCM,
bit for bit, or a log-mel of 10 s takes more than 130 kB.
"""

import argparse
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from benchmarks.pipeline_throughput import captioned_batches
from clapjax.audio.config import AudioConfig
from clapjax.data import records
from clapjax.data.build.builder import build_records
from clapjax.data.build.config import SourceConfig
from clapjax.data.config import DataConfig
from clapjax.data.forms import KINDS
from clapjax.data.tokenizer import load_tokenizer
from clapjax.synthesis.mixup import MixupConfig

BATCH, STEPS = 32, 16
MOST_BYTES = 130_000


def _build(source: SourceConfig, kind: str, data_dir: Path) -> float:
    """CPU-seconds that it took."""
    began, audio = time.process_time(), AudioConfig()
    mixup = MixupConfig(train_mixtures=200, test_mixtures=8, clip_seconds=10.0)
    config = DataConfig(audio=kind)
    settings = {"seed": 0, "sample_rate": audio.sample_rate, "data_dir": data_dir, "audio": audio}
    build_records(source, mixup, config, **settings)
    return time.process_time() - began


def _batches(data_dir: Path, seed: int):
    tokenizer = load_tokenizer(data_dir / records.TOKENIZER_FOLDER)
    order = {"batch_size": BATCH, "seed": seed}
    return captioned_batches(data_dir, DataConfig(), AudioConfig(), tokenizer, **order)


def _compare(name: str, source: SourceConfig, root: Path, repeats: int) -> bool:
    """Prints the rows of a source; whether all is as it must be."""
    built = {kind: _build(source, kind, root / kind) for kind in KINDS}
    rates, costs = {kind: [] for kind in KINDS}, {kind: [] for kind in KINDS}
    same = True
    for seed in range(repeats):
        for kind in KINDS:
            batches = _batches(root / kind, seed)
            next(batches)
            began, worked = time.perf_counter(), time.process_time()
            for _ in islice(batches, STEPS):
                pass
            rates[kind].append(STEPS * BATCH / (time.perf_counter() - began))
            costs[kind].append((time.process_time() - worked) / (STEPS * BATCH))
            batches.close()
        pcm, flac = (_batches(root / kind, seed) for kind in ("pcm", "flac"))
        same &= all(
            (ours[name] == theirs[name]).all()
            for ours, theirs in islice(zip(pcm, flac, strict=True), 2)
            for name in ours
        )
        pcm.close()
        flac.close()
    largest = 0
    for kind in KINDS:
        info = records.open_builder(root / kind).info.splits["train"]
        every = sum(
            one.num_examples for one in records.open_builder(root / kind).info.splits.values()
        )
        size = info.num_bytes / info.num_examples
        largest = size if kind == "mel" else largest
        print(
            f"| {name} | {kind} | {size:,.0f} | {statistics.median(rates[kind]):,.0f} | "
            f"{1000 * statistics.median(costs[kind]):.2f} | {1000 * built[kind] / every:.0f} |",
            flush=True,
        )
    return same and largest <= MOST_BYTES


def main() -> int:
    """Measures, prints, and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--esc10", help="its folder, in the layout of ESC-50")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    sources = {"embedded": SourceConfig(mode="mixup", sounds_per_fold=4)}
    if args.esc10:
        sources["ESC-10"] = SourceConfig(kind="esc50", path=args.esc10, mode="direct")
    print("| sounds | form | bytes a clip | clips/s | CPU ms to read | CPU ms to build |")
    print("|---|---|---|---|---|---|", flush=True)
    fine = True
    for name, source in sources.items():
        with tempfile.TemporaryDirectory() as folder:
            fine &= _compare(name, source, Path(folder), args.repeats)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
