"""Mixtures: each data set has its share of every batch, and its own endless sequence."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import kstest

from benchmarks.shuffle_statistics import LEAST, compare, epochs
from clapjax.audio.config import AudioConfig
from clapjax.data import records
from clapjax.data.config import DataConfig
from clapjax.data.order import balanced, batch_rows, draws, parse_share, shuffled
from clapjax.data.tokenizer import load_tokenizer, train_tokenizer
from tests.data.building import RATE, make_example, text_batches, write_records

AUDIO = AudioConfig(sample_rate=RATE, clip_samples=100, fmax=4000.0)


def _drawn_shares(generator) -> tuple[int, list[Fraction | int]]:
    """A batch size, and shares of it that are not more than the batch; at times all of it."""
    batch = int(generator.integers(1, 65))
    shares, left = [], Fraction(1)
    for _ in range(generator.integers(5)):
        rows, part = int(generator.integers(1, batch + 1)), generator.integers(1, 1000)
        share = generator.choice([rows, Fraction(int(part), 1000), left], p=[0.25, 0.6, 0.15])
        part_of_all = Fraction(share, batch) if isinstance(share, int) else share
        if 0 < part_of_all <= left:
            shares.append(share)
            left -= part_of_all
    return batch, shares


@pytest.mark.parametrize("seed", range(40))
def test_every_set_has_its_share_to_within_a_row(seed):
    """At every step, wherever one begins, each set's positions go on where they were."""
    generator = np.random.default_rng(seed)
    batch, shares = _drawn_shares(generator)
    wanted = [share if isinstance(share, int) else share * batch for share in shares]
    wanted.insert(0, batch - sum(wanted))
    for start in (0, int(generator.integers(10**12))):
        had = None
        for step in range(start, start + 40):
            sets, positions = batch_rows(step, batch, shares)
            assert len(sets) == len(positions) == batch and (np.diff(sets) >= 0).all()
            if had is None:
                had = [None] * len(wanted) if start else [0] * len(wanted)
            for number, share in enumerate(wanted):
                mine = positions[sets == number]
                if len(mine):
                    assert had[number] in (None, mine[0]) and (np.diff(mine) == 1).all()
                    had[number] = int(mine[-1]) + 1
                if had[number] is not None:
                    assert abs(had[number] - (step + 1) * share) < 1


@pytest.mark.parametrize("group", [2, 4])
def test_sets_are_dealt_out_evenly_to_groups(group):
    for shares in ([], [7], [Fraction(1, 4)], [5, 6, Fraction(1, 3)]):
        for step in range(3):
            plain = np.stack(batch_rows(step, 24, shares))
            dealt = np.stack(batch_rows(step, 24, shares, group))
            assert sorted(map(tuple, plain.T)) == sorted(map(tuple, dealt.T))
            for number in range(1 + len(shares)):
                counts = (dealt[0].reshape(-1, group) == number).sum(axis=1)
                assert counts.max() - counts.min() <= 1


def test_shares_that_fill_the_batch():
    shares = [Fraction("0.35"), Fraction("0.35"), Fraction("0.3")]
    for step in range(100):
        sets, positions = batch_rows(step, 64, shares)
        assert len(sets) == len(positions) == 64 and sets.min() == 1


def test_shares_that_never_come_out_even_are_rounded():
    shares = [Fraction("0.123456789"), Fraction("0.234567891")]
    had = np.zeros(3)
    for step in range(3000):
        sets, _ = batch_rows(step, 64, shares)
        assert len(sets) == 64
        had += np.bincount(sets, minlength=3)
    wanted = 3000 * 64 * np.array([0.64197532, 0.123456789, 0.234567891])
    assert np.abs(had - wanted).max() < 3  # a row, and the rounding to 2^-17 of some rows a batch
    with pytest.raises(ValueError, match="a share of a batch of 1 rows is too small"):
        batch_rows(0, 1, [Fraction(1, 1_000_003)])


@pytest.mark.parametrize(
    "item",
    ["a", "a=", "=3", "a=0", "a=-1", "a=1.5", "a=many", "a=1/0", "a=-0.5", "a=2.5rows", "a=101%",
     "a=3/2", "a=0%", "a=1e-3", "a= 3"],
)  # fmt: skip
def test_a_share_that_is_none(item):
    with pytest.raises(ValueError, match="is not FOLDER=SHARE"):
        DataConfig(mixture=(item,))


def test_one_may_be_a_row_or_all():
    with pytest.raises(ValueError, match="'a=1' may be one row or .*a=1row, or a=1.0 or a=100%"):
        DataConfig(mixture=("a=1",))
    for text, share in (("1row", 1), ("1rows", 1), ("1.0", Fraction(1)), ("100%", Fraction(1))):
        found = parse_share(f"a={text}")[1]
        assert found == share and isinstance(found, type(share))
        assert (batch_rows(5, 8, [found])[0] == 1).sum() == (1 if isinstance(share, int) else 8)


