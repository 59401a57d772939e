"""The order of blocks: a permutation, the same from any start on and on any number of hosts."""

import dataclasses
import threading
from collections import Counter
from itertools import islice
from unittest import mock

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clapjax.audio.config import AudioConfig
from clapjax.data import paths, records
from clapjax.data.block_order import block_order
from clapjax.data.config import DataConfig
from clapjax.data.label_index import LabelIndex
from clapjax.data.ranges import RemoteReader
from clapjax.data.shards import RecordsError, Split
from clapjax.data.tokenizer import load_tokenizer, train_tokenizer
from tests.data.building import RATE, make_example, text_batches, write_records

AUDIO = AudioConfig(sample_rate=RATE, clip_samples=100, fmax=4000.0)
CONFIG = DataConfig(order="blocks", block_rows=3, window_blocks=4, lanes=4)
COUNT = 50


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=6),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 8),
    st.integers(1, 40),
    st.integers(0, 2**63),
)
@settings(max_examples=60, deadline=None)
def test_every_epoch_is_a_permutation_in_windows(lengths, rows, window, lanes, width, seed):
    how = {"block_rows": rows, "window_blocks": window, "lanes": lanes, "width": width}
    order = block_order(lengths, **how, seed=seed)
    size = sum(lengths)
    positions = 10**12 // size * size + np.arange(2 * size)
    found, blocks, windows = order.records_at(positions)
    for epoch in found.reshape(2, size):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(size))
    assert (np.diff(windows) >= 0).all()
    np.testing.assert_array_equal(np.maximum(order.starts[blocks], found), found)
    assert (found < order.starts[blocks] + order.sizes[blocks]).all()
    # A block's rows are all in one window of an epoch, and no window has more than so many blocks.
    pairs = np.unique(np.stack([windows, blocks]), axis=1)
    assert pairs.shape[1] == 2 * len(order.sizes)
    assert np.unique(pairs[0], return_counts=True)[1].max() <= window
    assert np.unique(windows, return_counts=True)[1].max() <= order.largest_window
    # What stands at a position does not depend on what else is asked for.
    some = np.random.default_rng(0).permutation(len(positions))[:7]
    fresh = block_order(lengths, **how, seed=seed)
    np.testing.assert_array_equal(fresh.records_at(positions[some])[0], found[some])


