"""Average precision, accuracy and their intervals, against scikit-learn, scipy and by hand."""

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import average_precision_score

from clapjax.evaluation.tagging import average_precision, evaluate_tagging, headline, tagging
from tests.data.building import RATE, make_example, write_records


def test_average_precision_by_hand():
    # Right at places 1 and 3: (1/1 + 2/3) / 2.
    assert average_precision([0.9, 0.8, 0.7, 0.1], [1, 0, 1, 0]) == pytest.approx(5 / 6)
    # Equal scores are one step: 2 right ones of 4 at once.
    assert average_precision([0.5] * 4, [1, 0, 1, 0]) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="nothing is right"):
        average_precision([0.1], [0])


def test_average_precision_is_scikit_learns():
    """With equal scores, and with clips that count several times or not at all."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        scores, right = generator.integers(0, 8, 30) / 8, generator.random(30) < 0.3
        right[0], counts = True, generator.integers(0, 3, (2, 30))
        counts[:, 0] = 1
        expected = [average_precision_score(right, scores, sample_weight=row) for row in counts]
        np.testing.assert_allclose(average_precision(scores, right, counts), expected, rtol=1e-9)
        expected = average_precision_score(right, scores)
        assert average_precision(scores, right) == pytest.approx(expected, rel=1e-9)
    assert np.isnan(average_precision(scores, right, 1 - right))


def test_tagging_by_hand():
    scores = np.array([[0.9, 0.8, 0.1], [0.2, 0.7, 0.1], [0.6, 0.5, 0.1], [0.3, 0.1, 0.2]])
    targets = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0]])
    found = tagging(scores, targets, ("a", "b", "c"))
    assert found["per_label"] == {"a": 1.0, "b": pytest.approx(1.0), "c": None}
    assert found["mAP"] == pytest.approx(1.0) and found["n"] == 3
    assert found["accuracy"] == pytest.approx(2 / 3)
    # All clips alike: of 4 one has a, three b; of the 3 with a label all have b.
    assert found["chance"] == {"mAP": pytest.approx((1 / 4 + 3 / 4) / 2), "accuracy": 1.0}
    with pytest.raises(ValueError, match="no clip has one of the 3 labels"):
        tagging(scores, 0 * targets, ("a", "b", "c"))


def test_intervals_are_those_of_scipy_and_wilson():
    generator = np.random.default_rng(1)
    targets = np.eye(3, dtype=bool)[generator.integers(0, 3, 150)]
    scores = 0.5 * targets + generator.random((150, 3))
    found = tagging(scores, targets, ("a", "b", "c"))

    def mean_ap(rows):
        return np.mean(
            [average_precision_score(targets[rows, i], scores[rows, i]) for i in (0, 1, 2)]
        )

    assert found["mAP"] == pytest.approx(mean_ap(np.arange(150)))
    theirs = scipy.stats.bootstrap(
        (np.arange(150),), mean_ap, n_resamples=300, vectorized=False, method="percentile", rng=2
    ).confidence_interval
    width = theirs.high - theirs.low
    np.testing.assert_allclose(found["intervals"]["mAP"], theirs, atol=0.15 * width)
    p, n, z = found["accuracy"], 150, scipy.stats.norm.ppf(0.975)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = (p + z**2 / (2 * n) + half * np.array([-1, 1])) / (1 + z**2 / n)
    np.testing.assert_allclose(found["intervals"]["accuracy"], expected, rtol=1e-9)
    low, high = (f"{100 * bound:.1f}" for bound in expected)
    assert headline(found).endswith(f"accuracy {100 * p:.1f} % [{low}, {high}] (n=150)")


def test_a_split_is_tagged_clip_by_clip(tmp_path):
    clips = [np.full(200 * i, i, np.int16) for i in range(1, 6)]
    examples = [
        make_example(i, audio=clip, labels=(f"label {i % 3}", "another"))
        for i, clip in enumerate(clips, 1)
    ]
    data_dir = write_records(tmp_path / "records", {"test": examples})

    class Stub:
        labels = tuple(f"label {i}" for i in range(3))

        def tag(self, audio, sampling_rate):
            assert sampling_rate == RATE
            heard = list(audio)
            for ours, theirs in zip(heard, clips, strict=True):
                np.testing.assert_array_equal(ours, theirs)
            return np.eye(3)[[clip[0] % 3 for clip in heard]]

    found = evaluate_tagging(Stub(), data_dir, "test")
    assert found["mAP"] == found["accuracy"] == 1 and found["n"] == 5
