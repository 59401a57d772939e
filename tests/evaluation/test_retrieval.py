import json
import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score

from clapjax.evaluation import retrieval as module
from clapjax.evaluation.retrieval import retrieval


def unit(*shape, seed=0):
    x = np.random.default_rng(seed).normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def captions_of(clips, seed=0):
    """1 to 5 captions per clip, in shuffled order."""
    rng = np.random.default_rng(seed)
    return rng.permutation(np.repeat(np.arange(clips), rng.integers(1, 6, clips)))


def noisy_case(clips=40, noise=1.4, seed=0):
    audio, clip = unit(clips, 24, seed=seed), captions_of(clips, seed)
    text = audio[clip] + noise * unit(len(clip), 24, seed=seed + 1)
    return audio, text / np.linalg.norm(text, axis=1, keepdims=True), clip


def brute_force(audio, text, clip, laion_compat=False):
    """Full sort in float64, one query at a time, as LAION-CLAP and WavCaps write it."""
    scores = audio.astype(np.float64) @ text.astype(np.float64).T
    t2a = np.array([list(np.argsort(-scores[:, j])).index(c) for j, c in enumerate(clip)])
    best, precision = [], []
    for i in range(len(audio)):
        order = list(np.argsort(-scores[i]))
        ranks = np.array([order.index(j) for j in np.flatnonzero(clip == i)])
        best.append(ranks.min())
        kept = ranks[ranks < 10] if laion_compat else np.sort(ranks[ranks < 10])
        precision.append(np.sum(np.arange(1, len(kept) + 1) / (kept + 1)) / len(ranks))
    best = np.array(best)
    return {
        "text_to_audio": {f"R@{k}": np.mean(t2a < k) for k in (1, 5, 10)}
        | {"mAP@10": np.mean(np.where(t2a < 10, 1 / (t2a + 1), 0))},
        "audio_to_text": {f"R@{k}": np.mean(best < k) for k in (1, 5, 10)}
        | {"mAP@10": np.mean(precision)},
    }


