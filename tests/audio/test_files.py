"""Decoding, down-mix, resampling and refusal of audio inputs."""

import io
import os
import platform
import sys

import numpy as np
import pytest
import scipy.signal
import soundfile

from clapjax.audio.files import (
    AUDIO_SUFFIXES,
    MARGIN,
    AudioError,
    audio_seconds,
    float_to_int16,
    int16_to_float,
    read_audio,
    read_middle,
    to_mono_at_rate,
)
from clapjax.audio.hushed import SoundFile, hushed

RATE = 16_000


def _sine(hz: float, rate: int = RATE, seconds: float = 1.0, amplitude: float = 0.5) -> np.ndarray:
    """(T,) float32."""
    time = np.arange(int(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def _encoded(samples: np.ndarray, rate: int, container: str, subtype: str) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=container, subtype=subtype)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("container", "subtype", "atol"),
    [
        ("WAV", "PCM_16", 2**-15),
        ("WAV", "PCM_24", 2**-23),
        ("WAV", "FLOAT", 0.0),
        ("FLAC", "PCM_16", 2**-15),
        ("FLAC", "PCM_24", 2**-23),
    ],
)
def test_lossless_formats_decode_to_their_samples(tmp_path, container, subtype, atol):
    samples = np.random.default_rng(0).uniform(-0.99, 0.99, 5000).astype(np.float32)
    encoded = _encoded(samples, RATE, container, subtype)
    path = tmp_path / f"clip.{container.lower()}"
    path.write_bytes(encoded)
    decoded = read_audio(path, RATE)
    assert decoded.dtype == np.float32 and decoded.shape == (5000,)
    np.testing.assert_allclose(decoded, samples, rtol=0, atol=atol)
    np.testing.assert_array_equal(read_audio(str(path), RATE), decoded)
    np.testing.assert_array_equal(read_audio(encoded, RATE), decoded)


@pytest.mark.parametrize(("container", "subtype"), [("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")])
def test_lossy_formats_keep_waveform_length_and_alignment(tmp_path, container, subtype):
    samples = _sine(440.0) + _sine(1250.0, amplitude=0.2)
    encoded = _encoded(samples, RATE, container, subtype)
    path = tmp_path / f"clip.{container.lower()}"
    path.write_bytes(encoded)
    decoded = read_audio(path, RATE)
    assert decoded.shape == samples.shape
    inner = slice(500, -500)
    error = np.sqrt(np.mean((decoded - samples)[inner] ** 2) / np.mean(samples[inner] ** 2))
    assert error < 0.05
    np.testing.assert_array_equal(read_audio(encoded, RATE), decoded)


def test_stereo_is_averaged(tmp_path):
    left, right = _sine(300.0), _sine(700.0, amplitude=0.25)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), RATE, subtype="FLOAT")
    expected = (left + right) / 2
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav", RATE), expected, atol=1e-7)
    np.testing.assert_allclose(
        to_mono_at_rate(np.stack([left, right], 1), RATE, RATE), expected, atol=1e-7
    )


def test_of_channels_in_opposite_phase_the_loudest_is_heard(tmp_path):
    """Their mean is silence. Of what is left at all in the mean, the mean is heard."""
    left, other = _sine(440.0), _sine(300.0)
    soundfile.write(tmp_path / "a.wav", np.stack([left, -left], 1), RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", RATE), left)
    for channels, expected in (
        ((left, -left), left),
        ((0 * left, -0.5 * left, 0.5 * left), -0.5 * left),
        ((0.5 * left, -left), -0.25 * left),
        ((left, other), (left + other) / 2),
        ((0 * left, 0 * left), 0 * left),
    ):
        found = to_mono_at_rate(np.stack(channels, axis=1), RATE, RATE)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_libmpg123_keeps_what_it_thinks_to_itself(capfd):
    data = bytearray(_encoded(_noise(RATE, 5.0), RATE, "MP3", "MPEG_LAYER_III"))
    for place in np.random.default_rng(1).integers(2000, len(data), 100):
        data[place] ^= 255
    soundfile.read(io.BytesIO(data))
    assert capfd.readouterr().err  # it has something to say
    assert read_audio(bytes(data), RATE).size > RATE
    with hushed(), hushed():
        print("heard", file=sys.stderr)
    assert capfd.readouterr().err == "heard\n"
    soundfile.read(io.BytesIO(data))
    assert capfd.readouterr().err  # and may


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_arrays_of_every_accepted_type_give_the_same_waveform(dtype):
    samples = _sine(440.0)
    given = float_to_int16(samples) if dtype == np.int16 else samples.astype(dtype)
    got = to_mono_at_rate(given, RATE, RATE)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, samples, rtol=0, atol=1 / 32767 if dtype == np.int16 else 1e-7)


