"""Zero-shot labels: what may stand for them, what they are told from, and by which formula."""

import jax
import numpy as np
import pytest

from clapjax.inference import Clap
from tests.inference.tiny import RATE, noise

LABELS = ["dog_bark", "rain", "a {curly} label"]
CLIPS = [(RATE, noise(5000, seed)) for seed in (1, 2)]
KINDS = {
    "tuple": tuple,
    "array": np.array,
    "objects": lambda labels: np.array(labels, dtype=object),
    "keys": lambda labels: dict.fromkeys(labels).keys(),
    "dictionary": dict.fromkeys,
    "set": set,
    "generator": iter,
}


@pytest.fixture(scope="module")
def expected(clap):
    return clap.classify(CLIPS, LABELS)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_any_iterable(kind, clap, expected):
    found = clap.classify(CLIPS, KINDS[kind](LABELS))
    for row, other in zip(found, expected, strict=True):
        assert row == pytest.approx(other, abs=1e-6) and all(type(name) is str for name in row)
        assert list(row.values()) == sorted(row.values(), reverse=True)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "a list of different class names; there is none"),
        ("dog", "a list of different class names, not 'dog'"),
        (None, "a list of different class names, not None"),
        (["dog", "rain", "dog"], "a list of different class names; there is 'dog' twice"),
        ([3, 4], r"number 0 is 3. A data set has names in features\['label'\].names"),
        (np.array([0, 1]), "number 0 is 0. A data set has names"),
        (["dog", None], "must be class names; number 1 is None"),
        (["dog", ""], "must be class names; number 1 is ''"),
        ([b"dog", b"rain"], "must be class names; number 0 is b'dog'"),
        (["dog_bark", "a", "dog bark"], "'dog_bark' and 'dog bark' are the same words"),
        (["dog"], "one label alone always has 100 %: give others .* or multi_label=True"),
    ],
)
def test_labels_that_are_refused(labels, message, clap):
    with pytest.raises(ValueError, match=message):
        clap.classify(CLIPS, labels)


@pytest.mark.parametrize(
    ("template", "message"),
    [("a sound", "template 'a sound' has no {}"), ([], "there is none"), (["{}", "x"], "'x' has")],
)
def test_templates_that_are_refused(template, message, clap):
    with pytest.raises(ValueError, match=message):
        clap.classify(CLIPS, LABELS, template)


def test_of_several_templates_the_mean_direction_counts(clap):
    templates = ("This is a sound of {}.", "{} is heard")
    parts = [clap.embed_labels(LABELS, one) for one in templates]
    mean = np.sum(parts, axis=0)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(clap.embed_labels(LABELS, iter(templates)), mean, atol=1e-6)
    one, other, both = (clap.classify(CLIPS[0], LABELS, t)[0] for t in (*templates, templates))
    assert one != both != other


def test_each_label_for_itself(clap, expected):
    """Its caption against one that names nothing, at the model's scale; one label is enough."""
    found = clap.classify(CLIPS, LABELS, multi_label=True)
    texts = [f"This is a sound of {x}." for x in ("dog bark", *LABELS[1:], "something")]
    cosines = clap.similarity(clap.embed_audio(CLIPS), clap.embed_text(texts))  # (2, 4)
    both = np.exp(clap.scale * np.stack([cosines[:, :3], cosines[:, 3:].repeat(3, 1)]))
    ours = np.array([[row[label] for label in LABELS] for row in found])
    np.testing.assert_allclose(ours, both[0] / both.sum(axis=0), atol=1e-5)
    alone = clap.classify(CLIPS, LABELS[1:2], multi_label=True)
    np.testing.assert_allclose([row["rain"] for row in alone], ours[:, 1], atol=1e-6)


def test_a_model_of_the_sigmoid_loss_has_a_probability_of_its_own(clap):
    params = clap.params | {"logit_bias": jax.numpy.float32(-3.0)}
    model = Clap(clap.config, clap.variables | {"params": params}, clap.tokenizer)
    audio, text = np.eye(2, 8, dtype=np.float32), np.eye(2, 8, dtype=np.float32)
    (row, _) = model.rank(audio, text, ["a", "b"], against=text[:1])
    own = 1 / (1 + np.exp(3.0 - np.array([model.scale, 0.0])))
    np.testing.assert_allclose([row["a"], row["b"]], own, rtol=1e-5)


def test_empty_texts_are_embedded_and_told(clap):
    with pytest.warns(UserWarning, match="2 of 3 texts are empty; the first is text 0") as told:
        found = clap.embed_text(["", "a dog", " "])
    assert told[0].filename == __file__
    np.testing.assert_array_equal(found[1:2], clap.embed_text("a dog"))
