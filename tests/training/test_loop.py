"""The loop: what a run leaves, where it starts from, and what it refuses."""

import dataclasses
import json
import math
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clapjax.data.records import RecordsError
from clapjax.tasks.texts import adapt_to_tokenizer, workdir_tokenizer
from clapjax.training import checkpoint, loop
from clapjax.training.config import MeshConfig
from clapjax.training.log_files import read_log
from clapjax.training.workdir import RECORDS_FILE
from tests.training.tiny import abstract_state, assert_same, init_state, some_mesh, train


def test_a_run_leaves_log_checkpoints_and_tokenizer(whole, demo_records):
    workdir, state, calls = whole
    assert int(state.step) == 6
    assert [step for step, *_ in calls] == [0, 4, 6]
    assert calls[0][1] == ["batch_stats", "params"]
    tokenizer = json.loads((workdir / "tokenizer" / "tokenizer.json").read_text())
    assert calls[0][2] == len(tokenizer["model"]["vocab"])  # the config was adapted to it

    rows = read_log(workdir)
    trained = [row for row in rows if "loss" in row]
    assert [row["step"] for row in trained] == [2, 3, 4, 6]
    assert all(row["clips_per_second"] > 0 for row in trained)
    assert all(row["seconds_waiting_for_data"] > 0 for row in trained)
    scores = [row for row in rows if "loss" not in row]
    assert scores == [{"step": step, "eval/score": float(step)} for step in (0, 4, 6)]
    assert checkpoint.scores(workdir) == {4: {"score": 4.0}, 6: {"score": 6.0}}
    assert list((workdir / "tensorboard").iterdir())
    assert checkpoint.latest_step(workdir) == 6
    variables, step = checkpoint.load_variables(workdir)
    assert step == 6
    assert_same(variables["params"], state.params)
    assert_same(variables["batch_stats"], state.batch_stats)
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(variables))


def test_a_score_that_is_not_there_stops_before_the_first_step(tiny, whole, demo_records, tmp_path):
    def evaluate(forward, variables, step):
        return {"score": 1.0, "other": 0.0}

    arguments = {"data_dir": demo_records, "evaluate": evaluate}
    config = dataclasses.replace(tiny, keep_best="scor")
    message = "no score 'scor'; the evaluation has score, other"
    with pytest.raises(ValueError, match=message):
        train(config, **arguments, workdir=tmp_path / "new")
    assert not read_log(tmp_path / "new")
    shutil.copytree(whole[0], tmp_path / "run")
    config = dataclasses.replace(config, steps=8)
    with pytest.raises(ValueError, match="no score 'scor'; the evaluation has score"):
        train(config, **arguments, workdir=tmp_path / "run")
    assert checkpoint.latest_step(tmp_path / "run") == 6


def test_at_most_three_batches_are_on_the_devices(tiny, demo_records, tmp_path, monkeypatch):
    """One that computes, one that waits for it, one that is ready: with prefetch 2."""
    make, held, most = loop.make_train_step, [], []
    rows, samples = tiny.batch_size, tiny.model.audio.clip_samples

    work = jax.jit(lambda x: jax.lax.fori_loop(0, 10_000, lambda _, y: jnp.sin(y), x).sum())

    def slow(*arguments):
        step = make(*arguments)

        def run(state, batch):
            state, metrics = step(state, batch)
            loss = metrics["loss"].addressable_data(0)
            metrics["loss"] = work(jnp.broadcast_to(loss, 4096))  # takes longer than the loop
            held.append((metrics, batch))  # as the runtime holds it until the step is done
            while held and held[0][0]["loss"].is_ready():
                held.pop(0)
            del batch
            time.sleep(0.05)  # for the thread that puts batches there
            most.append(sum(x.shape == (rows, samples) for x in jax.live_arrays()))
            return state, metrics

        return run

    monkeypatch.setattr(loop, "make_train_step", slow)
    config = dataclasses.replace(tiny, steps=12, log_every=100, checkpoint_every=100)
    train(config, data_dir=demo_records, workdir=tmp_path)
    assert len(most) == 12 and max(most) <= 3, most


