"""A captioner is judged on what it writes of each clip, under the guidance that is asked for."""

from types import SimpleNamespace

import numpy as np
import pytest

from clapjax.audio.files import AudioError
from clapjax.evaluation.benchmarks import Judged
from clapjax.evaluation.captioner import evaluate_captioner
from clapjax.evaluation.captioning import captioning
from clapjax.evaluation.config import EvaluationConfig
from tests.evaluation.models import RATE, benchmark

CLIPS = [
    Judged("a", captions=("a dog barks",), labels=("dog",), events=("dog",), origin="x"),
    Judged("b", captions=("rain falls down", "it rains"), labels=("rain", "roof"), origin="x"),
    Judged("c", captions=("nothing",), labels=()),
    Judged("d", captions=("a cat then a dog",), labels=("cat", "dog"), events=("cat", "dog")),
]


class Writer:
    """Says what it is told, and that of the third clip it can make nothing."""

    config = SimpleNamespace(audio=SimpleNamespace(sample_rate=RATE))

    def each(self, audio, *, sampling_rate, tags, order, style, long):
        sounds = list(audio)  # the lists are as long only now
        assert len(sounds) == len(tags) == len(order) == 4 and long == "truncate"
        for index in reversed(range(4)):
            told = " ".join(filter(None, (style, order[index], *tags[index])))
            found = [SimpleNamespace(text=told), SimpleNamespace(text="worse")]
            yield index, AudioError("broken") if index == 2 else found if told else []


HEARD = [*np.eye(3, dtype=np.float32)[:2], AudioError("broken"), np.eye(3, dtype=np.float32)[2]]


class Tagger:
    """Hears "dog" in every clip but the first one, and can make nothing of the third."""

    config = Writer.config

    def each(self, audio, *, sampling_rate, long, hop=None):
        for index, _ in enumerate(audio):
            yield index, AudioError("broken") if index == 2 else np.full(1, index)

    def likely(self, row):
        return ("dog",) if row[0] else ()


class Clap:
    config = Writer.config

    def each_audio(self, audio, *, sampling_rate):
        for index, _ in enumerate(audio):
            yield index, HEARD[index]

    def embed_text(self, texts):
        found = np.array([[len(text), 1, 0] for text in texts], np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_each_guidance_is_a_result():
    settings = EvaluationConfig(
        guidance=("none", "tags", "order"), style="s", clap="clap", tagger="t"
    )
    results = evaluate_captioner(
        Writer(), "m", benchmark(CLIPS), settings, clap=Clap(), tagger=Tagger(), long="truncate"
    )
    expected = {
        "captioning": ["s", "s", "s"],
        "captioning_with_tags": ["s dog", "s rain roof", "s cat dog"],
        "captioning_with_order": ["s one dog", "s rain roof", "s sequential cat dog"],
        "captioning_with_predicted_tags": ["s", "s dog", "s dog"],
    }
    assert [result.task for result in results] == list(expected)
    for result, texts in zip(results, expected.values(), strict=True):
        assert result.items["caption"].tolist() == texts and result.n == 3
        assert result.items["id"].tolist() == ["a", "b", "d"]
        group = result.items["group"]
        assert group[0] == group[1] != group[2]
        heard = np.eye(3), Clap().embed_text(texts)
        references = [CLIPS[at].captions for at in (0, 1, 3)]
        metrics, _ = captioning(texts, references, heard, groups=group)
        assert result.metrics == metrics and "CLAP score" in metrics
        assert result.provenance["style"] == "s" and result.provenance["clap"] == "clap"
    kinds = ["none", "tags", "order", "predicted_tags"]
    assert [result.provenance["guidance"] for result in results] == kinds
    assert [result.provenance.get("tagger") for result in results] == [None, None, None, "t"]


def test_events_are_told_where_all_are_known():
    clips = [CLIPS[0], CLIPS[0], CLIPS[0], CLIPS[3]]
    settings = EvaluationConfig(guidance=("tags",))
    (result,) = evaluate_captioner(Writer(), "m", benchmark(clips), settings, long="truncate")
    assert result.items["caption"].tolist() == ["dog", "dog", "cat dog"]
    assert result.items["all events"].tolist() == [True, True, True]
    assert result.items["all in order"].tolist() == [True, True, False]  # "cat dog" has no order
    assert result.metrics["all in order"].value == pytest.approx(2 / 3)


def test_a_captioner_may_have_nothing_to_say():
    (result,) = evaluate_captioner(
        Writer(), "m", benchmark(CLIPS), EvaluationConfig(guidance=("none",)), long="truncate"
    )
    assert result.items["caption"].tolist() == ["", "", ""]
    assert result.metrics["CIDEr-D"].value == 0 and "CLAP score" not in result.metrics


def test_guidance_that_there_is_not():
    with pytest.raises(ValueError, match="evaluation.guidance: some of none, tags, order, not"):
        EvaluationConfig(guidance=("labels",))
