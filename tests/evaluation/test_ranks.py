import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh
from sklearn.metrics import average_precision_score

from clapjax.evaluation import ranks as module
from clapjax.evaluation.ranks import chance, count_reaching, metrics, rank, unit_rows


def unit(*shape, seed=0):
    x = np.random.default_rng(seed).normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def case(clips=40, noise=1.4, seed=0, sentences=None):
    """1 to 5 captions a clip in shuffled order, near their clip; of few sentences if so asked."""
    rng = np.random.default_rng(seed)
    audio, clip = (
        unit(clips, 24, seed=seed),
        rng.permutation(np.repeat(np.arange(clips), rng.integers(1, 6, clips))),
    )
    text = audio[clip] + noise * unit(len(clip), 24, seed=seed + 1)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    if sentences is None:
        return audio, text, clip, None
    same = rng.integers(0, sentences, len(clip))
    return audio, unit(sentences, 24, seed=seed)[same], clip, same


def double_loop(audio, text, clip, same=None):
    """Both directions in float64, pair by pair; a wrong item within 1e-5 is ahead.

    Returns:
      text to audio, audio to text: (best rank, average precision, matches) of each query.
    """
    clip, scores = np.asarray(clip), audio.astype(np.float64) @ text.astype(np.float64).T  # (N, M)
    same = np.arange(len(clip)) if same is None else np.asarray(same)
    right = np.array([[s in set(same[clip == i]) for s in same] for i in range(len(audio))])
    out = []
    for values, relevant in ((scores.T, right.T), (scores, right)):
        rows = []
        for v, r in zip(values, relevant, strict=True):
            own = np.sort(v[r])[::-1]
            wrong = np.array([np.sum(v[~r] >= x - 1e-5) for x in own])
            place = wrong + np.arange(1, len(own) + 1)
            hits = place[place <= 10]
            precision = sum((i + 1) / p for i, p in enumerate(hits)) / min(len(own), 10)
            rows.append((wrong[0], precision, len(own)))
        out.append(tuple(map(np.array, zip(*rows, strict=True))))
    return out


def assert_same(found, expected):
    for outcomes, (best, precision, matches) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(outcomes.rank, best)
        np.testing.assert_allclose(outcomes.precision, precision, atol=1e-12)
        np.testing.assert_array_equal(outcomes.matches, matches)


@pytest.mark.parametrize("sentences", [None, 1, 2, 30])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_double_loop(seed, sentences):
    inputs = case(seed=seed, sentences=sentences)
    assert_same(rank(*inputs), double_loop(*inputs))


@st.composite
def small_sets(draw):
    """Vectors of small integers, many of them equal: ties, duplicates, one clip, one caption."""
    vector = st.sampled_from([(1, 0, 0), (0, 1, 0), (-1, 0, 0), (1, 1, 0), (1, 1, 1), (1, -1, 2)])
    n = draw(st.integers(1, 6))
    audio = draw(st.lists(vector, min_size=n, max_size=n))
    clip = list(range(n)) + draw(st.lists(st.integers(0, n - 1), max_size=12))
    table = draw(st.lists(vector, min_size=1, max_size=5))
    same = draw(st.lists(st.integers(0, len(table) - 1), min_size=len(clip), max_size=len(clip)))
    audio, text = np.array(audio, float), np.array([table[s] for s in same], float)
    audio, text = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (audio, text))
    return audio, text, clip, same if draw(st.booleans()) else None


@settings(max_examples=40, deadline=None)
@given(small_sets())
def test_ties_and_duplicates(inputs):
    assert_same(rank(*inputs), double_loop(*inputs))


def test_a_clip_with_more_captions_than_places():
    clip = np.array([0] * 25 + [1, 2])
    inputs = unit(3, 4), unit(27, 4, seed=1), clip, None
    assert_same(rank(*inputs), double_loop(*inputs))
    perfect = unit(3, 4)[clip]
    assert rank(unit(3, 4), perfect, clip)[1].precision.tolist() == [1, 1, 1]


