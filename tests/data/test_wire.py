"""The reader of the wire format against protobuf's own."""

import numpy as np
import pytest

from clapjax.data.wire import split_audio


def _serialised(samples: int, generator) -> tuple[bytes, np.ndarray, dict[str, list]]:
    from tensorflow import train

    audio = generator.integers(-32768, 32768, samples).astype(np.int16)
    words = [generator.bytes(int(generator.integers(0, 300))) for _ in range(3)]
    feature = {
        "audio": train.Feature(bytes_list=train.BytesList(value=[audio.tobytes()])),
        "captions": train.Feature(bytes_list=train.BytesList(value=words)),
        "none": train.Feature(bytes_list=train.BytesList(value=[])),
        "rate": train.Feature(int64_list=train.Int64List(value=[48_000, -1])),
        "level": train.Feature(float_list=train.FloatList(value=[0.5])),
        "x" * 200: train.Feature(),
    }
    example = train.Example(features=train.Features(feature=feature))
    others = {name: value for name, value in feature.items() if name != "audio"}
    return example.SerializeToString(), audio, others


@pytest.mark.parametrize("samples", [0, 1, 63, 64, 8191, 8192, 200_000])
def test_parts_equal_what_was_serialised(samples):
    from tensorflow import train

    record, audio, others = _serialised(samples, np.random.default_rng(samples))
    found, rest = split_audio(record)
    np.testing.assert_array_equal(found, audio)
    assert dict(train.Features.FromString(rest).feature) == others
    assert found.base is not None  # a view


@pytest.mark.parametrize("record", [b"", b"\n", b"\n\x05", b"\x08\x01", b"\n\xff\xff\xff\xff\xff"])
def test_what_is_no_record_is_refused(record):
    with pytest.raises(ValueError, match="not a record|cut short|without audio"):
        split_audio(record)


def test_every_cut_is_refused():
    record, _, _ = _serialised(20, np.random.default_rng(0))
    for length in range(len(record)):
        with pytest.raises(ValueError, match="not a record|cut short"):
            split_audio(record[:length])


def test_a_record_without_audio_is_refused():
    from tensorflow import train

    feature = {"caption": train.Feature(bytes_list=train.BytesList(value=[b"rain"]))}
    record = train.Example(features=train.Features(feature=feature)).SerializeToString()
    with pytest.raises(ValueError, match="without audio"):
        split_audio(record)
