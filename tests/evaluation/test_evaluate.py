"""Running the tasks on records, with a model whose answers are known."""

from types import SimpleNamespace

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from clapjax.data.schema import Example
from clapjax.evaluation.benchmarks import Judged, load_benchmark, load_tasks
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.evaluate import LACKS, evaluate, scores
from clapjax.evaluation.tagging import lacks as tagging_lacks
from clapjax.evaluation.tagging import tagging
from tests.data.building import RATE, write_records
from tests.evaluation.models import benchmark

EVENTS = ("dog", "rain", "siren")
ORDERS = [(a, b) for a in EVENTS for b in EVENTS if a != b]


def _audio(order: tuple[str, ...]) -> np.ndarray:
    """Each event sounds as ten samples of its own value."""
    return np.repeat([100 * (EVENTS.index(event) + 1) for event in order], 10).astype(np.int16)


def _mixture(index: int, order: tuple[str, str], negative_audio: bool) -> Example:
    wrong = order[::-1]
    return Example(
        id=f"mixture-{index}",
        audio=_audio(order),
        sample_rate=RATE,
        captions=(f"{order[0]} then {order[1]}", f"{order[0]} before {order[1]}"),
        negative_captions=(f"{wrong[0]} then {wrong[1]}",),
        negative_audio=_audio(wrong) if negative_audio else None,
        events=order,
    )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    orders = [*ORDERS, ORDERS[0]]  # one order twice
    test = [_mixture(i, order, i % 2 == 0) for i, order in enumerate(orders)]
    clips = [
        Example(
            id=f"clip-{event}",
            audio=_audio((event,)),
            sample_rate=RATE,
            captions=(event,),
            labels=(event,),
        )
        for event in EVENTS
    ]
    folder = tmp_path_factory.mktemp("tasks") / "records"
    return write_records(folder, {"test": test, "test_clips": clips}, shards=1)


