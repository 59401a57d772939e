"""How parameters, moments and the moving average are split over the devices."""

import dataclasses
import math
from collections import Counter

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental import topologies
from jax.experimental.mesh_utils import create_hybrid_device_mesh
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from clapjax.models.clap import init_variables
from clapjax.models.presets import laion_clap
from clapjax.planning.hlo import collectives
from clapjax.training.config import MeshConfig, TrainConfig
from clapjax.training.mesh import (
    batch_sharding,
    make_mesh,
    micro_batches,
    split_axis,
    state_specs,
)
from tests.training.tiny import abstract_state, init_state


def test_rules_for_laion_clap():
    """By hand: kernels by their larger side, stacks never by layer, small things whole."""
    shapes = jax.eval_shape(lambda: init_variables(laion_clap(), jax.random.key(0)))["params"]
    mesh = AbstractMesh((64, 4), ("data", "fsdp"))
    specs = state_specs(shapes, mesh, MeshConfig(64, 4))
    text, audio = specs["text_encoder"], specs["audio_encoder"]
    assert text["word"]["embedding"] == P(None, "fsdp")  # 50,265 words do not divide by 4
    assert text["layers"]["qkv"]["kernel"] == P(None, None, "fsdp")  # (12, 768, 2304)
    assert text["layers"]["mlp"]["up"]["kernel"] == P(None, None, "fsdp")  # (12, 768, 3072)
    assert text["layers"]["mlp"]["down"]["kernel"] == P(None, "fsdp")  # (12, 3072, 768)
    assert text["layers"]["mlp"]["up"]["bias"] == P()
    assert audio["stage3"]["block0"]["mlp"]["up"]["kernel"] == P(None, None, "fsdp")
    assert audio["merge2"]["reduction"]["kernel"] == P("fsdp")  # (1536, 768)
    assert audio["stage0"]["block0"]["attention"]["relative_position_bias"] == P()
    assert audio["patch_embed"]["kernel"] == P() == specs["logit_scale_a"]
    split = jax.tree.map(lambda x, spec: x.size * (split_axis(spec) is not None), shapes, specs)
    total = sum(x.size for x in jax.tree.leaves(shapes))
    assert sum(jax.tree.leaves(split)) > 0.99 * total
    # Nothing is split where there is no axis for it.
    specs = state_specs(shapes, AbstractMesh((256, 1), ("data", "fsdp")), MeshConfig())
    assert set(jax.tree.leaves(specs)) == {P()}


def test_the_state_is_split_as_its_parameters_are(tiny):
    optimizer = dataclasses.replace(tiny.optimizer, ema=0.9)
    config = dataclasses.replace(tiny, mesh=MeshConfig(2, 4, split_above=100), optimizer=optimizer)
    mesh = make_mesh(config.mesh)
    state = init_state(config, mesh)
    moments = state.opt_state[1][0]
    for tree in (state.ema, moments.mu, moments.nu):
        jax.tree.map(lambda a, b: _same_sharding(a, b), tree, state.params)
    split = [x for x in jax.tree.leaves(state.params) if not x.sharding.is_fully_replicated]
    assert len(split) > 10
    for leaf in split:
        assert leaf.addressable_shards[0].data.size == leaf.size // 4
    assert state.opt_state[1][0].count.sharding.is_fully_replicated
    abstract = abstract_state(config, mesh)
    jax.tree.map(lambda a, b: _same_sharding(a, b), abstract, state)

    # The same values as on one mesh with nothing split.
    plain = init_state(dataclasses.replace(config, mesh=MeshConfig()), make_mesh(MeshConfig()))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), jax.device_get(plain))


def _same_sharding(left, right) -> None:
    assert left.sharding == right.sharding


@pytest.mark.parametrize("shape", [(3, 1), (8, 2), (1, 1), (-1, 3), (-1, 0), (0, 1), (8, 0)])
def test_a_mesh_that_does_not_fit_the_devices(shape):
    with pytest.raises(ValueError) as caught:
        make_mesh(MeshConfig(*shape))
    data, fsdp = shape
    assert str(caught.value) == f"mesh.data={data} x mesh.fsdp={fsdp} does not make 8 devices"


@dataclasses.dataclass(frozen=True)
class Device:
    """What `make_mesh` asks of a device."""

    id: int
    coords: tuple[int, int, int]
    slice_index: int
    device_kind: str
    platform: str = "tpu"
    core_on_chip: int = 0


def _slices(
    kind: str, shape: tuple[int, int, int], slices: int = 1, cores: int = 1
) -> list[Device]:
    """TPU devices, of the last slice first."""
    places = [(at[2], at[1], at[0]) for at in np.ndindex(shape[::-1])]
    every = [(part, at, core) for part in range(slices) for at in places for core in range(cores)]
    devices = [
        Device(number, at, part, kind, core_on_chip=core)
        for number, (part, at, core) in enumerate(every)
    ]
    return sorted(devices, key=lambda device: -device.slice_index)


