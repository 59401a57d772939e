"""Folds, measures and comparisons of classifiers, against scikit-learn and scipy."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, recall_score, roc_auc_score

from clapjax.evaluation import supervised
from clapjax.evaluation.benchmarks import Judged, load_benchmark
from clapjax.evaluation.supervised import areas, d_prime, mean_area
from tests.data.building import make_example, write_records
from tests.evaluation.models import benchmark


def clips_of(labels, folds=None, origins=None):
    return [
        Judged(
            id=str(i),
            labels=tuple(own),
            fold=None if folds is None else folds[i],
            origin="" if origins is None else str(origins[i]),
        )
        for i, own in enumerate(labels)
    ]


def test_published_folds_count():
    data = supervised.labelled([benchmark(clips_of("aabb", [2, 5, 2, 5], [0, 1, 2, 3]))])
    assert data.names == ("a", "b") and not data.several
    assert data.folds.tolist() == [2, 5, 2, 5]
    assert data.right.tolist() == [[True, False]] * 2 + [[False, True]] * 2


def test_a_set_without_folds_is_dealt_out_by_recording():
    """Each label to all folds alike; no recording is in two."""
    generator = np.random.default_rng(0)
    origins = generator.permutation(np.repeat(np.arange(60), 2))
    labels = [["abc"[origin % 3]] for origin in origins]
    data = supervised.labelled([benchmark(clips_of(labels, origins=origins))])
    pairs = {(origin, fold) for origin, fold in zip(origins, data.folds, strict=True)}
    assert len(pairs) == 60 and set(data.folds) == {1, 2, 3, 4, 5}
    for label in "abc":
        own = [fold for (name,), fold in zip(labels, data.folds, strict=True) if name == label]
        assert np.bincount(own)[1:].tolist() == [8] * 5
    again = supervised.labelled([benchmark(clips_of(labels, origins=origins))])
    np.testing.assert_array_equal(again.folds, data.folds)
    assert supervised.labelled([benchmark(clips_of("ab"))]).folds.tolist() == [1, 2]


def test_a_split_to_train_on_is_never_judged(tmp_path):
    made = [make_example(i, labels=("a" if i % 2 else "b", "c")) for i in range(6)]
    path = write_records(tmp_path / "records", {"train": made[:4], "test": made[4:]})
    found = supervised.parts(load_benchmark("mine", path))
    data = supervised.labelled(found)
    assert [part.split for part in found] == ["test", "train"] and data.several
    assert [clip.id for clip in data.clips] == [f"clip-{i}" for i in (4, 5, 0, 1, 2, 3)]
    assert data.folds.tolist() == [0, 0, -1, -1, -1, -1]
    assert supervised.parts(load_benchmark("mine", path, "train"))[1:] == ()


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        (clips_of([["a"], []]), "1 clips of the split 'test' have no label"),
        (clips_of("aa"), "all clips are labelled 'a'; two labels are needed"),
        (clips_of("ab", origins=[1, 1]), "all clips are cut from one recording"),
        (clips_of("abab", [1, 2, 2, 1], [7, 5, 6, 5]), "clips 3 and 1 .* from the recording 5"),
    ],
)
def test_what_it_needs(clips, message):
    with pytest.raises(ValueError, match=message):
        supervised.labelled([benchmark(clips)])


def test_areas_of_ties_and_of_labels_without_one():
    rng = np.random.default_rng(0)
    scores, right = rng.integers(0, 4, (50, 3)).astype(float), rng.random((50, 3)) < 0.4
    expected = [roc_auc_score(right[:, i], scores[:, i]) for i in range(3)]
    assert areas(scores, right) == pytest.approx(expected)
    assert areas(np.zeros((50, 3)), right) == pytest.approx([0.5] * 3)
    right[:, 1], right[:, 2] = True, False
    assert np.isnan(areas(scores, right)[1:]).all()
    assert mean_area(scores, right) == pytest.approx(expected[0])
    assert d_prime(0.5) == 0 and 6 < d_prime(1.0) < 7


def test_measures_of_one_label_and_ties():
    generator = np.random.default_rng(0)
    label, scores = generator.integers(0, 4, 200), generator.normal(size=(200, 4))
    right = np.eye(4, dtype=bool)[label]
    scores += right
    found = supervised.measures(scores, right, np.arange(200) // 2, False)
    predicted = scores.argmax(axis=1)
    assert found["accuracy"].value == np.mean(predicted == label)
    recall = recall_score(label, predicted, average="macro")
    assert found["mean_class_recall"].value == pytest.approx(recall)
    assert all(metric.low < metric.value < metric.high for metric in found.values())
    assert supervised.chance(right, False) == 0.25
    assert supervised.accuracy(np.ones((200, 4)), right) == 0.0  # a tie counts against the model
    assert supervised.class_recall(np.ones((200, 4)), right) == 0.0


def test_outcomes_and_comparisons_of_one_label():
    generator = np.random.default_rng(1)
    label, origins = generator.integers(0, 3, 90), np.arange(90) // 2
    data = supervised.labelled(
        [benchmark(clips_of([["abc"[i]] for i in label], np.arange(90) // 30, origins))]
    )
    rows = np.arange(30, 90)
    noise = generator.normal(size=(2, 60, 3))
    one, other = noise + np.array([2.0, 0.5])[:, None, None] * data.right[rows]
    items = supervised.outcomes(data, rows, one)
    assert items["id"].tolist() == [str(row) for row in rows]
    assert items["predicted"].tolist() == ["abc"[i] for i in one.argmax(axis=1)]
    np.testing.assert_array_equal(items["right"], one.argmax(axis=1) == label[rows])
    np.testing.assert_array_equal(items["right"], items["rank"] == 1)
    test = supervised.paired(data, rows, one, other)
    first, second = (scores.argmax(axis=1) == label[rows] for scores in (one, other))
    better, worse = np.sum(first & ~second), np.sum(second & ~first)
    assert test["difference"] == pytest.approx(first.mean() - second.mean())
    assert test["mcnemar"] == pytest.approx(binomtest(better, better + worse).pvalue)
    assert test["low"] < test["difference"] < test["high"] and test["p"] < 0.05
    by_fold = {"1": first[:30].mean(), "2": first[30:].mean()}
    assert supervised.details(data, rows, one) == {"by_fold": by_fold}


def test_several_labels():
    generator = np.random.default_rng(2)
    right = generator.random((40, 3)) < 0.5
    right[~right.any(axis=1), 0] = True
    labels = [[name for name, own in zip("abc", row, strict=True) if own] for row in right]
    data = supervised.labelled([benchmark(clips_of(labels, np.arange(40) % 2))])
    one, other = generator.normal(size=(2, 40, 3)) + right * np.array([3.0, 0.0])[:, None, None]
    found = supervised.measures(one, right, data.origins, data.several)
    assert found["mAP"].value == pytest.approx(average_precision_score(right, one, average="macro"))
    assert found["mAUC"].value == pytest.approx(roc_auc_score(right, one, average="macro"))
    assert supervised.chance(right, True) == pytest.approx(right.mean())
    test = supervised.paired(data, np.arange(40), one, other)
    expected = [average_precision_score(right, scores, average="macro") for scores in (one, other)]
    assert test["difference"] == pytest.approx(expected[0] - expected[1]) and test["p"] < 0.05
    items = supervised.outcomes(data, np.arange(40), one)
    by_label = supervised.details(data, np.arange(40), one)["by_label"]
    each = average_precision_score(right, one, average=None)
    assert by_label == {name: [right[:, i].sum(), pytest.approx(each[i])]
                        for i, name in enumerate("abc")}  # fmt: skip
    assert items["label"].tolist() == ["; ".join(own) for own in labels] and "right" not in items