@pytest.mark.parametrize("laion_compat", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_equals_brute_force(seed, laion_compat):
    case = noisy_case(seed=seed)
    result, expected = retrieval(*case, laion_compat=laion_compat), brute_force(*case, laion_compat)
    for direction, values in expected.items():
        assert 0 < values["R@1"] < 1  # neither trivial
        assert result[direction] == pytest.approx(values, abs=1e-12)


def test_blocks_change_nothing(monkeypatch):
    case = noisy_case()
    whole = retrieval(*case)
    monkeypatch.setattr(module, "BLOCK", 3 * len(case[1]))
    assert retrieval(*case) == whole


def test_equals_scikit_learn_where_all_ranks_count():
    # 10 captions at most: every rank is below 10, so mAP@10 is plain mean average precision.
    audio, clip = unit(4, 6, seed=3), np.array([0, 0, 1, 1, 1, 2, 3, 3, 3, 3])
    text = unit(10, 6, seed=4)
    scores = audio @ text.T  # (4, 10)
    relevant = clip == np.arange(4)[:, None]
    result = retrieval(audio, text, clip)
    expected = np.mean(
        [average_precision_score(r, s) for r, s in zip(relevant, scores, strict=True)]
    )
    assert result["audio_to_text"]["mAP@10"] == pytest.approx(expected)
    expected = label_ranking_average_precision_score(relevant.T, scores.T)
    assert result["text_to_audio"]["mAP@10"] == pytest.approx(expected)


def test_ranks_4_3_2_1_0():
    """Five captions in the first five places, worst first: 1.0 sorted, 1.74 in LAION's code."""
    angle = np.array([0.5, 0.4, 0.3, 0.2, 0.1])
    text = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    audio, clip = np.array([[1.0, 0.0]]), np.zeros(5, int)
    assert retrieval(audio, text, clip)["audio_to_text"]["mAP@10"] == 1.0
    unsorted = retrieval(audio, text, clip, laion_compat=True)["audio_to_text"]
    assert unsorted["mAP@10"] == pytest.approx((1 / 5 + 2 / 4 + 3 / 3 + 4 / 2 + 5 / 1) / 5)
    assert unsorted["mAP@10"] == pytest.approx(1.74)
    assert unsorted["R@1"] == 1.0


def test_perfect_embeddings():
    audio = unit(30, 16)
    perfect = {"R@1": 1.0, "R@5": 1.0, "R@10": 1.0, "mAP@10": 1.0}
    clip = captions_of(30)
    result = retrieval(audio, audio[clip], clip)
    assert result["text_to_audio"] == result["audio_to_text"] == perfect
    assert (result["n_audio"], result["n_text"]) == (30, len(clip))


@pytest.mark.parametrize(("clips", "dimensions"), [(11, 512), (37, 513), (101, 64)])
def test_constant_embeddings_score_nothing(clips, dimensions):
    """Also where BLAS gives equal products that differ in the last bit."""
    audio = np.tile(unit(1, dimensions), (clips, 1))
    text = np.tile(unit(1, dimensions, seed=1), (clips, 1))
    nothing = {"R@1": 0.0, "R@5": 0.0, "R@10": 0.0, "mAP@10": 0.0}
    result = retrieval(audio, text, np.arange(clips))
    assert result["text_to_audio"] == result["audio_to_text"] == nothing


def test_ties_by_hand():
    audio = np.eye(3)
    # Clip 0's two captions are equal, so they fill places 0 and 1. Clips 1 and 2 share a caption.
    text = np.eye(3)[[0, 0, 1, 1]]
    result = retrieval(audio, text, [0, 0, 1, 2])
    # Clip 2's cosines are all 0: its own caption comes last of four.
    assert result["audio_to_text"]["R@1"] == pytest.approx(1 / 3)
    assert result["audio_to_text"]["mAP@10"] == pytest.approx((1 + 1 / 2 + 1 / 4) / 3)
    # Caption 3 points at clip 1, and its own clip ties with clip 0: last of three.
    assert result["text_to_audio"]["R@1"] == pytest.approx(3 / 4)
    assert result["text_to_audio"]["mAP@10"] == pytest.approx((1 + 1 + 1 + 1 / 3) / 4)


def test_chance_level():
    n = 1000
    result = retrieval(unit(n, 32), unit(n, 32, seed=1), np.arange(n))
    for direction in ("text_to_audio", "audio_to_text"):
        for k in (1, 5, 10):
            error = np.sqrt(k / n / n)
            assert abs(result[direction][f"R@{k}"] - k / n) < 5 * error


def test_order_of_clips_and_captions_does_not_matter():
    audio, text, clip = noisy_case()
    rng = np.random.default_rng(5)
    rows, columns = rng.permutation(len(audio)), rng.permutation(len(text))
    moved = retrieval(audio[rows], text[columns], np.argsort(rows)[clip][columns])
    for direction in ("text_to_audio", "audio_to_text"):
        assert moved[direction] == pytest.approx(retrieval(audio, text, clip)[direction])


def test_memory_is_not_quadratic():
    n = 20_000  # all scores together: 1.5 GiB
    audio = unit(n, 4)
    tracemalloc.start()
    retrieval(audio, audio, np.arange(n))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150 * 2**20


def test_plain_python_values():
    result = retrieval(*noisy_case())
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize(
    ("audio", "text", "clip", "message"),
    [
        (unit(3, 8), unit(3, 7), [0, 1, 2], "8 dimensions, text has 7"),
        (unit(3, 8), unit(3, 8), [0, 1], r"expected \(3,\) integers"),
        (unit(3, 8), unit(3, 8), [0.0, 1.0, 2.0], "integers"),
        (unit(3, 8), unit(3, 8), [0, 1, 3], r"0\.\.3 is outside 0\.\.2"),
        (unit(3, 8), unit(3, 8), [0, -1, 2], "outside"),
        (unit(3, 8), unit(3, 8), [0, 2, 2], "clip 1 has no caption"),
        (unit(3, 8), unit(3, 8)[:0], [], "text: expected a non-empty"),
        (unit(3, 8) * 2, unit(3, 8), [0, 1, 2], "audio: row 0 is not of unit length"),
        (unit(3, 8) * np.inf, unit(3, 8), [0, 1, 2], "audio: holds NaN"),
        (unit(3, 8), unit(3, 2, 8), [0, 1, 2], "text: expected"),
    ],
)
def test_bad_input(audio, text, clip, message):
    with pytest.raises(ValueError, match=message) as error:
        retrieval(audio, text, clip)
    assert "\n" not in str(error.value)