def _check(devices, fsdp: int) -> np.ndarray:
    """Every device once; a group of fsdp fills a box of its slice; slices lie one after another."""
    mesh = make_mesh(MeshConfig(-1, fsdp), devices)
    assert dict(mesh.shape) == {"data": len(devices) // fsdp, "fsdp": fsdp}
    assert mesh.axis_types == (AxisType.Auto,) * 2
    assert {device.id for device in mesh.devices.flat} == {device.id for device in devices}
    slices = [{getattr(device, "slice_index", 0) for device in row} for row in mesh.devices]
    assert all(len(members) == 1 for members in slices)
    assert slices == sorted(slices, key=min)
    places = np.array([[[*x.coords, x.core_on_chip] for x in row] for row in mesh.devices])
    boxes = places.max(axis=1) - places.min(axis=1) + 1
    np.testing.assert_array_equal(boxes.prod(axis=1), fsdp)
    return mesh.devices


@pytest.mark.parametrize(
    ("kind", "shape", "slices"),
    [
        ("TPU v5 lite", (2, 4, 1), 1),
        ("TPU v5 lite", (4, 4, 1), 3),
        ("TPU v5 lite", (16, 16, 1), 1),
        ("TPU v6 lite", (4, 4, 1), 1),
        ("TPU v6 lite", (16, 16, 1), 2),
        ("TPU v5", (2, 2, 1), 4),
        ("TPU v5", (4, 4, 4), 1),
        ("TPU v4", (4, 4, 8), 2),
    ],
)
def test_groups_of_fsdp_are_neighbours_in_a_slice(kind, shape, slices):
    devices = _slices(kind, shape, slices)
    for fsdp in (1, 2, 4, 8, 16, 32):
        if math.prod(shape) % fsdp:
            with pytest.raises(ValueError) as caught:
                make_mesh(MeshConfig(-1, fsdp), devices)
            message = str(caught.value)
            assert f"mesh.data=-1 x mesh.fsdp={fsdp}" in message and "\n" not in message
            assert f"{len(devices)} devices" in message
        else:
            inside = math.prod(shape) // fsdp, fsdp
            np.testing.assert_array_equal(
                _check(devices, fsdp),
                create_hybrid_device_mesh(
                    inside, (slices, 1), devices, allow_split_physical_axes=True
                ),
            )


def test_devices_that_jax_cannot_place_keep_their_order():
    """Cores of a v4 that are devices; an axis of 28; all but the last chip."""
    _check(_slices("TPU v4", (2, 2, 1), cores=2), 4)
    make_mesh(MeshConfig(-1, 8), _slices("TPU v5", (4, 4, 28)))
    part = _slices("TPU v5", (4, 4, 4))[:-1]
    assert make_mesh(MeshConfig(), part).devices.ravel().tolist() == part


def test_nodes_of_gpus_are_slices():
    """Whatever the number of their processes; where nodes differ, fsdp divides each of them."""
    nodes = [0, 1, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1]
    gpus = [Device(index, (0, 0, 0), node, "H100", "gpu") for index, node in enumerate(nodes)]
    placed = make_mesh(MeshConfig(3, 4), gpus).devices
    ids = [[gpu.id for gpu in row] for row in placed]
    assert ids == [[0, 2, 6, 7], [1, 3, 4, 5], [8, 9, 10, 11]]
    with pytest.raises(ValueError, match="mesh.fsdp=6: .*; the 12 devices are in slices of 4 or 8"):
        make_mesh(MeshConfig(-1, 6), gpus)


@pytest.fixture
def topology(monkeypatch):
    """topology("v6e:4x4", num_slices=1): its devices, none of which exists."""
    pytest.importorskip("libtpu", reason="libtpu, XLA's compiler for TPUs, is not installed")
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    monkeypatch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")

    def devices(name: str, **options):
        return topologies.get_topology_desc(name, platform="tpu", **options).devices

    return devices


def test_any_slice(topology):
    """The devices as XLA describes them."""
    alone = ("v5e:2x4", "v5e:4x4", "v5e:16x16", "v6e:4x4", "v6e:16x16", "v5p:2x2x1", "v5p:4x4x4")
    slices = [topology(name) for name in (*alone, "v4:2x2x2", "v4:4x4x4", "v3:4x4", "tpu7x:4x4x4")]
    slices += [topology("v5e:4x4", num_slices=2), topology("v5p:2x2x2", num_slices=4)]
    for devices in slices:
        size = Counter(getattr(x, "slice_index", 0) for x in devices)[0]
        for fsdp in (1, 2, 4, 8, 16, 32):
            if size % fsdp == 0:
                _check(devices, fsdp)


def test_a_gradient_compiles_for_a_split_torus(topology):
    """Of 4 x 4 chips, a group has half; parameters are gathered in it, and stay split."""
    mesh = make_mesh(MeshConfig(-1, 8), topology("v6e:4x4"))
    split = NamedSharding(mesh, P("fsdp"))
    kernel = jax.ShapeDtypeStruct((512, 256), np.float32, sharding=split)
    rows = jax.ShapeDtypeStruct((64, 512), np.float32, sharding=batch_sharding(mesh))
    gradient = jax.grad(lambda kernel, rows: ((rows @ kernel) ** 2).sum())
    compiled = jax.jit(gradient, out_shardings=split).trace(kernel, rows).lower().compile()
    assert "all-gather" in {x.kind for x in collectives(compiled.as_text())}
    assert compiled.output_shardings.shard_shape(kernel.shape) == (64, 256)


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(0, 400), st.integers(1, 4096))
def test_micro_batches_are_the_fewest_that_rows_per_device_allows(rows, most, devices):
    parts = micro_batches(TrainConfig(batch_size=rows * devices, rows_per_device=most), devices)
    divisors = {count for count in range(1, rows + 1) if rows % count == 0}
    assert rows // parts == max(size for size in divisors if size <= (most or rows))
    assert parts in divisors


def test_mesh_takes_all_devices():
    assert dict(make_mesh(MeshConfig()).shape) == {"data": 8, "fsdp": 1}
    assert dict(make_mesh(MeshConfig(-1, 4)).shape) == {"data": 2, "fsdp": 4}
