"""Zero-shot against scikit-learn; several labels, ties, prompts."""

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    label_ranking_average_precision_score,
    top_k_accuracy_score,
)

from clapjax.evaluation import zero_shot
from clapjax.evaluation.benchmarks import Judged
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.zero_shot import (
    average_precision,
    class_embeddings,
    class_ranks,
    mean_average_precision,
)
from tests.evaluation.models import benchmark, embedded, unit

NAMES = [f"class {i}" for i in range(8)]


def run(audio, labels, classes, template="{}", **texts):
    """The result on clips with these labels each, of classes with these embeddings."""
    clips = [Judged(id=str(i), labels=tuple(names)) for i, names in enumerate(labels)]
    settings = EvaluationConfig(template=template)
    known = dict(zip(NAMES, classes, strict=False)) | texts
    (result,) = zero_shot.run(embedded(clips, audio, known), settings)
    return result


def values(result) -> dict[str, float]:
    return {name: metric.value for name, metric in result.metrics.items()}


def noisy_case(clips=200, seed=0):
    classes = unit(8, 16, seed=seed)
    weights = [0.3, 0.2, 0.15, 0.1, 0.1, 0.05, 0.05, 0.05]
    labels = np.random.default_rng(seed).choice(8, clips, p=weights)
    audio = classes[labels] + 2 * unit(clips, 16, seed=seed + 1)
    return audio / np.linalg.norm(audio, axis=1, keepdims=True), classes, labels


# --- one label ------------------------------------------------------------------------------


def test_equals_scikit_learn():
    audio, classes, labels = noisy_case()
    scores = audio.astype(np.float64) @ classes.T.astype(np.float64)
    result = run(audio, [[NAMES[i]] for i in labels], classes)
    found = values(result)
    assert 0.2 < found["accuracy"] < 0.95  # not trivial
    for name, k in (("accuracy", 1), ("top5", 5)):
        assert found[name] == pytest.approx(top_k_accuracy_score(labels, scores, k=k))
    recall = balanced_accuracy_score(labels, scores.argmax(axis=1))
    assert found["mean_class_recall"] == pytest.approx(recall)
    assert result.n == 200 and result.chance == 1 / 8 and result.provenance["classes"] == 8
    assert result.items["predicted"].tolist() == [NAMES[i] for i in scores.argmax(axis=1)]
    assert result.items["label"].tolist() == [NAMES[i] for i in labels]


@pytest.mark.parametrize("turned", [False, True])
def test_constant_embeddings_are_wrong_whatever_the_order_of_the_classes(turned):
    row, names = unit(1, 64)[0], ["a"] * 8 + ["b", "c"]
    labels = [[name] for name in (names[::-1] if turned else names)]
    result = run([row] * 10, labels, [], a=row, b=row, c=row)
    assert values(result)["accuracy"] == values(result)["mean_class_recall"] == 0.0
    right, predicted = result.items["label"], result.items["predicted"]
    assert (right != predicted).all()


def test_order_of_clips_does_not_matter():
    audio, classes, labels = noisy_case()
    rows = np.random.default_rng(1).permutation(len(audio))
    expected = values(run(audio, [[NAMES[i]] for i in labels], classes))
    assert values(run(audio[rows], [[NAMES[i]] for i in labels[rows]], classes)) == expected


# --- several labels -------------------------------------------------------------------------


def several_labels(clips=300, seed=3):
    """Noisy clips of a mixture of one to three classes."""
    rng, classes = np.random.default_rng(seed), unit(8, 16, seed=seed)
    right = np.zeros((clips, 8), bool)
    for row in right:
        row[rng.choice(8, rng.integers(1, 4), replace=False)] = True
    audio = right @ classes + 1.2 * unit(clips, 16, seed=seed + 1)
    audio /= np.linalg.norm(audio, axis=1, keepdims=True)
    return audio.astype(np.float32), classes, right


def test_several_labels_are_average_precision():
    audio, classes, right = several_labels()
    labels = [[NAMES[c] for c in np.flatnonzero(row)] for row in right]
    result = run(audio, labels, classes)
    scores = audio @ classes.T
    expected = average_precision_score(right, scores, average="macro")
    assert 0.4 < expected < 0.95
    assert values(result)["mAP"] == pytest.approx(expected, abs=1e-6)
    assert "accuracy" not in result.metrics
    first = right[np.arange(len(right)), scores.argmax(axis=1)].mean()
    assert values(result)["top1_any"] == pytest.approx(first)
    assert result.chance == pytest.approx(right.mean())