def test_blocks_and_devices_change_nothing(monkeypatch):
    inputs = case(clips=90, sentences=60)
    monkeypatch.setattr(module, "TILE", 8)
    found = []
    for devices, rows, columns in ((8, 64, 2**13), (1, 2**16, 2**13), (2, 16, 128)):
        monkeypatch.setattr(module, "ROWS", rows)
        monkeypatch.setattr(module, "COLUMNS", columns)
        mesh = Mesh(np.array(jax.devices()[:devices]).reshape(-1, 1), ("data", "fsdp"))
        found.append(rank(*inputs, mesh=mesh))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one.rank, two.rank)
            np.testing.assert_array_equal(one.precision, two.precision)


def test_eight_devices_rank_what_rounding_could_tell_apart_as_one_does():
    """Wrong captions within a few float32 steps of a match and of the level it is counted at."""
    rng = np.random.default_rng(0)
    audio = unit(300, 64)
    clip = np.repeat(np.arange(300), 4)
    text = audio[clip] + 0.4 * unit(300, 64, seed=1)[clip]  # all four captions alike, nearly
    text += rng.normal(size=text.shape) * 10.0 ** rng.uniform(-9, -5, (len(text), 1))
    audio, clip = np.repeat(audio, 2, axis=0), 2 * clip + np.arange(len(clip)) % 2  # clips in twos
    text = (text / np.linalg.norm(text, axis=1, keepdims=True)).astype(np.float32)
    devices = np.array(jax.devices())
    found = [
        rank(audio, text, clip, mesh=Mesh(some, axes))
        for some, axes in (
            (devices.reshape(4, 2), ("data", "fsdp")),
            (devices[:1], ("clips",)),
            (devices[:3], ("clips",)),
        )
    ]
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one.rank, two.rank)
            np.testing.assert_array_equal(one.precision, two.precision)
    assert (found[0][0].rank > 0).all()  # the clip's twin is as near


def test_counts_of_several_blocks(monkeypatch):
    monkeypatch.setattr(module, "TILE", 8)
    monkeypatch.setattr(module, "ROWS", 16)
    monkeypatch.setattr(module, "COLUMNS", 128)
    audio, text = unit(300, 16), unit(500, 16, seed=1)
    rows, columns = np.linspace(-0.9, 0.9, 600), np.linspace(0.9, -0.9, 500)
    rows, columns = rows.reshape(300, 2).astype(np.float32), columns.astype(np.float32)
    mesh = Mesh(np.array(jax.devices()), ("clips",))
    by_row, by_column = count_reaching(audio, rows, text.__getitem__, columns, mesh)
    scores = audio.astype(np.float64) @ text.T.astype(np.float64)
    np.testing.assert_array_equal(by_row, (scores[:, None] >= rows[:, :, None]).sum(2))
    np.testing.assert_array_equal(by_column, (scores >= columns).sum(0))


def test_equals_scikit_learn_where_all_ranks_count():
    # 10 captions at most: every rank is below 10, so mAP@10 is plain mean average precision.
    audio, clip = unit(4, 6, seed=3), np.array([0, 0, 1, 1, 1, 2, 3, 3, 3, 3])
    text = unit(10, 6, seed=4)
    scores, relevant = audio @ text.T, clip == np.arange(4)[:, None]
    for outcomes, values, right in zip(
        rank(audio, text, clip), (scores.T, scores), (relevant.T, relevant), strict=True
    ):
        expected = [average_precision_score(r, s) for r, s in zip(right, values, strict=True)]
        np.testing.assert_allclose(outcomes.precision, expected)


def test_ranks_4_3_2_1_0():
    """Five captions in the first five places, worst first: 1.0 sorted, 1.74 in LAION's code."""
    angle = np.array([0.5, 0.4, 0.3, 0.2, 0.1])
    text = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    audio, clip = np.array([[1.0, 0.0]]), np.zeros(5, int)
    assert rank(audio, text, clip)[1].precision[0] == 1.0
    unsorted = rank(audio, text, clip, laion_compat=True)[1]
    expected = (1 / 5 + 2 / 4 + 3 / 3 + 4 / 2 + 5 / 1) / 5
    assert unsorted.precision[0] == pytest.approx(expected) == pytest.approx(1.74)
    assert unsorted.rank[0] == 0


