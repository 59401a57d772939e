"""Embeddings: each clip once, in parts that outlive an interruption, few clips at a time."""

import weakref

import numpy as np
import pytest

from clapjax.evaluation import embed as module
from clapjax.evaluation.benchmarks import Judged
from clapjax.evaluation.embed import Cache, embed_dataset
from tests.evaluation.models import Numbers, benchmark


def clips(count, negative=()):
    return [Judged(id=f"clip {i}", negative_audio=i in negative) for i in range(count)]


def cache(folder, audio="audio fingerprint", text="text fingerprint", tokenizer="words"):
    return Cache(folder, "model", {"audio": audio, "text": text}, tokenizer)


def angles(rows):
    return np.round(100 * np.arctan2(rows[:, 1], rows[:, 0])).tolist()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(module, "PART", 4)
    monkeypatch.setattr(module, "TEXTS", 3)


def test_every_clip_in_its_place():
    found = embed_dataset(Numbers(), benchmark(clips(10, negative=(3, 7))), "name")
    assert angles(found.audio) == list(range(10))
    assert angles(found.negative_audio) == [-3, -7] and found.negative_of.tolist() == [3, 7]
    assert found.model == "name"
    assert found.provenance == {"data": "f", "path": "path", "split": "test"}


def test_what_was_embedded_is_read_again(tmp_path):
    where, first = cache(tmp_path), Numbers()
    expected = embed_dataset(first, benchmark(clips(10, negative=(5,))), "a", cache=where)
    texts = [str(i) for i in range(8)]
    read = expected.embed_text(texts)
    again = Numbers()
    found = embed_dataset(again, benchmark(clips(10, negative=(5,))), "b", cache=where)
    np.testing.assert_array_equal(found.audio, expected.audio)
    np.testing.assert_array_equal(found.negative_audio, expected.negative_audio)
    np.testing.assert_array_equal(found.embed_text(texts), read)
    assert again.heard == again.read == []


@pytest.mark.parametrize("stops_at", range(10))
def test_an_interrupted_run_goes_on_with_its_part(tmp_path, stops_at):
    stopped, rest = Numbers(stops_at=stops_at), Numbers()
    with pytest.raises(KeyboardInterrupt):
        embed_dataset(stopped, benchmark(clips(10)), "a", cache=cache(tmp_path))
    found = embed_dataset(rest, benchmark(clips(10)), "a", cache=cache(tmp_path))
    assert angles(found.audio) == list(range(10))
    assert rest.heard == list(range(stops_at // 4 * 4, 10))  # parts of four


def test_a_part_that_was_lost_or_damaged_is_made_again(tmp_path):
    embed_dataset(Numbers(), benchmark(clips(12)), "a", cache=cache(tmp_path))
    files = sorted(tmp_path.iterdir(), key=lambda file: module.read_table(file).names[0])
    files[0].write_bytes(b"nothing")
    files[2].unlink()
    again = Numbers()
    found = embed_dataset(again, benchmark(clips(12)), "a", cache=cache(tmp_path))
    assert angles(found.audio) == list(range(12))
    assert sorted(again.heard) == [0, 1, 2, 3, 8, 9, 10, 11]


@pytest.mark.parametrize(
    ("changes", "heard", "read"),
    [
        ({"audio": "another"}, 4, 0),
        ({"text": "another"}, 0, 2),
        ({"tokenizer": "other words"}, 0, 2),
    ],
)
def test_another_model_is_embedded_anew(tmp_path, changes, heard, read):
    embed_dataset(Numbers(), benchmark(clips(4)), "a", cache=cache(tmp_path)).embed_text(["1", "2"])
    model = Numbers()
    where = cache(tmp_path, **changes)
    embed_dataset(model, benchmark(clips(4)), "a", cache=where).embed_text(["1", "2"])
    assert (len(model.heard), len(model.read)) == (heard, read)


def test_other_data_and_other_ways_to_hear_are_embedded_anew(tmp_path):
    where = cache(tmp_path)
    for data, way in (("f", {}), ("g", {}), ("f", {"long": "windows", "hop": 2.0})):
        model = Numbers()
        embed_dataset(model, benchmark(clips(4), data=data), "a", cache=where, **way)
        assert len(model.heard) == 4


def test_a_text_is_embedded_once():
    model = Numbers()
    found = embed_dataset(model, benchmark(clips(1)), "a")
    assert angles(found.embed_text(["5", "3", "5"])) == [5, 3, 5]
    assert angles(found.embed_text(["3", "4"])) == [3, 4]
    assert model.read == ["5", "3", "4"]


def test_clips_that_cannot_be_decoded_are_left_out_and_counted(tmp_path):
    for _ in range(2):  # computed, and read from the disk
        found = embed_dataset(
            Numbers(fails=(0, 5)), benchmark(clips(8, negative=(6,))), "a", cache=cache(tmp_path)
        )
        assert angles(found.audio) == [1, 2, 3, 4, 6, 7]
        assert [clip.id for clip in found.benchmark.clips] == [
            f"clip {i}" for i in (1, 2, 3, 4, 6, 7)
        ]
        assert found.negative_of.tolist() == [4]
        assert found.provenance["unreadable"] == 2
    with pytest.raises(ValueError, match="path: none of its clips can be decoded"):
        embed_dataset(Numbers(fails=range(3)), benchmark(clips(3)), "a")


class Watched(np.ndarray):
    """An array that a weak reference can point to."""


def test_few_waveforms_are_held_at_a_time():
    made, most = [], 0

    def sounds(rate, first=0):
        nonlocal most
        for index in range(first, 64):
            samples = np.full(2, index, np.int16).view(Watched)
            made.append(weakref.ref(samples))
            most = max(most, sum(one() is not None for one in made))
            yield index, False, samples

    embed_dataset(Numbers(), benchmark(clips(64), sounds), "a")
    assert len(made) == 64 and most <= 3
