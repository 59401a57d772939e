"""Mixtures: each data set has its share of every batch, and its own endless sequence."""

from fractions import Fraction

import numpy as np
import pytest

from clapjax.audio.config import AudioConfig
from clapjax.data import records
from clapjax.data.config import DataConfig
from clapjax.data.order import batch_rows, parse_share, shuffled
from clapjax.data.pipeline import train_batches
from clapjax.data.tokenizer import load_tokenizer, train_tokenizer
from tests.data.building import RATE, make_example, write_records

AUDIO = AudioConfig(sample_rate=RATE, clip_samples=100, fmax=4000.0)


@pytest.mark.parametrize(
    "shares", [[], [3], [Fraction(1, 3), 2], [Fraction("0.1"), Fraction("0.07")]]
)
def test_each_set_runs_through_its_positions_once_and_in_order(shares):
    batch, steps = 12, 40
    seen = {number: [] for number in range(len(shares) + 1)}
    for step in range(steps):
        sets, positions = batch_rows(step, batch, shares)
        assert len(sets) == len(positions) == batch and (np.diff(sets) >= 0).all()
        for number, position in zip(sets, positions, strict=True):
            seen[number].append(position)
    for number, positions in seen.items():
        assert positions == list(range(len(positions)))
        if number:
            share = shares[number - 1]
            wanted = steps * (share if isinstance(share, int) else share * batch)
            assert wanted - 1 < len(positions) <= wanted


def test_far_steps_are_exact():
    """Fractions, not floats: after 10**12 batches the share is still right to a row."""
    step = 10**12 + 1
    _, positions = batch_rows(step, 64, [Fraction("0.1")])
    assert positions[-1] == int((step + 1) * Fraction("6.4")) - 1


@pytest.mark.parametrize(
    "item", ["a", "a=", "=3", "a=0", "a=-1", "a=1.5", "a=many", "a=1/0", "a=-0.5"]
)
def test_a_share_that_is_none(item):
    with pytest.raises(ValueError, match="is not FOLDER=SHARE"):
        DataConfig(mixture=(item,))


def test_shares_are_parsed():
    assert parse_share("data/a=b=16") == ("data/a=b", 16)
    assert parse_share("a=0.1") == ("a", Fraction(1, 10))
    assert parse_share("a=2/3") == ("a", Fraction(2, 3))
    with pytest.raises(ValueError, match="more than the 4 rows"):
        batch_rows(0, 4, [3, Fraction(1, 2)])


def test_every_epoch_of_every_set_is_a_permutation():
    sizes = np.array([7, 30])
    found = {}
    for number, size in enumerate(sizes):
        positions = np.arange(3 * size)
        sets = np.full_like(positions, number)
        found[number] = shuffled(positions, sizes[sets], sets, seed=3).reshape(3, size)
        assert (np.sort(found[number]) == np.arange(size)).all()
        assert len({tuple(epoch) for epoch in found[number]}) == 3
    # Sets of one size are shuffled differently.
    positions, one = np.arange(30), np.ones(30, np.int64)
    assert (shuffled(positions, 30 * one, 0 * one, 3) != found[1][0]).any()


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Three data sets whose clips hold their own number, 0 to 2, and their index."""
    folder = tmp_path_factory.mktemp("sets")
    for number, count in enumerate((11, 5, 3)):
        examples = [
            make_example(2 * i + (number > 0), audio=np.full(100, 100 * number + i + 1, np.int16))
            for i in range(count)
        ]
        write_records(folder / str(number), {"train": examples}, shards=1)
    train_tokenizer(["a dog barks"], folder / records.TOKENIZER_FOLDER, 300)
    return folder


def _take(sets, count, **changes):
    mixture = (f"{sets / '1'}=0.3", f"{sets / '2'}=2")
    settings = {"batch_size": 8, "seed": 1, "max_length": 8} | changes
    tokenizer = load_tokenizer(sets / records.TOKENIZER_FOLDER)
    batches = train_batches(sets / "0", DataConfig(mixture=mixture), AUDIO, tokenizer, **settings)
    return [next(batches) for _ in range(count)]


def test_a_mixture_resumes_and_divides_like_a_single_set(sets):
    whole = _take(sets, 20)
    for start in (0, 10):
        for hosts in (1, 2, 4):
            parts = [
                _take(sets, 20 - start, start_step=start, host=h, hosts=hosts) for h in range(hosts)
            ]
            for step, batch in enumerate(whole[start:]):
                for name, rows in batch.items():
                    joined = np.concatenate([part[step][name] for part in parts])
                    assert joined.tobytes() == rows.tobytes(), name


def test_only_the_sets_with_negatives_have_them(sets):
    batches = _take(sets, 30)
    from_set = np.stack([batch["audio"][:, 0] // 100 for batch in batches])
    counts = [(from_set == number).sum() for number in range(3)]
    assert counts[1:] == [int(30 * 8 * 0.3), 60]
    negatives = np.stack([batch["has_negative"] for batch in batches])
    np.testing.assert_array_equal(negatives, from_set > 0)


def test_sets_that_do_not_go_together(sets, tmp_path):
    with pytest.raises(ValueError, match="more than the 2 rows"):
        _take(sets, 1, batch_size=2)
    tokenizer = load_tokenizer(sets / records.TOKENIZER_FOLDER)
    config = DataConfig(mixture=(f"{tmp_path / 'nowhere'}=1",))
    with pytest.raises(records.RecordsError, match="nowhere: no records here"):
        train_batches(sets / "0", config, AUDIO, tokenizer, batch_size=4, seed=0, max_length=8)
