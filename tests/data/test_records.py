"""Data sets of records: TFDS reads them, damage is found, half a build is never a whole one."""

import errno
import json
import os
import re
import resource
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tensorflow_datasets as tfds

from clapjax.data import records
from clapjax.data.checking import check
from clapjax.data.tables import write_rows
from tests.data.building import assert_same, example_from_tfds, make_example, write_records

TRAIN = [make_example(index) for index in range(7)]
TEST = [make_example(index) for index in range(10, 13)]
SPLITS = {"train": TRAIN, "test": TEST}


@pytest.fixture
def data_dir(tmp_path):
    return write_records(tmp_path / "records", SPLITS)


def test_our_reader_gives_back_what_was_written(data_dir):
    for split, examples in SPLITS.items():
        found = list(records.read_examples(data_dir, split))
        assert len(found) == len(examples) == records.split_size(data_dir, split)
        for ours, theirs in zip(examples, found, strict=True):
            assert_same(ours, theirs)
    assert check(data_dir) == []


def test_tfds_gives_back_what_was_written(tmp_path):
    builder = tfds.builder_from_directory(str(write_records(tmp_path / "r", SPLITS, shards=3)))
    assert builder.info.splits["train"].num_examples == len(TRAIN)
    assert builder.info.splits["train"].num_shards == 3
    rows = builder.as_data_source("train")
    for index, ours in enumerate(TRAIN):
        assert_same(ours, example_from_tfds(rows[index]))


def test_records_made_before_there_was_an_origin(data_dir):
    parse, encode = records.parser(), records.serializer("train")
    from tensorflow import train

    message = train.Example.FromString(encode(make_example(3, origin="freesound:1")))
    assert parse(message.SerializeToString()).origin == "freesound:1"
    del message.features.feature["origin"]
    assert_same(parse(message.SerializeToString()), make_example(3))
    del message.features.feature["captions"]
    with pytest.raises(records.RecordsError, match="a record without the feature 'captions'"):
        parse(message.SerializeToString())
    with pytest.raises(records.RecordsError, match="no record .DecodeError"):
        parse(b"\x0a\x05")


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
        problems = check(data_dir)
        if problems:
            found += 1
            assert any(path in problem for problem in problems), problems
        else:
            for ours, theirs in zip(TRAIN, records.read_examples(data_dir, "train"), strict=True):
                assert_same(ours, theirs)
    assert found > 20


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_shard_is_found(data_dir, part):
    path = _shard(data_dir, 1)
    os.truncate(path, int(part * os.path.getsize(path)))
    problems = check(data_dir)
    assert path in problems[0]
    assert re.fullmatch("train: [3-6] records readable, 7 announced", problems[-1])


def test_a_missing_shard_is_found(data_dir):
    path = _shard(data_dir, 0)
    os.remove(path)
    problems = check(data_dir)
    assert path in problems[0] and "No such file" in problems[0]
    assert problems[1:] == ["train: 4 records readable, 7 announced"]
    assert check(data_dir, processes=2) == problems
    with pytest.raises(records.RecordsError, match="No such file"):
        list(records.read_examples(data_dir, "train"))


def test_ids_must_be_unique_over_all_splits(tmp_path):
    splits = {"train": TRAIN, "test": [*TEST, make_example(3)]}
    data_dir = write_records(tmp_path / "records", splits)
    assert check(data_dir) == ["test/clip-3: id is not unique"]


def test_a_wrong_count_is_found(data_dir):
    records.write_metadata(data_dir, [("train", [3, 6], 1), ("test", [1, 2], 1)])
    found = check(data_dir)
    assert found == [
        f"{_shard(data_dir, 1)}: 4 records, 6 announced; build it again",
        "train: 7 records readable, 9 announced",
    ]
    with pytest.raises(records.RecordsError, match="4 records, 6 announced"):
        list(records.open_split(data_dir, "train").read([8]))


def test_an_unfit_example_is_not_written(tmp_path):
    with pytest.raises(records.RecordsError, match="split train, clip-1: a caption is empty"):
        write_records(tmp_path / "r", {"train": [make_example(0), make_example(1, captions=())]})


def test_half_a_build_is_not_a_data_set(tmp_path):
    data_dir = tmp_path / "records"
    with pytest.raises(records.RecordsError):
        write_records(data_dir, {"train": [*TRAIN[:4], make_example(5, captions=())]})
    assert not data_dir.exists()
    for use in (records.read_build, check, records.open_builder):
        with pytest.raises(records.RecordsError, match="its build did not finish; run `clapjax"):
            use(data_dir)

    folder = records.incomplete(data_dir)
    left_behind = set(folder.iterdir())
    assert left_behind
    write_records(data_dir, {"test": TEST}, shards=1)
    assert check(data_dir) == []
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
        check(data_dir)
    assert str(data_dir) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_formats_are_refused(tmp_path):
    made = write_records(tmp_path / "old", {"test": TEST}, data={"format": "tfrecord"})
    for use in (check, records.read_build):
        with pytest.raises(records.RecordsError, match="old: made as tfrecord, which is read no"):
            use(made)
    old = write_records(tmp_path / "older", {"test": TEST}, data={"format": "array_record"})
    assert check(old) == []


