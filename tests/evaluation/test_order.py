"""T-Classify: margins, all negatives of a clip, ties, parts, chance."""

import numpy as np
import pytest

from clapjax.evaluation import order
from clapjax.evaluation.benchmarks import Judged
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.order import margins
from tests.evaluation.models import benchmark, embedded, unit

X, Y, XY = (1, 0), (0, 1), (0.6, 0.8)


def judged(name, negatives=("wrong",), captions=("right",), kinds=None, **fields) -> Judged:
    return Judged(
        id=name,
        captions=tuple(captions),
        kinds=("human",) * len(captions),
        negative_captions=tuple(negatives),
        negative_kinds=kinds or ("rules",) * len(negatives),
        **fields,
    )


def found(*arguments, **fields) -> dict:
    """{metric: result} of everything that a run gives."""
    results = order.run(embedded(*arguments, **fields), EvaluationConfig())
    assert all(result.task == "t_classify" for result in results)
    return {name: result for result in results for name in result.metrics}


def value(results, name):
    return results[name].metrics[name].value


# --- margins --------------------------------------------------------------------------------


def test_margins_by_hand():
    audio, right = [[1.0, 0.0], [0.6, 0.8]], [[0.6, 0.8], [1.0, 0.0]]
    np.testing.assert_allclose(margins(audio, right, [[0.0, 1.0]] * 2), [0.6, -0.2], atol=1e-7)


def test_margins_equal_float64_loop():
    sides = [unit(50, 33, seed=s) for s in range(3)]
    rows = zip(*(x.astype(np.float64) for x in sides), strict=True)
    expected = [float(q @ p) - float(q @ n) for q, p, n in rows]
    np.testing.assert_allclose(margins(*sides), expected, atol=2e-7)


def test_sign_survives_float32_cancellation():
    positive = unit(2000, 512, seed=1)
    negative = unit(2000, 512, seed=2) * np.float32(1e-6) + positive
    audio = unit(2000, 512, seed=3)
    exact = (audio.astype(np.float64) * (positive.astype(np.float64) - negative)).sum(axis=1)
    np.testing.assert_array_equal(np.sign(margins(audio, positive, negative)), np.sign(exact))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:0], "wrong: .*non-empty"),
        (lambda x: x[:3], "differ"),
        (lambda x: x * 1.01, "wrong: .*unit length"),
        (lambda x: np.where(np.arange(8) == 2, np.nan, x), "wrong: .*NaN"),
    ],
)
def test_bad_embeddings_are_refused_by_name(change, message):
    good = unit(4, 8)
    with pytest.raises(ValueError, match=message):
        margins(good, good, change(good))


# --- the task -------------------------------------------------------------------------------


def test_every_negative_of_a_clip_counts():
    clip = judged("a", ("easy", "hard"))
    results = found([clip], [X], {"right": XY, "easy": Y, "hard": X})
    assert value(results, "text_to_audio") == 0.5 and results["text_to_audio"].n == 2
    assert value(results, "text_to_audio/all") == 0.0 and results["text_to_audio/all"].n == 1
    assert results["text_to_audio"].chance == 0.5
    assert results["text_to_audio/all"].chance == pytest.approx(1 / 3)  # the best of three
    items = results["text_to_audio"].items
    assert items["negative_caption"].tolist() == ["easy", "hard"]
    np.testing.assert_allclose(items["margin"], [0.6, -0.4], atol=1e-6)


def test_chance_of_whole_clips_is_that_of_random_embeddings():
    clips, texts = [], {}
    for i in range(1500):
        names = {"one": ("one w1", "one w2"), "two": ("two w3",)}
        right = [f"{i} {name}" for name in names]
        wrong = [f"{i} {text}" for group in names.values() for text in group]
        clips.append(judged(str(i), wrong, right, negative_audio=True))
        texts |= dict(zip(right + wrong, unit(5, 24, seed=i), strict=True))
    audio, negative = unit(1500, 24, seed=9001), unit(1500, 24, seed=9002)
    results = found(clips, audio, texts, negative=dict(enumerate(negative)))
    for direction, chance in (("text_to_audio", 1 / 3 * 1 / 2), ("audio_to_text", 1 / 4)):
        whole = results[f"{direction}/all"]
        assert whole.chance == pytest.approx(chance)
        error = np.sqrt(chance * (1 - chance) / whole.n)
        assert abs(value(results, f"{direction}/all") - chance) < 4 * error
        assert abs(value(results, direction) - 0.5) < 4 * 0.5 / np.sqrt(results[direction].n / 2)


def test_a_tie_is_wrong():
    clips = [judged(str(i), negative_audio=True) for i in range(5)]
    same = {"right": XY, "wrong": XY}
    results = found(clips, [X] * 5, same, negative=dict.fromkeys(range(5), X))
    assert value(results, "text_to_audio") == value(results, "audio_to_text") == 0.0


