"""How parameters, moments and the moving average are split over the devices."""

import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from clapjax.models.clap import init_variables
from clapjax.models.presets import laion_clap
from clapjax.training.config import MeshConfig, TrainConfig
from clapjax.training.mesh import make_mesh, micro_batches, split_axis, state_specs
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
    with pytest.raises(ValueError, match="does not make 8 devices"):
        make_mesh(MeshConfig(*shape))


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