@pytest.mark.parametrize("rate", [44_100, 8_000])
@pytest.mark.parametrize("wanted", [16_000, 48_000])
@pytest.mark.parametrize("hz", [220.0, 3000.0])
def test_resampling_keeps_frequency_phase_and_amplitude(tmp_path, rate, wanted, hz):
    soundfile.write(tmp_path / "a.wav", _sine(hz, rate), rate, subtype="FLOAT")
    got = read_audio(tmp_path / "a.wav", wanted)
    assert got.shape == (wanted,)
    inner = slice(wanted // 10, -wanted // 10)  # away from the edges' ringing
    np.testing.assert_allclose(got[inner], _sine(hz, wanted)[inner], atol=1e-4)


def test_resampling_agrees_with_scipy():
    """Four periodic tones: the FFT method of scipy is exact for them."""
    samples = sum(_sine(hz, 44_100, amplitude=0.2) for hz in (90.0, 441.0, 2500.0, 6000.0))
    expected = scipy.signal.resample(samples.astype(np.float64), RATE)
    got = to_mono_at_rate(samples, 44_100, RATE)
    np.testing.assert_allclose(got[2000:-2000], expected[2000:-2000], atol=1e-4)


def test_downsampling_removes_what_would_alias():
    got = to_mono_at_rate(_sine(11_000.0, 44_100), 44_100, RATE)
    assert np.abs(got[1000:-1000]).max() < 1e-4


def _nan(value: float) -> np.ndarray:
    samples = _sine(440.0)
    samples[100] = value
    return samples


def _long_flac() -> bytes:
    """A real FLAC of a second whose header says 4000 s."""
    data = bytearray(_encoded(_sine(440.0), RATE, "FLAC", "PCM_16"))
    data[22:26] = (4000 * RATE).to_bytes(4, "big")  # STREAMINFO: low 32 bits of the sample count
    return bytes(data)


WAV = _encoded(_sine(440.0), RATE, "WAV", "PCM_16")
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n"
PAGE = b"\n<!-- saved -->\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
BAD_FILES = {
    "empty": (b"", "cannot be decoded; it is an empty file"),
    "lfs": (LFS, "cannot be decoded; it is a Git LFS pointer, not the file itself; run `git lfs"),
    "page": (PAGE, "cannot be decoded; it is a saved web page, not the file; download it by its"),
    "zero-frames": (_encoded(np.zeros(0), RATE, "WAV", "PCM_16"), "T > 0"),
    "text": (b"this is no sound\n" * 50, "cannot be decoded"),
    "header-cut": (WAV[:20], "cannot be decoded"),
    "header-without-data": (WAV[:36], "cannot be decoded"),
    "flac-cut": (_encoded(_sine(440.0), RATE, "FLAC", "PCM_16")[:200], "cannot be decoded"),
    "ogg-cut": (_encoded(_sine(440.0), RATE, "OGG", "VORBIS")[:1000], "cannot be decoded"),
    "rate-zero": (WAV[:24] + bytes(4) + WAV[28:], "cannot be decoded"),
    "nan": (_encoded(_nan(np.nan), RATE, "WAV", "FLOAT"), "NaN or Inf"),
    "inf": (_encoded(_nan(np.inf), RATE, "WAV", "FLOAT"), "NaN or Inf"),
    "minus-inf": (_encoded(_nan(-np.inf), RATE, "WAV", "FLOAT"), "NaN or Inf"),
    "hours": (_long_flac(), "4000 s is longer than 3600 s"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_file_is_one_error_that_names_it(tmp_path, kind):
    content, reason = BAD_FILES[kind]
    path = tmp_path / f"{kind}.wav"
    path.write_bytes(content)
    for source, name in ((path, str(path)), (str(path), str(path)), (content, "<bytes>")):
        with pytest.raises(AudioError) as caught:
            read_audio(source, RATE)
        message = str(caught.value)
        assert message.startswith(f"{name}: ") and reason in message
        assert "\n" not in message and "/tmp" not in message.removeprefix(name)


def test_what_has_no_header_is_one_error(tmp_path):
    """Fails before: soundfile asks for the rate of a .raw with a TypeError, which ended all."""
    (tmp_path / "a.raw").write_bytes(bytes(8000))
    assert read_middle(tmp_path / "a.raw", RATE, 9) is None
    with pytest.raises(AudioError, match=r"a\.raw: cannot be decoded \(no header says its rate"):
        read_audio(tmp_path / "a.raw", RATE)


def test_missing_file_and_folder_are_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, told in (
        (tmp_path / "missing.wav", "no such file"),
        (tmp_path, "is a folder, not a file"),
        (tmp_path / "pipe", "is a pipe or a device, not a file"),
    ):
        with pytest.raises(AudioError) as caught:
            read_audio(path, RATE)
        assert str(caught.value) == f"{path}: {told}"


def test_length_limit_is_on_seconds(tmp_path, monkeypatch):
    """Frames over rate, so that a high rate is not refused early."""
    monkeypatch.setattr("clapjax.audio.files.MAX_SECONDS", 1.0)
    soundfile.write(tmp_path / "ok.wav", np.zeros(48_000), 48_000)
    assert read_audio(tmp_path / "ok.wav", RATE).shape == (RATE,)
    soundfile.write(tmp_path / "long.wav", np.zeros(8_001), 8_000)
    with pytest.raises(AudioError, match=r"long\.wav.*longer than 1 s"):
        read_audio(tmp_path / "long.wav", RATE)


BAD_ARRAYS = {
    "empty": (np.zeros(0, np.float32), RATE, "T > 0"),
    "scalar": (np.float32(0.5), RATE, "expected"),
    "three-axes": (np.zeros((4, 2, 2), np.float32), RATE, "(4, 2, 2)"),
    "transposed": (np.zeros((2, 8000), np.float32), RATE, "transposed"),
    "int32": (np.full(100, 30_000, np.int32), RATE, "up to 30000 are hardly heard; 16-bit"),
    "int64": (np.zeros(100, np.int64), RATE, "int64"),
    "uint8": (np.zeros(100, np.uint8), RATE, "uint8"),
    "complex": (np.zeros(100, np.complex64), RATE, "complex64"),
    "text": ("hello", RATE, "expected"),
    "nan": (_nan(np.nan), RATE, "NaN or Inf"),
    "inf-in-one-channel": (np.stack([_nan(np.inf), _sine(9.0)], 1), RATE, "NaN or Inf"),
    "rate-zero": (_sine(440.0), 0, "sample rate must be in 100 .. 10000000 Hz, not 0"),
    "rate-negative": (_sine(440.0), -8000, "not -8000"),
    "rate-in-kHz": (_sine(440.0), 44.1, "not 44.1"),
    "rate-huge": (_sine(440.0), 1e12, "not 1000000000000.0"),
    "rate-text": (_sine(440.0), "8000", "not '8000'"),
    "rate-yes": (_sine(440.0), True, "not True"),
    "rate-none": (_sine(440.0), None, "not None"),
    "rates": (_sine(440.0), np.array([8000, 8000]), "not array([8000, 8000])"),
    "too-short": (np.ones(1, np.float32), 48_000, "too short"),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_bad_array_is_one_error_that_names_it(kind):
    samples, rate, reason = BAD_ARRAYS[kind]
    with pytest.raises(AudioError) as caught:
        to_mono_at_rate(samples, rate, 8000, name="my-clip")
    assert str(caught.value).startswith("my-clip: ") and reason in str(caught.value)


def test_transposition_limit_spares_real_channel_counts():
    assert to_mono_at_rate(np.ones((10, 32), np.float32), RATE, RATE).shape == (10,)
    with pytest.raises(AudioError, match="33 channels"):
        to_mono_at_rate(np.ones((10, 33), np.float32), RATE, RATE)


def test_float_to_int16_truncates_toward_zero_and_clips():
    steps = np.array([0.9, -0.9, 1.5, -1.5, 0.0, 100.999, -100.999]) / 32767
    np.testing.assert_array_equal(float_to_int16(steps), [0, 0, 1, -1, 0, 100, -100])
    np.testing.assert_array_equal(
        float_to_int16(np.array([1.0, -1.0, 7.0, -7.0])), [32767, -32767] * 2
    )


def test_int16_round_trip_loses_at_most_one_step_toward_zero():
    """All 65535 values: never away from zero, never a change of sign."""
    values = np.arange(-32767, 32768).astype(np.int16)
    floats = int16_to_float(values)
    assert floats.dtype == np.float32 and floats[0] == -1.0 and floats[-1] == 1.0
    np.testing.assert_allclose(floats, values / 32767.0, rtol=1e-7)
    lost = np.abs(values.astype(int)) - np.abs(float_to_int16(floats).astype(int))
    assert lost.min() >= 0 and lost.max() <= 1


def test_flac_of_unknown_length_is_told_so():
    # encoders that write to a pipe leave the number of samples at 0, "unknown"
    data = bytearray(_encoded(_sine(440.0), RATE, "FLAC", "PCM_16"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    with pytest.raises(AudioError, match="does not say how long"):
        read_audio(bytes(data), RATE)


@pytest.mark.parametrize(
    "samples, rate, wanted",
    [
        (np.full(10, 1e300), 8000, 8000),
        (np.zeros(10), float("nan"), 16_000),
        (np.zeros(10), 8000, 0),
        ([[1.0, 2.0], [1.0]], 8000, 8000),
    ],
)
def test_odd_arrays_are_one_error_that_names_them(samples, rate, wanted):
    with pytest.raises(AudioError, match="N: "):
        to_mono_at_rate(samples, rate, wanted, name="N")


def test_overlong_path_is_an_audio_error():
    with pytest.raises(AudioError, match="no such file"):
        read_audio("x" * 300 + ".wav", 8000)


# --- windows --------------------------------------------------------------------------------


def _noise(rate: int, seconds: float) -> np.ndarray:
    """(T,) float32: low noise, of which no two stretches are alike."""
    samples = np.random.default_rng(3).standard_normal(int(rate * seconds))
    smooth = scipy.signal.lfilter([1], [1, -0.98], samples)
    return (0.3 * smooth / np.abs(smooth).max()).astype(np.float32)


@pytest.mark.parametrize(
    ("container", "subtype", "rate", "tolerance"),
    [
        ("WAV", "PCM_16", 16_000, 0.0),
        ("WAV", "PCM_16", 44_100, 1e-5),
        ("FLAC", "PCM_16", 11_025, 1e-5),
        ("OGG", "VORBIS", 44_100, 1e-5),
        ("OGG", "OPUS", 48_000, 1e-3),
        ("MP3", "MPEG_LAYER_III", 44_100, 1e-3),
    ],
)
def test_a_window_is_a_stretch_of_the_whole(tmp_path, container, subtype, rate, tolerance):
    encoded = _encoded(_noise(rate, 5.0), rate, container, subtype)
    (tmp_path / "a").write_bytes(encoded)
    whole = read_audio(encoded, RATE)
    for start, seconds in (
        (0.0, 0.5),
        (0.01, 0.3),
        (1.2345, 1.0),
        (3.9, 1.0),
        (4.5, 9.0),
        (2, None),
    ):
        first = round(start * RATE)
        last = whole.size if seconds is None else first + round(seconds * RATE)
        for source in (encoded, tmp_path / "a", io.BytesIO(encoded)):
            window = read_audio(source, RATE, start=start, seconds=seconds)
            assert window.shape == whole[first:last].shape
            np.testing.assert_allclose(window, whole[first:last], rtol=0, atol=tolerance)
    for size in (1, 8000, 33_333, 5 * RATE - 1, 5 * RATE, 90_000):
        start, middle = read_middle(encoded, RATE, size)
        assert start == max(0, whole.size - size) // 2
        expected = whole[start:][:size]
        assert middle.shape == expected.shape
        np.testing.assert_allclose(middle, expected, rtol=0, atol=tolerance)
    assert audio_seconds(encoded) == audio_seconds(tmp_path / "a") == 5.0
    with pytest.raises(AudioError, match="is over at 5.000 s, before 6.0 s"):
        read_audio(encoded, RATE, start=6.0)
    for bad in ({"start": -1.0}, {"seconds": 0.0}, {"start": float("nan")}):
        with pytest.raises(AudioError, match="no stretch of"):
            read_audio(encoded, RATE, **bad)


def test_a_middle_that_is_not_where_it_should_be():
    """It breaks off, or is longer or shorter than it says: then it must be decoded whole."""
    flac = _encoded(_noise(RATE, 5.0), RATE, "FLAC", "PCM_16")
    assert read_middle(flac, RATE, 999)[1].size == 999
    for broken in (flac[: len(flac) // 3], _long_flac(), flac[:200], b"", b"no sound"):
        assert read_middle(broken, RATE, 999) is None
    assert read_middle("nowhere.wav", RATE, 999) is None


def test_a_window_of_many_hours(tmp_path, monkeypatch):
    """What is asked for alone is decoded, and alone must be shorter than an hour."""
    hours, rate, samples = 5, 8000, _sine(440.0, 8000)
    size = 2 * hours * 3600 * rate
    header = bytearray(_encoded(np.zeros(1), rate, "WAV", "PCM_16")[:44])
    header[4:8], header[40:44] = (size + 36).to_bytes(4, "little"), size.to_bytes(4, "little")
    with (tmp_path / "a.wav").open("wb") as file:
        file.write(header)
        file.seek(44 + 2 * 4 * 3600 * rate)
        file.write(float_to_int16(samples).tobytes())
        file.truncate(44 + size)
    assert audio_seconds(tmp_path / "a.wav") == hours * 3600
    window = read_audio(tmp_path / "a.wav", rate, start=4 * 3600 - 1.0, seconds=2.0)
    np.testing.assert_allclose(window, np.pad(samples, (rate, 0)), rtol=0, atol=1e-4)
    decoded, read = [], SoundFile.read
    monkeypatch.setattr(SoundFile, "read", lambda *a, **k: decoded.append(a[1]) or read(*a, **k))
    start, middle = read_middle(tmp_path / "a.wav", 2 * rate, 4 * rate)
    assert start == (hours * 3600 - 2) * rate and not middle.any() and middle.size == 4 * rate
    assert sum(decoded) <= 2 * rate + 2 * MARGIN * rate + 2  # nothing but what is heard
    for asked in ({}, {"start": 3600.0}, {"seconds": 3601.0}):
        with pytest.raises(AudioError, match="is longer than 3600 s"):
            read_audio(tmp_path / "a.wav", rate, **asked)


# --- formats --------------------------------------------------------------------------------


def test_bytes_decode_as_files_do(tmp_path):
    encoded = bytes(5000) + _encoded(_noise(RATE, 1.0), RATE, "MP3", "MPEG_LAYER_III")
    (tmp_path / "a.mp3").write_bytes(encoded)
    whole = read_audio(tmp_path / "a.mp3", RATE)
    assert whole.size > 0.9 * RATE
    for name in ("", "x.mp3"):
        np.testing.assert_array_equal(read_audio(encoded, RATE, name=name), whole)
        assert audio_seconds(encoded, name) == audio_seconds(tmp_path / "a.mp3")


def test_every_suffix_of_libsndfile_is_found(tmp_path):
    samples, decoded = _sine(440.0), set()
    for container in soundfile.available_formats():
        file = tmp_path / f"a.{container.lower()}"
        try:
            soundfile.write(file, samples, RATE, format=container)
            found = read_audio(file, RATE)
            same = found.size == samples.size and np.corrcoef(found, samples)[0, 1] > 0.9
        except (AudioError, TypeError, soundfile.LibsndfileError):
            continue  # of 8000 Hz only, without a header, ...
        if same and not container.startswith("MAT"):  # files of MATLAB are seldom sounds
            decoded.add(file.suffix)
    assert {".wav", ".flac", ".mp3", ".caf", ".w64", ".rf64", ".aiff"} <= decoded
    assert decoded <= set(AUDIO_SUFFIXES)


MEDIA = {
    "a.m4a": ("aac", "ipod", 0),
    "a.mp4": ("aac", "mp4", 0),
    "a.aac": ("aac", "adts", 1024),  # which does not say that its start is to be dropped
    "a.webm": ("libopus", "webm", 0),
    "a.mka": ("flac", "matroska", 0),
    "a.wma": ("wmav2", "asf", -2048),  # whose first packet FFmpeg drops
}


def encode_media(file, codec: str, container: str, samples: np.ndarray, rate: int) -> None:
    """Writes mono samples by PyAV."""
    import av

    with av.open(str(file), "w", format=container) as media:
        stream = media.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = 96_000
        wanted = stream.codec_context.format.name
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        resampler = av.AudioResampler(format=wanted, layout="mono", rate=rate)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            for packet in stream.encode(part):
                media.mux(packet)


@pytest.mark.parametrize("name", MEDIA)
def test_media_that_libsndfile_cannot_decode(tmp_path, name):
    codec, container, delay = MEDIA[name]
    rate, file = 48_000, tmp_path / name
    samples = _noise(rate, 8.0)
    encode_media(file, codec, container, samples, rate)
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.SoundFile(file)
    whole = read_audio(file, rate)
    assert abs(whole.size - delay - samples.size) <= 2048  # a packet at the end
    aligned, original = whole[max(0, delay) :], samples[max(0, -delay) :]
    size = min(aligned.size, original.size)
    assert np.corrcoef(aligned[:size], original[:size])[0, 1] > 0.98
    assert audio_seconds(file) == pytest.approx(8.0, abs=0.05)
    for start, seconds, wanted in ((0.3, 1.0, rate), (5.4321, 1.0, rate), (4.0, 2.0, RATE)):
        first, last = round(start * wanted), round((start + seconds) * wanted)
        expected = (whole if wanted == rate else read_audio(file, wanted))[first:last]
        for source in (file, file.read_bytes()):
            window = read_audio(source, wanted, start=start, seconds=seconds)
            np.testing.assert_allclose(window, expected, rtol=0, atol=2e-3)
    np.testing.assert_array_equal(read_audio(file.read_bytes(), rate), whole)
    with pytest.raises(AudioError, match="is over"):
        read_audio(file, rate, start=9.0)


def test_media_that_is_damaged_or_without_the_decoder(tmp_path, monkeypatch):
    file = tmp_path / "a.m4a"
    encode_media(file, "aac", "ipod", _noise(RATE, 1.0), RATE)
    encoded = file.read_bytes()
    for broken in (encoded[:40], encoded[: len(encoded) // 2], b"\x1a\x45\xdf\xa3" + bytes(99)):
        with pytest.raises(AudioError, match="<bytes>: cannot be decoded") as error:
            read_audio(broken, RATE)
        assert "\n" not in str(error.value)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r"a\.m4a: needs .* pip install 'clapjax\[media\]'"):
        read_audio(file, RATE)


def test_a_play_list_opens_nothing(tmp_path):
    soundfile.write(tmp_path / "secret.wav", _sine(440.0), RATE)
    (tmp_path / "a.m4a").write_text("#EXTM3U\n#EXTINF:1,\nsecret.wav\n#EXT-X-ENDLIST\n")
    with pytest.raises(AudioError, match="cannot be decoded"):
        read_audio(tmp_path / "a.m4a", RATE)
