"""Average precision and accuracy, against values by hand and scikit-learn's definition."""

import numpy as np
import pytest

from clapjax.evaluation.tagging import average_precision, evaluate_tagging, tagging
from tests.data.building import make_example, write_records


def test_average_precision_by_hand():
    # Right at places 1 and 3: (1/1 + 2/3) / 2.
    assert average_precision([0.9, 0.8, 0.7, 0.1], [1, 0, 1, 0]) == pytest.approx(5 / 6)
    # Equal scores are one step: 2 right ones of 4 at once.
    assert average_precision([0.5] * 4, [1, 0, 1, 0]) == pytest.approx(0.5)
    assert average_precision([0.9, 0.5, 0.5, 0.1], [0, 1, 0, 1]) == pytest.approx(
        0.5 * 1 / 3 + 0.5 * 2 / 4
    )
    with pytest.raises(ValueError, match="nothing is right"):
        average_precision([0.1], [0])


def test_average_precision_is_the_area_under_the_steps():
    """sum over thresholds of (R_n - R_n-1) P_n, counted anew at each threshold."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        scores = generator.integers(0, 8, 30) / 8
        right = generator.random(30) < 0.3
        right[0] = True
        area, recall = 0.0, 0.0
        for threshold in sorted(set(scores), reverse=True):
            taken = scores >= threshold
            reached = (taken & right).sum() / right.sum()
            area += (reached - recall) * (taken & right).sum() / taken.sum()
            recall = reached
        assert average_precision(scores, right) == pytest.approx(area)


def test_tagging_by_hand():
    scores = np.array([[0.9, 0.8, 0.1], [0.2, 0.7, 0.1], [0.6, 0.5, 0.1], [0.3, 0.1, 0.2]])
    targets = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0]])
    found = tagging(scores, targets, ("a", "b", "c"))
    assert found["per_label"] == {"a": 1.0, "b": pytest.approx(1.0), "c": None}
    assert found["mAP"] == pytest.approx(1.0) and found["n"] == 3
    assert found["accuracy"] == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="no clip has one of the 3 labels"):
        tagging(scores, 0 * targets, ("a", "b", "c"))


def test_each_clip_is_heard_once(tmp_path):
    from clapjax.audio.config import AudioConfig

    audio = AudioConfig(sample_rate=8000, clip_samples=400, fmax=4000.0)
    examples = [
        make_example(i, audio=np.full(200 * i, i, np.int16), labels=(f"label {i % 3}",))
        for i in range(1, 6)
    ]
    data_dir = write_records(tmp_path / "records", {"test": examples})
    heard = []

    def predict(clips, lengths):
        assert clips.shape == (2, 400) and lengths.tolist() == [400, 400]
        heard.append(clips[:, 0].tolist())
        return np.eye(3)[clips[:, 0] % 3]

    labels = [f"label {i}" for i in range(3)]
    found = evaluate_tagging(predict, data_dir, "test", labels, audio, rows=2)
    assert heard == [[1, 2], [3, 4], [5, 5]]
    assert found["mAP"] == found["accuracy"] == 1 and found["n"] == 5