def test_shares_are_parsed():
    assert parse_share("data/a=b=16") == ("data/a=b", 16)
    assert parse_share("a=16rows") == ("a", 16)
    assert parse_share("a=0.1") == parse_share("a=.1") == ("a", Fraction(1, 10))
    assert parse_share("a=2.5%") == ("a", Fraction(1, 40))
    assert parse_share("a=2/3") == ("a", Fraction(2, 3))
    with pytest.raises(ValueError, match="more than the 4 rows"):
        batch_rows(0, 4, [3, Fraction(1, 2)])


@pytest.mark.parametrize("size", [10, 50, 1000, 60_000])
def test_the_order_is_as_random_as_numpys(size):
    for name, (ours, theirs, p) in compare(size, 30 if size > 1000 else 100).items():
        assert p > LEAST, (name, ours.mean(), theirs.mean())


def test_seed_0_is_no_worse_than_others():
    (order, _) = epochs(10, 0)
    assert order.tolist() != list(range(10))
    assert (epochs(50, 0)[0] == np.arange(50)).sum() < 8
    assert abs(np.corrcoef(epochs(1000, 0)[0], np.arange(1000))[0, 1]) < 0.15


def test_every_epoch_of_every_set_is_a_permutation():
    sizes = np.array([1, 2, 7, 30, 30, 1024, 1025])
    found = {}
    for number, size in enumerate(sizes):
        positions = np.arange(3 * size)
        sets = np.full_like(positions, number)
        found[number] = shuffled(positions, sizes[sets], sets, seed=3).reshape(3, size)
        assert (np.sort(found[number]) == np.arange(size)).all()
        assert size < 7 or len({tuple(epoch) for epoch in found[number]}) == 3
    assert (found[3] != found[4]).any()  # sets of one size are shuffled differently
    # Rows of several sets and epochs at once are what they are alone.
    sets = np.arange(70) % 7
    positions = np.arange(70) % (3 * sizes[sets])
    joined = shuffled(positions, sizes[sets], sets, seed=3)
    alone = [found[s].ravel()[p] for s, p in zip(sets, positions, strict=True)]
    np.testing.assert_array_equal(joined, alone)


def test_draws_are_uniform_and_belong_to_their_place():
    positions, none = np.arange(20_000), np.zeros(20_000, np.int64)
    drawn = draws(positions, none, 0, 3)
    assert all(kstest(column, "uniform").pvalue > LEAST for column in drawn.T)
    others = [draws(positions, none, 1, 3), draws(positions, none + 1, 0, 3), drawn[::-1]]
    for other in (*others, np.roll(drawn, 1, axis=0), np.roll(drawn, 1, axis=1)):
        assert abs(np.corrcoef(drawn.ravel(), other.ravel())[0, 1]) < 0.02
    np.testing.assert_array_equal(draws(positions[7:9], none[:2], 0, 3), drawn[7:9])


def test_any_seed_of_64_bits():
    places, none = np.arange(9), np.zeros(9, np.int64)
    orders = [shuffled(places, none + 9, none, seed) for seed in (-1, 0, 2**63, 2**64 - 2)]
    assert len({tuple(order) for order in orders}) == 4


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
    batches = text_batches(sets / "0", DataConfig(mixture=mixture), AUDIO, tokenizer, **settings)
    return [next(batches) for _ in range(count)]


def test_a_mixture_resumes_and_divides_like_a_single_set(sets):
    whole = _take(sets, 20)
    for start, hosts in ((10, 1), (0, 2), (10, 4)):
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
    assert abs(counts[1] - 30 * 8 * 0.3) < 1 and counts[2] == 60
    negatives = np.stack([batch["has_negative"] for batch in batches])
    np.testing.assert_array_equal(negatives, from_set > 0)


def test_sets_that_do_not_go_together(sets, tmp_path):
    with pytest.raises(ValueError, match="more than the 2 rows"):
        _take(sets, 1, batch_size=2)
    tokenizer = load_tokenizer(sets / records.TOKENIZER_FOLDER)
    config = DataConfig(mixture=(f"{tmp_path / 'nowhere'}=1row",))
    with pytest.raises(records.RecordsError, match="nowhere: no records here"):
        text_batches(sets / "0", config, AUDIO, tokenizer, batch_size=4, seed=0, max_length=8)


def test_balanced_labels_come_once_each_and_their_records_too():
    """Whatever is asked for at once: every label as often, and every record of it as often."""
    counts = np.array([1, 3, 2000, 7])
    for start in (0, 10**12 // 84 * 84):  # 84 = 4 * 21: whole rounds of the small labels
        positions = start + np.arange(84)
        labels, nth = balanced(positions, counts, seed=3)
        assert (np.sort(labels.reshape(-1, 4)) == np.arange(4)).all()
        for label, count in enumerate(counts):
            mine = nth[labels == label]  # 21 of them
            times = np.bincount(mine, minlength=count)
            assert len(times) == count and (times.max() <= 1 if count > 21 else np.ptp(times) == 0)
        for row in (0, 5, 83):
            one = balanced(positions[row : row + 1], counts, seed=3)
            assert (one[0][0], one[1][0]) == (labels[row], nth[row])
        other, _ = balanced(positions, counts, seed=4)
        assert (other != labels).mean() > 0.5
    orders = balanced(np.arange(4000), counts, 3)[0].reshape(-1, 4)
    assert len({tuple(order) for order in orders.tolist()}) == 24  # of four labels
