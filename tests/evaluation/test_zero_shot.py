import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, recall_score

from clapjax.evaluation.zero_shot import class_embeddings, zero_shot

NAMES = ["dog", "rain", "siren", "clock", "cow"]


def unit(*shape, seed=0):
    x = np.random.default_rng(seed).normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def noisy_case(clips=200, seed=0):
    classes = unit(5, 16, seed=seed)
    labels = np.random.default_rng(seed).choice(5, clips, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    audio = classes[labels] + 2 * unit(clips, 16, seed=seed + 1)
    return audio / np.linalg.norm(audio, axis=1, keepdims=True), classes, labels


def test_equals_scikit_learn():
    audio, classes, labels = noisy_case()
    predicted = [int(np.argmax([float(a @ c) for c in classes])) for a in audio.astype(np.float64)]
    result = zero_shot(audio, classes, labels, NAMES)
    assert 0.3 < result["accuracy"] < 0.95  # not trivial
    assert result["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert result["mean_per_class_recall"] == pytest.approx(
        balanced_accuracy_score(labels, predicted)
    )
    assert result["confusion"] == confusion_matrix(labels, predicted).tolist()
    recall = recall_score(labels, predicted, average=None)
    assert [result["per_class"][name]["recall"] for name in NAMES] == pytest.approx(recall)
    assert [result["per_class"][name]["n"] for name in NAMES] == np.bincount(labels).tolist()
    assert json.loads(json.dumps(result)) == result


def test_by_hand_with_a_class_that_never_occurs():
    audio = np.eye(3)[[0, 0, 1, 1]]
    result = zero_shot(audio, np.eye(3), [0, 1, 1, 1], ["a", "b", "c"])
    assert result["accuracy"] == 0.75
    assert result["confusion"] == [[1, 0, 0], [1, 2, 0], [0, 0, 0]]
    assert result["per_class"]["c"] == {"recall": None, "n": 0}
    assert result["mean_per_class_recall"] == pytest.approx((1 + 2 / 3) / 2)


def test_prompts_are_averaged_then_renormalised():
    # Means (0.5, 0.5) and (0.9, -0.3): not renormalised, class 1 would win by its length alone.
    prompts = np.array([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.8, -0.6]]])
    root = np.sqrt([0.5, 0.5, 0.9, 0.1]) * [1, 1, 1, -1]
    np.testing.assert_allclose(class_embeddings(prompts).ravel(), root, atol=1e-6)
    audio = np.array([[np.cos(0.2), np.sin(0.2)]])  # cosines 0.83 and 0.87
    assert zero_shot(audio, prompts, [1], ["a", "b"])["accuracy"] == 1.0
    audio = np.array([[np.cos(0.26), np.sin(0.26)]])  # 0.87 and 0.84; of the means 0.61, 0.79
    assert zero_shot(audio, prompts, [0], ["a", "b"])["accuracy"] == 1.0


def test_one_prompt_equals_none():
    audio, classes, labels = noisy_case()
    assert zero_shot(audio, classes[:, None], labels, NAMES) == zero_shot(
        audio, classes, labels, NAMES
    )


def test_chance_level():
    n = 5000
    labels = np.arange(n) % 5
    accuracy = zero_shot(unit(n, 16), unit(5, 16, seed=1), labels, NAMES)["accuracy"]
    assert abs(accuracy - 0.2) < 4 * np.sqrt(0.2 * 0.8 / n)


def test_order_of_clips_and_classes_does_not_matter():
    audio, classes, labels = noisy_case()
    rng = np.random.default_rng(1)
    rows, order = rng.permutation(len(audio)), rng.permutation(5)
    expected = zero_shot(audio, classes, labels, NAMES)
    moved = zero_shot(
        audio[rows], classes[order], np.argsort(order)[labels][rows], [NAMES[i] for i in order]
    )
    assert moved["accuracy"] == expected["accuracy"]
    assert moved["per_class"] == expected["per_class"]
    assert moved["confusion"] == np.array(expected["confusion"])[np.ix_(order, order)].tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audio": unit(4, 8)[:0], "labels": []}, "audio: expected a non-empty"),
        ({"audio": unit(4, 7)}, "7 dimensions, class_text 8"),
        ({"audio": unit(4, 8) * 0.9}, r"audio: row \d is not of unit length"),
        ({"class_text": unit(5, 8) * np.nan}, "class_text: holds NaN"),
        ({"class_text": unit(5, 2, 8) * 0.9}, r"class_text: row \d is not of unit length"),
        ({"class_text": unit(5, 0, 8)}, "class_text: expected a non-empty"),
        ({"class_text": unit(8)}, "class_text: expected"),
        ({"class_text": np.stack([unit(5, 8), -unit(5, 8)], 1)}, "class 0 cancel out"),
        ({"labels": [0, 1, 2]}, r"labels: expected \(4,\) integers"),
        ({"labels": [0, 1, 2, 5]}, r"labels: 0\.\.5 is outside 0\.\.4"),
        ({"labels": [0, 1, 2, -1]}, "labels: .* outside"),
        ({"labels": [0.0, 1.0, 2.0, 3.0]}, "integers"),
        ({"class_names": NAMES[:4]}, "expected 5 different names"),
        ({"class_names": ["dog"] * 5}, "expected 5 different names"),
    ],
)
def test_bad_input(changes, message):
    good = {
        "audio": unit(4, 8),
        "class_text": unit(5, 8, seed=1),
        "labels": [0, 1, 2, 3],
        "class_names": NAMES,
    }
    with pytest.raises(ValueError, match=message) as error:
        zero_shot(**(good | changes))
    assert "\n" not in str(error.value)
