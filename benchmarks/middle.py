"""What it costs to hear a clip from the middle of a long file.

    python -m benchmarks.middle

Ten minutes of noise at 44.1 kHz, of which a model of 48 kHz hears ten seconds: CPU time of decoding
the whole file and cutting it, and of going to its middle (`clapjax.audio.files.read_middle`), which
`long="truncate"` does.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from clapjax.audio.files import read_audio, read_middle
from clapjax.audio.fill import truncate

RATE, MODEL_RATE, CLIP = 44_100, 48_000, 480_000
MINUTES = 10
FORMATS = {"wav": "PCM_16", "flac": "PCM_16", "mp3": "MPEG_LAYER_III"}
TIMES = 3


def seconds_of(function: Callable) -> float:
    """CPU time, the least of several."""
    taken = []
    for _ in range(TIMES):
        start = time.process_time()
        function()
        taken.append(time.process_time() - start)
    return min(taken)


def main() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, MINUTES * 60 * RATE).astype(np.float32)
    print("| file | whole, CPU s | middle, CPU s | largest difference |\n|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for suffix, subtype in FORMATS.items():
            file = Path(folder) / f"a.{suffix}"
            soundfile.write(file, samples, RATE, subtype=subtype)
            whole = truncate(read_audio(file, MODEL_RATE), CLIP)
            _, middle = read_middle(file, MODEL_RATE, CLIP)
            costs = (
                seconds_of(lambda file=file: read_audio(file, MODEL_RATE)),
                seconds_of(lambda file=file: read_middle(file, MODEL_RATE, CLIP)),
            )
            cells = *(f"{cost:.3f}" for cost in costs), f"{np.abs(whole - middle).max():.1e}"
            print(f"| {suffix} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