def test_hosts_that_divide_the_lanes_share_the_blocks():
    """Whole batches and windows: no block is read by two of eight hosts."""
    order = block_order([512] * 4, block_rows=16, window_blocks=32, lanes=8, width=64, seed=1)
    positions = np.arange(2048)
    _, blocks, _ = order.records_at(positions)
    host = positions % 64 // 8
    assert len(np.unique(np.stack([host, blocks]), axis=1).T) == 128
    # And rows that lie side by side seldom stand so.
    found = order.records_at(positions)[0].reshape(-1, 64)
    assert (np.abs(np.diff(found, axis=1)) == 1).mean() < 0.05


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Records whose samples are all their number, in three files."""
    folder = tmp_path_factory.mktemp("blocks") / "records"
    examples = [
        make_example(index, audio=np.full(100, index + 1, np.int16)) for index in range(COUNT)
    ]
    write_records(folder, {"train": examples}, shards=3)
    train_tokenizer(["a dog barks"], folder / records.TOKENIZER_FOLDER, 300)
    return folder


def _take(folder, count, config=CONFIG, **changes):
    tokenizer = load_tokenizer(folder / records.TOKENIZER_FOLDER)
    how = {"batch_size": 8, "seed": 5, "max_length": 8} | changes
    batches = text_batches(folder, config, AUDIO, tokenizer, **how)
    try:
        return list(islice(batches, count))
    finally:
        batches.close()


@pytest.mark.parametrize(("hosts", "start"), [(1, 7), (2, 0), (4, 7)])
def test_resuming_and_hosts(data_dir, hosts, start):
    whole = _take(data_dir, 14)
    order = np.concatenate([batch["audio"][:, 0] for batch in whole])[: 2 * COUNT]
    for epoch in order.reshape(2, COUNT):
        assert sorted(epoch) == list(range(1, COUNT + 1))
    parts = [
        _take(data_dir, 14 - start, start_step=start, host=host, hosts=hosts)
        for host in range(hosts)
    ]
    for step, batch in enumerate(whole[start:]):
        for name, rows in batch.items():
            joined = np.concatenate([part[step][name] for part in parts])
            assert joined.tobytes() == rows.tobytes(), name


def test_each_block_is_read_whole_and_once(data_dir):
    read, lock, kept = [], threading.Lock(), Split.read_block

    def counting(self, first, end):
        with lock:
            read.append((first, end))
        return kept(self, first, end)

    with mock.patch.object(Split, "read_block", counting):
        _take(data_dir, 6)  # not an epoch; a window is read ahead
    times = Counter(read)  # an epoch is 50 rows
    assert len(times) == 18 and max(times.values()) - min(times.values()) <= 1
    assert len(read) <= 18 + 2 * 18
    assert all(end - first == 3 or end in (16, 33, 50) for first, end in read)


def test_what_cannot_be_read_by_blocks(data_dir):
    balance = LabelIndex(np.array([1]), np.array([0]))
    with pytest.raises(ValueError, match="tagging.balanced draws one .*data.order=rows"):
        _take(data_dir, 1, balance=balance)
    with pytest.raises(ValueError, match="data.order must be one of rows, blocks"):
        DataConfig(order="random")
    with pytest.raises(ValueError, match="data.block_rows must be positive"):
        dataclasses.replace(CONFIG, block_rows=0)


def test_a_mixture_by_blocks(data_dir, tmp_path):
    examples = [make_example(i, audio=np.full(100, 100 + i, np.int16)) for i in range(10)]
    other = write_records(tmp_path / "other", {"train": examples}, shards=2)
    config = dataclasses.replace(CONFIG, mixture=(f"{other}=0.3",))
    whole = _take(data_dir, 20, config)
    found = np.concatenate([batch["audio"][:, 0] for batch in whole])
    theirs = found[found >= 100]
    assert len(theirs) in (47, 48, 49)
    for epoch in range(4):
        assert sorted(theirs[10 * epoch :][:10]) == list(range(100, 110))
    parts = [_take(data_dir, 13, config, start_step=7, host=h, hosts=2) for h in range(2)]
    for step, batch in enumerate(whole[7:]):
        joined = np.concatenate([part[step]["audio"] for part in parts])
        np.testing.assert_array_equal(joined, batch["audio"])


def test_ranges_of_a_file_are_what_array_record_reads(tmp_path):
    """Records of all sizes, whose chunks are cut by the headers of blocks in every way."""
    generator = np.random.default_rng(0)
    sizes = [10, 100, 70_000, 5, 200_000, 65_472, 3, 1, 0, *generator.integers(0, 3000, 4000)]
    made = [generator.integers(0, 256, size).astype(np.uint8).tobytes() for size in sizes]
    writer = records.ShardWriter(tmp_path, "x", 2**40)
    for data in made:
        writer.write(data)
    writer.close()
    fsspec.filesystem("memory").pipe("/x", (tmp_path / writer.files[0][0]).read_bytes())
    reader = RemoteReader("memory://x")
    assert reader.num_records() == len(made)
    assert reader.read(range(len(made))) == made
    assert reader.read([4]) == [made[4]] and reader.read([2, 3, 5]) == [made[i] for i in (2, 3, 5)]
    for damage, words in ((b"", "no whole file"), (bytes(2**17), "damaged")):
        fsspec.filesystem("memory").pipe("/broken", damage)
        with pytest.raises(ValueError, match=words):
            RemoteReader("memory://broken")


def test_rows_of_a_bucket_need_blocks(data_dir):
    with (
        mock.patch.object(paths, "is_local", lambda path: False),
        pytest.raises(RecordsError, match="too slow .* set --config.data.order=blocks, or copy"),
    ):
        _take(data_dir, 1, dataclasses.replace(CONFIG, order="rows"))
