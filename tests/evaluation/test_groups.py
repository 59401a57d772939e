"""Groups of clips and captions: scores, ties, chance, and CompA's layout."""

import numpy as np
import pytest

from clapjax.evaluation import groups
from clapjax.evaluation.benchmarks import Judged, load_benchmark, settings_for
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.groups import find_groups, group_chance, group_margins
from tests.data.miniature import write_audio, write_table
from tests.evaluation.models import benchmark, embedded, unit


def group(name, size) -> list[Judged]:
    captions = [f"{name} {i}" for i in range(size)]
    return [
        Judged(
            id=caption,
            captions=(caption,),
            kinds=("human",),
            negative_captions=tuple(c for c in captions if c != caption),
            origin=name,
        )
        for caption in captions
    ]


def found(clips, audio, texts) -> dict[str, float]:
    results = groups.run(embedded(clips, audio, texts), EvaluationConfig())
    return {n: m.value for result in results for n, m in result.metrics.items()}


def test_scores_of_winoground_by_a_double_loop():
    clips = [clip for i in range(40) for clip in group(str(i), 2 + i % 2)]
    audio, text = unit(100, 6), unit(100, 6, seed=1)
    text = text + 0.7 * audio
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    scores = audio.astype(np.float64) @ text.T.astype(np.float64)
    right = {"text": 0, "audio": 0, "group": 0}
    for members in find_groups(tuple(clips)):
        s = scores[np.ix_(members, members)]
        own, off = s.diagonal(), np.where(np.eye(len(s), dtype=bool), -2, s)
        text_right, audio_right = (own > off.max(axis=1)).all(), (own > off.max(axis=0)).all()
        right["text"] += text_right
        right["audio"] += audio_right
        right["group"] += text_right and audio_right
    expected = {name: count / 40 for name, count in right.items()}
    assert 0.1 < expected["group"] < expected["text"] < 1
    texts = dict(zip((clip.captions[0] for clip in clips), text, strict=True))
    assert found(clips, audio, texts) == pytest.approx(expected)


def test_ties_are_wrong():
    texts = {"a 0": (1, 0), "a 1": (1, 0)}
    assert found(group("a", 2), np.eye(2), texts) == {"text": 0, "audio": 0, "group": 0}
    assert group_margins(np.eye(2), np.eye(2)) == (1.0, 1.0)


@pytest.mark.parametrize("size", [2, 3])
def test_chance_is_that_of_random_scores(size):
    rng = np.random.default_rng(0)
    scores = rng.random((200_000, size, size))
    own = scores.diagonal(axis1=1, axis2=2)[:, :, None]
    others = ~np.eye(size, dtype=bool)
    text = ((own > scores) | ~others).all((1, 2))
    audio = ((own > scores.transpose(0, 2, 1)) | ~others).all((1, 2))
    clips = group("a", size)
    texts = dict(zip((clip.captions[0] for clip in clips), unit(size, 4), strict=True))
    results = groups.run(embedded(clips, unit(size, 4), texts), EvaluationConfig())
    for result, drawn in zip(results, (text, audio, text & audio), strict=True):
        error = np.sqrt(result.chance * (1 - result.chance) / len(scores))
        assert abs(drawn.mean() - result.chance) < 4 * error
    assert group_chance(2) == pytest.approx(1 / 6) and group_chance(3) == pytest.approx(1 / 60)


def test_what_it_needs():
    alone = Judged(id="a", captions=("x",), negative_captions=("y",), origin="o")
    message = "no clips of the split 'test' have each other's captions as negatives"
    assert groups.lacks(benchmark([alone])) == message
    assert groups.lacks(benchmark([alone, Judged(id="b", captions=("z",), origin="o")])) == message
    assert groups.lacks(benchmark(group("a", 2))) == ""


def test_compa_as_it_is_published(tmp_path):
    header = "pair_caption,reversed_pair_caption,triplet_caption"
    header += ",pair_file,reversed_pair_file,triplet_file"
    rows = [
        ("dog then man", "man then dog", "-", "1.wav", "1_rev.wav", "-"),
        ("rain then car", "car then rain", "both", "2.wav", "2_rev.wav", "2_trip.wav"),
        ("gone", "not gone", "", "3.wav", "3_rev.wav", ""),
    ]
    write_table(tmp_path / "benchmark.csv", rows, header)
    names = ("1.wav", "1_rev.wav", "2.wav", "2_rev.wav", "2_trip.wav", "3.wav")
    for number, name in enumerate(names):
        write_audio(tmp_path / "files" / name, number)
    compa = load_benchmark("compa_order", tmp_path)
    assert [clip.captions for clip in compa.clips] == [
        ("dog then man",),
        ("man then dog",),
        ("rain then car",),
        ("car then rain",),
        ("both",),
    ]
    assert find_groups(compa.clips) == [[0, 1], [2, 3, 4]]
    assert compa.rejected == ("compa:3: no audio file 3_rev.wav",)
    assert settings_for("compa_order", EvaluationConfig()).tasks == ("groups",)
    (tmp_path / "benchmark.csv").write_text("caption\n")
    with pytest.raises(ValueError, match="expected one table with pair_caption, pair_file, rev"):
        load_benchmark("compa_order", tmp_path)
