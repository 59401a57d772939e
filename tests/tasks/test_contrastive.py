"""The contrastive task: what its frozen parts do, and what evaluation computes."""

import dataclasses

import jax
import numpy as np
import pytest

from clapjax.data.config import DataConfig
from clapjax.experiment import make_task
from clapjax.losses.config import LossConfig
from clapjax.tasks.doubts import doubts
from clapjax.tasks.task import Setting
from clapjax.training.config import MeshConfig
from clapjax.training.mesh import state_specs
from clapjax.training.rows import make_forward
from tests.data.building import make_example, write_records
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
    task, arguments = make_task(config), (variables, some_batch(0), keys)
    rows, stats = jax.jit(lambda v, b, k: task.rows(v, b, k, setting))(*arguments)
    texts = jax.jit(lambda v, b, k: task.beside(v, b, k, setting))(*arguments)
    return jax.device_get(rows | texts), jax.device_get(stats)


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


def _sets(tmp_path, *sizes: int, negatives: bool = False, captions: int = 1000):
    """Data sets with so many records and, each, so many captions at most."""
    for number, size in enumerate(sizes):
        examples = [
            make_example(2 * index, captions=(f"Sound {index % captions} {tmp_path.name}",))
            for index in range(size - negatives)
        ]
        examples += [make_example(1, captions=("Another sound",))] * negatives
        write_records(tmp_path / str(number), {"train": examples})
    return tmp_path / "0"


QUIET = LossConfig(temporal_weight=0.0)


@pytest.mark.parametrize(
    ("sizes", "mixture", "batch", "most"),
    [((5,), (), 20, 4), ((6,), (), 4, 2), ((8,), (), 8, 0), ((8,), (), 4, 0), ((90,), (), 8, 0),
     ((90, 3), ("=6rows",), 12, 2), ((90, 6), ("=6rows",), 12, 0)],
)  # fmt: skip
def test_a_record_that_is_its_own_negative_is_said(tmp_path, sizes, mixture, batch, most):
    """Counted in the batches themselves."""
    folder = _sets(tmp_path, *sizes)
    data = DataConfig(mixture=tuple(f"{tmp_path / '1'}{share}" for share in mixture))
    found = _doubts(folder, data, QUIET, batch)
    assert len(found) == (most > 0)
    if most:
        assert (
            f"batches of {batch} rows hold a record more than once, up to {most} times" in found[0]
        )
        assert f"there are {' + '.join(map(str, sizes))} records" in found[0]


def _doubts(
    folder, data, loss, batch_size: int, max_length: int = 24, clip_samples: int = 1000
) -> list[str]:
    """`doubts`, with a tokenizer for which a word is a token."""

    def split(texts, verbose):
        return {"input_ids": [text.split() for text in texts]}

    return doubts(folder, data, loss, batch_size, 0, split, max_length, clip_samples)


def test_captions_that_are_cut_are_said(tmp_path):
    captions = ["one two three", "one two three four five six", "one two three four"]
    examples = [make_example(0, captions=(x, f"{n}")) for n, x in enumerate(captions)]
    write_records(tmp_path / "d", {"train": examples})
    (line,) = _doubts(tmp_path / "d", DataConfig(), QUIET, 3, 3)
    assert line.startswith(
        "2 of 6 captions are longer than 3 tokens and are cut; --config.model.tex"
    )
    assert "max_length=6 reads them whole" in line
    assert _doubts(tmp_path / "d", DataConfig(), QUIET, 3, 6) == []


def test_an_order_that_is_cut_is_said(tmp_path):
    """Clips have 200 samples and their number: 100, 208, 209 and 260."""
    alone = make_example(60, events=("dog",))  # tells no order
    others = [make_example(n, audio=np.ones(n, np.int16)) for n in (100, 208, 260)]
    write_records(tmp_path / "d", {"train": [*others, make_example(9), alone]})
    for clip, cut in ((261, 0), (236, 1), (200, 1), (189, 3)):
        found = _doubts(tmp_path / "d", DataConfig(), QUIET, 5, clip_samples=clip)
        assert len(found) == (cut > 0), clip
        if cut:
            assert f"{cut} of 4 records that tell an order of events are longer" in found[0]
            assert f"the {clip / 8000:g} s of a clip" in found[0]
    whole = DataConfig(long_clips="whole")
    assert _doubts(tmp_path / "d", whole, QUIET, 5, clip_samples=100) == []


def test_an_order_that_nothing_teaches_is_said(tmp_path):
    without = _sets(tmp_path / "a", 8, 8)
    some = _sets(tmp_path / "b", 8, negatives=True)
    for loss, off in (
        (LossConfig(0.5), "temporal_weight=0"),
        (LossConfig(0.0, negatives="own"), "negatives=none"),
    ):
        (line,) = _doubts(without, DataConfig(), loss, 8)
        assert "none of 8 records has one: they teach nothing" in line
        assert line.endswith(f"or set --config.loss.{off}")
        assert _doubts(some, DataConfig(), loss, 8) == []
        mixed = DataConfig(mixture=(f"{some}=0.5",))
        assert _doubts(without, mixed, loss, 16) == []  # the mixture has one
    assert _doubts(without, DataConfig(), QUIET, 8) == []
    three = [make_example(n, events=("dog", "rain", "car")) for n in range(1, 17, 2)]
    write_records(tmp_path / "three", {"train": three})
    (line,) = _doubts(tmp_path / "three", DataConfig(), LossConfig(0.5, order_pairs=1), 8)
    assert "build them with --config.synthesis.min_events=2, or" in line
    silent = [make_example(n, negative_audio=None) for n in range(1, 17, 2)]
    write_records(tmp_path / "c", {"train": silent})
    for weight, teaches in ((0.5, "captions alone teach order"), (0.0, "nothing teaches order")):
        pairs = LossConfig(weight, order_pairs=1)
        (line,) = _doubts(without, DataConfig(), pairs, 8)
        assert line.endswith("--config.loss.order_pairs=0")
        (line,) = _doubts(tmp_path / "c", DataConfig(), pairs, 8)
        assert f"none of 8 records has one: {teaches}" in line
        assert _doubts(some, DataConfig(), pairs, 8) == []


def test_captions_that_are_each_others_negatives_are_said(tmp_path):
    """40 records with 4 captions: of 31 other rows a quarter have a row's own."""
    folder = _sets(tmp_path, 320, captions=4)
    (line,) = _doubts(folder, DataConfig(), QUIET, 32)
    assert "256 records have 4 captions: in a batch of 32, 7.8 other rows" in line
    masked = dataclasses.replace(QUIET, mask_same_events=True)
    assert _doubts(folder, DataConfig(), masked, 32) == []
