"""What people hold as audio: each kind comes to the same samples, or one line says why not."""

import io
import warnings
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import soundfile
import torch

from clapjax.audio.files import AudioError
from clapjax.inference.inputs import each_input
from clapjax.inference.pieces import Cutter, Failure, stream
from tests.inference.tiny import RATE, SMALL, noise

PCM = (noise(5000, 3) * 32_767).astype(np.int16)
SOUND = PCM.astype(np.float32) / np.float32(32_767)
STEREO = np.stack([SOUND, SOUND], axis=1)  # (T, 2)
FAST = noise(6000, 4), 16_000  # of another rate than the model's


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "sound.wav"
    soundfile.write(path, SOUND, RATE, subtype="FLOAT")
    return path


def _written(file) -> io.BytesIO:
    """As `soundfile.write` leaves it: at its end."""
    stream = io.BytesIO(file.read_bytes())
    stream.seek(0, io.SEEK_END)
    return stream


class Pipe(io.BytesIO):
    """What comes from a socket."""

    def seekable(self):
        return False

    def seek(self, *_):
        raise io.UnsupportedOperation


def _decoder(data, rate):
    """Of torchcodec, as `datasets` 4 gives it."""
    return SimpleNamespace(get_all_samples=lambda: SimpleNamespace(data=data, sample_rate=rate))


ONE = {
    "path": lambda file: file,
    "name": str,
    "bytes": lambda file: file.read_bytes(),
    "bytearray": lambda file: bytearray(file.read_bytes()),
    "memoryview": lambda file: memoryview(file.read_bytes()),
    "BytesIO": _written,
    "open file": lambda file: open(file, "rb"),  # noqa: SIM115
    "pipe": lambda file: Pipe(file.read_bytes()),
    "array of a path": lambda file: np.array(str(file)),
    "int16": lambda _: PCM,
    "int32": lambda _: np.round(SOUND * 2.0**31).astype(np.int32),
    "float32": lambda _: SOUND,
    "float64": lambda _: SOUND.astype(np.float64),
    "(T, 2)": lambda _: STEREO,
    "(1, T)": lambda _: SOUND[None],
    "jax": lambda _: jax.numpy.asarray(SOUND),
    "torch": lambda _: torch.tensor(SOUND),
    "torch with a gradient": lambda _: torch.tensor(SOUND, requires_grad=True),
    "datasets": lambda _: {"path": "x.wav", "array": SOUND, "sampling_rate": RATE},
    "datasets as lists": lambda _: {"array": SOUND.tolist(), "sampling_rate": RATE},
    "datasets with bytes": lambda file: {"bytes": file.read_bytes(), "path": "x.wav"},
    "datasets with a path": lambda file: {"bytes": None, "path": str(file)},
    "datasets 4": lambda _: _decoder(torch.tensor(STEREO.T), RATE),
    "transformers": lambda _: {"raw": SOUND, "sampling_rate": RATE},
    "pyannote": lambda _: {"waveform": torch.tensor(STEREO.T), "sample_rate": RATE},
    "gradio": lambda _: (RATE, PCM),
    "gradio in stereo": lambda _: (RATE, np.stack([PCM, PCM], axis=1)),
    "soundfile": lambda _: (STEREO, RATE),
    "librosa": lambda _: (SOUND, float(RATE)),
    "torchaudio": lambda _: (torch.tensor(STEREO.T), np.int64(RATE)),
}
IN_A_LIST = {
    "(2, T)": lambda _: STEREO.T,
    "torch (2, T)": lambda _: torch.tensor(STEREO.T),
    "opposite phase": lambda _: np.stack([SOUND, -SOUND], axis=1),
}
SEVERAL = {
    "list": lambda file: [file, SOUND],
    "tuple": lambda file: (file, SOUND),
    "generator": lambda file: (item for item in (file, SOUND)),
    "array of paths": lambda file: np.array([str(file), str(file)]),
    "array of objects": lambda file: np.array([file, PCM, None], dtype=object)[:2],
    "keys": lambda file: {file: 1, str(file): 2}.keys(),
    "list of a batch": lambda _: list(np.stack([SOUND, SOUND])),
    "list of tensors": lambda _: list(torch.tensor(STEREO.T)),
    "two pairs": lambda _: ((RATE, PCM), (SOUND, RATE)),
    "one stream twice": lambda file: [_written(file)] * 2,
}


