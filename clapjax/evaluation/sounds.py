"""The sounds of examples, kept beside the results for whoever reads the report."""

import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from clapjax.audio.files import float_to_int16
from clapjax.data.paths import write_bytes
from clapjax.evaluation.benchmarks import Benchmark
from clapjax.evaluation.result import ITEMS, Result, Sound

RATE = 16_000  # Hz
SECONDS = 10.0  # of a clip that are kept


def keep_sounds(
    folder: Path, benchmarks: Iterable[Benchmark], results: Sequence[Result]
) -> list[Result]:
    """Writes the sounds of the results' examples as FLAC.

    Args:
      folder: of results.json.
      benchmarks: where the clips are.
      results: of these.

    Returns:
      The results, whose examples name the files.
    """
    import soundfile

    by_key = {benchmark.key: benchmark for benchmark in benchmarks}
    index = {
        (key, clip.id): number
        for key, benchmark in by_key.items()
        for number, clip in enumerate(benchmark.clips)
    }
    (folder / ITEMS).mkdir(parents=True, exist_ok=True)

    def kept(key: tuple, sound: Sound) -> Sound:
        said = repr((key, sound.clip, sound.negative))
        name = f"{ITEMS}/{hashlib.sha256(said.encode()).hexdigest()[:16]}.flac"
        if not (folder / name).is_file():
            place = index[key, sound.clip]
            samples = by_key[key].sound(place, sound.negative, RATE)[: int(SECONDS * RATE)]
            if samples.dtype != np.int16:
                samples = float_to_int16(samples)
            written = io.BytesIO()
            soundfile.write(written, samples, RATE, format="FLAC")
            write_bytes(folder / name, written.getvalue())
        return replace(sound, file=name)

    def with_files(result: Result) -> Result:
        key = result.provenance["data"], result.provenance["split"]
        return replace(
            result,
            examples=tuple(
                replace(shown, sounds=tuple(kept(key, sound) for sound in shown.sounds))
                for shown in result.examples
            ),
        )

    return list(map(with_files, results))