def test_a_model_that_is_always_right_gets_everything_right():
    """Each clip has two labels; the first alone would be half of the truth."""
    labels = [["class 0", "class 1"], ["class 1", "class 2"], ["class 0", "class 2"]] * 2
    classes = np.eye(3)
    audio = np.array([sum(classes[int(name[-1])] for name in names) for names in labels])
    found = values(run(audio / np.sqrt(2), labels, classes))
    assert found["mAP"] == found["top1_any"] == 1.0


def test_average_precision_of_ties_is_the_worst():
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores = rng.integers(0, 4, 12).astype(float)
        right = rng.random(12) < 0.4
        right[0] = True
        # scikit-learn's of scores without ties, in which the tied right ones come last.
        apart = scores - 0.5 * right - 1e-3 * np.arange(12)
        assert average_precision(scores, right) == pytest.approx(
            average_precision_score(right, apart)
        )
    assert average_precision(np.zeros(4), np.array([True, False, False, False])) == 0.25


def test_mean_average_precision_leaves_out_classes_without_clips():
    scores, right = np.random.default_rng(0).normal(size=(50, 6)), np.zeros((50, 6), bool)
    right[:, :4] = np.random.default_rng(1).random((50, 4)) < 0.3
    expected = np.mean([average_precision_score(right[:, c], scores[:, c]) for c in range(4)])
    assert mean_average_precision(scores, right) == pytest.approx(expected)


def test_class_ranks_equal_scikit_learn():
    rng = np.random.default_rng(0)
    scores, label = rng.normal(size=(100, 7)), rng.integers(0, 7, 100)
    right = np.eye(7, dtype=bool)[label]
    reciprocal = np.mean(1 / (1 + class_ranks(scores, right)))
    assert reciprocal == pytest.approx(label_ranking_average_precision_score(right, scores))


# --- prompts --------------------------------------------------------------------------------


def test_prompts_are_averaged_then_renormalised():
    # Means (0.5, 0.5) and (0.9, -0.3): not renormalised, class 1 would win by its length alone.
    prompts = np.array([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.8, -0.6]]])
    root = np.sqrt([0.5, 0.5, 0.9, 0.1]) * [1, 1, 1, -1]
    np.testing.assert_allclose(class_embeddings(prompts).ravel(), root, atol=1e-6)
    with pytest.raises(ValueError, match="class 0 cancel out"):
        class_embeddings(np.stack([unit(5, 8), -unit(5, 8)]))


def test_templates_by_name_and_in_lists():
    texts = {"A sound of a": (1, 0), "A sound of b": (0, 1)}
    result = run(np.eye(2), [["a"], ["b"]], [], "t_clap", **texts)
    assert values(result)["accuracy"] == 1.0
    assert result.provenance["template"] == "A sound of {}"
    # Prompt by prompt the first clip is nearest to b; their means are (0.8, 0.4) and (0.4, 0.8).
    texts = {"a": (1, 0), "b": (0.8, 0.6), "the a": (0.6, 0.8), "the b": (0, 1)}
    result = run([(0.8, 0.6), (0, 1)], [["a"], ["b"]], [], "{}|the {}", **texts)
    assert values(result)["accuracy"] == 1.0 and result.provenance["template"] == "{} | the {}"
    assert values(run([(0.8, 0.6), (0, 1)], [["a"], ["b"]], [], "{}", **texts))["accuracy"] == 0.5


def test_a_prompt_has_words_where_a_name_has_underscores():
    texts = {"A sound of sea waves": (1, 0), "A sound of b": (0, 1)}
    result = run(np.eye(2), [["sea_waves"], ["b"]], [], "t_clap", **texts)
    assert values(result)["accuracy"] == 1.0


def test_examples_are_the_surest_mistakes():
    audio = [(1, 0), (0, 1), (0.6, 0.8)]
    result = run(audio, [["a"], ["a"], ["a"]], [], a=(1, 0))
    assert not result.examples
    result = run(audio, [["a"], ["a"], ["b"]], [], a=(1, 0), b=(0, 1))
    (shown,) = result.examples
    (sound,) = shown.sounds
    assert sound.clip == "1"
    assert [(said.text, said.score, said.right) for said in sound.said] == [
        ("a", 0.0, True),
        ("b", 1.0, False),
    ]


def test_what_it_needs():
    """Fails before: of one class 100 % were right."""
    dog, bare, rain = Judged(id="a", labels=("x",)), Judged(id="b"), Judged(id="c", labels=("y",))
    assert zero_shot.lacks(benchmark([dog, rain])) == ""
    assert zero_shot.lacks(benchmark([dog, dog])) == "all of the split 'test' is 'x': no choice"
    assert zero_shot.lacks(benchmark([dog, bare])) == "1 clips of the split 'test' have no label"
