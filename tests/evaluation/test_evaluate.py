"""Running the tasks on records, with a model whose answers are known."""

import numpy as np
import pytest

from clapjax.data.schema import Example
from clapjax.evaluation.tasks import EvaluationConfig, evaluate, supported
from tests.data.building import RATE, write_records

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
        self.sign, self.rates = sign, set()

    def _embed(self, orders: list[list[str]]) -> np.ndarray:
        rows = np.zeros((len(orders), 9), np.float32)
        for row, order in zip(rows, orders, strict=True):
            places = [EVENTS.index(event) for event in order][:: self.sign]
            row[places[0] * 3 + places[-1]] = 1
        return rows

    def embed_audio(self, audio, sampling_rate=None):
        self.rates.add(sampling_rate)
        self_sign, self.sign = self.sign, 1
        rows = self._embed([[EVENTS[s // 100 - 1] for s in samples[::10]] for samples in audio])
        self.sign = self_sign
        return rows

    def embed_text(self, texts):
        return self._embed([[w for w in text.strip(".").split() if w in EVENTS] for text in texts])


def test_a_model_that_knows_everything(data_dir):
    oracle = Oracle()
    found = evaluate(oracle, data_dir, EvaluationConfig())
    assert oracle.rates == {RATE}
    assert found.results["t_classify"].pop("intervals")["text_to_audio"][1] == 1.0
    expected = {"text_to_audio": 1.0, "audio_to_text": 1.0, "n": 7, "n_audio": 4}
    assert found.results["t_classify"] == expected
    assert found.results["retrieval"]["text_to_audio"]["R@1"] == 1.0
    assert found.results["retrieval"]["audio_to_text"]["R@1"] == 1.0
    assert found.results["zero_shot"]["accuracy"] == 1.0
    assert found.results["zero_shot"]["confusion"] == np.eye(3, dtype=int).tolist()
    assert found.class_names == EVENTS
    assert found.scalars() == {
        "t_classify/text_to_audio": 1.0,
        "t_classify/audio_to_text": 1.0,
        "zero_shot/accuracy": 1.0,
        **{
            f"retrieval/{direction}/{score}": 1.0
            for direction in ("text_to_audio", "audio_to_text")
            for score in ("R@1", "R@5", "R@10", "mAP@10")
        },
    }
    # For retrieval, the clip with the contents of the first one is left out.
    assert found.similarity["rows"] == [" / ".join(order) for order in ORDERS]
    np.testing.assert_array_equal(found.similarity["values"], np.eye(6))
    titles = {(e["title"], e["right_order"], e["score"]) for e in found.examples}
    assert titles == {
        (f"{which} margin, {order} order", order == "right", float(order == "right"))
        for which in ("median", "worst")
        for order in ("right", "wrong")
    }


def test_a_model_that_turns_every_order_round(data_dir):
    found = evaluate(Oracle(-1), data_dir, EvaluationConfig()).results
    assert found["t_classify"]["text_to_audio"] == found["t_classify"]["audio_to_text"] == 0.0
    assert found["retrieval"]["text_to_audio"]["R@1"] == 0.0
    assert found["zero_shot"]["accuracy"] == 1.0  # one event has no order


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "test_clips"}, "no example of the split has a negative caption"),
        ({"zero_shot_split": "test"}, "zero-shot: examples without a label"),
    ],
)
def test_a_split_without_what_the_task_needs(data_dir, changes, message):
    with pytest.raises(ValueError, match=message):
        evaluate(Oracle(), data_dir, EvaluationConfig(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ("chess", "zero_shot")}, r"no task \['chess'\]; there are"),
        ({"template": "a sound"}, "template 'a sound' has no {}"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        EvaluationConfig(**changes)


def test_what_the_records_support(data_dir, tmp_path):
    config = EvaluationConfig()
    assert supported(data_dir, config) == (config.tasks, [])
    found, left_out = supported(data_dir, EvaluationConfig(split="test_clips"))
    assert found == ("retrieval", "zero_shot")
    assert left_out == ["t_classify: no example of the split 'test_clips' has a negative caption"]
    found, left_out = supported(data_dir, EvaluationConfig(split="no", zero_shot_split="test"))
    missing = "the records have no split 'no'; there are test, test_clips"
    bare = "7 examples of the split 'test' have no label"
    assert found == () and left_out == [
        f"t_classify: {missing}",
        f"retrieval: {missing}",
        f"zero_shot: {bare}",
    ]
