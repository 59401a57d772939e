import json

import numpy as np
import pytest

from clapjax.evaluation import t_classify


def unit(*shape, seed=0):
    x = np.random.default_rng(seed).normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def test_margins_by_hand():
    audio = [[1.0, 0.0], [0.6, 0.8]]
    positive = [[0.6, 0.8], [1.0, 0.0]]
    negative = [[0.0, 1.0], [0.0, 1.0]]
    np.testing.assert_allclose(
        t_classify.text_to_audio(audio, positive, negative), [0.6, -0.2], atol=1e-7
    )


@pytest.mark.parametrize("margins", [t_classify.text_to_audio, t_classify.audio_to_text])
def test_margins_equal_float64_loop(margins):
    query, positive, negative = (unit(50, 33, seed=s) for s in range(3))
    expected = [
        float(q @ p) - float(q @ n)
        for q, p, n in zip(
            *(x.astype(np.float64) for x in (query, positive, negative)), strict=True
        )
    ]
    np.testing.assert_allclose(margins(query, positive, negative), expected, atol=2e-7)


def test_sign_survives_float32_cancellation():
    positive = unit(2000, 512, seed=1)
    negative = unit(2000, 512, seed=2) * np.float32(1e-6) + positive
    audio = unit(2000, 512, seed=3)
    exact = (audio.astype(np.float64) * (positive.astype(np.float64) - negative)).sum(axis=1)
    np.testing.assert_array_equal(
        np.sign(t_classify.text_to_audio(audio, positive, negative)), np.sign(exact)
    )


def test_same_caption_is_a_tie_and_wrong():
    audio, text = unit(100, 512, seed=1), unit(100, 512, seed=2)
    margins = t_classify.text_to_audio(audio, text, text.copy())
    assert (margins == 0).all()
    assert t_classify.summarize(margins, [])["text_to_audio"] == 0.0


def test_chance_is_one_half():
    n = 4000
    margins = t_classify.text_to_audio(*(unit(n, 16, seed=s) for s in range(3)))
    accuracy = t_classify.summarize(margins, margins)["audio_to_text"]
    assert abs(accuracy - 0.5) < 4 * 0.5 / np.sqrt(n)  # four standard errors


def test_swapping_positive_and_negative_mirrors():
    a, p, n = (unit(301, 8, seed=s) for s in range(3))
    right = t_classify.summarize(t_classify.text_to_audio(a, p, n), [])["text_to_audio"]
    swapped = t_classify.summarize(t_classify.text_to_audio(a, n, p), [])["text_to_audio"]
    assert right + swapped == pytest.approx(1)


def test_summary_by_hand():
    result = t_classify.summarize([0.1, 0.0, -0.2, 0.3], np.array([]))
    half = 1.959964 * np.sqrt(1 + 1.959964**2 / 4) / (4 + 1.959964**2)  # Wilson's, 2 of 4
    interval = result.pop("intervals")["text_to_audio"]
    assert interval == pytest.approx([0.5 - half, 0.5 + half], abs=1e-6)
    assert result == {"text_to_audio": 0.5, "audio_to_text": None, "n": 4, "n_audio": 0}
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:0], "non-empty"),
        (lambda x: x[:3], "shapes differ"),
        (lambda x: x[:, :3] / np.linalg.norm(x[:, :3], axis=1, keepdims=True), "shapes differ"),
        (lambda x: x[0], "non-empty"),
        (lambda x: x * 1.01, "unit length"),
        (lambda x: np.where(np.arange(8) == 2, np.nan, x), "NaN"),
        (lambda x: [["a"] * 8] * 4, "not an array of numbers"),
    ],
)
def test_bad_input_names_the_argument(change, message):
    good = unit(4, 8)
    with pytest.raises(ValueError, match=f"(?s)negative.*{message}|{message}.*negative"):
        t_classify.text_to_audio(good, good, change(good))


def test_slightly_off_length_is_accepted():
    good = unit(4, 8)
    t_classify.text_to_audio(good, good, good * np.float32(1.0005))


@pytest.mark.parametrize("bad", [[np.nan], [[0.1]], [np.inf]])
def test_summary_refuses_bad_margins(bad):
    with pytest.raises(ValueError, match="audio_to_text"):
        t_classify.summarize([0.1], bad)
