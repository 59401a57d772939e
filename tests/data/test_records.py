"""Data sets of records: TFDS reads them, damage is found, half a build is never a whole one."""

import os
import re

import numpy as np
import pytest
import tensorflow_datasets as tfds

from clapjax.data import records
from clapjax.data.schema import example_from_record
from tests.data.building import assert_same, make_example, write_records

FORMATS = ("array_record", "tfrecord")
TRAIN = [make_example(index) for index in range(7)]
TEST = [make_example(index) for index in range(10, 13)]


@pytest.fixture(params=FORMATS)
def data_dir(request, tmp_path):
    return write_records(tmp_path / "records", {"train": TRAIN, "test": TEST}, request.param)


def test_our_reader_gives_back_what_was_written(data_dir):
    for split, examples in (("train", TRAIN), ("test", TEST)):
        found = list(records.read_examples(data_dir, split))
        assert len(found) == len(examples) == records.split_size(data_dir, split)
        for ours, theirs in zip(examples, found, strict=True):
            assert_same(ours, theirs)
    assert records.check(data_dir) == []


@pytest.mark.parametrize("file_format", FORMATS)
def test_tfds_gives_back_what_was_written(tmp_path, file_format):
    folder = write_records(tmp_path / "r", {"train": TRAIN, "test": TEST}, file_format, shards=3)
    builder = tfds.builder_from_directory(str(folder))
    assert builder.info.splits["train"].num_examples == len(TRAIN)
    assert builder.info.splits["train"].num_shards == 3
    if file_format == "array_record":
        rows = builder.as_data_source("train")
        rows = [rows[i] for i in range(len(rows))]
    else:  # TFDS reads tfrecord in order only
        read = tfds.ReadConfig(interleave_cycle_length=1)
        rows = list(tfds.as_numpy(builder.as_dataset(split="train", read_config=read)))
    for ours, row in zip(TRAIN, rows, strict=True):
        assert_same(ours, example_from_record(row))


def _shard(data_dir, index: int):
    return records.shard_paths(data_dir, "train")[index]


def test_a_flipped_bit_is_found_or_harmless(data_dir):
    path = _shard(data_dir, 1)
    with open(path, "rb") as file:
        good = file.read()
    found = 0
    for position in np.linspace(0, min(len(good), 1200) - 1, 40).astype(int):
        bad = bytearray(good)
        bad[position] ^= 0x10
        with open(path, "wb") as file:
            file.write(bad)
        problems = records.check(data_dir)
        if problems:
            found += 1
            assert path in problems[0] and "damaged" in problems[0]
        else:  # padding of the file
            for ours, theirs in zip(TRAIN, records.read_examples(data_dir, "train"), strict=True):
                assert_same(ours, theirs)
    assert found > 20


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_shard_is_found(data_dir, part):
    path = _shard(data_dir, 1)
    os.truncate(path, int(part * os.path.getsize(path)))
    problems = records.check(data_dir)
    assert re.fullmatch("train: [3-6] records readable, 7 announced", problems[-1])


def test_a_missing_shard_is_found(data_dir):
    path = _shard(data_dir, 0)
    os.remove(path)
    problems = records.check(data_dir)
    assert path in problems[0] and "missing" in problems[0]
    assert problems[1:] == ["train: 0 records readable, 7 announced"]
    with pytest.raises(records.RecordsError, match="damaged or missing"):
        list(records.read_examples(data_dir, "train"))


def test_ids_must_be_unique_over_all_splits(tmp_path):
    splits = {"train": TRAIN, "test": [*TEST, make_example(3)]}
    data_dir = write_records(tmp_path / "records", splits)
    assert records.check(data_dir) == ["test/clip-3: id is not unique"]


def test_a_wrong_count_is_found(tmp_path):
    data_dir = tmp_path / "records"
    folder = records.start_build(data_dir)
    split, lengths, size = records.write_split(folder, "train", TRAIN, 7, "array_record", 2)
    records.write_metadata(folder, [(split, [lengths[0], lengths[1] + 2], size)], "array_record")
    records.finish_build(folder, data_dir, {})
    assert records.check(data_dir) == ["train: 7 records readable, 9 announced"]


@pytest.mark.parametrize(("count", "words"), [(8, "fewer than the 8"), (6, "more than the 6")])
def test_the_announced_count_must_be_right(tmp_path, count, words):
    with pytest.raises(records.RecordsError, match=f"split train: {words} examples announced"):
        records.write_split(tmp_path, "train", TRAIN, count, "array_record", 1)


def test_an_unfit_example_is_not_written(tmp_path):
    examples = [make_example(0), make_example(1, captions=())]
    with pytest.raises(records.RecordsError, match="split train, clip-1: a caption is empty"):
        records.write_split(tmp_path, "train", examples, 2, "array_record", 1)


def test_half_a_build_is_not_a_data_set(tmp_path):
    data_dir = tmp_path / "records"

    def interrupted():
        yield from TRAIN[:4]
        raise KeyboardInterrupt

    folder = records.start_build(data_dir)
    with pytest.raises(KeyboardInterrupt):
        records.write_split(folder, "train", interrupted(), 7, "array_record", 2)
    assert not data_dir.exists()
    for use in (records.read_build, records.check, records.open_builder):
        with pytest.raises(records.RecordsError, match="its build did not finish; run `clapjax"):
            use(data_dir)

    left_behind = set(folder.iterdir())
    assert left_behind
    write_records(data_dir, {"test": TEST}, shards=1)
    assert records.check(data_dir) == []
    assert not folder.exists()
    assert not {file.name for file in left_behind} & {file.name for file in data_dir.iterdir()}


def test_no_data_set_and_no_split(tmp_path, data_dir):
    with pytest.raises(records.RecordsError, match="nowhere: no records here; make one with"):
        records.read_build(tmp_path / "nowhere")
    with pytest.raises(records.RecordsError, match="no split 'dev'; there are train, test"):
        records.split_size(data_dir, "dev")
    with pytest.raises(records.RecordsError, match="no split 'dev'"):
        list(records.read_examples(data_dir, "dev"))


@pytest.mark.parametrize("name", [records.BUILD_FILE, "dataset_info.json", "features.json"])
@pytest.mark.parametrize("content", ["{", None])
def test_damaged_metadata_is_one_clear_line(data_dir, name, content):
    (data_dir / name).unlink() if content is None else (data_dir / name).write_text(content)
    with pytest.raises(records.RecordsError) as caught:
        records.check(data_dir)
    assert str(data_dir) in str(caught.value)
    assert "\n" not in str(caught.value)
