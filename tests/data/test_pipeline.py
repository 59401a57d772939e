"""The pipeline: order and choices are functions of (seed, position), whoever reads them."""

import dataclasses
import os
import resource
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from clapjax.audio.config import AudioConfig
from clapjax.data import pipeline, records
from clapjax.data.checking import check
from clapjax.data.config import DataConfig
from clapjax.data.label_index import LabelIndex
from clapjax.data.shards import read_shard
from clapjax.data.tokenizer import load_tokenizer, train_tokenizer
from tests.data.building import RATE, make_example, text_batches, write_records

COUNT, CLIP, BATCH = 13, 400, 4  # 13: epochs begin in the middle of a batch
EVENTS = ((), ("dog", "rain"), ("rain", "dog"), ("dog",))
AUDIO = AudioConfig(sample_rate=RATE, clip_samples=CLIP, fmax=4000.0)


def _example(index: int):
    """Sample j of clip i is 1000 i + j, so that a crop tells whence it comes."""
    length = 100 * (index + 1)  # 200 ... 1400 around CLIP
    length = 900 if length > 900 else length
    captions = tuple(f"clip {index} is called {word}" for word in ("one", "two", "three", "four"))
    negatives = (f"wrong {index} here", f"wrong {index} there") if index % 2 else ()
    return make_example(
        index,
        audio=(1000 * index + np.arange(length)).astype(np.int16),
        captions=captions,
        negative_captions=negatives,
        events=EVENTS[index % 4],
    )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    examples = [_example(index) for index in range(1, COUNT + 1)]
    folder = tmp_path_factory.mktemp("pipeline") / "records"
    write_records(folder, {"train": examples, "test": examples[:2]}, shards=3)
    captions = [text for e in examples for text in e.captions + e.negative_captions]
    train_tokenizer(captions, folder / records.TOKENIZER_FOLDER, 400)
    return folder


@pytest.fixture(scope="module")
def tokenizer(data_dir):
    return load_tokenizer(data_dir / records.TOKENIZER_FOLDER)


@pytest.fixture
def take(data_dir, tokenizer):
    """take(n, ...): the first n batches."""

    def take(count: int, **changes):
        settings = {"batch_size": BATCH, "seed": 5, "max_length": 16, **changes}
        config = settings.pop("config", DataConfig())
        batches = text_batches(data_dir, config, AUDIO, tokenizer, **settings)
        return list(islice(batches, count))

    return take