def test_audio_to_text_asks_each_caption_once_and_only_clips_with_a_wrong_order():
    clips = [judged("a", ("w1", "w2")), judged("b", ("w1",), negative_audio=True)]
    results = found(clips, [X, X], {"right": XY, "w1": Y, "w2": Y}, negative={1: Y})
    assert results["text_to_audio"].n == 3
    assert results["audio_to_text"].n == 1
    assert results["audio_to_text"].items["id"].tolist() == ["b"]
    assert value(results, "audio_to_text") == 0.0  # 0.6 against 0.8
    assert "audio_to_text" not in found(clips[:1], [X], {"right": XY, "w1": Y, "w2": Y})


def test_negatives_are_set_against_their_own_caption():
    clip = judged("a", ("rain then a dog",), ("sea waves", "a dog then rain"))
    texts = {"rain then a dog": XY, "a dog then rain": X, "sea waves": Y}
    assert value(found([clip], [X], texts), "text_to_audio") == 1.0


def test_parts_by_events_connective_and_provenance():
    clips = []
    for i in range(40):
        link, events = ("then", 2) if i % 2 else ("before", 3)
        kind = "rules" if i % 4 < 2 else "llm:x"
        right = f"a dog barks {link} a man speaks"
        clips.append(judged(str(i), ("w",), (right,), (kind,), events=("e",) * events))
    texts = {"a dog barks then a man speaks": X, "a dog barks before a man speaks": Y, "w": XY}
    results = found(clips, [X] * 40, texts)
    parts = {name: (value(results, name), results[name].n) for name in results if "=" in name}
    assert parts == {
        "text_to_audio/events=2": (1.0, 20),
        "text_to_audio/events=3": (0.0, 20),
        "text_to_audio/connective=then": (1.0, 20),
        "text_to_audio/connective=before": (0.0, 20),
        "text_to_audio/provenance=rules": (0.5, 20),
        "text_to_audio/provenance=llm:x": (0.5, 20),
    }


def test_parts_by_event_pair_and_probe():
    clips = []
    for i in range(45):
        events = [("rain", "dog"), ("dog", "rain", "dog"), ("rain", "cat"), ("a", "b", "c")][i % 4]
        kind = ["rules", "probe:pair", "probe:x:backwards", "probe:events"][i % 4]
        clips.append(judged(str(i), ("w",), kinds=(kind,), events=events))
    clips += [judged(f"few {i}", ("w",) * 5, events=("few", "clips")) for i in range(9)]
    audio = [XY if i % 4 == 2 else X for i in range(45)] + [X] * 9
    results = found(clips, audio, {"right": X, "w": Y})
    parts = {
        name.removeprefix("text_to_audio/"): (value(results, name), results[name].n)
        for name in results
        if "pair=" in name or "probe=" in name
    }
    assert parts == {
        "pair=dog,rain": (1.0, 23),  # in either order; not "clips,few", of nine clips
        "pair=cat,rain": (0.0, 11),
        "probe=pair": (1.0, 11),
        "probe=x": (0.0, 11),
        "probe=x:backwards": (0.0, 11),
        "probe=events=3": (1.0, 11),
    }
    items = results["text_to_audio"].items
    assert items["pair"][:4].tolist() == ["dog,rain", "dog,rain", "cat,rain", ""]
    assert items["probe"][:4].tolist() == ["", "pair", "x", "events=3"]
    assert items["events"][:4].tolist() == ["2", "3", "2", "3"]
    assert items["connective"][0] == "none" and items["provenance"][2] == "probe:x:backwards"


def test_examples_are_the_median_and_the_worst_with_both_orders():
    clips = [judged(str(i), (f"w{i}",), (f"r{i}",), negative_audio=i == 2) for i in range(3)]
    texts = {"r0": X, "w0": Y, "r1": XY, "w1": Y, "r2": Y, "w2": X}
    shown = order.run(embedded(clips, [X] * 3, texts, {2: Y}), EvaluationConfig())[0].examples
    assert [example.title for example in shown] == [
        "T-Classify: median margin",
        "T-Classify: worst margin",
    ]
    right, wrong = shown[1].sounds
    assert (right.clip, right.negative, wrong.clip, wrong.negative) == ("2", False, "2", True)
    assert [(said.text, said.score, said.right) for said in right.said + wrong.said] == [
        ("r2", 0.0, True),
        ("w2", 1.0, False),
        ("r2", 1.0, False),
        ("w2", 0.0, True),
    ]


def test_what_it_needs():
    assert order.lacks(benchmark([judged("a")])) == ""
    message = "no example of the split 'test' has a negative caption"
    assert order.lacks(benchmark([judged("a", ())])) == message


def test_a_clip_without_a_caption_is_in_no_pair():
    clips = judged("a", captions=()), judged("b")
    assert set(order.pair_up(clips).clip) == {1}
