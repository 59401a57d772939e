"""The towers over the global batch: meshes, micro-batches, rematerialisation, and what is sent."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clapjax.audio.mel import log_mel
from clapjax.models.config import FusionConfig
from clapjax.planning.hlo import collectives
from clapjax.training.config import MeshConfig
from clapjax.training.mesh import batch_sharding, make_mesh, split_axis, state_specs
from tests.training.tiny import (
    abstract_state,
    init_state,
    make_train_step,
    norm,
    run_steps,
    some_batch,
    some_mesh,
)

ROWS = 16  # two for each of eight devices


@pytest.fixture(scope="module")
def smooth(tiny):
    """`tiny` at 16 rows, with an epsilon that keeps Adam from blowing up rounding noise."""
    optimizer = dataclasses.replace(tiny.optimizer, eps=1e-3)
    return dataclasses.replace(tiny, batch_size=ROWS, optimizer=optimizer)


@pytest.fixture(scope="module")
def pairs():
    """Batches whose rows 2 i and 2 i + 1 hear the same: both halves have the whole's statistics."""
    batches = [some_batch(index, ROWS) for index in range(2)]
    for batch in batches:
        batch["audio"][1::2] = batch["audio"][::2]
    return batches


@pytest.fixture(scope="module")
def compiled(smooth):
    """compiled(mesh config, rows_per_device=..., ...): (the step, its collectives, its config)."""
    known = {}

    def program(mesh_config: MeshConfig, **changes):
        config = dataclasses.replace(smooth, mesh=mesh_config, **changes)
        if config not in known:
            mesh = make_mesh(mesh_config)
            batch = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=batch_sharding(mesh)),
                some_batch(0, ROWS),
            )
            lowered = make_train_step(config, mesh).lower(abstract_state(config, mesh), batch)
            step = lowered.compile()
            known[config] = step, collectives(step.as_text()), config, mesh
        return known[config]

    return program


@pytest.fixture(scope="module")
def single(smooth, pairs):
    """Two steps on one device."""
    return _two_steps(smooth, some_mesh(1), pairs)


DATA, SPLIT = MeshConfig(), MeshConfig(-1, 4, split_above=100)
CASES = {
    "data": (DATA, {}),
    "fsdp": (SPLIT, {}),
    "micro": (DATA, {"rows_per_device": 1}),
    "micro, fsdp, dots": (SPLIT, {"rows_per_device": 1, "remat": "dots"}),
}


def _two_steps(config, mesh, batches, step=None):
    state, rows = run_steps(config, mesh, batches, step=step)
    return jax.device_get(state), rows


@pytest.mark.parametrize("case", CASES)
def test_two_steps_equal_those_of_one_device(compiled, single, pairs, case):
    mesh_config, changes = CASES[case]
    step, _, config, mesh = compiled(mesh_config, **changes)
    state, rows = _two_steps(config, mesh, pairs, step)
    expected, expected_rows = single
    for row, other in zip(rows, expected_rows, strict=True):
        for name, value in row.items():
            np.testing.assert_allclose(value, other[name], rtol=2e-5, err_msg=name)
    moved = jax.tree.map(
        np.subtract, expected.params, jax.device_get(init_state(config, mesh)).params
    )
    for ours, theirs, size in (
        (state.params, expected.params, 10 * norm(moved)),  # Adam's first steps are rounding-prone
        (state.opt_state, expected.opt_state, norm(expected.opt_state)),
        (state.batch_stats, expected.batch_stats, norm(expected.batch_stats)),
    ):
        assert norm(jax.tree.map(np.subtract, ours, theirs)) < 1e-5 * size


def test_gradients_are_reduced_once_and_no_batch_is_gathered(compiled):
    _, found, config, mesh = compiled(DATA)
    parameters = sum(x.size for x in jax.tree.leaves(abstract_state(config, mesh).params))
    # Of the parameters, those that no caption or clip uses have no gradient to reduce.
    (gradient,) = [x for x in found if x.kind == "all-reduce" and x.elements > 0.9 * parameters]
    assert not gradient.looped and gradient.types == ("f32",)
    rest = [x for x in found if x is not gradient]
    embeddings = ROWS * config.model.projection_size  # the plain loss sees all of one side
    assert {x.kind for x in rest} == {"all-reduce", "all-gather"}
    assert max(x.elements for x in rest if x.kind == "all-gather") == embeddings
    assert max(x.elements for x in rest if x.kind == "all-reduce") < embeddings + 100


def test_micro_batches_reduce_the_gradient_once_too(compiled):
    _, found, config, mesh = compiled(DATA, rows_per_device=1)
    parameters = sum(x.size for x in jax.tree.leaves(abstract_state(config, mesh).params))
    (gradient,) = [x for x in found if x.kind == "all-reduce" and x.elements > 0.9 * parameters]
    assert not gradient.looped
    # In the loop there is nothing but the batch norm's mean and mean square, there and back.
    looped = {(x.kind, x.elements) for x in found if x.looped}
    assert looped == {("all-reduce", 2 * config.model.audio.mel_bins)}