def _join(batches: list[dict]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _assert_equal(left: dict, right: dict) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert value.dtype == right[name].dtype
        assert value.tobytes() == right[name].tobytes(), name


def _clips(rows: dict) -> np.ndarray:
    return rows["audio"][:, 0] // 1000


def test_shapes_and_types(take):
    (batch,) = take(1)
    assert {name: (value.shape, str(value.dtype)) for name, value in batch.items()} == {
        "audio": ((BATCH, CLIP), "int16"),
        "input_ids": ((BATCH, 16), "int32"),
        "mask": ((BATCH, 16), "int32"),
        "negative_ids": ((BATCH, 16), "int32"),
        "negative_mask": ((BATCH, 16), "int32"),
        "has_negative": ((BATCH,), "bool"),
        "events": ((BATCH,), "int32"),
    }


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_batches_do_not_depend_on_start_or_hosts(take, hosts):
    reference = take(20)
    for start in (0, 10):
        shares = [take(20 - start, start_step=start, host=h, hosts=hosts) for h in range(hosts)]
        for step, expected in enumerate(reference[start:]):
            _assert_equal(_join([share[step] for share in shares]), expected)


@pytest.mark.parametrize("changes", [{"batch_size": 1}, {"config": DataConfig(workers=5)}])
def test_samples_depend_on_seed_and_position_only(take, changes):
    rows = 2 * COUNT
    one = _join(take(rows // changes.get("batch_size", BATCH) + 1, **changes))
    other = _join(take(rows // BATCH + 1))
    _assert_equal({k: v[:rows] for k, v in one.items()}, {k: v[:rows] for k, v in other.items()})


def test_another_seed_gives_another_order(take):
    assert _clips(_join(take(4))).tolist() != _clips(_join(take(4, seed=6))).tolist()


def test_an_epoch_is_a_permutation_of_all_records(take):
    orders = _clips(_join(take(COUNT))).reshape(BATCH, COUNT)  # four epochs
    for order in orders:
        assert sorted(order) == list(range(1, COUNT + 1))
    assert len({tuple(order) for order in orders}) == 4


def test_balanced_batches(take, data_dir):
    """Every label as often, from any start on and on any hosts; those mixed in come as ever."""
    own = [[0, 1, 2, 3, 4, 5, 6, 7], [8], [9, 0]]
    balance = LabelIndex(np.array([8, 1, 2]), np.concatenate(own))
    settings = {"balance": balance, "batch_size": 6}
    reference = take(8, **settings)
    for hosts, start in ((2, 0), (3, 5)):
        shares = [
            take(8 - start, start_step=start, host=h, hosts=hosts, **settings) for h in range(hosts)
        ]
        for step, expected in enumerate(reference[start:]):
            _assert_equal(_join([share[step] for share in shares]), expected)
    times = np.bincount(_clips(_join(reference)) - 1, minlength=COUNT)  # of 16 rounds of the labels
    assert times.tolist() == [2 + 8, *[2] * 7, 16, 8, 0, 0, 0]

    mixed = DataConfig(mixture=(f"{data_dir}=2rows",))
    plain, found = (
        [batch["audio"] for batch in take(3, batch_size=8, config=mixed, **more)]
        for more in ({}, {"balance": balance})
    )
    for one, other, alone in zip(plain, found, reference, strict=False):
        np.testing.assert_array_equal(one[6:], other[6:])
        np.testing.assert_array_equal(other[:6], alone["audio"])


def test_far_steps_cost_nothing(take):
    assert _clips(take(1, start_step=10**9)[0]).size == BATCH


def test_crops_and_captions_change_with_the_epoch(take, tokenizer):
    rows = _join(take(8 * COUNT // BATCH))
    clips = _clips(rows)
    texts = tokenizer.batch_decode(rows["input_ids"], skip_special_tokens=True)
    starts, captions = {}, {}
    for clip, samples, text in zip(clips, rows["audio"], texts, strict=True):
        captions.setdefault(clip, set()).add(text.strip())
        if clip == COUNT:  # 900 samples: a crop
            assert (np.diff(samples) == 1).all()
            starts.setdefault(clip, set()).add(int(samples[0]) - 1000 * clip)
        if clip == 1:  # 200 samples: twice the whole clip
            np.testing.assert_array_equal(samples, np.tile(1000 + np.arange(200), 2))
    assert len(starts[COUNT]) > 3 and min(starts[COUNT]) >= 0 and max(starts[COUNT]) <= 500
    for clip in range(1, COUNT + 1):
        known = {f"clip {clip} is called {word}" for word in ("one", "two", "three", "four")}
        assert captions[clip] <= known
    assert {text.split()[-1] for texts in captions.values() for text in texts} == {
        "one",
        "two",
        "three",
        "four",
    }
    assert np.mean([len(texts) for texts in captions.values()]) > 2


def test_negatives_belong_to_their_clip(take, tokenizer):
    rows = _join(take(2 * COUNT))
    clips = _clips(rows)
    np.testing.assert_array_equal(rows["has_negative"], clips % 2 == 1)
    texts = tokenizer.batch_decode(rows["negative_ids"], skip_special_tokens=True)
    for clip, text, mask in zip(clips, texts, rows["negative_mask"], strict=True):
        if clip % 2:
            assert text.strip() in (f"wrong {clip} here", f"wrong {clip} there")
        else:
            assert text == "" and mask.sum() == 2


def test_events_are_told_apart_by_their_order(take):
    rows = _join(take(COUNT))
    numbers = {}
    for clip, number in zip(_clips(rows), rows["events"], strict=True):
        numbers.setdefault(EVENTS[clip % 4], set()).add(int(number))
    assert numbers[()] == {0}
    assert [len(found) for found in numbers.values()] == [1] * 4  # the same whenever they sound
    assert len(set.union(*numbers.values())) == 4 and min(set.union(*numbers.values())) == 0


def test_long_clips_whole(take):
    """Up to the longest, with zeros and a length behind them; shorter ones are filled to a clip."""
    config = DataConfig(long_clips="whole", longest_seconds=600 / RATE)
    rows = _join(take(2 * COUNT, config=config))
    assert rows["audio"].shape[1] == 600 and rows["lengths"].dtype == np.int32
    for clip, samples, length in zip(_clips(rows), rows["audio"], rows["lengths"], strict=True):
        own = min(100 * (clip + 1), 900)
        assert length == min(max(own, CLIP), 600)
        assert not samples[length:].any()
        if CLIP <= own <= 600:
            np.testing.assert_array_equal(samples[:own], 1000 * clip + np.arange(own))
        if own > 600:
            assert (np.diff(samples) == 1).all()
    with pytest.raises(ValueError, match="long_clips must be 'cut' or 'whole'"):
        DataConfig(long_clips="loop")
    with pytest.raises(ValueError, match="longest_seconds must be positive"):
        DataConfig(longest_seconds=0.0)


def test_errors(take, tmp_path, data_dir, tokenizer):
    with pytest.raises(records.RecordsError, match="no split 'dev'; there are"):
        take(1, config=DataConfig(split="dev"))
    for hosts, host in ((3, 0), (2, 2), (2, -1)):
        with pytest.raises(ValueError, match="batch_size 4 does not divide among"):
            take(1, hosts=hosts, host=host)

    def start(folder, audio=AUDIO):
        settings = {"batch_size": 2, "seed": 0, "max_length": 8}
        return text_batches(folder, DataConfig(), audio, tokenizer, **settings)

    with pytest.raises(records.RecordsError, match="records are at 8000 Hz, the model wants 16000"):
        start(data_dir, dataclasses.replace(AUDIO, sample_rate=16_000))
    with pytest.raises(records.RecordsError, match="no records here"):
        start(tmp_path / "nowhere")
    empty = write_records(tmp_path / "empty", {"train": [make_example(0)]}, shards=1)
    records.write_metadata(empty, [("train", [0], 0)])
    with pytest.raises(records.RecordsError, match="empty: split train is empty"):
        start(empty)


def _start(folder, tokenizer, **changes):
    settings = {"batch_size": 4, "seed": 0, "max_length": 8} | changes
    return text_batches(folder, DataConfig(), AUDIO, tokenizer, **settings)


def test_damage_is_one_clear_error(tmp_path, tokenizer):
    folder = write_records(tmp_path / "r", {"train": [make_example(i) for i in range(4)]}, shards=1)
    (path,) = records.shard_paths(folder, "train")
    with open(path, "r+b") as file:
        file.seek(500)  # inside the first record
        file.write(b"\xff" * 64)
    with pytest.raises(records.RecordsError, match=rf"^{path}, record 0: .*hash mismatch"):
        next(_start(folder, tokenizer))
    os.truncate(path, 70_000)
    with pytest.raises(records.RecordsError, match=rf"^{path}: cannot be read"):
        next(_start(folder, tokenizer))
    os.remove(path)
    with pytest.raises(records.RecordsError, match=rf"^{path}: missing shard"):
        _start(folder, tokenizer)


def _record(tmp_path, name: str, value: bytes | None) -> tuple[Path, str]:
    """A data set of four records, the third with another value of a feature, or without it."""
    from tensorflow import train

    folder = write_records(tmp_path / "r", {"train": [make_example(i) for i in range(4)]}, shards=2)
    path = records.shard_paths(folder, "train")[1]
    whole = [train.Example.FromString(data) for data in read_shard(path)]
    whole[0].features.feature[name].Clear()
    if value is not None:
        whole[0].features.feature[name].bytes_list.value.append(value)
    os.remove(path)
    writer = records.ShardWriter(folder, "new", 2**20)
    for message in whole:
        writer.write(message.SerializeToString())
    writer.close()
    (folder / writer.files[0][0]).rename(path)
    return folder, path


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("audio", None, "ValueError: there is no audio"),
        ("captions", None, "ValueError: there is no captions"),
        ("audio", b"\0\0\0", "ValueError: buffer size must be a multiple of element size"),
        ("audio", b"", "ValueError: fill: the clip is empty"),
        ("captions", b"\xff", "UnicodeDecodeError: 'utf-8' codec can't decode"),
    ],
)
def test_a_bad_record_is_named_with_its_place(tmp_path, tokenizer, name, value, words):
    folder, path = _record(tmp_path, name, value)
    with pytest.raises(records.RecordsError, match=rf"^{path}, record 0: {words}"):
        next(_start(folder, tokenizer))


def test_what_goes_wrong_is_told(data_dir, tokenizer, monkeypatch):
    """Whatever it is, and that of the first batch that cannot be made."""
    kept = pipeline.shuffled

    def fails(positions, *more):
        if positions[0] >= 2 * BATCH:
            raise OSError(28, f"No space left on device at {positions[0]}")
        return kept(positions, *more)

    monkeypatch.setattr(pipeline, "shuffled", fails)
    batches = _start(data_dir, tokenizer, batch_size=BATCH)
    assert len(list(islice(batches, 2))) == 2
    with pytest.raises(OSError, match=f"No space left on device at {2 * BATCH}"):
        next(batches)

    class Tokenizer:
        def __call__(self, texts, **settings):
            raise TypeError("no such setting")

    with pytest.raises(TypeError, match="no such setting"):
        next(_start(data_dir, Tokenizer(), batch_size=1))


def test_texts_that_lie_apart(data_dir, tokenizer, tmp_path):
    """The audio of one data set under the texts of another."""
    splits = {
        split: [
            dataclasses.replace(one, captions=("now",), provenance="llm:x", events=())
            for one in records.read_examples(data_dir, split)
        ]
        for split in ("train", "test")
    }
    sources = {"audio_from": str(data_dir), "audio_id": records.build_id(data_dir)}
    apart = write_records(tmp_path / "apart", splits, shards=3, form=None, **sources)
    ours, theirs = (next(_start(folder, tokenizer, seed=5)) for folder in (apart, data_dir))
    np.testing.assert_array_equal(ours["audio"], theirs["audio"])
    np.testing.assert_array_equal(ours["has_negative"], theirs["has_negative"])
    texts = tokenizer.batch_decode(ours["input_ids"], skip_special_tokens=True)
    assert {text.strip() for text in texts} == {"now"} and not ours["events"].any()


def test_more_shards_than_descriptors(tmp_path):
    """300 files, of which this process may open 100."""
    examples = [make_example(i, audio=np.full(400, i + 1, np.int16)) for i in range(300)]
    folder = write_records(tmp_path / "many", {"train": examples}, shards=300)
    train_tokenizer(["a dog barks"], folder / records.TOKENIZER_FOLDER, 300)
    tokenizer = load_tokenizer(folder / records.TOKENIZER_FOLDER)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_before = os.listdir("/proc/self/fd")
    used = max(map(int, open_before))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 100, limits[1]))
    try:
        batches = list(islice(_start(folder, tokenizer, batch_size=30), 10))
        problems = check(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert sorted(_join(batches)["audio"][:, 0].tolist()) == list(range(1, 301))
    assert problems == []
    assert len(os.listdir("/proc/self/fd")) < len(open_before) + 10  # none stays open


ABANDON = """
import sys
from clapjax.audio.config import AudioConfig
from clapjax.data.config import DataConfig
from clapjax.data.label_index import LabelIndex
from tests.data.building import text_batches
from clapjax.data.tokenizer import load_tokenizer
audio = AudioConfig(sample_rate=8000, clip_samples=400, fmax=4000.0)
tokenizer = load_tokenizer(sys.argv[1] + "/tokenizer")
batches = text_batches(sys.argv[1], DataConfig(), audio, tokenizer,
                       batch_size=4, seed=0, max_length=8)
if sys.argv[2] == "fed":
    import jax
    from clapjax.training.config import MeshConfig
    from clapjax.training.feed import device_batches
    from clapjax.training.mesh import batch_sharding, make_mesh
    batches = device_batches(batches, batch_sharding(make_mesh(MeshConfig())))
print(next(batches)["audio"].shape, flush=True)
"""


@pytest.mark.parametrize("how", ["plain", "fed"])
def test_an_abandoned_iterator_lets_the_interpreter_exit(data_dir, how):
    done = subprocess.run(
        [sys.executable, "-c", ABANDON, str(data_dir), how],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (done.returncode, done.stdout) == (0, "(4, 400)\n"), done.stderr
