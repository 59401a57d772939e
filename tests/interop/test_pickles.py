"""Pickles of newer protocols, put into protocol 2: the same things come of them."""

import collections
import io
import pickle
import pickletools

import numpy as np
import pytest
import torch

from clapjax.interop.errors import CheckpointError
from clapjax.interop.files import read_torch
from clapjax.interop.pickles import in_protocol_2

PROTOCOLS = (2, 3, 4, 5)
SHARED = torch.arange(6.0)
CHECKPOINT = {
    "state_dict": collections.OrderedDict(
        weight=torch.nn.Parameter(torch.arange(4.0).reshape(2, 2)),
        half=torch.ones(3, dtype=torch.bfloat16),
        view=SHARED[2:4],
        whole=SHARED,
    ),
    "epoch": np.float64(3.5),
    "names": ["weight", "weight", "ü" * 2000, "ü" * 2000],
    "none": None,
    "nested": ({"lr": 1e-4, "steps": 2**40}, (True, False), []),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("archive", [True, False], ids=["zip", "legacy"])
def test_checkpoints_of_every_protocol(protocol, archive, tmp_path):
    settings = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": archive}
    torch.save(CHECKPOINT, tmp_path / "model.pt", **settings)
    found = read_torch(tmp_path / "model.pt")
    assert list(found) == list(CHECKPOINT)
    for name, tensor in CHECKPOINT["state_dict"].items():
        other = found["state_dict"][name]
        assert type(other) is type(tensor) and other.dtype == tensor.dtype
        assert torch.equal(other, tensor)
    for name in ("epoch", "names", "none", "nested"):
        assert found[name] == CHECKPOINT[name]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_stay_what_they_are(protocol):
    same = ["a", b"\x00\xff", 7]
    value = {"x": [same, same, "a", "a" * 999, "a" * 1001], "y": (b"", "", b"z" * 300, -1, 2.5)}
    stream = io.BytesIO(pickle.dumps(value, protocol) + pickle.dumps("next", protocol) + b"rest")
    for expected in (value, "next"):
        data = in_protocol_2(stream)
        assert max(operation.proto for operation, *_ in pickletools.genops(data)) <= 2
        assert (again := pickle.loads(data)) == expected
        if expected is value:
            assert again["x"][0] is again["x"][1]
    assert stream.read() == b"rest"


@pytest.mark.parametrize(
    "names", [(b"\x8c\x02os",), (b"\x8c\x02os", b"K\x07"), (b"\x8c\x04os\nx", b"\x8c\x06system")]
)
def test_a_class_is_named_by_two_strings(names):
    data = b"\x80\x04" + b"".join(names) + b"\x93."
    with pytest.raises(ValueError, match="a class without a name"):
        in_protocol_2(io.BytesIO(data))


def test_what_is_left_of_a_pickle_is_damaged(tmp_path):
    torch.save(CHECKPOINT, tmp_path / "whole", pickle_protocol=4)
    torch.save(CHECKPOINT, tmp_path / "model.pt", pickle_protocol=4)
    data = (tmp_path / "whole").read_bytes()
    at = data.index(b"state_dict")
    (tmp_path / "model.pt").write_bytes(data[:at] + b"\x00\xff" + data[at + 2 :])
    with pytest.raises(CheckpointError, match="model.pt: damaged, or not by torch"):
        read_torch(tmp_path / "model.pt")
