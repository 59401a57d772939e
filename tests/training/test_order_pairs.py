"""Order pairs through the training step: any mesh, any parts, the same numbers."""

import dataclasses

import jax
import numpy as np
import pytest

from clapjax.experiment import make_task
from clapjax.losses.pairs import GROUP
from clapjax.planning.shapes import batch_shapes
from clapjax.training.config import MeshConfig
from clapjax.training.mesh import make_mesh, micro_batches
from tests.training.tiny import init_state, norm, pairs_batch, pairs_config, run_steps, some_mesh


@pytest.fixture(scope="module")
def config():
    return pairs_config()


@pytest.fixture(scope="module")
def batches():
    return [pairs_batch(index) for index in range(2)]


@pytest.fixture(scope="module")
def single(config, batches):
    return _steps(config, some_mesh(1), batches)


def _steps(config, mesh, batches):
    state, rows = run_steps(config, mesh, batches)
    return jax.device_get(state), rows


@pytest.mark.parametrize(
    ("mesh_config", "changes"),
    [
        (MeshConfig(), {}),
        (MeshConfig(-1, 4, split_above=100), {}),
        (None, {"rows_per_device": 16}),
    ],
    ids=["data", "fsdp", "micro"],
)
def test_two_steps_equal_those_of_one_device(config, single, batches, mesh_config, changes):
    config = dataclasses.replace(config, mesh=mesh_config or MeshConfig(), **changes)
    mesh = make_mesh(mesh_config) if mesh_config else some_mesh(1)
    state, rows = _steps(config, mesh, batches)
    expected, expected_rows = single
    for row, other in zip(rows, expected_rows, strict=True):
        for name, value in row.items():
            np.testing.assert_allclose(value, other[name], rtol=2e-5, err_msg=name)
    start = jax.device_get(init_state(config, mesh)).params
    moved = norm(jax.tree.map(np.subtract, expected.params, start))
    assert norm(jax.tree.map(np.subtract, state.params, expected.params)) < 1e-4 * moved
    stats = norm(jax.tree.map(np.subtract, state.batch_stats, expected.batch_stats))
    assert stats < 1e-5 * norm(expected.batch_stats)


def test_a_batch_is_as_planned(config, batches):
    """What `plan` compiles for is what the pipeline makes."""
    shapes = batch_shapes(config, make_task(config), some_mesh(1))
    found = {name: (x.shape, x.dtype) for name, x in batches[0].items()}
    assert found == {name: (like.shape, like.dtype) for name, like in shapes.items()}


def test_groups_are_not_divided(config):
    parts = [
        micro_batches(dataclasses.replace(config, rows_per_device=rows), 1, GROUP)
        for rows in (0, 4, 11, 16)
    ]
    assert parts == [1, 8, 4, 2]
    for changes, devices in (({"batch_size": 24}, 4), ({"rows_per_device": 3}, 1)):
        with pytest.raises(ValueError, match="4 rows each have to stay together"):
            micro_batches(dataclasses.replace(config, **changes), devices, GROUP)
