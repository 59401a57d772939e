"""Decode audio files to mono float32 at the model's sample rate (host side)."""

import contextlib
import io
import math
import numbers
import os
import tempfile
from collections.abc import Iterator
from pathlib import PurePath
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from clapjax.audio.hushed import SoundFile
from clapjax.audio.impostors import HEAD_BYTES, impostor
from clapjax.audio.media import MediaFile, media_errors, media_format

# By libsndfile.
SOUND_SUFFIXES = (
    *(".wav", ".flac", ".mp3", ".mp2", ".ogg", ".oga", ".opus", ".wavex", ".rf64", ".w64"),
    *(".aif", ".aiff", ".aifc", ".caf", ".au", ".snd", ".voc", ".avr", ".nist", ".sph", ".sf"),
    *(".ircam", ".paf", ".pvf", ".sds", ".svx", ".iff", ".htk", ".xi", ".wve", ".mpc2k", ".sd2"),
)
# By PyAV, where it is installed.
MEDIA_SUFFIXES = (
    *(".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".3gp", ".aac", ".webm", ".weba", ".mka", ".mkv"),
    *(".wma", ".asf", ".wmv", ".avi", ".flv", ".ac3", ".amr", ".wv", ".ape"),
)
AUDIO_SUFFIXES = SOUND_SUFFIXES + MEDIA_SUFFIXES
MAX_SECONDS = 3600.0
BLOCK_SAMPLES = 2**19  # decoded at once, all channels together
MAX_CHANNELS = 32
OPPOSITE = 1e-3  # of the channels' power is left in their mean: they are in opposite phase
MAX_AMPLITUDE = 1000.0  # beyond it a file is damaged, or an array holds 16-bit numbers as floats
MIN_RATE, MAX_RATE = 100, 10_000_000  # Hz; a header that says otherwise is damaged
UNKNOWN_LENGTH = 2**40  # more frames than this: a FLAC written to a pipe, without a length
MARGIN = 0.1  # s on both sides of a window that its resampling hears

Source = str | os.PathLike | bytes | BinaryIO


class AudioError(ValueError):
    """An audio input that cannot be used; the message names it and says why."""


def read_audio(
    source: Source,
    sample_rate: int,
    *,
    start: float = 0.0,
    seconds: float | None = None,
    name: str = "",
) -> np.ndarray:
    """Decodes a file, mixes it down to mono and resamples it.

    WAV, FLAC, OGG, MP3 and others by libsndfile; what that cannot decode, such as M4A and WebM, by
    PyAV, an extra.

    Args:
      source: path of a file, its bytes, or a seekable binary stream of them.
      sample_rate: wanted rate in Hz; soxr's HQ recipe resamples whatever the file has.
      start: s; what is before is not decoded. The samples are those of the whole from
        `round(start * sample_rate)` on, up to the rounding of the resampler.
      seconds: at most so many are decoded; None: all that follow.
      name: what to call bytes in an error; its suffix tells the format of an MP3 that begins
        with something else.

    Returns:
      (T,) float32, nominally in [-1, 1].

    Raises:
      AudioError: missing, empty, undecodable, non-finite, over before `start`, or longer than an
        hour.
    """
    blocks = read_blocks(source, sample_rate, MAX_SECONDS, start=start, seconds=seconds, name=name)
    return np.concatenate(list(blocks))


def read_blocks(
    source: Source,
    sample_rate: int,
    max_seconds: float = math.inf,
    *,
    start: float = 0.0,
    seconds: float | None = None,
    name: str = "",
) -> Iterator[np.ndarray]:
    """Decodes piece by piece, so that a long recording takes no more memory than a short one.

    Joined, the pieces are bit for bit what `read_audio` gives; its arguments and errors are the
    same, but for the length: without `max_seconds` it may be as long as it likes.
    """
    if not (math.isfinite(start) and start >= 0 and (seconds is None or seconds > 0)):
        raise AudioError(f"{name or source}: no stretch of {seconds} s from {start} s")
    with _opened(source, name) as (file, name):
        rate = file.samplerate
        if not MIN_RATE <= rate <= MAX_RATE:
            raise AudioError(f"{name}: damaged; it claims a sample rate of {rate} Hz")
        if file.frames is not None:
            if file.frames > UNKNOWN_LENGTH:  # libsndfile cannot read such a stream
                raise AudioError(f"{name}: does not say how long it is; encode it to a file again")
            there = file.frames / rate
            if start and start >= there:
                raise AudioError(f"{name}: is over at {there:.3f} s, before {start} s")
            if (asked := min(there - start, seconds or math.inf)) > max_seconds:
                raise AudioError(
                    f"{name}: {asked:.0f} s is longer than {max_seconds:.0f} s; cut it"
                )
        yield from _window(file, sample_rate, start, seconds, max_seconds, name)


def audio_seconds(source: Source, name: str = "") -> float | None:
    """How long a recording is, without decoding it; None where its file does not say.

    Raises:
      AudioError: as for `read_audio`.
    """
    with _opened(source, name) as (file, name):
        frames = file.count() if file.frames is None else file.frames
        return None if frames > UNKNOWN_LENGTH else frames / file.samplerate


def read_middle(
    source: Source, sample_rate: int, samples: int, *, name: str = ""
) -> tuple[int, np.ndarray] | None:
    """The centre of a recording, without decoding what is before and behind it.

    Args:
      source, sample_rate, name: as for `read_audio`, up to whose rounding it is the same.
      samples: of the centre.

    Returns:
      (sample at which it starts, (samples,) float32, or all of a shorter one); None of one that
      does not say how long it is, says so wrongly, or cannot be entered there: decode it whole,
      which also tells what is wrong with it.
    """
    try:
        with _opened(source, name) as (file, name):
            rate = file.samplerate
            if not file.frames or file.frames > UNKNOWN_LENGTH or not MIN_RATE <= rate <= MAX_RATE:
                return None
            start = max(0, (round(file.frames * sample_rate / rate) - samples) // 2)
            seconds = samples / sample_rate if start else None
            parts = _window(file, sample_rate, start / sample_rate, seconds, MAX_SECONDS, name)
            found = np.concatenate(list(parts))
    except AudioError:
        return None
    as_told = found.size == samples if start else found.size <= samples + 1
    return (start, found[:samples]) if as_told else None


@contextlib.contextmanager
def _opened(source: Source, name: str) -> Iterator[tuple[SoundFile | MediaFile, str]]:
    """(Decoder, what to call the source)."""
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        if not os.path.isfile(source):
            raise AudioError(f"{name or repr(name)}: {_no_file(source)}")
        source = name
    elif isinstance(source, bytes):
        source = io.BytesIO(source)
    name = name or "<bytes>"
    try:
        if isinstance(source, str) and source != (plain := _as_text(source)):
            with open(source, "rb") as stream, _opened(stream, plain) as opened:
                yield opened  # the decoders take no name that is not Unicode
            return
        with _decoder(source, name) as file:
            yield file, name
    except AudioError:
        raise
    except (soundfile.LibsndfileError, RuntimeError, ValueError, OSError) as error:
        reason = getattr(error, "error_string", error)  # libsndfile's, without what was opened
        raise AudioError(f"{name}: cannot be decoded ({reason})") from error


def _no_file(path: str | os.PathLike) -> str:
    """What a path is that is no file."""
    if os.path.isdir(path):
        return "is a folder, not a file"
    return "is a pipe or a device, not a file" if os.path.exists(path) else "no such file"


def _as_text(name: str) -> str:
    """The name of a file, which need not be Unicode on the disk, as text."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


@contextlib.contextmanager
def _decoder(source: str | BinaryIO, name: str) -> Iterator[SoundFile | MediaFile]:
    with contextlib.ExitStack() as stack:
        try:
            file = SoundFile(source)
        except soundfile.LibsndfileError as error:
            if isinstance(source, str):
                with open(source, "rb") as stream:
                    head = stream.read(HEAD_BYTES)
            else:
                source.seek(0)
                head = source.read(HEAD_BYTES)
                source.seek(0)
            if what := impostor(head):
                raise AudioError(f"{name}: cannot be decoded; it is {what}") from error
            if kind := media_format(head):
                try:
                    stack.enter_context(media_errors())
                except ImportError:
                    raise AudioError(
                        f"{name}: needs a decoder that is an extra: pip install 'clapjax[media]'"
                    ) from error
                file = MediaFile(source, kind)
            elif isinstance(source, str):
                raise
            else:  # libsndfile knows some files by their suffix alone
                suffix = PurePath(name).suffix or ".mp3"
                copy = stack.enter_context(tempfile.NamedTemporaryFile(suffix=suffix))
                copy.write(source.read())
                copy.flush()
                try:
                    file = SoundFile(copy.name)
                except soundfile.LibsndfileError:  # what it says is of the copy, whose name is ours
                    raise error from None
        yield stack.enter_context(file)


def _window(
    file: SoundFile | MediaFile,
    sample_rate: int,
    start: float,
    seconds: float | None,
    max_seconds: float,
    name: str,
) -> Iterator[np.ndarray]:
    """A stretch of an open file, mono at `sample_rate`."""
    rate = file.samplerate
    skipped = round(start * sample_rate)
    wanted = math.inf if seconds is None else max(1, round(seconds * sample_rate))
    margin = 0 if rate == sample_rate else round(MARGIN * rate)
    # Where a sample of the whole, resampled, falls on one of the file.
    step = rate // math.gcd(rate, sample_rate)
    place = max(0, skipped * rate // sample_rate - margin) // step * step
    if place:
        file.seek(place)
        skipped -= place * sample_rate // rate
    needed = math.inf
    if seconds is not None:
        needed = math.ceil((skipped + wanted) * rate / sample_rate) + margin
    # A header may claim any length: nothing is allocated for what it says.
    size = max(1, BLOCK_SAMPLES // file.channels)
    resampler = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
    read = given = 0
    last = False
    while not last and given < wanted:
        count = min(size, needed - read)
        block = file.read(count, dtype="float32", always_2d=True)  # (T, channels)
        last = len(block) < count or read + count == needed
        if place and not read and not len(block):  # of a file that does not say how long it is
            raise AudioError(f"{name}: is over before {start} s")
        if not read or len(block):
            samples = to_mono_at_rate(block, rate, rate, name=name)
        else:
            samples = np.zeros(0, np.float32)
        read += len(block)
        if read > max_seconds * rate + margin:
            raise AudioError(f"{name}: longer than {max_seconds:.0f} s; cut it")
        if rate != sample_rate:
            samples = resampler.resample_chunk(samples, last=last)
        early = min(skipped, samples.size)
        skipped -= early
        samples = samples[early : early + min(samples.size, wanted - given)]
        given += samples.size
        if samples.size:
            yield samples
    if not given:
        raise AudioError(f"{name}: too short to resample from {rate} to {sample_rate} Hz")


def to_mono_at_rate(
    samples: np.ndarray, rate: int, sample_rate: int, *, name: str = "array"
) -> np.ndarray:
    """Mixes (T,) or (T, channels) audio down to mono and resamples it.

    Args:
      samples: float in [-1, 1], int16 or int32 of full scale, (T,) or (T, channels). The mean of
        the channels is heard; of channels in opposite phase, which cancel out, the loudest one.
      rate: Hz of `samples`.
      sample_rate: Hz wanted.
      name: what to call the input in an error.

    Returns:
      (T',) float32.

    Raises:
      AudioError: wrong shape or type, empty, NaN/Inf, or a thousand times louder than full scale; a
        rate that is no number of Hz.
    """
    rate, sample_rate = _hertz(rate, "sample rate", name), _hertz(sample_rate, "wanted rate", name)
    try:
        samples = np.asarray(samples)
    except ValueError as error:
        raise AudioError(f"{name}: not an array of samples ({error})") from error
    if samples.ndim not in (1, 2) or samples.size == 0:
        raise AudioError(
            f"{name}: expected (T,) or (T, channels) samples, T > 0; got {samples.shape}"
        )
    if samples.dtype == np.int16:
        samples = int16_to_float(samples)
    elif samples.dtype == np.int32:
        if 0 < (peak := np.abs(samples.astype(np.float64)).max()) <= 2**16:
            raise AudioError(
                f"{name}: int32 samples up to {peak:.0f} are hardly heard; 16-bit numbers? Give "
                "int16, or float"
            )
        samples = samples.astype(np.float32) * np.float32(2.0**-31)
    elif not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(f"{name}: expected float, int16 or int32 samples, not {samples.dtype}")
    if samples.ndim == 2 and samples.shape[1] > MAX_CHANNELS:
        raise AudioError(f"{name}: (T, channels) with {samples.shape[1]} channels; transposed?")
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
        if samples.ndim == 2:
            samples = _mix(samples)
        samples = samples.astype(np.float32, copy=False)
    if not np.isfinite(samples).all():
        raise AudioError(f"{name}: holds NaN or Inf")
    if (peak := np.abs(samples).max()) > MAX_AMPLITUDE:
        raise AudioError(f"{name}: has samples up to {peak:.3g}; float audio is in -1 .. 1")
    if rate != sample_rate:
        samples = soxr.resample(samples, rate, sample_rate, quality="HQ")
        if samples.size == 0:
            raise AudioError(f"{name}: too short to resample from {rate} to {sample_rate} Hz")
    return np.ascontiguousarray(samples)


def _hertz(rate, what: str, name: str) -> float:
    """A sample rate; it may come as an array or a tensor of one number."""
    with contextlib.suppress(TypeError, ValueError, RuntimeError):
        rate = rate.item() if hasattr(rate, "item") else rate
    if not isinstance(rate, numbers.Real) or not MIN_RATE <= rate <= MAX_RATE:
        said = " ".join(repr(rate).split())
        raise AudioError(f"{name}: {what} must be in {MIN_RATE} .. {MAX_RATE} Hz, not {said:.40}")
    return rate


def _mix(samples: np.ndarray) -> np.ndarray:
    """(T, channels) float to (T,): the mean, or where nothing of it is left the loudest channel."""
    samples = samples.astype(np.result_type(samples, np.float32), copy=False)  # float16 overflows
    mean = samples.mean(axis=1)
    if samples.shape[1] * np.vdot(mean, mean) < OPPOSITE * np.vdot(samples, samples):
        return samples[:, np.square(samples).sum(axis=0).argmax()]
    return mean


def float_to_int16(samples: np.ndarray) -> np.ndarray:
    """(T,) float in [-1, 1] to int16: clip, times 32767, truncate (LAION-CLAP's data.py)."""
    return (np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16)


def int16_to_float(samples: np.ndarray) -> np.ndarray:
    """(T,) int16 to float32 in [-1, 1], the inverse of `float_to_int16` up to truncation."""
    return samples.astype(np.float32) / np.float32(32767.0)
