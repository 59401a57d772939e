"""How near `clapjax records build` comes to the speed of decoding and resampling alone.

    python -m benchmarks.build_throughput --out DIR [--processes 2] [--clips 3000] [--rounds 3]

Makes a folder of FLAC and WAV clips of 10 s at 44.1 kHz with a table of captions, then, in turns
and in the same number of processes, decodes and resamples them all to 32 kHz, and builds records of
them. Both are timed from the start of the processes to their end, the build to its finished data
set. Prints clips/s of each and the ratio; status 1 where its median is under 0.8. Takes about
0.7 MB of disk a clip, some minutes on two cores.
"""

import argparse
import os
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FILE_RATE, RATE, SECONDS = 44_100, 32_000, 10
DISTINCT = 100  # files; the others are links to them
LEAST = 0.8


@dataclass(frozen=True)
class Decode:
    """The floor: what a build cannot do without."""

    leaves_out = True  # so that one process is another one too, as in a build

    def __call__(self, unit):
        """Decodes and resamples the clips of a unit."""
        for clip in unit.items:
            clip.read(RATE)
            yield


def make_folder(root: Path, clips: int) -> None:
    """Stereo FLAC and mono WAV files of noise under an envelope, and `train.csv`."""
    import soundfile

    root.mkdir(parents=True)
    generator = np.random.default_rng(0)
    envelope = 0.1 + np.abs(np.sin(np.linspace(0, 20, SECONDS * FILE_RATE)))
    lines = ["file,caption,label"]
    for number in range(clips):
        stereo, source = number % 2, number % DISTINCT
        name = f"{number:06d}.{'flac' if stereo else 'wav'}"
        if number < DISTINCT:
            noise = generator.normal(0, 0.05, (SECONDS * FILE_RATE, 1 + stereo))
            soundfile.write(
                root / name, np.cumsum(noise, axis=0) % 0.8 * envelope[:, None], FILE_RATE
            )
        else:
            os.link(root / f"{source:06d}{Path(name).suffix}", root / name)
        lines.append(f"{name},Sound {number} swells and fades,sound {source}")
    (root / "train.csv").write_text("\n".join(lines) + "\n")


def main() -> int:
    """Runs it and prints a line for each round."""
    from clapjax.data.build.builder import build_records
    from clapjax.data.build.config import SourceConfig
    from clapjax.data.build.processes import cores, run_units
    from clapjax.data.build.units import divide
    from clapjax.data.config import DataConfig
    from clapjax.data.sources import list_clips
    from clapjax.synthesis.mixup import MixupConfig

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path, help="a folder that is not there yet")
    parser.add_argument("--processes", type=int, default=cores())
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if args.out.exists():
        parser.error(f"{args.out}: is there already")
    make_folder(args.out / "audio", args.clips)
    source = SourceConfig(kind="folder", path=str(args.out / "audio"))
    silent = {"processes": args.processes, "progress": lambda items, total, what: items}
    ratios = []
    try:
        for number in range(args.rounds):
            began = time.perf_counter()
            clips, _ = list_clips("folder", args.out / "audio")
            units = divide("decoded", clips, 64)
            run_units(units, Decode(), "decoding", **silent)
            floor = args.clips / (time.perf_counter() - began)

            began, data_dir = time.perf_counter(), args.out / "records"
            result = build_records(
                source,
                MixupConfig(),
                DataConfig(),
                seed=0,
                sample_rate=RATE,
                data_dir=data_dir,
                **silent,
            )
            built = args.clips / (time.perf_counter() - began)
            if result.counts != {"train": args.clips}:
                raise AssertionError(f"built {result.counts}; {result.rejected[:3]}")
            shutil.rmtree(data_dir)
            ratios.append(built / floor)
            print(
                f"round {number + 1}: decode + resample {floor:.1f} clips/s, build {built:.1f} "
                f"clips/s, ratio {built / floor:.2f}",
                flush=True,
            )
    finally:
        shutil.rmtree(args.out)
    ratio = statistics.median(ratios)
    print(f"{args.processes} processes, {args.clips} clips: median ratio {ratio:.2f}")
    return 0 if ratio >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
