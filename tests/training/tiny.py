"""A model that compiles in seconds, batches for it, and steps on them.

Here a config is an Experiment, and knows its task.
"""

import dataclasses
import functools
from unittest import mock

import jax
import numpy as np
from jax.sharding import Mesh

from clapjax.audio.config import AudioConfig
from clapjax.experiment import Experiment, make_task
from clapjax.losses.config import LossConfig
from clapjax.losses.pairs import GROUP
from clapjax.models.config import ClapConfig, HTSATConfig, TextConfig
from clapjax.tasks.task import Task
from clapjax.training import loop, state, step
from clapjax.training.config import OptimizerConfig
from clapjax.training.mesh import BATCH_AXES, batch_sharding, make_mesh


def tiny_config() -> Experiment:
    """One second of sound at 16 kHz, one pair of Swin blocks, one text layer; nothing random."""
    audio = AudioConfig(sample_rate=16_000, clip_samples=16_000, hop_length=320, fmax=7600.0)
    htsat = HTSATConfig(
        spec_size=64,
        embed_dim=8,
        depths=(2,),
        heads=(2,),
        drop_path=0.0,
        time_width=1,
        freq_width=1,
    )
    text = TextConfig(
        vocab_size=99,
        hidden_size=16,
        layers=1,
        heads=2,
        intermediate_size=32,
        max_positions=40,
        max_length=16,
        dropout=0.0,
        attention_dropout=0.0,
    )
    return Experiment(
        batch_size=8,
        steps=6,
        log_every=2,
        checkpoint_every=3,
        model=ClapConfig(audio, htsat, text, projection_size=16),
        loss=LossConfig(temporal_weight=0.5),
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=1),
    )


def pairs_config() -> Experiment:
    """`tiny_config` with order pairs: a group of four rows for each of eight devices."""
    tiny = tiny_config()
    optimizer = dataclasses.replace(tiny.optimizer, eps=1e-3)  # for the rounding of Adam's start
    loss = dataclasses.replace(tiny.loss, order_pairs=2, mask_same_events=True)
    return dataclasses.replace(tiny, batch_size=8 * GROUP, optimizer=optimizer, loss=loss)


def init_state(config: Experiment, mesh: Mesh) -> state.TrainState:
    """`state.init_state` of the config's task."""
    return state.init_state(config, make_task(config), mesh)


def abstract_state(config: Experiment, mesh: Mesh) -> state.TrainState:
    """`state.abstract_state` of the config's task."""
    return state.abstract_state(config, make_task(config), mesh)


def make_train_step(config: Experiment, mesh: Mesh):
    """`step.make_train_step` of the config's task."""
    return step.make_train_step(config, make_task(config), mesh)


def train(config: Experiment, **arguments) -> state.TrainState:
    """`loop.train` of the config's task, on two devices: eight take long for the same."""
    few = functools.partial(make_mesh, devices=jax.devices()[:2])
    own = loop.make_train_step is not step.make_train_step  # a test's
    once = loop.make_train_step if own else _step_once
    with (
        mock.patch.object(loop, "make_mesh", few),
        mock.patch.object(loop, "make_train_step", once),
    ):
        return loop.train(config, make_task(config), **arguments)


# What a step does not depend on.
AROUND = {"eval_every": 0, "log_every": 1, "checkpoint_every": 1, "keep_last": 1, "keep_best": ""}
_steps: dict = {}


def _step_once(config: Experiment, task: Task, mesh: Mesh):
    """`step.make_train_step`, traced once for all runs that differ only around their steps."""
    key = dataclasses.replace(config, **AROUND), mesh
    if key not in _steps:
        _steps[key] = step.make_train_step(config, task, mesh)
    return _steps[key]


def some_mesh(data: int, fsdp: int = 1) -> Mesh:
    """A mesh over the first devices."""
    return Mesh(np.array(jax.devices()[: data * fsdp]).reshape(data, fsdp), BATCH_AXES)


def some_batch(index: int, rows: int = 8) -> dict[str, np.ndarray]:
    """A batch for `tiny_config`, always the same for one index."""
    generator = np.random.default_rng(index)
    lengths = generator.integers(3, 17, (2, rows, 1))
    ids = generator.integers(3, 99, (2, rows, 16)).astype(np.int32)
    mask = (np.arange(16) < lengths).astype(np.int32)
    ids = np.where(mask == 1, ids, 1)
    ids[..., 0] = 0
    tone = np.sin(np.arange(16_000) * generator.uniform(0.05, 1, (rows, 1)))
    noise = generator.normal(0, 0.1, (rows, 16_000))
    return {
        "audio": (10_000 * (tone + noise)).clip(-32_767, 32_767).astype(np.int16),
        "input_ids": ids[0],
        "mask": mask[0],
        "negative_ids": ids[1],
        "negative_mask": mask[1],
        "has_negative": np.arange(rows) % 2 == 0,
        "events": np.arange(rows, dtype=np.int32) // 2,
    }


def pairs_batch(index: int) -> dict[str, np.ndarray]:
    """A batch for `pairs_config`, of whose slots of reversed audio a quarter is empty.

    Groups 2 i and 2 i + 1 hear the same: both halves have the whole's batch statistics.
    """
    config = pairs_config()
    pairs, rows = config.loss.order_pairs, config.batch_size
    slots = rows // GROUP * pairs

    def twice(x, rows):
        halves = x.reshape(-1, 2, rows, *x.shape[1:])
        return np.repeat(halves[:, :1], 2, axis=1).reshape(x.shape)

    batch = some_batch(index, rows)
    batch["audio"] = twice(batch["audio"], GROUP)
    batch["reverse_audio"] = twice(batch["audio"][::-1][:slots], pairs)
    batch["reverse_row"] = np.resize(np.array([0, 2, -1, 0], np.int32), slots)
    batch["reverse_events"] = batch["events"][::-1].copy()
    return batch


def run_steps(config: Experiment, mesh: Mesh, batches: list[dict], state=None, step=None):
    """(final state, metrics of each step); each process puts its own rows of the batches there."""
    state = init_state(config, mesh) if state is None else state
    step = make_train_step(config, mesh) if step is None else step
    rows, host, hosts = [], jax.process_index(), jax.process_count()
    for batch in batches:
        own = {name: np.split(x, hosts)[host] for name, x in batch.items()}
        placed = {
            name: jax.make_array_from_process_local_data(batch_sharding(mesh), x)
            for name, x in own.items()
        }
        state, metrics = step(state, placed)
        rows.append(jax.device_get(metrics))
    return state, rows


def norm(tree) -> float:
    """Euclidean norm of all leaves together, in float64."""
    return float(
        np.sqrt(sum(np.square(leaf, dtype=np.float64).sum() for leaf in jax.tree.leaves(tree)))
    )


def assert_same(left, right) -> None:
    """Two trees, bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, left, right)
