"""Cutting and decoding ahead: against brute force, and how much is held."""

import dataclasses
import itertools

import numpy as np
import pytest
import soundfile

from clapjax.audio.files import AudioError, read_audio
from clapjax.audio.fill import fill, truncate
from clapjax.inference import pieces
from clapjax.inference.pieces import Cutter, Failure, middle, static_length, stream, windows
from tests.audio.test_files import encode_media
from tests.inference.tiny import CLIP, RATE, SMALL, noise

AUDIO = SMALL.audio


def _blocks(samples: np.ndarray, seed: int) -> list[np.ndarray]:
    """Samples in blocks of random lengths."""
    cuts = np.random.default_rng(seed).integers(0, samples.size + 1, seed % 7)
    return [block for block in np.split(samples, np.sort(cuts)) if block.size]


@pytest.mark.parametrize("seed", range(60))
def test_windows_against_brute_force(seed):
    generator = np.random.default_rng(seed)
    total, size = generator.integers(1, 200), generator.integers(1, 60)
    hop = generator.integers(1, size + 1)
    stream_ = np.arange(1, total + 1, dtype=np.float32)
    starts = [start for start in range(0, total, hop) if start + size <= total]
    if total <= size:
        starts = [0]
    elif starts[-1] + size < total:
        starts.append(total - size)
    found = list(windows(_blocks(stream_, seed), size, hop))
    assert [start for start, _ in found] == starts
    for start, samples in found:
        np.testing.assert_array_equal(samples, stream_[start : start + size])
    heard = np.unique(np.concatenate([samples for _, samples in found]))
    np.testing.assert_array_equal(heard, stream_)  # nothing is left out


@pytest.mark.parametrize(("total", "last", "length"), [(21, 12, 9), (20, 10, 10), (11, 2, 9)])
def test_last_window_on_a_grid(total, last, length):
    found = list(windows([np.arange(total)], 10, 10, grid=2.0))
    assert found[-1][0] == last and found[-1][1].size == length
    assert found[-1][1][-1] == total - 1


@pytest.mark.parametrize("seed", range(30))
def test_middle_is_truncate(seed):
    generator = np.random.default_rng(seed)
    samples = np.arange(generator.integers(1, 300), dtype=np.float32)
    size = int(generator.integers(1, 100))
    start, found = middle(_blocks(samples, seed), size)
    np.testing.assert_array_equal(found, truncate(samples, size))
    assert found[0] == start


def test_static_lengths():
    assert [static_length(n, 10) for n in (1, 10, 11, 20, 21, 641)] == [10, 10, 20, 20, 40, 1280]


def _cut(mode: str, samples: np.ndarray, **settings) -> list:
    return list(Cutter(AUDIO, mode, RATE, **settings)(3, samples))


def test_pieces_of_one_clip():
    short, long = noise(3000), noise(20_001)
    (piece,) = _cut("truncate", short)
    np.testing.assert_array_equal(piece.samples, fill(short, CLIP, "repeatpad"))
    assert (piece.index, piece.length, piece.start, piece.end) == (3, CLIP, 0.0, 3000 / RATE)
    (piece,) = _cut("truncate", long)
    np.testing.assert_array_equal(piece.samples, long[6000:14_000])
    assert (piece.start, piece.end, piece.last) == (6000 / RATE, 14_000 / RATE, True)


def test_pieces_of_the_whole():
    short, long = noise(3000), noise(20_001)
    (piece,) = _cut("whole", long)
    np.testing.assert_array_equal(piece.samples, np.pad(long, (0, 4 * CLIP - 20_001)))
    assert piece.length == 20_001 and piece.end == 20_001 / RATE
    (piece,) = _cut("whole", short, filled=False)
    np.testing.assert_array_equal(piece.samples, np.pad(short, (0, CLIP - 3000)))
    assert piece.length == 3000
    (piece,) = _cut("whole", short[:50], filled=False)
    assert piece.length == 129  # reflecting at the edges takes half a window and a sample


def test_pieces_of_windows():
    found = _cut("windows", noise(20_001), hop=6000)
    assert [(piece.start * RATE, piece.end * RATE) for piece in found] == [
        (0, 8000),
        (6000, 14_000),
        (12_000, 20_000),
        (12_001, 20_001),
    ]
    assert [piece.last for piece in found] == [False, False, False, True]


