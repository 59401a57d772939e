"""The sounds of examples, kept beside the results for whoever reads the report."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clapjax.audio.files import float_to_int16
from clapjax.evaluation.benchmarks import Benchmark
from clapjax.evaluation.result import ITEMS, Result

RATE = 16_000  # Hz
SECONDS = 10.0  # of a clip that are kept


def keep_sounds(folder: Path, benchmark: Benchmark, results: Sequence[Result]) -> list[Result]:
    """Writes the sounds of the results' examples as FLAC.

    Args:
      folder: of results.json.
      benchmark: where the clips are.
      results: of it.

    Returns:
      The results, whose examples name the files.
    """
    import soundfile

    index = {clip.id: number for number, clip in enumerate(benchmark.clips)}
    (folder / ITEMS).mkdir(parents=True, exist_ok=True)

    def kept(sound):
        key = f"{benchmark.fingerprint} {sound.clip} {sound.negative}"
        name = f"{ITEMS}/{hashlib.sha256(key.encode()).hexdigest()[:16]}.flac"
        if not (folder / name).is_file():
            samples = benchmark.sound(index[sound.clip], sound.negative, RATE)
            if samples.dtype != "int16":
                samples = float_to_int16(samples)
            soundfile.write(folder / name, samples[: int(SECONDS * RATE)], RATE, format="FLAC")
        return replace(sound, file=name)

    return [
        replace(
            result,
            examples=tuple(
                replace(shown, sounds=tuple(map(kept, shown.sounds))) for shown in result.examples
            ),
        )
        for result in results
    ]
