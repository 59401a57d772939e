"""What every task makes of embeddings that are no numbers, and of sets with one class."""

import dataclasses

import numpy as np
import pytest

from clapjax.evaluation import captioning, groups, order, probe, retrieval, zero_shot
from clapjax.evaluation.benchmarks import Judged
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.generation import Heard, generation
from clapjax.evaluation.statistics import compare, interval
from clapjax.evaluation.tagging import tagging
from tests.evaluation.models import benchmark, embedded, unit

CLIPS = [
    Judged(
        id=str(i),
        captions=(f"t{i}",),
        kinds=("human",),
        negative_captions=(f"t{i ^ 1}",),
        negative_kinds=("rules",),
        labels=("ab"[i % 2],),
        origin=f"pair {i // 2}",
        fold=i // 2,
    )
    for i in range(6)
]
TEXTS = dict(zip((*(f"t{i}" for i in range(6)), "a", "b"), unit(8, 4, seed=1), strict=True))
SETTINGS = EvaluationConfig(template="{}")


def captions_of(known, settings):
    return captioning.captioning(
        ["a dog"] * 6, [["a cat"]] * 6, (known.audio, known.embed_text([f"t{i}" for i in range(6)]))
    )


def tags_of(known, settings):
    return tagging(known.audio, tuple("abcd"), known.benchmark, range(6), "m", {})


def sounds_of(known, settings):
    return generation(Heard(unit(6, 4, seed=2)), Heard(known.audio))


TASKS = {
    "T-Classify": order.run,
    "retrieval": retrieval.run,
    "zero-shot": zero_shot.run,
    "groups": groups.run,
    "probe": probe.run,
    "captioning": captions_of,
    "tagging": tags_of,
    "generation": sounds_of,
}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("task", TASKS)
def test_what_is_no_number_is_refused_in_one_line(task, bad):
    audio = unit(6, 4)
    audio[2, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinite") as error:
        TASKS[task](embedded(CLIPS, audio, TEXTS), SETTINGS)
    assert "\n" not in str(error.value)


def test_one_class_is_always_right_and_proves_little():
    clips = [dataclasses.replace(clip, labels=("a",)) for clip in CLIPS]
    (found,) = zero_shot.run(embedded(clips, unit(6, 4), TEXTS), SETTINGS)
    assert found.chance == 1 and found.metrics["accuracy"].value == 1
    assert found.metrics["accuracy"].low < 0.7 and found.metrics["mean_class_recall"].value == 1


def test_a_class_without_clips_is_in_no_mean():
    """A tagger's label that no clip has counts neither for nor against it."""
    scores = np.eye(6, 4)[[0, 1] * 3]
    precision, accuracy = tagging(scores, tuple("abcd"), benchmark(CLIPS), range(6), "m", {})
    assert precision.metrics["mAP"].value == accuracy.metrics["accuracy"].value == 1
    assert precision.chance == accuracy.chance == 1 / 2


@pytest.mark.parametrize("metric", ["mean", "median", "skewed mean"])
def test_infinite_outcomes_are_refused(metric):
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="item 1 is NaN or infinite"):
            interval([1.0, bad], metric, bounds=(1, 9))
    with pytest.raises(ValueError, match="item 0 is NaN or infinite"):
        compare([np.nan, 1.0], [0.0, 1.0])