def test_files_are_cut_as_arrays_are(tmp_path, monkeypatch):
    monkeypatch.setattr("clapjax.audio.files.BLOCK_SAMPLES", 3001)  # decoded in many blocks
    stereo = np.stack([noise(50_000, 1), noise(50_000, 2)], axis=1) / 2
    file = tmp_path / "stereo.wav"
    soundfile.write(file, stereo, 11_025, subtype="FLOAT")
    samples = read_audio(file, RATE)
    for mode in ("truncate", "windows", "whole"):
        cut = Cutter(AUDIO, mode, RATE, hop=5000)
        for ours, theirs in zip(cut(0, file), cut(0, samples), strict=True):
            # The middle is resampled by itself, which rounds otherwise.
            atol = 1e-6 if mode == "truncate" else 0
            np.testing.assert_allclose(ours.samples, theirs.samples, rtol=0, atol=atol)
            assert (ours.start, ours.end, ours.last) == (theirs.start, theirs.end, theirs.last)


def test_long_files_wait_for_their_turn(tmp_path, monkeypatch):
    """They come to the same, broken ones included, but are not decoded ahead."""
    for index in range(4):
        soundfile.write(tmp_path / f"{index}.wav", noise(20_000, index), RATE)
    (tmp_path / "2.wav").write_bytes(b"no sound")
    files = [tmp_path / f"{index}.wav" for index in range(4)]
    cut = Cutter(AUDIO, "windows", RATE, hop=CLIP)
    ahead = list(stream(cut, files))
    monkeypatch.setattr(pieces, "LONG_SECONDS", 2.0)
    decoded, read = [], pieces.read_blocks
    monkeypatch.setattr(
        pieces, "read_blocks", lambda *a, **k: decoded.append(a[0]) or read(*a, **k)
    )
    parts = stream(cut, [files[0], files[1], files[3]])
    next(parts)
    parts.close()  # waits for the threads
    assert decoded == [files[0]]
    at_their_turn = list(stream(cut, files))
    assert [type(part) for part in ahead] == [type(part) for part in at_their_turn]
    for one, other in zip(ahead, at_their_turn, strict=True):
        if isinstance(one, Failure):
            assert one.index == other.index == 2 and str(one.error) == str(other.error)
        else:
            np.testing.assert_array_equal(one.samples, other.samples)


def test_a_long_film_waits_for_its_turn(tmp_path, monkeypatch):
    """Fails before: what libsndfile cannot open was decoded whole, eight files at once."""
    pytest.importorskip("av")
    encode_media(tmp_path / "a.m4a", "aac", "ipod", noise(3 * 48_000), 48_000)
    for most, is_long in ((2.0, True), (4.0, False)):
        monkeypatch.setattr(pieces, "LONG_SECONDS", most)
        for item in (tmp_path / "a.m4a", (tmp_path / "a.m4a").read_bytes()):
            assert pieces._is_long(item) is is_long


def test_few_inputs_are_taken_ahead():
    taken = []
    endless = (taken.append(index) or noise(100, index) for index in itertools.count())
    for piece in stream(Cutter(AUDIO, "truncate", RATE), endless):
        assert len(taken) <= piece.index + pieces.INPUTS_AHEAD + 1
        if piece.index == 50:
            break


def test_a_broken_input_does_not_stop_the_rest():
    inputs = [noise(99), None, np.zeros(0), "nowhere.wav", np.array([np.nan]), noise(99), b"RIFF"]
    found = list(stream(Cutter(AUDIO, "truncate", RATE), inputs))
    assert [type(part) is Failure for part in found] == [False, True, True, True, True, False, True]
    for part in found:
        if isinstance(part, Failure):
            assert isinstance(part.error, AudioError) and "\n" not in str(part.error)
    assert str(found[1].error) == "audio 1: expected a path or an array, not <class 'NoneType'>"
    assert str(found[3].error) == "nowhere.wav: no such file"


def test_other_errors_are_not_swallowed():
    """A bug, or an error of the caller's iterator, is no broken clip."""

    def inputs():
        yield noise(99)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(stream(Cutter(AUDIO, "truncate", RATE), inputs()))


def test_the_models_way_of_filling():
    audio = dataclasses.replace(AUDIO, fill="pad")
    (piece,) = Cutter(audio, "truncate", RATE)(0, np.ones(60, np.float32))
    assert piece.samples.sum() == 60 and piece.length == piece.samples.size == CLIP