def _samples(given, rate: int | None = RATE) -> list[np.ndarray]:
    """What a model hears of each input."""
    found = list(stream(Cutter(SMALL.audio, "whole", rate, filled=False), each_input(given)))
    for part in found:
        if isinstance(part, Failure):
            raise part.error
    return [part.samples[: part.length] for part in found]


@pytest.mark.parametrize("kind", [*ONE, *IN_A_LIST])
def test_one_of_each_kind(kind, file):
    make = (ONE | IN_A_LIST)[kind]
    for given in [[make(file)]] if kind in IN_A_LIST else [make(file), [make(file)]]:
        (found,) = _samples(given)
        np.testing.assert_allclose(found, SOUND, rtol=0, atol=1e-7 if kind == "int32" else 0)


@pytest.mark.parametrize("kind", SEVERAL)
def test_several_of_each_kind(kind, file):
    found = _samples(SEVERAL[kind](file))
    assert len(found) == 2
    for samples in found:
        np.testing.assert_array_equal(samples, SOUND)


@pytest.mark.parametrize(
    "given",
    [FAST, FAST[::-1], {"array": FAST[0], "sampling_rate": FAST[1]}, [FAST]],
    ids=["pair", "turned", "dictionary", "list"],
)
def test_a_rate_that_comes_along_counts_more_than_what_is_said_of_all(given):
    (expected,) = _samples(FAST[0], FAST[1])
    assert expected.size == 3000
    for rate in (RATE, 44_100, None):
        np.testing.assert_array_equal(_samples(given, rate)[0], expected)


REFUSED = {
    "text stream": (io.StringIO("RIFF"), "audio 0: a file that was opened as text; open it with"),
    "no dictionary of audio": (
        {"audio": {"array": SOUND}, "label": 1},
        "audio 0: a dictionary needs 'array' and 'sampling_rate', or 'bytes' or 'path'; this one "
        "has 'audio', 'label'",
    ),
    "empty dictionary": ({}, "this one has nothing"),
    "ragged": ({"array": [[1.0], [1.0, 0.5]]}, "audio 0: not an array of samples"),
    "(2, T)": (STEREO.T, r"an array of shape \(2, 5000\): clips, or one with channels\? Give list"),
    "(64, T)": (np.zeros((64, 99)), r"an array of shape \(64, 99\): clips, or one with channels"),
    "torch (2, T)": (torch.tensor(STEREO.T), r"list\(x\) for 2 clips, \[x\] for one"),
    "(N, 2, T)": (np.zeros((3, 2, 99)), r"an array of shape \(3, 2, 99\)"),
    "(64, T) in a list": ([np.zeros((64, 99))], r"audio 0: \(T, channels\) with 99 channels"),
    "int32 of 16 bits": (PCM.astype(np.int32), "audio 0: int32 samples up to .*16-bit numbers"),
    "int64": (PCM.astype(np.int64), "expected float, int16 or int32 samples, not int64"),
    "numbers": ([0.1, 0.2], "audio 0: expected a path or an array, not <class 'float'>"),
    "three numbers": ((1, 2, 3), "audio 0: expected a path or an array, not <class 'int'>"),
    "None": (None, "audio 0: expected a path or an array, not <class 'NoneType'>"),
    "rate of nothing": ((0, PCM), "audio 0: sample rate must be in 100 .. 10000000 Hz, not 0"),
    "bytes of nothing": (b"", "audio 0: cannot be decoded; it is an empty file"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_audio_is_told_in_a_line(kind):
    given, message = REFUSED[kind]
    with pytest.raises(AudioError, match=message) as caught:
        _samples(given)
    assert "\n" not in str(caught.value)


def test_a_closed_file(file):
    with open(file, "rb") as stream:
        pass
    with pytest.raises(AudioError, match="audio 0: a file that cannot be read .*closed file"):
        _samples(stream)


def test_an_array_without_its_rate_is_warned_of_once(file):
    with pytest.warns(UserWarning, match="audio 1: an array without its rate .* 8000 Hz") as told:
        _samples([file, SOUND, PCM, (RATE, PCM)], None)
    assert len(told) == 1 and told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _samples([file, SOUND, PCM], RATE)
        _samples(
            [file, file.read_bytes(), (RATE, PCM), {"array": PCM, "sampling_rate": RATE}], None
        )
