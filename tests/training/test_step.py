"""One training step: the same on any mesh, and what it does to the state."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from clapjax.losses.config import LossConfig
from clapjax.models.clap import MAX_LOG_SCALE
from clapjax.training.config import MeshConfig, OptimizerConfig
from clapjax.training.mesh import batch_sharding, make_mesh
from clapjax.training.optimizer import decay_mask, make_optimizer, make_schedule
from tests.training.tiny import init_state, make_train_step, norm, run_steps, some_batch, some_mesh


def _run(*arguments):
    """(final state, metrics of each step), on the host."""
    state, rows = run_steps(*arguments)
    return jax.device_get(state), rows


@pytest.fixture(scope="module")
def smooth(tiny):
    """`tiny`, with an epsilon that keeps Adam from blowing rounding noise up to whole steps."""
    optimizer = dataclasses.replace(tiny.optimizer, eps=1e-3)
    return dataclasses.replace(tiny, optimizer=optimizer)


@pytest.fixture(scope="module")
def single(smooth):
    """Three steps on one device."""
    return _run(smooth, some_mesh(1), [some_batch(i) for i in range(3)])


@pytest.mark.parametrize(("data", "fsdp"), [(8, 1), (4, 2)])
def test_any_mesh_gives_what_one_device_gives(smooth, single, data, fsdp):
    mesh = make_mesh(MeshConfig(data, fsdp))
    state, rows = _run(smooth, mesh, [some_batch(i) for i in range(3)])
    expected, expected_rows = single
    for row, other in zip(rows, expected_rows, strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            np.testing.assert_allclose(value, other[name], rtol=1e-4, atol=1e-6, err_msg=name)

    error = jax.tree.map(np.subtract, state.params, expected.params)
    assert norm(error) < 1e-5 * norm(expected.params)
    start = jax.device_get(init_state(smooth, mesh)).params
    assert norm(error) < 1e-4 * norm(jax.tree.map(np.subtract, expected.params, start))
    error = jax.tree.map(np.subtract, state.batch_stats, expected.batch_stats)
    assert norm(error) < 1e-5 * norm(expected.batch_stats)
    assert int(state.step) == 3


def test_three_steps_move_the_parameters(smooth, single):
    before = jax.device_get(init_state(smooth, some_mesh(1)))
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), before.params, single[0].params)
    still = [jax.tree_util.keystr(path) for path, m in jax.tree.leaves_with_path(moved) if not m]
    assert still == ["['logit_scale_t']"]  # as in LAION-CLAP, only the other one is in the loss


def test_metrics(single):
    for row in single[1]:
        assert set(row) == {
            "loss",
            "contrastive_loss",
            "temporal_loss",
            "temporal_accuracy",
            "logit_scale",
            "gradient_norm",
            "learning_rate",
        }
        expected = row["contrastive_loss"] + 0.5 * row["temporal_loss"]
        np.testing.assert_allclose(row["loss"], expected, rtol=1e-6)
        assert row["temporal_accuracy"] * 4 == round(float(row["temporal_accuracy"] * 4))
        assert row["gradient_norm"] > 0
    first = single[1][0]
    np.testing.assert_allclose(first["logit_scale"], 1 / 0.07, rtol=1e-5)
    rates = [row["learning_rate"] for row in single[1]]
    np.testing.assert_allclose(rates[:2], [0.0, 1e-2], rtol=1e-6)


def test_without_temporal_loss(smooth, single):
    config = dataclasses.replace(smooth, loss=dataclasses.replace(smooth.loss, temporal_weight=0.0))
    _, (row,) = _run(config, some_mesh(1), [some_batch(0)])
    assert not [name for name in row if name.startswith("temporal")]
    assert row["loss"] == row["contrastive_loss"]
    np.testing.assert_allclose(row["loss"], single[1][0]["contrastive_loss"], rtol=1e-5)


def test_rows_without_negatives_have_no_temporal_loss(smooth):
    mesh = some_mesh(1)
    batch = some_batch(0) | {"has_negative": np.zeros(8, bool)}
    scales = {"logit_scale_a": jnp.float32(10.0), "logit_scale_t": jnp.float32(-5.0)}
    state = init_state(smooth, mesh)
    state, (row,) = _run(smooth, mesh, [batch], state.replace(params=state.params | scales))
    assert np.isnan([row["temporal_loss"], row["temporal_accuracy"]]).all()  # nothing to measure
    assert row["loss"] == row["contrastive_loss"]
    # The same step clamps the scales: in the loss, and in the parameters afterwards.
    np.testing.assert_allclose(row["logit_scale"], 100.0, rtol=1e-6)
    assert state.params["logit_scale_a"] == np.float32(MAX_LOG_SCALE)
    assert state.params["logit_scale_t"] == 0.0


def test_one_batch_can_be_learnt(smooth):
    _, rows = _run(dataclasses.replace(smooth, steps=40), some_mesh(1), [some_batch(0)] * 40)
    losses = [float(row["loss"]) for row in rows]
    assert losses[0] > 1.5 and losses[-1] < 0.75 * losses[0]


def test_dropout_and_ramp_are_functions_of_the_step(smooth):
    text = dataclasses.replace(smooth.model.text, dropout=0.5)
    config = dataclasses.replace(
        smooth,
        model=dataclasses.replace(smooth.model, text=text),
        loss=LossConfig(temporal_weight=0.5, temporal_ramp_steps=10),
    )
    mesh = some_mesh(1)
    step = make_train_step(config, mesh)
    batch = jax.device_put(some_batch(0), batch_sharding(mesh))

    def loss(at: int) -> float:
        state = init_state(config, mesh).replace(step=jnp.int32(at))
        row = jax.device_get(step(state, batch)[1])
        weight = 0.5 * min(1.0, at / 10)
        expected = row["contrastive_loss"] + weight * row["temporal_loss"]
        np.testing.assert_allclose(row["loss"], expected, rtol=1e-6)
        return float(row["contrastive_loss"])

    assert loss(4) == loss(4) != loss(5)
    assert loss(20) > 0


def test_schedule():
    schedule = make_schedule(OptimizerConfig(learning_rate=2.0, warmup_steps=10), 110)
    expected = {0: 0.0, 5: 1.0, 10: 2.0, 35: 1 + math.cos(math.pi / 4), 60: 1.0, 110: 0.0}
    for step, rate in expected.items():
        np.testing.assert_allclose(schedule(step), rate, atol=1e-6)


@pytest.mark.parametrize("steps", [2, 3, 50])
def test_a_run_shorter_than_its_warmup_still_ends_at_zero(steps):
    schedule = make_schedule(OptimizerConfig(learning_rate=2.0, warmup_steps=50), steps)
    rates = [float(schedule(step)) for step in range(steps + 1)]
    assert all(math.isfinite(rate) for rate in rates)
    assert max(rates) == 2.0 and abs(rates[-1]) < 1e-6


def test_weight_decay_is_of_kernels_and_embeddings(tiny):
    shapes = jax.eval_shape(lambda: init_state(tiny, some_mesh(1))).params
    mask = decay_mask(shapes)
    names = {True: set(), False: set()}
    for path, decayed in jax.tree.leaves_with_path(mask):
        names[decayed].add(path[-1].key)
    assert names[True] == {"kernel", "embedding"}
    expected = {"bias", "scale", "relative_position_bias", "logit_scale_a", "logit_scale_t"}
    assert names[False] == expected

    # Without a gradient, what moves is what decays: towards zero, by rate times decay.
    config = OptimizerConfig(learning_rate=0.5, warmup_steps=1, weight_decay=0.1)
    optimizer = make_optimizer(config, 100)
    params = jax.tree.map(lambda s: np.ones(s.shape, np.float32), shapes)
    zeros = jax.tree.map(np.zeros_like, params)
    state = optimizer.init(params)
    for _ in range(2):  # the first step is at rate 0
        updates, state = optimizer.update(zeros, state, params)
    updated = optax.apply_updates(params, updates)
    for path, value in jax.tree.leaves_with_path(updated):
        np.testing.assert_allclose(value, 0.95 if path[-1].key in names[True] else 1.0, rtol=1e-6)


def test_gradients_are_clipped():
    optimizer = make_optimizer(OptimizerConfig(clip_norm=1.0, warmup_steps=1), 10)
    params = {"kernel": jnp.zeros(4)}
    _, state = optimizer.update({"kernel": jnp.full(4, 50.0)}, optimizer.init(params), params)
    moments = [leaf for leaf in jax.tree.leaves(state) if getattr(leaf, "shape", None) == (4,)]
    np.testing.assert_allclose(moments[0], 0.1 * 0.5, rtol=1e-5)  # (1 - b1) times 50 / norm 100
