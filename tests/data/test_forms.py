"""Records as PCM, FLAC and log-mels: the same sound, as far as the form says so."""

import dataclasses
from itertools import islice

import jax.numpy as jnp
import numpy as np
import pytest

from clapjax.audio.config import AudioConfig
from clapjax.audio.host_mel import host_log_mel
from clapjax.audio.mel import log_mel
from clapjax.data import records
from clapjax.data.checking import check
from clapjax.data.config import DataConfig
from clapjax.data.edits.filter import Where, select
from clapjax.data.edits.merge import merge
from clapjax.data.forms import Form
from clapjax.data.overlap import fingerprint_records
from clapjax.data.shards import RecordsError
from clapjax.data.statistics import describe
from clapjax.data.tokenizer import load_tokenizer, train_tokenizer
from tests.data.building import RATE, assert_same, make_example, text_batches, write_records

AUDIO = AudioConfig(
    sample_rate=RATE, clip_samples=2000, window_length=256, hop_length=100, mel_bins=16, fmax=4000.0
)
MEL = Form("mel", AUDIO, ("train",))
FORMS = {"pcm": Form(), "flac": Form("flac"), "mel": MEL}
STEP = 0.05  # dB between float16 numbers near 100 dB, and the float32 of the powers


def _example(index: int):
    """From a tenth of a clip to twice one; every other one has sound in a wrong order."""
    samples = np.random.default_rng(index).normal(0, 3000, (2, 300 + 450 * index))
    audio, negative = (samples * np.linspace(0.01, 1, samples.shape[1])).astype(np.int16)
    return make_example(index, audio=audio, **({"negative_audio": negative} if index % 2 else {}))


EXAMPLES = [_example(index) for index in range(9)]
HELD_OUT = [dataclasses.replace(one, id=f"held-out-{one.id}") for one in EXAMPLES[:3]]


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("forms")
    for kind, form in FORMS.items():
        splits = {"train": EXAMPLES, "test": HELD_OUT}
        write_records(root / kind, splits, shards=2, form=form)
        train_tokenizer(["a dog barks"], root / kind / records.TOKENIZER_FOLDER, 300)
    return root


def _take(folder, count=6, audio=AUDIO, **changes):
    tokenizer = load_tokenizer(folder / records.TOKENIZER_FOLDER)
    config = DataConfig(**changes)
    settings = {"batch_size": 4, "seed": 3, "max_length": 8, "group": 4, "reverses": 1}
    return list(islice(text_batches(folder, config, audio, tokenizer, **settings), count))


@pytest.mark.parametrize("long_clips", ["cut", "whole"])
def test_flac_is_pcm_bit_for_bit(sets, long_clips):
    how = {"long_clips": long_clips, "longest_seconds": 3000 / RATE}
    for ours, theirs in zip(_take(sets / "flac", **how), _take(sets / "pcm", **how), strict=True):
        assert ours.keys() == theirs.keys()
        for name, rows in ours.items():
            assert rows.dtype == theirs[name].dtype
            assert rows.tobytes() == theirs[name].tobytes(), name
    size = {kind: sum(f.stat().st_size for f in (sets / kind).iterdir()) for kind in FORMS}
    assert size["flac"] < size["pcm"]


def test_mels_are_those_of_the_samples(sets):
    """What the device makes of the samples; longer clips are cut at a whole hop of the whole's."""
    whole = {one.id: host_log_mel(one.audio, AUDIO) for one in EXAMPLES}
    exact = cut = 0
    for ours, theirs in zip(_take(sets / "mel"), _take(sets / "pcm"), strict=True):
        assert ours["audio"].dtype == np.float16 and ours["audio"].shape[1:] == (21, 16)
        np.testing.assert_array_equal(ours["input_ids"], theirs["input_ids"])
        np.testing.assert_array_equal(ours["reverse_row"], theirs["reverse_row"])
        heard = np.asarray(log_mel(jnp.asarray(theirs["audio"]), AUDIO))
        for mel, own in zip(ours["audio"], heard, strict=True):
            if np.abs(mel - own).max() < STEP:
                exact += 1
            else:
                cut += any(
                    (mel == one[start : start + 21]).all()
                    for one in whole.values()
                    for start in range(len(one) - 20)
                )
    assert exact + cut == 24 and exact > 8 and cut > 4


