"""Names of hardware, and data sheets."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies

from clapjax.planning.chips import GIB, datasheet, hardware
from clapjax.planning.compiled import ENVIRONMENT, out_of_memory


@pytest.mark.parametrize(
    ("kind", "flops", "memory"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12, 3350e9),
        ("NVIDIA H100 PCIe", 756e12, 2000e9),
        ("NVIDIA H100 NVL", 835e12, 3900e9),
        ("NVIDIA H200", 989e12, 4800e9),
        ("NVIDIA A100-SXM4-40GB", 312e12, 1555e9),
        ("NVIDIA A100-SXM4-80GB", 312e12, 2039e9),
        ("NVIDIA A100 80GB PCIe", 312e12, 1935e9),
        ("NVIDIA L4", 121e12, 300e9),
        ("NVIDIA L40S", 362e12, 864e9),
        ("Tesla T4", 65e12, 320e9),
        ("Tesla V100-SXM2-16GB", 125e12, 900e9),
        ("NVIDIA GeForce RTX 4090", 165.2e12, 1008e9),
        ("TPU v5 lite", 197e12, 819e9),
    ],
)
def test_data_sheets(kind, flops, memory):
    sheet = datasheet(kind)
    assert (sheet.flops, sheet.memory) == (flops, memory)
    assert sheet.dtype == ("float16" if kind.startswith("Tesla") else "bfloat16")


@pytest.mark.parametrize(
    ("name", "hosts"),
    [("v5litepod-1", 1), ("v5e-8", 1), ("v5e:16x16", 64), ("2xv5e:16x16", 128), ("v5p-8", 1),
     ("v5p-64", 8), ("v3-32", 4), ("tpu7x:2x2x2", 2), ("h100", 1), ("h100x16", 2)],
)  # fmt: skip
def test_hosts(name, hosts):
    assert hardware(name).hosts == hosts


@pytest.mark.parametrize(
    "kind",
    ["cpu", "NVIDIA H20", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA RTX 4090 Laptop GPU"],
)
def test_what_is_not_known_has_no_sheet(kind):
    assert datasheet(kind) is None


# Chips and topologies by the tables of cloud.google.com/tpu/docs.
SLICES = [
    ("v5litepod-1", "v5e:1x1", 1),
    ("v5litepod-16", "v5e:4x4", 16),
    ("v5e-16", "v5e:4x4", 16),
    ("v5e:4x4", "v5e:4x4", 16),
    ("V5E-256", "v5e:16x16", 256),
    ("v6e-8", "v6e:2x4", 8),
    ("v6e-16", "v6e:4x4", 16),
    ("v5p-8", "v5p:2x2x1", 4),
    ("v5p-64", "v5p:2x4x4", 32),
    ("v5p-4096", "v5p:8x16x16", 2048),
    ("v4-128", "v4:4x4x4", 64),
    ("v3-32", "v3:4x4", 32),  # TensorCores
    ("v2:2x2", "v2:2x2", 8),
    ("tpu7x:2x2x1", "tpu7x:2x2x1", 8),
    ("v5p:4x4x12", "v5p:4x4x12", 192),
    ("2xv5e:2x2", "v5e:2x2", 8),
    ("4xv5litepod-256", "v5e:16x16", 1024),
]


@pytest.mark.parametrize(("name", "topology", "devices"), SLICES)
def test_slices(name, topology, devices):
    found = hardware(name)
    assert (found.name, found.topology, found.devices) == (name, topology, devices)
    assert found.platform == "tpu" and datasheet(found.kind).links


@pytest.mark.parametrize("name", [name for name, _, devices in SLICES if devices <= 64])
def test_the_compiler_knows_them_so(name, monkeypatch):
    pytest.importorskip("libtpu", reason="libtpu, XLA's compiler for TPUs, is not installed")
    for key, value in ENVIRONMENT.items():
        monkeypatch.setenv(key, value)
    named = hardware(name)
    found = topologies.get_topology_desc(named.topology, platform="tpu", **named.options).devices
    assert len(found) == named.devices and found[0].device_kind == named.kind
    huge = jax.ShapeDtypeStruct(
        (2**42,), jnp.int8, sharding=jax.sharding.SingleDeviceSharding(found[0])
    )
    with pytest.raises(jax.errors.JaxRuntimeError) as error:
        jax.jit(lambda x: x + 1).trace(huge).lower().compile()
    assert out_of_memory(error.value)[1] == pytest.approx(named.bytes, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "devices", "gib"),
    # JAX takes three quarters of what nvidia-smi shows.
    [
        ("h100", 1, 59.7),
        ("H100x8", 8, 59.7),
        ("h200", 1, 105.3),
        ("a100", 1, 30),
        ("a100-80gb", 1, 60),
    ],
)
def test_gpus(name, devices, gib):
    found = hardware(name)
    assert (found.platform, found.devices, found.topology) == ("gpu", devices, "")
    assert found.bytes == pytest.approx(gib * GIB, rel=1e-3)
    assert datasheet(found.kind).flops > 3e14 and datasheet(found.kind).links


@pytest.mark.parametrize(
    ("name", "message"),
    [
        *(
            (name, "no hardware")
            for name in ("v99:2x2", "v5e", "x", "", "h300", "8xh100", "v5e:4x")
        ),
        ("v5litepod-12", "there are v5e-1, v5e-4, v5e-8, v5e-16"),
        ("v5p-96", "by its topology, as v5p:8x16x16"),
        ("v5e-0", "no hardware"),
        ("h100x0", "no hardware"),
    ],
)
def test_no_such_hardware(name, message):
    with pytest.raises(ValueError, match=message):
        hardware(name)