def test_a_trace_of_the_steps_asked_for(tiny, demo_records, tmp_path):
    config = dataclasses.replace(tiny, steps=3)
    train(config, data_dir=demo_records, workdir=tmp_path, profile=(2, 3))
    (trace,) = (tmp_path / "profile").rglob("*.xplane.pb")
    assert trace.stat().st_size > 10_000
    with pytest.warns(UserWarning, match="profile 2:3: nothing is traced, for this run goes on at"):
        train(config, data_dir=demo_records, workdir=tmp_path, profile=(2, 3))
    with pytest.raises(ValueError, match="profile 3:4: this run does steps 1 to 3"):
        train(config, data_dir=demo_records, workdir=tmp_path, profile=(3, 4))


def test_starting_from_another_model(tiny, whole, demo_records, tmp_path, capsys):
    """One tower of it, and what is missing stays new; a checkpoint of the run's own goes first."""
    config = dataclasses.replace(tiny, steps=1, init_from="there")
    given, _ = checkpoint.load_variables(whole[0], "audio_")
    asked = []

    def load(source):
        asked.append(source)
        return given

    arguments = {"data_dir": demo_records, "workdir": tmp_path / "run", "load": load}
    state = jax.device_get(train(config, **arguments))  # one step, at rate 0
    assert_same(state.params["text_encoder"], whole[1].params["text_encoder"])
    fresh = jax.device_get(init_state(_adapted(config, whole[0]), some_mesh(1)))
    assert_same(state.params["audio_encoder"], fresh.params["audio_encoder"])
    assert "starts from there, but" in capsys.readouterr().err
    train(config, **arguments)
    assert asked == ["there"]

    arguments["workdir"] = tmp_path / "other"
    given["params"]["text_encoder"]["word"]["embedding"] = np.zeros((3, 16))
    given["params"]["extra"] = {"kernel": np.zeros(1)}
    with pytest.raises(ValueError, match="init_from: the model does not fit this config") as caught:
        train(config, **arguments)
    vocabulary = fresh.params["text_encoder"]["word"]["embedding"].shape
    assert f"text_encoder/word/embedding is (3, 16), not {vocabulary}" in str(caught.value)
    assert "extra/kernel is not in this model" in str(caught.value)


def _adapted(config, workdir):
    model = adapt_to_tokenizer(config.model, workdir_tokenizer("records", workdir))
    return dataclasses.replace(config, model=model)


def test_loss_decreases(tiny, demo_records, tmp_path):
    config = dataclasses.replace(tiny, steps=60, log_every=10, checkpoint_every=100)
    train(config, data_dir=demo_records, workdir=tmp_path)
    losses = [row["loss"] for row in read_log(tmp_path)]
    assert len(losses) == 6
    assert np.mean(losses[-2:]) < 0.9 * losses[0]


def _broken_step(monkeypatch, breaks):
    """Makes every step call `breaks(step, state)`, which gives the state to step from."""
    make = loop.make_train_step

    def broken(*arguments):
        step, count = make(*arguments), iter(range(1, 1000))
        return lambda state, batch: step(breaks(next(count), state), batch)

    monkeypatch.setattr(loop, "make_train_step", broken)


def test_nan_stops_and_names_step_and_losses(tiny, demo_records, tmp_path, monkeypatch):
    ruin = jax.jit(lambda params: jax.tree.map(lambda x: x * jnp.nan, params))
    _broken_step(
        monkeypatch,
        lambda step, state: state.replace(params=ruin(state.params)) if step == 5 else state,
    )
    # With this seed the batch of step 5 has a negative: without one the temporal loss is 0.
    config = dataclasses.replace(tiny, seed=27, steps=20, log_every=8, checkpoint_every=4)
    with pytest.raises(loop.NonFiniteError, match="^step 5: not finite: .*loss=nan") as caught:
        train(config, data_dir=demo_records, workdir=tmp_path)
    for name in ("contrastive_loss=nan", "temporal_loss=nan", "gradient_norm=nan"):
        assert name in str(caught.value)
    assert checkpoint.latest_step(tmp_path) == 4
    params = checkpoint.load_variables(tmp_path)[0]["params"]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    assert [row["step"] for row in read_log(tmp_path)] == [4]


