"""The sounds of examples beside the results."""

import resource

import numpy as np
import pytest
import soundfile

from clapjax.evaluation.benchmarks import Judged
from clapjax.evaluation.result import (
    Metric,
    Result,
    Said,
    Shown,
    Sound,
    read_results,
    write_results,
)
from clapjax.evaluation.sounds import RATE, SECONDS, keep_sounds
from tests.evaluation.models import benchmark


def test_the_right_sounds_are_kept(tmp_path):
    level = {False: 300, True: -300}

    def sounds(rate, first=0):
        assert rate == RATE
        for index in range(first, 3):
            for wrong in (False, True):
                yield index, wrong, np.full(20 * RATE, level[wrong] + index, np.int16)

    said = (Said("a dog", 0.5, True),)
    shown = Shown("worst", (Sound("clip 2", False, said), Sound("clip 1", True, said)))
    told = {"data": "f", "split": "test"}
    metrics = {"text_to_audio": Metric(1, 0, 1)}
    items = {"margin": np.zeros(1)}
    result = Result("m", "set", "t_classify", 1, 0.5, metrics, told, items, (shown,))
    clips = [Judged(id=f"clip {i}") for i in range(3)]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:  # half a file must not be taken for the sound the next time
        with pytest.raises(OSError, match=f"File too large: '{tmp_path}/items/.*flac'"):
            keep_sounds(tmp_path, [benchmark(clips, sounds)], [result])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "items").iterdir()) == []
    write_results(tmp_path, keep_sounds(tmp_path, [benchmark(clips, sounds)], [result]))
    ((kept,),) = (found.examples for found in read_results(tmp_path))
    for sound, value in zip(kept.sounds, (302, -299), strict=True):
        samples, rate = soundfile.read(tmp_path / sound.file, dtype="int16")
        assert rate == RATE and samples.size == SECONDS * RATE
        np.testing.assert_array_equal(samples, value)
    # Of the next results nothing is left over.
    write_results(tmp_path, [])
    assert list((tmp_path / "items").iterdir()) == []