def test_long_mels_whole(sets):
    how = {"long_clips": "whole", "longest_seconds": 3000 / RATE}
    for ours, theirs in zip(_take(sets / "mel", **how), _take(sets / "pcm", **how), strict=True):
        assert ours["audio"].shape[1] == 31
        for lengths in ("lengths", "reverse_lengths"):
            frames = ours[lengths] // AUDIO.hop_length + 1
            np.testing.assert_array_equal(frames, theirs[lengths] // AUDIO.hop_length + 1)
        for mel, length in zip(ours["audio"], ours["lengths"], strict=True):
            assert (mel[length // AUDIO.hop_length + 1 :] == -100).all()
        own = theirs["lengths"] < 3000
        heard = log_mel(jnp.asarray(theirs["audio"]), AUDIO, lengths=jnp.asarray(theirs["lengths"]))
        assert own.any() and np.abs(ours["audio"] - np.asarray(heard))[own].max() < STEP


def test_ten_seconds_take_no_more_than_130_kb():
    form = Form("mel", AudioConfig(), ("train",))
    noise = np.random.default_rng(0).integers(-9000, 9000, 480_000).astype(np.int16)
    example = make_example(0, audio=noise, sample_rate=48_000)
    data = records.serializer("train", form)(example)
    assert 128_128 < len(data) <= 130_000
    back = records.parser()(data)
    assert back.audio.shape == (1001, 64) and back.seconds == 10.0
    mel = np.asarray(log_mel(jnp.asarray(noise[None]), AudioConfig()))[0]
    assert np.abs(back.audio - mel).max() < STEP


def test_what_is_read_and_edited(sets, tmp_path):
    """Held-out splits of log-mels are FLAC: what judges a model hears them."""
    for ours, example in zip(records.read_examples(sets / "mel", "test"), HELD_OUT, strict=True):
        assert_same(ours, example)
    for kind in ("flac", "mel"):
        assert check(sets / kind) == []
        assert (
            describe(sets / kind)["splits"]["train"]["hours"]
            == (describe(sets / "pcm")["splits"]["train"]["hours"])
        )
        (tmp_path / kind).mkdir()
        chosen = tmp_path / kind / "chosen"
        select(chosen, sets / kind, Where(min_seconds=0.2))
        assert records.read_form(chosen) == records.read_form(sets / kind)
        kept = [one.id for one in records.read_examples(chosen, "train")]
        assert kept == [one.id for one in EXAMPLES if one.seconds >= 0.2] and len(kept) < 9
        merge(tmp_path / kind / "both", [chosen, sets / kind], prefix=True)
        assert check(tmp_path / kind / "both") == []
        assert records.read_form(tmp_path / kind / "both") == records.read_form(sets / kind)
    with pytest.raises(RecordsError, match=r"do not hold sound as those of .*\(mel and flac"):
        merge(tmp_path / "no", [sets / "flac", sets / "mel"], prefix=True)


def test_what_needs_samples_says_so(sets):
    with pytest.raises(RecordsError, match="stored as a log-mel.*needs PCM or FLAC"):
        list(fingerprint_records([(sets / "mel", "train")]))
    assert len(list(fingerprint_records([(sets / "mel", "test")]))) == 3


def test_another_front_end_or_form_is_refused(sets):
    other = dataclasses.replace(AUDIO, hop_length=50, fmin=20.0)
    with pytest.raises(
        RecordsError,
        match=r"front end [0-9a-f]{12}, the model's is [0-9a-f]{12} \(hop_length 100 and 50, fmin "
        r"50.0 and 20.0\); build",
    ):
        _take(sets / "mel", audio=other)
    assert len(_take(sets / "flac", 1, audio=other)) == 1
    with pytest.raises(RecordsError, match="holds flac, and data.audio=mel is asked for"):
        _asked(sets / "flac", "mel")
    with pytest.raises(RecordsError, match=r"test\+train: some of it is log-mels"):
        _take(sets / "mel", split="test+train")
    with pytest.raises(RecordsError, match="data.mixture: log-mels and samples"):
        _take(sets / "mel", mixture=(f"{sets / 'flac'}=1row",))
    with pytest.raises(ValueError, match="data.audio must be one of auto, pcm, flac, mel"):
        DataConfig(audio="opus")


def _asked(folder, kind):
    tokenizer = load_tokenizer(folder / records.TOKENIZER_FOLDER)
    config = DataConfig(audio=kind)
    return text_batches(folder, config, AUDIO, tokenizer, batch_size=4, seed=0, max_length=8)