def test_what_had_nothing_to_measure_counts_in_no_mean():
    rows = [{"loss": 1.0, "gradient_norm": 1.0, "order": x, "never": math.nan} for x in (3, 5)]
    rows.append(rows[0] | {"loss": 4.0, "order": math.nan})
    assert loop._fetch(rows, 3) == {"loss": 2.0, "gradient_norm": 1.0, "order": 4.0}


def test_hidden_transfers_are_refused(tiny, demo_records, tmp_path, monkeypatch):
    add = jax.jit(lambda x, y: x + y)

    def from_host(step, state):
        return state.replace(step=add(state.step, np.zeros((), np.int32)))

    _broken_step(monkeypatch, from_host)
    with pytest.raises(Exception, match="(?i)disallowed host-to-device transfer"):
        train(tiny, data_dir=demo_records, workdir=tmp_path)


def test_a_batch_that_does_not_divide(tiny, demo_records, tmp_path):
    config = dataclasses.replace(tiny, batch_size=9)
    with pytest.raises(ValueError, match="^batch_size 9 .* 2 devices; take a multiple of 2$"):
        train(config, data_dir=demo_records, workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_missing_records(tiny, tmp_path):
    with pytest.raises(RecordsError, match="no records here"):
        train(tiny, data_dir=tmp_path / "nowhere", workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_records_are_refused(tiny, whole, demo_records, tmp_path):
    kept = (whole[0] / RECORDS_FILE).read_text()
    build = json.loads(kept)
    assert build["counts"]["train"] == 160
    build["seed"] = 1
    other = tmp_path / "other"
    other.mkdir()
    (other / "clapjax_build.json").write_text(json.dumps(build))
    with pytest.raises(RecordsError, match="this run began with other records"):
        train(tiny, data_dir=other, workdir=whole[0])
    assert (whole[0] / RECORDS_FILE).read_text() == kept


@pytest.mark.parametrize(("data", "fsdp"), [(1, 1), (2, 4)])
def test_restore_onto_another_mesh(tiny, whole, data, fsdp):
    mesh = some_mesh(data, fsdp)
    config = dataclasses.replace(
        _adapted(tiny, whole[0]), mesh=MeshConfig(data, fsdp, split_above=100)
    )
    template = abstract_state(config, mesh)
    with checkpoint.open_manager(whole[0]) as manager:
        state = checkpoint.restore(manager, template)
    assert_same(jax.device_get(state), whole[1])
    shardings = [[leaf.sharding for leaf in jax.tree.leaves(tree)] for tree in (state, template)]
    assert shardings[0] == shardings[1]
    split = [leaf for leaf in jax.tree.leaves(state) if not leaf.sharding.is_fully_replicated]
    assert (len(split) > 10) == (fsdp > 1)


def test_one_device_reads_what_two_have_written(whole, quick_env):
    script = (
        "import sys, jax; from clapjax.training.checkpoint import load_variables\n"
        "leaves = jax.tree.leaves(load_variables(sys.argv[1])[0])\n"
        "print(len(jax.devices()), sum(abs(x.astype('f8')).sum() for x in leaves))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(whole[0])],
        env=quick_env,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    devices, total = done.stdout.split()
    state = whole[1]
    leaves = jax.tree.leaves({"params": state.params, "batch_stats": state.batch_stats})
    assert devices == "1"
    np.testing.assert_allclose(float(total), sum(abs(x.astype("f8")).sum() for x in leaves))


def test_no_checkpoint_yet(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint yet; train first"):
        checkpoint.load_variables(tmp_path)
    assert list(tmp_path.iterdir()) == []
