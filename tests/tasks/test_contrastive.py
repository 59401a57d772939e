"""The contrastive task: what its frozen parts do, and what evaluation computes."""

import dataclasses

import jax
import numpy as np
import pytest

from clapjax.experiment import make_task
from clapjax.tasks.task import Setting
from clapjax.training.config import MeshConfig
from clapjax.training.mesh import state_specs
from clapjax.training.rows import make_forward
from tests.training.tiny import init_state, run_steps, some_batch, some_mesh, tiny_config

BOTH = ("audio_encoder", "text_encoder")


@pytest.fixture(scope="module")
def noisy():
    """`tiny_config` with dropout, drop path and SpecAugment in both encoders."""
    config = tiny_config()
    htsat = dataclasses.replace(
        config.model.htsat, drop_path=0.5, dropout=0.3, time_width=30, freq_width=30
    )
    text = dataclasses.replace(config.model.text, dropout=0.3, attention_dropout=0.3)
    return dataclasses.replace(
        config, model=dataclasses.replace(config.model, htsat=htsat, text=text)
    )


@pytest.fixture(scope="module")
def variables(noisy):
    """Variables whose statistics are not those of any batch."""
    found = jax.device_get(init_state(noisy, some_mesh(1))).variables()
    stats = jax.tree.map(lambda x: x - 3 if x.min() == 0 else x * 7, found["batch_stats"])
    return {**found, "batch_stats": stats}


def _rows(config, variables, frozen: tuple[str, ...] | dict[str, int], seed: int = 0):
    setting = Setting(
        some_mesh(1), frozen=dict.fromkeys(frozen) if isinstance(frozen, tuple) else frozen
    )
    keys = jax.random.split(jax.random.key(seed))
    rows, stats = jax.jit(lambda v, b, k: make_task(config).rows(v, b, k, setting))(
        variables, some_batch(0), keys
    )
    return jax.device_get(rows), jax.device_get(stats)


def test_frozen_encoders_compute_as_in_evaluation(noisy, variables):
    """No dropout, no SpecAugment, running statistics; what moves keeps its noise."""
    task, batch, setting = make_task(noisy), some_batch(0), Setting(some_mesh(1))
    lengths = np.full(8, noisy.model.audio.clip_samples, np.int32)
    expected = {
        "audio": task.forward["audio"](variables, batch["audio"], lengths, setting),
        "text": task.forward["text"](variables, batch["input_ids"], batch["mask"], setting),
    }
    for frozen in (BOTH, BOTH[:1], BOTH[1:]):
        rows, stats = _rows(noisy, variables, frozen)
        again, _ = _rows(noisy, variables, frozen, seed=1)
        for part, name in zip(BOTH, ("audio", "text"), strict=True):
            error = np.abs(rows[name] - expected[name]).max()
            # The mel's FFT is float64 in evaluation.
            assert (error < 1e-4) == (part in frozen), (frozen, name, error)
            assert np.array_equal(rows[name], again[name]) == (part in frozen)
        still = jax.tree.map(np.array_equal, stats, variables["batch_stats"])
        assert all(jax.tree.leaves(still)) == ("audio_encoder" in frozen)


def test_frozen_layers_compute_as_in_evaluation(noisy, variables):
    """Where all layers of an encoder are frozen that is all of it; the others keep their noise."""
    whole, stats = _rows(noisy, variables, BOTH)
    for layers, same in ((2, True), (1, False)):
        frozen = {"audio_encoder": layers, "text_encoder": 1}
        (rows, moved), (again, _) = (_rows(noisy, variables, frozen, seed) for seed in (0, 1))
        np.testing.assert_array_equal(rows["text"], whole["text"])
        assert np.array_equal(rows["audio"], whole["audio"]) == same
        assert np.array_equal(rows["audio"], again["audio"]) == same
        jax.tree.map(np.testing.assert_array_equal, moved, stats)


def test_statistics_of_a_frozen_encoder_stay(noisy):
    """Fails before frozen parts ran as in evaluation: they moved with every step."""
    optimizer = dataclasses.replace(noisy.optimizer, freeze=("audio_encoder",))
    config, mesh = dataclasses.replace(noisy, optimizer=optimizer), some_mesh(2)
    start = jax.device_get(init_state(config, mesh))
    state, _ = run_steps(config, mesh, [some_batch(0), some_batch(1)])
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, start.batch_stats)
    before, after = (s.params["audio_encoder"] for s in (start, jax.device_get(state)))
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_embeddings_do_not_depend_on_the_mesh(noisy, variables):
    """Bit for bit, where a device is given as many rows; what is split is put together."""
    batch = some_batch(0, 16)
    lengths = np.full(16, noisy.model.audio.clip_samples, np.int32)
    found = []
    for shape, rows in ((MeshConfig(1, 1), 4), (MeshConfig(4, 1), 16), (MeshConfig(2, 2, 100), 16)):
        mesh = some_mesh(shape.data, shape.fsdp)
        specs = state_specs(variables["params"], mesh, shape)
        forward = make_forward(make_task(noisy), Setting(mesh), specs)
        audio = [
            np.asarray(forward["audio"](variables, batch["audio"][s], lengths[s]))
            for s in (slice(first, first + rows) for first in range(0, 16, rows))
        ]
        text = np.asarray(forward["text"](variables, batch["input_ids"][:3], batch["mask"][:3]))
        assert text.shape == (3, noisy.model.projection_size)
        found.append(np.concatenate(audio))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
