"""Mutated audio files: each is a good embedding or one AudioError, and the others do not notice."""

import io

import numpy as np
import pytest
import soundfile

from clapjax.audio.files import AudioError
from tests.inference.tiny import RATE, noise

FORMATS = (
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("WAV", "IMA_ADPCM"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
    ("AIFF", "PCM_24"),
    ("AU", "ULAW"),
)


def _encoded(container: str, subtype: str, seed: int) -> bytes:
    stream = io.BytesIO()
    sound = np.stack([noise(3000, seed), noise(3000, seed + 1)], axis=1)
    soundfile.write(stream, sound, RATE, format=container, subtype=subtype)
    return stream.getvalue()


def _mutated(data: bytes, generator: np.random.Generator) -> bytes:
    """Cut, bits or header bytes changed, overwritten in part, doubled, or something else."""
    data, size = bytearray(data), len(data)
    kind = generator.integers(8)
    place = int(generator.integers(size))
    if kind == 0:
        return bytes(data[:place])
    if kind == 1:
        return bytes(data[place:])
    if kind == 2:
        for where in generator.integers(0, size, 1 + size // 100):
            data[where] ^= 1 << int(generator.integers(8))
    elif kind == 3:
        for where in generator.integers(0, min(64, size), 4):
            data[where] = int(generator.integers(256))
    elif kind == 4:
        data[place : place + 500] = bytes(500)
    elif kind == 5:
        data[place : place + 500] = generator.bytes(500)
    elif kind == 6:
        data[place:place] = data[:place]
    else:
        return (b"", b"no sound\n" * 99, bytes(999), b"RIFF", generator.bytes(999))[place % 5]
    return bytes(data)


@pytest.mark.parametrize("long", ["truncate", "windows"])
def test_mutated_files(clap, tmp_path, long):
    generator = np.random.default_rng(8)
    files, good = [], []
    for index in range(162):
        data = _encoded(*FORMATS[index % len(FORMATS)], index)
        if index % 27 < 9:
            good.append(index)  # some that are whole, of each format
        else:
            data = _mutated(data, generator)
        files.append(tmp_path / f"{index}.wav")  # whatever it is
        files[-1].write_bytes(data)
    found = dict(clap.each_audio(files, long=long))
    assert sorted(found) == list(range(162))
    failed = [index for index in found if isinstance(found[index], AudioError)]
    for index, result in found.items():
        if index in failed:
            message = str(result)
            assert message.startswith(f"{files[index]}: ") and "\n" not in message
        else:
            assert result.shape == (8,) and np.isfinite(result).all()
            assert abs(np.linalg.norm(result) - 1) < 1e-5
    assert 40 < len(failed) < 110 and not set(failed) & set(good)
    alone = clap.embed_audio([files[index] for index in good], long=long)
    np.testing.assert_array_equal(np.stack([found[index] for index in good]), alone)
    assert len(np.unique(alone.round(5), axis=0)) == len(good)
