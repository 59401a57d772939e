"""Taggers: mean average precision and accuracy, against scikit-learn and by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from clapjax.audio.files import AudioError
from clapjax.evaluation.benchmarks import Judged
from clapjax.evaluation.evaluate import scores
from clapjax.evaluation.statistics import interval
from clapjax.evaluation.tagging import evaluate_tagging, lacks, tagging, unknown
from tests.evaluation.models import RATE, benchmark

LABELS = ("a", "b", "c")


def judged(*labels_of_clips):
    return benchmark([Judged(id=str(i), labels=tuple(x)) for i, x in enumerate(labels_of_clips)])


def results(found, labels_of_clips):
    clips = judged(*labels_of_clips)
    return tagging(np.array(found), LABELS, clips, range(len(labels_of_clips)), "m", {})


def test_by_hand():
    found = [[0.9, 0.8, 0.1], [0.2, 0.7, 0.1], [0.6, 0.5, 0.1], [0.3, 0.1, 0.2]]
    precision, accuracy = results(found, ["ab", "b", "b", ""])
    assert (precision.n, accuracy.n) == (4, 3)  # of the clips with a label
    assert precision.metrics["mAP"].value == pytest.approx(1.0)
    assert accuracy.metrics["accuracy"].value == pytest.approx(2 / 3)
    # All clips alike: of 4 one has a, three b; of the 3 with a label all have b.
    assert precision.chance == pytest.approx((1 / 4 + 3 / 4) / 2) and accuracy.chance == 1.0
    assert accuracy.items["predicted"].tolist() == ["a", "b", "a"]
    assert accuracy.items["right"].tolist() == [True, True, False]
    with pytest.raises(ValueError, match="no clip has one of the 3 labels"):
        results(found, ["", "d", "", ""])
    everywhere, _ = results(found, ["a"] * 4)  # a label of all clips has no area
    assert list(everywhere.metrics) == ["mAP"]


def test_labels_that_the_tagger_does_not_know_are_told():
    assert unknown(judged("ab", "c"), LABELS) == ""
    told = "2 labels of the split 'test' are not the tagger's, and count nothing: A, d"
    assert unknown(judged("ab", "dA", "d"), LABELS) == told


def test_equals_scikit_learn():
    generator = np.random.default_rng(1)
    number = generator.integers(0, 3, 150)
    targets = np.eye(3, dtype=bool)[number]
    found = 0.5 * targets + generator.random((150, 3))
    precision, accuracy = results(found, [LABELS[i] for i in number])
    expected = average_precision_score(targets, found, average="macro")
    assert precision.metrics["mAP"].value == pytest.approx(expected)
    area, prime = precision.metrics["mAUC"], precision.metrics["d'"]
    assert area.value == pytest.approx(roc_auc_score(targets, found, average="macro"))
    for one, other in zip(area, prime, strict=True):  # and so for the ends of the interval
        assert other == pytest.approx(np.sqrt(2) * norm.ppf(one))
    assert area.low < area.value < area.high
    right = found.argmax(axis=1) == number
    assert accuracy.metrics["accuracy"] == interval(right, "mean")


def test_a_tagger_that_always_says_the_same_is_wrong():
    assert scores(results(np.ones((6, 3)), ["a", "b", "c"] * 2))["tagging/accuracy"] == 0.0


class Stub:
    """Hears the number of a clip, and says the label of it modulo 3."""

    labels = LABELS
    config = SimpleNamespace(audio=SimpleNamespace(sample_rate=RATE))

    def each(self, audio, *, sampling_rate, long=None, hop=None):
        for place, samples in enumerate(audio):
            broken = samples[0] == 4
            yield place, AudioError("broken") if broken else np.eye(3)[samples[0] % 3]


def test_clips_are_tagged_one_by_one_and_broken_ones_left_out():
    clips = [Judged(id=str(i), labels=(LABELS[i % 3],), negative_audio=i == 2) for i in range(7)]
    found = evaluate_tagging(Stub(), "name", benchmark(clips))
    got = scores(found)
    assert got.pop("tagging/d'") > 6
    assert got == {"tagging/mAP": 1.0, "tagging/mAUC": 1.0, "tagging/accuracy": 1.0}
    assert found[0].items["id"].tolist() == ["0", "1", "2", "3", "5", "6"]
    assert found[0].model == "name" and found[0].provenance["split"] == "test"


def test_what_it_needs():
    message = "no example of the split 'test' has one of the labels"
    assert lacks(judged("a", "")) == lacks(judged("a", "b"), ("b", "d")) == ""
    assert lacks(judged("", "")) == lacks(judged("a", "b"), ("d",)) == message
