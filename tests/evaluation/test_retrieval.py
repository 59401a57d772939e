"""Retrieval as a task: which captions count, n and chance. The ranks have tests of their own."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from clapjax.evaluation import retrieval
from clapjax.evaluation.benchmarks import Judged
from clapjax.evaluation.config import EvaluationConfig
from tests.evaluation.models import benchmark, embedded, unit


def judged(name, *captions, kind="human", **fields) -> Judged:
    return Judged(id=name, captions=captions, kinds=(kind,) * len(captions), **fields)


def run(*arguments, **settings):
    """The results text to audio and audio to text."""
    return retrieval.run(embedded(*arguments), EvaluationConfig(**settings))


def values(result) -> dict[str, float]:
    return {name.split("/")[1]: metric.value for name, metric in result.metrics.items()}


def test_human_captions_are_never_dropped():
    """Six clips with captions of their own, of two kinds of events: six clips are asked for."""
    events = [("dog",), ("rain",)] * 3
    clips = [judged(f"c{i}", f"caption {i}", events=e) for i, e in enumerate(events)]
    texts = dict(zip((f"caption {i}" for i in range(6)), unit(6, 8, seed=1), strict=True))
    to_audio, to_text = run(clips, unit(6, 8), texts)
    assert to_audio.n == to_text.n == 6
    assert to_audio.chance == to_text.chance == pytest.approx(1 / 6)
    assert to_audio.items["id"].tolist() == [f"c{i}" for i in range(6)]


def test_of_clips_that_templates_describe_alike_one_is_asked_for():
    events = [("dog", "rain"), ("rain", "dog"), ("dog", "rain")]
    clips = [judged(str(i), f"t{i}", kind="template", events=e) for i, e in enumerate(events)]
    clips += [judged("3", "t3", kind="template"), judged("4", "h", events=events[0])]
    texts = {name: row for name, row in zip(("t0", "t1", "t3", "h"), np.eye(4), strict=True)}
    to_audio, to_text = run(clips, np.eye(4)[[0, 1, 0, 2, 3]], texts)
    assert to_text.items["id"].tolist() == ["0", "1", "3", "4"]
    assert to_audio.n == 4 and to_audio.chance == pytest.approx(1 / 4)
    assert to_audio.provenance["pool"] == 4
    assert values(to_audio)["R@1"] == values(to_text)["R@1"] == 1.0


def test_identical_captions_match_each_others_clips():
    """Clips 0 and 1 have the same caption, which lies at clip 1."""
    clips = [judged("0", "same"), judged("1", "same"), judged("2", "other")]
    to_audio, to_text = run(clips, np.eye(3), {"same": np.eye(3)[1], "other": np.eye(3)[2]})
    assert to_audio.n == 3
    assert values(to_audio)["R@1"] == 1.0
    assert to_audio.chance == pytest.approx((2 / 3 + 2 / 3 + 1 / 3) / 3)
    # Clip 0 is as far from its captions as from the other one, which is a tie and wrong.
    assert to_text.items["rank"].tolist() == [2, 1, 1]


def test_numbers_by_hand_with_several_captions():
    clips = [judged("a", "a1", "a2"), judged("b", "b1")]
    audio = np.array([[1.0, 0.0], [0.0, 1.0]])
    texts = {"a1": (1.0, 0.0), "a2": (0.6, 0.8), "b1": (0.8, 0.6)}
    to_audio, to_text = run(clips, audio, texts)
    assert to_audio.items["rank"].tolist() == [1, 2, 2] and to_audio.n == 3
    found = values(to_audio)
    assert found["R@1"] == pytest.approx(1 / 3) and found["R@5"] == 1.0
    assert found["mAP@10"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert found["median_rank"] == 2.0 and found["mean_rank"] == pytest.approx(5 / 3)
    # Clip a has a1 in place 1, b1 in 2, a2 in 3; clip b has a2 in 1, b1 in 2.
    assert to_text.items["rank"].tolist() == [1, 2] and to_text.n == 2
    assert values(to_text)["mAP@10"] == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)
    assert to_text.chance == pytest.approx((2 / 3 + 1 / 3) / 2)


def test_constant_embeddings_find_nothing():
    clips = [judged(str(i), f"t{i}") for i in range(30)]
    row = unit(1, 64)[0]
    for result in run(clips, [row] * 30, {f"t{i}": row for i in range(30)}):
        found = values(result)
        assert found["R@1"] == found["R@10"] == found["mAP@10"] == 0.0
        assert found["median_rank"] == found["mean_rank"] == 30.0


def test_ranks_are_counted_on_the_mesh_of_the_model(monkeypatch):
    meshes, mesh = [], Mesh(np.array(jax.devices()[:2]), ("data",))
    ranked = retrieval.rank
    monkeypatch.setattr(retrieval, "rank", lambda *a: meshes.append(a[4]) or ranked(*a))
    known = embedded(
        [judged("a", "ta"), judged("b", "tb")],
        np.eye(2),
        dict(zip(("ta", "tb"), np.eye(2), strict=True)),
    )
    one = retrieval.run(known, EvaluationConfig())
    two = retrieval.run(dataclasses.replace(known, mesh=mesh), EvaluationConfig())
    assert meshes == [None, mesh]
    assert [result.metrics for result in one] == [result.metrics for result in two]


def test_examples_are_what_was_found_last_and_what_was_found_instead():
    clips = [judged("a", "ta"), judged("b", "tb"), judged("c", "tc")]
    texts = {"ta": (1, 0, 0), "tb": (1, 0, 0), "tc": (0, 0, 1)}
    (shown,) = run(clips, np.eye(3), texts)[0].examples
    assert shown.title == "retrieval: asked for, found at place 3"
    asked, found = shown.sounds
    assert (asked.clip, asked.said[0].text, asked.said[0].right) == ("b", "tb", True)
    assert (found.clip, found.said[0].score, found.said[0].right) == ("a", 1.0, False)


def test_what_it_needs():
    assert retrieval.lacks(benchmark([judged("a", "text"), judged("b", "text")])) == ""
    assert "one clip of the split 'test'" in retrieval.lacks(benchmark([judged("a", "text")]))
    message = "1 clips of the split 'test' have no caption"
    assert retrieval.lacks(benchmark([judged("a", "text"), judged("b")])) == message
