"""Rows of a batch that come a second time, as their sound in a wrong order."""

import zlib
from itertools import islice

import numpy as np
import pytest

from clapjax.audio.config import AudioConfig
from clapjax.data import records
from clapjax.data.config import DataConfig
from clapjax.data.tokenizer import load_tokenizer, train_tokenizer
from tests.data.building import RATE, make_example, text_batches, write_records

COUNT, CLIP, GROUP, PAIRS, BATCH = 30, 100, 4, 2, 16
AUDIO = AudioConfig(sample_rate=RATE, clip_samples=CLIP, fmax=4000.0)
ORDERS = (("dog", "rain"), ("rain", "dog"), ("dog", "rain", "bell"))


def _example(index: int):
    """Samples of clip i are all i, in the wrong order -i; every third has no wrong order.

    Of three events nobody knows which wrong order a caption tells: they have no slot.
    """
    changes = {
        "audio": np.full(CLIP + index, index, np.int16),
        "captions": (f"right {index}",),
        "negative_captions": (),
        "negative_audio": None,
        "events": ORDERS[index % 3 if index % 3 < 2 else 0],
    }
    if index % 3:
        events = ORDERS[index % 2] if index % 5 else ORDERS[2]
        changes |= {
            "negative_captions": (f"wrong {index}", f"wrong {index} again"),
            "negative_audio": np.full(CLIP + index, -index, np.int16),
            "events": events,
        }
    return make_example(index, **changes)


EXAMPLES = {index: _example(index) for index in range(1, COUNT + 1)}


@pytest.fixture(scope="module")
def take(tmp_path_factory):
    """take(n, ...): the first n batches."""
    folder = tmp_path_factory.mktemp("reverses") / "records"
    write_records(folder, {"train": list(EXAMPLES.values())}, shards=3)
    texts = [text for e in EXAMPLES.values() for text in e.captions + e.negative_captions]
    train_tokenizer(texts, folder / records.TOKENIZER_FOLDER, 400)
    tokenizer = load_tokenizer(folder / records.TOKENIZER_FOLDER)

    def take(count: int, **changes):
        settings = {"batch_size": BATCH, "seed": 5, "max_length": 16, "group": GROUP}
        settings |= {"reverses": PAIRS, **changes}
        config = settings.pop("config", DataConfig())
        batches = text_batches(folder, config, AUDIO, tokenizer, **settings)
        return tokenizer, list(islice(batches, count))

    return take


def _group_id(events) -> int:
    return zlib.crc32("\n".join(events).encode()) % (2**31 - 1) + 1


def test_slots_hold_the_first_rows_of_a_group_that_have_one(take):
    tokenizer, batches = take(20)
    filled = unknown = 0
    for batch in batches:
        clips = batch["audio"][:, 0]
        wrong = tokenizer.batch_decode(batch["negative_ids"], skip_special_tokens=True)
        wrong_caption = [bool(EXAMPLES[clip].negative_captions) for clip in clips]
        there = [
            w and len(EXAMPLES[c].events) == 2 for w, c in zip(wrong_caption, clips, strict=True)
        ]
        for group in range(BATCH // GROUP):
            rows = range(group * GROUP, (group + 1) * GROUP)
            expected = [row for row in rows if there[row]][:PAIRS]
            slots = range(group * PAIRS, (group + 1) * PAIRS)
            found = [group * GROUP + batch["reverse_row"][slot] for slot in slots]
            assert found[: len(expected)] == expected
            assert (batch["reverse_row"][slots][len(expected) :] == -1).all()
            for slot, row in zip(slots, expected, strict=False):
                example = EXAMPLES[clips[row]]
                assert (batch["reverse_audio"][slot] == -clips[row]).all()
                assert batch["reverse_events"][row] == _group_id(example.events[::-1])
                assert wrong[row].strip() in example.negative_captions
            for slot in slots[len(expected) :]:  # a row of the group stands in
                assert (batch["reverse_audio"][slot] == clips[rows[slot % PAIRS]]).all()
            filled += len(expected)
        assert (batch["has_negative"] == wrong_caption).all()
        unknown += sum(wrong_caption) - sum(there)
    assert filled > 80 and unknown > 10


@pytest.mark.parametrize("hosts", [2, 4])
def test_slots_do_not_depend_on_hosts_or_the_start(take, hosts):
    config = DataConfig(long_clips="whole", longest_seconds=0.015)  # 120 samples
    _, reference = take(6, config=config)
    shares = [take(4, start_step=2, host=h, hosts=hosts, config=config)[1] for h in range(hosts)]
    for step, expected in enumerate(reference[2:]):
        for name, value in expected.items():
            joined = np.concatenate([share[step][name] for share in shares])
            assert joined.tobytes() == value.tobytes(), name
    assert len(set(reference[0]["reverse_lengths"].tolist())) > 3
    assert reference[0]["reverse_audio"].shape == (BATCH // GROUP * PAIRS, 120)


def test_without_the_option_a_batch_is_as_it_was(take):
    _, (batch,) = take(1, reverses=0, group=1)
    assert not any(name.startswith("reverse") for name in batch)


def test_a_group_stays_on_one_host(take):
    with pytest.raises(ValueError, match="12 does not divide among 2 hosts .0., 4 rows together"):
        take(1, batch_size=12, hosts=2)