def test_identity(tmp_path):
    """The same for the same build, also of data sets made before there was one in their file."""
    one = write_records(tmp_path / "one", {"test": TEST}, counts={"test": 3})
    two = write_records(tmp_path / "two", {"test": TEST}, counts={"test": 3})
    other = write_records(tmp_path / "other", {"test": TEST}, counts={"test": 4})
    assert records.build_id(one) == records.build_id(two) != records.build_id(other)
    known = json.loads((one / records.BUILD_FILE).read_text())
    assert known.pop("build_id") == records.build_id(one)
    (one / records.BUILD_FILE).write_text(json.dumps(known))
    assert records.build_id(one) == records.build_id(two)


# --- texts that lie apart from their audio ------------------------------------------------------


def _told_anew(example):
    return replace(
        example,
        captions=("another caption",),
        negative_captions=(),
        provenance="human",
        audio=np.ones(1, np.int16),  # of which nothing may be kept
    )


@pytest.fixture
def apart(data_dir):
    """A data set of other texts beside `data_dir`."""
    told = {split: [_told_anew(one) for one in part] for split, part in SPLITS.items()}
    sources = {"audio_from": "../records", "audio_id": records.build_id(data_dir)}
    return write_records(data_dir.with_name("texts"), told, form=None, **sources)


def test_texts_are_put_to_their_audio(apart, data_dir):
    for split, examples in SPLITS.items():
        wanted = [
            replace(_told_anew(one), audio=one.audio, negative_audio=one.negative_audio)
            for one in examples
        ]
        found = list(records.read_examples(apart, split))
        by_index = records.open_split(apart, split).read(range(len(wanted)))
        for ours, theirs, data in zip(wanted, found, by_index, strict=True):
            assert_same(ours, theirs)
            assert_same(ours, records.parser()(data))
    assert list(records.read_serialized(apart, "train")) == list(
        records.open_split(apart, "train").read(range(7))
    )
    assert check(apart) == []
    # As TFDS has it, the texts are a data set of their own.
    rows = tfds.builder_from_directory(str(apart)).as_data_source("train")
    assert rows[2]["captions"] == [b"another caption"] and "audio" not in rows[2]


def test_texts_over_texts(apart, data_dir):
    again = [replace(one, labels=("last",)) for one in TEST]
    sources = {"audio_from": str(apart), "audio_id": records.build_id(apart)}
    top = write_records(data_dir.with_name("top"), {"test": again}, form=None, **sources)
    for ours, theirs in zip(again, records.read_examples(top, "test"), strict=True):
        assert_same(ours, theirs)


def test_texts_that_do_not_belong_to_the_audio(apart, data_dir, tmp_path):
    sources = {"audio_from": str(data_dir), "audio_id": records.build_id(data_dir)}
    other = write_records(tmp_path / "other", SPLITS, shards=3, form=None, **sources)
    with pytest.raises(records.RecordsError, match="split train has other records or shards than"):
        records.open_split(other, "train")
    turned = {"train": TRAIN[::-1], "test": TEST}
    turned = write_records(tmp_path / "turned", turned, form=None, **sources)
    found = check(turned)
    assert found[0] == "train/clip-6: lies over the audio of clip-0"
    assert len(found) == 6  # the middle one is in its place
    shutil.rmtree(data_dir)
    with pytest.raises(records.RecordsError, match="texts: has its audio from .*no records here"):
        records.open_split(apart, "test")
    write_records(data_dir, SPLITS, seed=1)
    with pytest.raises(records.RecordsError, match="its audio, .*records, is not what it was"):
        check(apart)


def test_a_full_disk_is_told_in_a_line(tmp_path):
    """By a limit for files; array_record has an error of its own, without a line."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = records.ShardWriter(tmp_path, "a", 2**30)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
        with pytest.raises(OSError, match=f"File too large, .*{tmp_path}/a-000") as caught:
            for _ in range(100):
                writer.write(bytes(2**16))
            writer.close()
        assert caught.value.errno == errno.EFBIG  # by which `clapjax train` says "start me again"
        with pytest.raises(OSError, match=f"{tmp_path}/t.jsonl"):
            write_rows(tmp_path / "t.jsonl", [{"a": "x" * 2**17}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