@pytest.mark.parametrize("seed", range(2))
def test_laion_compat_numbers_hits_in_the_given_order(seed):
    """As LAION's loop: the places of a clip's captions below 10, unsorted."""
    audio, text, clip, _ = case(seed=seed)
    order = np.argsort(-(audio.astype(np.float64) @ text.T), axis=1)
    expected = []
    for i in range(len(audio)):
        places = np.array([list(order[i]).index(j) for j in np.flatnonzero(clip == i)])
        hits = places[places < 10]
        expected.append(np.sum(np.arange(1, len(hits) + 1) / (hits + 1)) / len(places))
    found = rank(audio, text, clip, laion_compat=True)[1].precision
    np.testing.assert_allclose(found, expected)
    assert np.mean(found) != pytest.approx(np.mean(rank(audio, text, clip)[1].precision))


@pytest.mark.parametrize(("clips", "dimensions"), [(11, 512), (101, 64)])
def test_constant_embeddings_come_last(clips, dimensions):
    """Also where equal products differ in the last bit."""
    audio = np.tile(unit(1, dimensions), (clips, 1))
    text = np.tile(unit(1, dimensions, seed=1), (clips, 1))
    for outcomes in rank(audio, text, np.arange(clips)):
        assert (outcomes.rank == clips - 1).all() and not outcomes.precision.any()
    for outcomes in rank(audio, text, np.arange(clips), same=np.zeros(clips, int)):
        assert (outcomes.rank == 0).all() and (outcomes.precision == 1).all()


def test_metrics_and_chance():
    n = 1000
    for outcomes in rank(unit(n, 32), unit(n, 32, seed=1), np.arange(n)):
        found = metrics(outcomes)
        assert found["median rank"] == np.median(outcomes.rank) + 1
        assert found["mean rank"] == pytest.approx(outcomes.rank.mean() + 1)
        for k in (1, 5, 10):
            assert chance(outcomes, k) == pytest.approx(k / n)
            assert abs(found[f"R@{k}"] - k / n) < 5 * np.sqrt(k / n / n)
    # Two clips with two captions each, of which one is shared: 3 of 4 captions match a clip.
    captions, clips = rank(unit(2, 4), unit(4, 4)[[0, 1, 1, 2]], [0, 0, 1, 1], [0, 1, 1, 2])
    assert captions.matches.tolist() == [1, 2, 2, 1] and clips.matches.tolist() == [3, 3]
    assert chance(captions, 1) == pytest.approx((0.5 + 1 + 1 + 0.5) / 4)
    assert chance(clips, 1) == pytest.approx(3 / 4) and chance(clips, 10) == 1.0
    assert chance(captions, 5) == 1.0  # of a pool of two


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
        (unit(3, 8), unit(3, 8) * [[1], [np.nan], [1]], [0, 1, 2], "text: row 1 is NaN"),
        (unit(3, 8) * np.inf, unit(3, 8), [0, 1, 2], "audio: row 0 is NaN or infinite"),
        (unit(3, 8), unit(3, 2, 8), [0, 1, 2], "text: expected"),
        (unit(3, 8), [["a"] * 8], [0], "text: not an array of numbers"),
    ],
)
def test_bad_input(audio, text, clip, message):
    with pytest.raises(ValueError, match=message) as error:
        rank(audio, text, clip)
    assert "\n" not in str(error.value)


def test_bad_same():
    with pytest.raises(ValueError, match=r"same: expected \(3,\), got shape \(2,\)"):
        rank(unit(3, 8), unit(3, 8), [0, 1, 2], same=[0, 1])


def test_a_memory_mapped_array_is_not_copied(tmp_path):
    np.save(tmp_path / "audio.npy", unit(30, 8))
    mapped = np.load(tmp_path / "audio.npy", mmap_mode="r")
    assert np.shares_memory(unit_rows("audio", mapped), mapped)
