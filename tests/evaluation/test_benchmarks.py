"""Benchmarks from records, published layouts and folders of one's own."""

import csv
import os
import shutil

import numpy as np
import pytest
import soundfile

from clapjax.audio.files import to_mono_at_rate
from clapjax.data.paths import as_path
from clapjax.data.records import build_id
from clapjax.data.sources import list_clips
from clapjax.evaluation.benchmarks import SplitError, load_benchmark, load_tasks, settings_for
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.evaluate import LACKS
from tests.data.building import RATE, make_example, write_records
from tests.data.layouts_labels import esc50


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    splits = {"train": [make_example(9)], "test": [make_example(i) for i in range(5)]}
    return write_records(tmp_path_factory.mktemp("benchmarks") / "records", splits)


@pytest.fixture
def folder(tmp_path):
    """Three sounds of one's own with a table, one of them broken."""
    rows = [("file", "caption", "label"), ("a.wav", "a dog", "dog"), ("b.wav", "rain", "rain")]
    for number, (name, *_) in enumerate(rows[1:]):
        soundfile.write(tmp_path / name, np.full(800, 0.1 * (number + 1)), 8000)
    (tmp_path / "c.wav").write_bytes(b"RIFF, but no more")
    with (tmp_path / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([*rows, ("c.wav", "a car", "car")])
    return tmp_path


def heard(benchmark, rate, first=0):
    return [(i, wrong, np.asarray(samples)) for i, wrong, samples in benchmark.sounds(rate, first)]


def test_records(records):
    found = load_benchmark("mine", records)
    assert (found.name, found.split, len(found.clips)) == ("mine", "test", 5)
    for index, clip in enumerate(found.clips):
        example = make_example(index)
        for name in ("id", "captions", "negative_captions", "labels", "events", "origin"):
            assert getattr(clip, name) == getattr(example, name)
        assert clip.negative_audio == (index % 2 == 1)
        assert clip.kinds == ("human", "human")
    assert found.key == (build_id(records), "test")


@pytest.mark.parametrize("first", [0, 3])
def test_sounds_of_records_from_any_clip_on(records, first):
    found = heard(load_benchmark("mine", records), RATE, first)
    examples = [(i, make_example(i)) for i in range(first, 5)]
    expected = [(i, False, example.audio) for i, example in examples]
    expected += [(i, True, e.negative_audio) for i, e in examples if i % 2]
    assert [(i, wrong) for i, wrong, _ in found] == sorted((i, wrong) for i, wrong, _ in expected)
    for (_, _, left), (_, _, right) in zip(
        found, sorted(expected, key=lambda x: x[:2]), strict=True
    ):
        np.testing.assert_array_equal(left, right)


def test_sounds_come_at_the_rate_of_the_model(records):
    benchmark = load_benchmark("mine", records)
    expected = to_mono_at_rate(make_example(3).audio, RATE, 16_000)
    np.testing.assert_array_equal(benchmark.sound(3, False, 16_000), expected)
    np.testing.assert_array_equal(benchmark.sound(3, True, RATE), make_example(3).negative_audio)
    with pytest.raises(IndexError, match="clip 4 has no such audio"):
        benchmark.sound(4, True, RATE)


def test_which_split_is_meant(records, tmp_path):
    with pytest.raises(SplitError, match="there is no split 'dev', but train, test"):
        load_benchmark("mine", records, "dev")
    one = write_records(tmp_path / "one", {"train": [make_example(1)]})
    assert load_benchmark("mine", one).split == "train"
    two = write_records(tmp_path / "two", {"train": [make_example(1)], "dev": [make_example(2)]})
    with pytest.raises(SplitError, match="which split is meant. There are train, dev"):
        load_benchmark("mine", two)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "captions.csv").write_text("file,caption\ngone.wav,a dog\n")
    with pytest.raises(SplitError, match="the split 'all' is empty"):
        load_benchmark("mine", tmp_path / "bare")


def test_a_folder_of_ones_own(folder):
    found = load_benchmark("mine", folder)
    assert found.split == "all"
    assert [(clip.captions, clip.labels) for clip in found.clips] == [
        (("a dog",), ("dog",)),
        (("rain",), ("rain",)),
        (("a car",), ("car",)),
    ]
    sounds = found.sounds(8000, 0)
    for level in (0.1, 0.2):
        index, wrong, samples = next(sounds)
        np.testing.assert_allclose(np.asarray(samples), level, atol=1e-3)
        assert not wrong
    with pytest.raises(ValueError, match="c.wav: cannot be decoded"):
        np.asarray(next(sounds)[2])


def test_a_folder_is_the_same_wherever_and_whenever_it_was_copied(folder, tmp_path_factory):
    (folder / "gone.txt").symlink_to("nowhere")
    found = load_benchmark("mine", folder)
    copy = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(folder, copy, symlinks=True)
    file = copy / "a.wav"
    os.utime(file, ns=(1, 1))
    assert load_benchmark("mine", copy).data == found.data
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1
    file.write_bytes(whole)  # as long as before, and of the same time
    os.utime(file, ns=(1, 1))
    assert load_benchmark("mine", copy).data != found.data


def test_a_published_layout_by_its_name(tmp_path):
    esc50(tmp_path)
    found = load_benchmark("esc50", tmp_path)
    clips, _ = list_clips("esc50", tmp_path)
    assert [clip.id for clip in found.clips] == [clip.id for clip in clips]
    assert [clip.labels for clip in found.clips] == [("dog",), ("sea waves",), ("church bells",)]
    assert [clip.fold for clip in found.clips] == [1, 4, 5]
    assert [clip.origin for clip in found.clips] == [clip.group for clip in clips]


def test_no_such_folder(tmp_path):
    with pytest.raises(ValueError, match="gone: no such folder .benchmark 'esc50'"):
        load_benchmark("esc50", as_path(tmp_path / "gone"))


def test_settings_of_a_protocol_where_none_are_given():
    default = EvaluationConfig()
    assert settings_for("esc50", default).tasks == ("zero_shot",)
    assert settings_for("esc50", EvaluationConfig(tasks=("retrieval",))).tasks == ("retrieval",)
    assert settings_for("mine", default) == EvaluationConfig(split="")
    assert settings_for("mine", EvaluationConfig(split="dev")).split == "dev"


def test_what_the_records_support(records, tmp_path):
    def tasks(data_dir, **settings):
        found, left_out = load_tasks("set", data_dir, EvaluationConfig(**settings), LACKS)
        return {task: benchmark.split for task, benchmark in found.items()}, left_out

    everywhere = dict.fromkeys(("t_classify", "retrieval", "zero_shot"), "test")
    assert tasks(records) == (everywhere, [])
    missing = "there is no split 'no', but train, test"
    found, left_out = tasks(records, split="no", zero_shot_split="test")
    assert found == {"zero_shot": "test"}
    assert left_out == [f"t_classify: {missing}", f"retrieval: {missing}"]

    clips = [make_example(index, labels=()) for index in (0, 4)]
    mixed_up = {"test": clips, "test_clips": [make_example(2)]}
    found, left_out = tasks(write_records(tmp_path / "mixed", mixed_up))
    assert found == {"retrieval": "test", "zero_shot": "test_clips"}
    assert left_out == ["t_classify: no example of the split 'test' has a negative caption"]