class Oracle:
    """Hears and reads events; `sign` = -1 takes every order for the other one."""

    def __init__(self, sign: int = 1):
        self.sign, self.heard = sign, 0
        self.config = SimpleNamespace(audio=SimpleNamespace(sample_rate=RATE))

    def _embed(self, orders: list[list[str]], sign: int) -> np.ndarray:
        rows = np.zeros((len(orders), 9), np.float32)
        for row, order in zip(rows, orders, strict=True):
            places = [EVENTS.index(event) for event in order][::sign]
            row[places[0] * 3 + places[-1]] = 1
        return rows

    def each_audio(self, audio, *, sampling_rate, long=None, hop=None):
        for number, samples in enumerate(audio):
            self.heard += 1
            yield number, self._embed([[EVENTS[s // 100 - 1] for s in samples[::10]]], 1)[0]

    def embed_text(self, texts):
        events = [[w for w in text.strip(".").split() if w in EVENTS] for text in texts]
        return self._embed(events, self.sign)


def _run(data_dir, oracle, **settings):
    config = EvaluationConfig(**settings)
    tasks, left_out = load_tasks("set", data_dir, config, LACKS)
    assert left_out == []
    return evaluate(oracle, "oracle", tasks, config)


def test_a_model_that_knows_everything(data_dir):
    found = _run(data_dir, Oracle())
    assert all(result.model == "oracle" and result.benchmark == "set" for result in found)
    expected = {
        "t_classify/text_to_audio": 1.0,
        "t_classify/audio_to_text": 1.0,
        "zero_shot/accuracy": 1.0,
        "zero_shot/mean_class_recall": 1.0,
        **{
            f"retrieval/{direction}/{score}": 1.0
            for direction in ("text_to_audio", "audio_to_text")
            for score in ("R@1", "R@5", "R@10", "mAP@10", "median_rank", "mean_rank")
        },
    }
    assert scores(found) == expected
    sizes = {next(iter(result.scores())): (result.n, result.chance) for result in found}
    assert sizes == {
        "t_classify/text_to_audio": (7, 0.5),
        "t_classify/audio_to_text": (4, 0.5),
        # The clip with the contents of the first one is not asked for: six with two captions each.
        "retrieval/text_to_audio/R@1": (12, pytest.approx(1 / 6)),
        "retrieval/audio_to_text/R@1": (6, pytest.approx(1 / 6)),
        "zero_shot/accuracy": (3, 1 / 3),
    }
    splits = {result.task: result.provenance["split"] for result in found}
    assert splits == {"t_classify": "test", "retrieval": "test", "zero_shot": "test_clips"}


def test_a_model_that_turns_every_order_round(data_dir):
    found = scores(_run(data_dir, Oracle(-1)))
    assert found["t_classify/text_to_audio"] == found["t_classify/audio_to_text"] == 0.0
    assert found["retrieval/text_to_audio/R@1"] == 0.0
    assert found["zero_shot/accuracy"] == 1.0  # one event has no order


def test_each_split_is_embedded_once(data_dir):
    oracle = Oracle()
    _run(data_dir, oracle)
    assert oracle.heard == 7 + 4 + 3


@pytest.mark.parametrize(
    ("task", "split", "message"),
    [
        ("t_classify", "test_clips", "t_classify: no example of the split 'test_clips' has a neg"),
        ("zero_shot", "test", "zero_shot: 7 clips of the split 'test' have no label"),
    ],
)
def test_a_split_without_what_the_task_needs(data_dir, task, split, message):
    benchmark = load_benchmark("set", data_dir, split)
    with pytest.raises(ValueError, match=message):
        evaluate(Oracle(), "oracle", {task: benchmark}, EvaluationConfig())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ("chess", "zero_shot")}, r"no task \['chess'\]; there are"),
        ({"template": "a sound"}, "template 'a sound' has no {}; write one, or one of laion"),
        ({"template": "a sound of {}|a sound"}, "has no {}"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        EvaluationConfig(**changes)


SETTINGS = EvaluationConfig(tasks=("t_classify", "retrieval", "zero_shot", "groups"))
TEXTS = [f"{first} then {last}" for first, last in ORDERS]


@st.composite
def _few_clips(draw) -> list[Judged]:
    """As few as nobody would judge on: with one label or several, of one recording or several."""
    texts, kinds = st.sampled_from(TEXTS), ("human",)
    labels = st.lists(st.sampled_from(EVENTS), max_size=draw(st.sampled_from([0, 1, 3])))
    clips = []
    for index in range(draw(st.integers(1, 4))):
        captions = draw(st.lists(texts, min_size=1, max_size=2))
        negatives = draw(st.lists(texts, max_size=1))
        clips.append(
            Judged(
                id=str(index),
                captions=tuple(captions),
                kinds=kinds * len(captions),
                negative_captions=tuple(negatives),
                negative_kinds=kinds * len(negatives),
                labels=tuple(sorted(set(draw(labels)))),
                origin=draw(st.sampled_from(["", "a", "b"])),
            )
        )
    return clips


@hypothesis.given(_few_clips(), st.integers(0, 5))
@hypothesis.settings(max_examples=80, deadline=None)
def test_what_nothing_lacks_is_judged_however_small(clips, seed):
    """Fails where a run finds out in its evaluation that its held-out clips are too few for it."""
    small = benchmark(clips, lambda rate, first=0: ((i, False, _audio(ORDERS[(i + seed) % 6]))
                                                    for i in range(first, len(clips))))  # fmt: skip
    for task in (one for one in SETTINGS.tasks if not LACKS[one](small)):
        for result in evaluate(Oracle(), "oracle", {task: small}, SETTINGS):
            for metric in result.metrics.values():
                assert metric.low - 1e-9 <= metric.value <= metric.high + 1e-9
    if not tagging_lacks(small, EVENTS[:2]):
        found = np.random.default_rng(seed).random((len(clips), 2)).round(1)
        precision, _ = tagging(found, EVENTS[:2], small, range(len(clips)), "m", {})
        assert 0 <= precision.metrics["mAP"].low < precision.metrics["mAP"].high <= 1