@pytest.mark.parametrize("changes", [{}, {"rows_per_device": 1, "remat": "dots"}])
def test_split_parameters_are_gathered_and_their_gradients_scattered(compiled, changes):
    _, found, config, mesh = compiled(SPLIT, **changes)
    params = abstract_state(config, mesh).params
    specs = state_specs(params, mesh, config.mesh)
    split = jax.tree.map(
        lambda x, spec: x.size if split_axis(spec) is not None else 0, params, specs
    )
    sizes = sorted(filter(None, jax.tree.leaves(split)))
    whole = sum(x.size for x in jax.tree.leaves(params)) - sum(sizes)
    assert len(sizes) > 10 and whole < sum(sizes)
    assert not [x for x in found if x.looped and x.kind != "all-reduce"]

    gathered = [x.elements for x in found if x.kind == "all-gather"]
    for size in sizes:
        gathered.remove(size)  # each of them once
    assert max(gathered) <= ROWS * config.model.projection_size  # the loss
    scattered = sorted(x.elements * 4 for x in found if x.kind == "reduce-scatter")
    assert scattered == sizes
    # What is not split is reduced whole; the parts of what is, over the other axis.
    reduced = sum(x.elements for x in found if x.kind == "all-reduce" and not x.looped)
    assert reduced < whole + sum(sizes) / 4 + 2 * ROWS * config.model.projection_size


def test_statistics_of_micro_batches(smooth):
    """The running statistics move by the mean over the micro-batches' own."""
    batch, mesh = some_batch(0, ROWS), some_mesh(1)
    config = dataclasses.replace(smooth, rows_per_device=8)
    state, _ = _two_steps(config, mesh, [batch])
    mel = np.asarray(log_mel(jnp.asarray(batch["audio"]), config.model.audio), np.float64)
    parts = [mel[index::2] for index in range(2)]
    mean = 0.1 * np.mean([part.mean((0, 1)) for part in parts], axis=0)
    var = 0.9 + 0.1 * np.mean([part.var((0, 1)) for part in parts], axis=0)
    running = state.batch_stats["audio_encoder"]["batch_norm"]
    np.testing.assert_allclose(running["mean"], mean, rtol=1e-4)
    np.testing.assert_allclose(running["var"], var, rtol=1e-3)


def test_everything_random_is_the_same_when_computed_again(smooth, pairs):
    """Dropout, drop path and SpecAugment with micro-batches: the gradient is the loss's own.

    It is compared with finite differences along itself.
    """
    config = dataclasses.replace(
        smooth,
        rows_per_device=4,
        remat="full",
        model=dataclasses.replace(
            smooth.model,
            htsat=dataclasses.replace(
                smooth.model.htsat, drop_path=0.2, dropout=0.2, time_width=30, freq_width=30
            ),
            text=dataclasses.replace(smooth.model.text, dropout=0.2, attention_dropout=0.2),
        ),
        optimizer=dataclasses.replace(smooth.optimizer, clip_norm=0.0),
    )
    mesh = some_mesh(2)
    step = make_train_step(config, mesh)
    fresh = jax.device_get(init_state(config, mesh))
    generator = np.random.default_rng(0)
    # With a bias of zero a patch that SpecAugment blanks sits where layer norm is steepest.
    params = jax.tree.map(
        lambda x: (x + generator.normal(0, 0.05, x.shape)).astype(x.dtype), fresh.params
    )
    fresh = fresh.replace(params=params)

    def run(params):
        state = jax.device_put(fresh.replace(params=params), _shardings(config, mesh))
        state, (row,) = run_steps(config, mesh, pairs[:1], state, step)
        return jax.device_get(state), float(row["loss"])

    state, _ = run(fresh.params)
    gradient = jax.tree.map(lambda mu: mu / (1 - config.optimizer.b1), state.opt_state[0][0].mu)
    size, reach = norm(gradient), 0.001
    ends = [
        run(jax.tree.map(lambda p, g: p + sign * reach / size * g, fresh.params, gradient))[1]  # noqa: B023
        for sign in (1, -1)
    ]
    np.testing.assert_allclose((ends[0] - ends[1]) / (2 * reach), size, rtol=5e-3)
    assert run(fresh.params)[1] == run(fresh.params)[1]


def _shardings(config, mesh):
    return jax.tree.map(lambda leaf: leaf.sharding, abstract_state(config, mesh))


def test_fused_models_take_longer_waveforms(smooth):
    """Rows that are longer than a clip reach the fusion's parameters; shorter ones do not."""
    config = dataclasses.replace(
        smooth,
        batch_size=8,
        model=dataclasses.replace(smooth.model, fusion=FusionConfig("aff_2d")),
    )
    mesh = some_mesh(2)
    step, moments = make_train_step(config, mesh), []
    for longest in (32_000, 16_000):
        batch = some_batch(0)
        batch["audio"] = np.tile(batch["audio"], (1, 2))
        batch["lengths"] = np.full(8, longest, np.int32)
        state, (row,) = run_steps(config, mesh, [batch], step=step)
        assert np.isfinite(row["loss"])
        moments.append(norm(jax.device_get(state.opt_state[1][0].mu["audio_encoder"]["fusion"])))
    assert moments[0] > 1e-4 and moments[1] == 0
