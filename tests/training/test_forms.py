"""Training on log-mels that records hold: the run of the same clips as samples."""

import jax
import numpy as np

from clapjax.audio.host_mel import host_log_mel
from clapjax.experiment import make_task
from clapjax.training.step import setting
from tests.training.tiny import run_steps, some_batch, some_mesh

STEPS = 50


def test_a_run_of_log_mels_is_that_of_the_samples(tiny):
    mesh = some_mesh(1)
    samples = [some_batch(index) for index in range(STEPS)]
    mels = [
        batch | {"audio": np.stack([host_log_mel(row, tiny.model.audio) for row in batch["audio"]])}
        for batch in samples
    ]
    (_, plain), (state, found) = run_steps(tiny, mesh, samples), run_steps(tiny, mesh, mels)
    losses = np.array([[row["loss"] for row in rows] for rows in (plain, found)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
    assert np.ptp(losses[0]) > 0.1 * losses[0].mean()  # it learns, or is at least moved

    task, where = make_task(tiny), setting(tiny, mesh)
    keys = jax.random.split(jax.random.key(0))
    heard = [task.rows(state.variables(), batch, keys, where)[0]["audio"] for batch in
             (samples[0], mels[0])]  # fmt: skip
    cosines = np.sum(np.asarray(heard[0]) * np.asarray(heard[1]), axis=1)
    assert cosines.min() >= 0.9999
