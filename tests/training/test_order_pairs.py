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
from tests.training.tiny import init_state, norm, run_steps, some_batch, some_mesh

ROWS, PAIRS = 32, 2  # a group for each of eight devices
SLOTS = ROWS // GROUP * PAIRS


@pytest.fixture(scope="module")
def config(tiny):
    optimizer = dataclasses.replace(tiny.optimizer, eps=1e-3)  # for the rounding of Adam's start
    loss = dataclasses.replace(tiny.loss, order_pairs=PAIRS, mask_same_events=True)
    return dataclasses.replace(tiny, batch_size=ROWS, optimizer=optimizer, loss=loss)


@pytest.fixture(scope="module")
def batches():
    """Groups 2 i and 2 i + 1 hear the same: both halves have the whole's batch statistics."""

    def twice(x, rows):
        pairs = x.reshape(-1, 2, rows, *x.shape[1:])
        return np.repeat(pairs[:, :1], 2, axis=1).reshape(x.shape)

    found = []
    for index in range(2):
        batch = some_batch(index, ROWS)
        batch["audio"] = twice(batch["audio"], GROUP)
        batch["reverse_audio"] = twice(batch["audio"][::-1][:SLOTS], PAIRS)
        batch["reverse_row"] = np.resize(np.array([0, 2, -1, 0], np.int32), SLOTS)
        batch["reverse_events"] = batch["events"][::-1].copy()
        found.append(batch)
    return found


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
