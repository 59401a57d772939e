"""The loop: resuming, stopping, logging, and what it refuses."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from clapjax.data.records import RecordsError
from clapjax.experiment import (
    Experiment,
    from_dict,
    load_experiment,
    save_experiment,
    to_dict,
)
from clapjax.training import checkpoint, loop
from clapjax.training.config import MeshConfig
from clapjax.training.feed import device_batches
from clapjax.training.log import LOG_FILE, TrainLog, read_log
from clapjax.training.mesh import BATCH_AXES, batch_sharding, make_mesh, replicated
from clapjax.training.state import init_state


class Killed(Exception):
    """Stands for the end of a process."""


def _assert_same(left, right) -> None:
    jax.tree.map(np.testing.assert_array_equal, left, right)


@pytest.fixture(scope="module")
def whole(tiny, demo_records, tmp_path_factory):
    """(workdir, final state, calls of `evaluate`) of six steps without a break."""
    workdir, calls = tmp_path_factory.mktemp("whole"), []

    def evaluate(variables, config, step):
        calls.append((step, sorted(variables), config.model.text.vocab_size))
        return {"score": float(step)}

    config = dataclasses.replace(tiny, eval_every=4)
    state = loop.train(config, data_dir=demo_records, workdir=workdir, evaluate=evaluate)
    return workdir, jax.device_get(state), calls


def test_a_run_leaves_log_checkpoints_and_tokenizer(whole, demo_records):
    workdir, state, calls = whole
    assert int(state.step) == 6
    assert [step for step, *_ in calls] == [4, 6]
    assert calls[0][1] == ["batch_stats", "params"]
    tokenizer = json.loads((workdir / "tokenizer" / "tokenizer.json").read_text())
    assert calls[0][2] == len(tokenizer["model"]["vocab"])  # the config was adapted to it

    rows = read_log(workdir)
    trained = [row for row in rows if "loss" in row]
    assert [row["step"] for row in trained] == [2, 3, 4, 6]
    assert all(row["clips_per_second"] > 0 for row in trained)
    scores = [row for row in rows if "loss" not in row]
    assert scores == [{"step": 4, "eval/score": 4.0}, {"step": 6, "eval/score": 6.0}]
    assert list((workdir / "tensorboard").iterdir())
    assert checkpoint.latest_step(workdir) == 6
    variables, step = checkpoint.load_variables(workdir)
    assert step == 6
    _assert_same(variables["params"], state.params)
    _assert_same(variables["batch_stats"], state.batch_stats)
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(variables))


def test_resuming_equals_an_undisturbed_run(tiny, whole, demo_records, tmp_path):
    def die(variables, config, step):
        raise Killed

    config = dataclasses.replace(tiny, eval_every=4)  # dies at 4; the checkpoint is of step 3
    with pytest.raises(Killed):
        loop.train(config, data_dir=demo_records, workdir=tmp_path, evaluate=die)
    assert checkpoint.latest_step(tmp_path) == 3
    assert [row["step"] for row in read_log(tmp_path)] == [2, 3, 4]
    state = loop.train(config, data_dir=demo_records, workdir=tmp_path)
    _assert_same(jax.device_get(state), whole[1])
    rows, expected = read_log(tmp_path), [row for row in read_log(whole[0]) if "loss" in row]
    assert [row["step"] for row in rows] == [2, 3, 4, 6]
    assert [row["loss"] for row in rows] == [row["loss"] for row in expected]


def test_a_finished_run_stays_as_it_is(tiny, whole, demo_records):
    before = (whole[0] / LOG_FILE).read_text()
    config = dataclasses.replace(tiny, eval_every=4)
    state = loop.train(config, data_dir=demo_records, workdir=whole[0])
    _assert_same(jax.device_get(state), whole[1])
    assert (whole[0] / LOG_FILE).read_text() == before


def test_loss_decreases(tiny, demo_records, tmp_path):
    config = dataclasses.replace(tiny, steps=60, log_every=10, checkpoint_every=100)
    loop.train(config, data_dir=demo_records, workdir=tmp_path)
    losses = [row["loss"] for row in read_log(tmp_path)]
    assert len(losses) == 6
    assert np.mean(losses[-2:]) < 0.9 * losses[0]


def _broken_step(monkeypatch, breaks):
    """Makes every step call `breaks(step, state)`, which gives the state to step from."""
    make = loop.make_train_step

    def broken(config, mesh):
        step, count = make(config, mesh), iter(range(1, 1000))
        return lambda state, batch: step(breaks(next(count), state), batch)

    monkeypatch.setattr(loop, "make_train_step", broken)


def test_nan_stops_and_names_step_and_losses(tiny, demo_records, tmp_path, monkeypatch):
    ruin = jax.jit(lambda params: jax.tree.map(lambda x: x * jnp.nan, params))
    _broken_step(
        monkeypatch,
        lambda step, state: state.replace(params=ruin(state.params)) if step == 5 else state,
    )
    config = dataclasses.replace(tiny, steps=20, log_every=8, checkpoint_every=4)
    with pytest.raises(loop.NonFiniteError, match="^step 5: not finite: .*loss=nan") as caught:
        loop.train(config, data_dir=demo_records, workdir=tmp_path)
    for name in ("contrastive_loss=nan", "temporal_loss=nan", "gradient_norm=nan"):
        assert name in str(caught.value)
    assert checkpoint.latest_step(tmp_path) == 4
    params = checkpoint.load_variables(tmp_path)[0]["params"]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    assert [row["step"] for row in read_log(tmp_path)] == [4]


def test_hidden_transfers_are_refused(tiny, demo_records, tmp_path, monkeypatch):
    add = jax.jit(lambda x, y: x + y)

    def from_host(step, state):
        return state.replace(step=add(state.step, np.zeros((), np.int32)))

    _broken_step(monkeypatch, from_host)
    with pytest.raises(Exception, match="(?i)disallowed host-to-device transfer"):
        loop.train(tiny, data_dir=demo_records, workdir=tmp_path)


def test_a_batch_that_does_not_divide(tiny, demo_records, tmp_path):
    config = dataclasses.replace(tiny, batch_size=12)
    with pytest.raises(ValueError, match="^batch_size 12 does not divide among 8 devices$"):
        loop.train(config, data_dir=demo_records, workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_missing_records(tiny, tmp_path):
    with pytest.raises(RecordsError, match="no records here"):
        loop.train(tiny, data_dir=tmp_path / "nowhere", workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_records_are_refused(tiny, whole, demo_records, tmp_path):
    kept = (whole[0] / loop.RECORDS_FILE).read_text()
    build = json.loads(kept)
    assert build["counts"]["train"] == 160
    build["seed"] = 1
    other = tmp_path / "other"
    other.mkdir()
    (other / "clapjax_build.json").write_text(json.dumps(build))
    with pytest.raises(RecordsError, match="this run began with other records"):
        loop.train(tiny, data_dir=other, workdir=whole[0])
    assert (whole[0] / loop.RECORDS_FILE).read_text() == kept


@pytest.mark.parametrize(("data", "fsdp"), [(1, 1), (4, 2)])
def test_restore_onto_another_mesh(tiny, whole, data, fsdp):
    devices = np.array(jax.devices()[: data * fsdp]).reshape(data, fsdp)
    mesh = Mesh(devices, BATCH_AXES)
    config = loop.adapt_to_tokenizer(tiny, loop.workdir_tokenizer(tiny, whole[0]))
    with checkpoint.open_manager(whole[0]) as manager:
        state = checkpoint.restore(manager, init_state(config, mesh))
    _assert_same(jax.device_get(state), whole[1])
    assert {leaf.sharding for leaf in jax.tree.leaves(state)} == {replicated(mesh)}


def test_one_device_reads_what_eight_have_written(whole, quick_env):
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


# --- config ---------------------------------------------------------------------------------


def test_another_config_is_refused_and_shown(tmp_path):
    experiment = Experiment()
    save_experiment(experiment, tmp_path)
    assert load_experiment(tmp_path) == experiment
    (tmp_path / "checkpoints" / "4").mkdir(parents=True)
    save_experiment(experiment, tmp_path)
    other = dataclasses.replace(
        experiment,
        steps=experiment.steps + 1,
        loss=dataclasses.replace(experiment.loss, temporal_weight=7.0),
    )
    with pytest.raises(ValueError, match="was begun with another config") as caught:
        save_experiment(other, tmp_path)
    weight, steps = experiment.loss.temporal_weight, experiment.steps
    changes = f"loss.temporal_weight was {weight}, is 7.0; steps was {steps}, is {steps + 1}."
    assert changes in str(caught.value)
    assert load_experiment(tmp_path) == experiment


def test_a_config_without_a_checkpoint_is_replaced(tmp_path):
    save_experiment(Experiment(), tmp_path)
    other = Experiment(batch_size=Experiment().batch_size * 2)
    save_experiment(other, tmp_path)
    assert load_experiment(tmp_path) == other


def test_config_to_dict_and_back():
    experiment = Experiment(seed=3)
    assert from_dict(Experiment, json.loads(json.dumps(to_dict(experiment)))) == experiment


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer": {"learning_rat": 1.0}}, "'optimizer.learning_rat'; did you mean"),
        ({"zzz": 1}, "no field 'zzz'; there are seed"),
        ({"steps": "many"}, "steps must be int, not 'many'"),
        ({"steps": True}, "steps must be int, not True"),
        ({"steps": 1.5}, "steps must be int, not 1.5"),
        ({"optimizer": 3}, "config optimizer: expected a group of fields, not 3"),
        ({"source": {"train_folds": 1}}, "source.train_folds must be a list, not 1"),
        ({"source": {"train_folds": ["1"]}}, "source.train_folds must be int, not '1'"),
        ({"steps": 0}, "steps must be positive, not 0"),
        ({"seed": -1}, "seed must be in 0"),
        ({"evaluation": {"tasks": ["chess"]}}, r"no task \['chess'\]"),
    ],
)
def test_bad_config_values(values, message):
    with pytest.raises(ValueError, match=message):
        from_dict(Experiment, values)


def test_an_int_will_do_for_a_float():
    rate = from_dict(Experiment, {"optimizer": {"learning_rate": 1}}).optimizer.learning_rate
    assert rate == 1.0 and type(rate) is float


def test_folders_that_are_no_workdirs(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a clapjax workdir"):
        load_experiment(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json: damaged"):
        load_experiment(tmp_path)


# --- log and feed ---------------------------------------------------------------------------


def test_log_drops_the_rows_of_a_killed_attempt(tmp_path, capsys):
    log = TrainLog(tmp_path, start_step=0, steps=10, batch_size=4)
    for step in (2, 4, 6):
        log.write(step, {"loss": step / 2, "logit_scale": 14.0})
    log.write_scores(6, {"accuracy": 0.5})
    log.close()
    assert "step 6/10: loss 3.0000, " in capsys.readouterr().err
    with (tmp_path / LOG_FILE).open("a") as file:
        file.write('{"step": 8, "lo')  # the process died here
    assert [row["step"] for row in read_log(tmp_path)] == [2, 4, 6, 6]

    log = TrainLog(tmp_path, start_step=4, steps=10, batch_size=4)
    log.write(8, {"loss": 9.0})
    log.close()
    rows = read_log(tmp_path)
    assert [(row["step"], row["loss"]) for row in rows] == [(2, 1.0), (4, 2.0), (8, 9.0)]
    assert all(json.loads(line) for line in (tmp_path / LOG_FILE).read_text().splitlines())


def test_no_log_yet(tmp_path):
    assert read_log(tmp_path) == []


def test_feed_places_batches_in_order_and_ends():
    sharding = batch_sharding(make_mesh(MeshConfig()))
    batches = [{"x": np.arange(8) + 10 * i} for i in range(5)]
    found = list(device_batches(iter(batches), sharding))
    assert len(found) == 5
    for batch, expected in zip(found, batches, strict=True):
        assert batch["x"].sharding == sharding
        np.testing.assert_array_equal(batch["x"], expected["x"])


def test_feed_hands_on_an_error_where_it_is_due():
    def failing():
        yield {"x": np.arange(8)}
        raise RecordsError("shard 3 is damaged")

    feed = device_batches(failing(), batch_sharding(make_mesh(MeshConfig())))
    assert next(feed)["x"].shape == (8,)
    with pytest.raises(RecordsError, match="shard 3 is damaged"):
        next(feed)


def test_feed_runs_ahead_but_not_away():
    made = []

    def counted():
        for index in range(100):
            made.append(index)
            yield {"x": np.arange(8)}

    feed = device_batches(counted(), batch_sharding(make_mesh(MeshConfig())), ahead=2)
    next(feed)
    time.sleep(0.5)
    feed.close()
    assert len(made) <= 5


# --- a killed process -----------------------------------------------------------------------

TINY_DEMO = [
    "--config=configs/demo.py:runlocal",
    "--config.steps=60",
    "--config.checkpoint_every=5",
    "--config.log_every=5",
    "--config.evaluation.tasks=()",
    "--config.model.audio.clip_samples=16000",
    "--config.model.audio.hop_length=320",
    "--config.model.htsat.spec_size=64",
    "--config.model.htsat.depths=(2,)",
    "--config.model.htsat.heads=(2,)",
]


def test_a_killed_run_ends_as_an_undisturbed_one(demo_records, tmp_path, quick_env):
    """SIGKILL in the middle, the same command again: the same parameters, bit for bit."""

    def start(workdir):
        program = [sys.executable, "-m", "clapjax", "train", *TINY_DEMO]
        program += ["--data_dir", str(demo_records), "--workdir", str(workdir)]
        return subprocess.Popen(
            program, env=quick_env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def finish(process):
        out, err = process.communicate(timeout=900)
        assert process.returncode == 0, err
        return out

    finish(start(tmp_path / "whole"))
    process = start(tmp_path / "killed")
    deadline = time.monotonic() + 900
    while (checkpoint.latest_step(tmp_path / "killed") or 0) < 10:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert 10 <= checkpoint.latest_step(tmp_path / "killed") < 60
    finish(start(tmp_path / "killed"))

    (expected, step), (found, other) = (
        checkpoint.load_variables(tmp_path / name) for name in ("whole", "killed")
    )
    assert step == other == 60
    _assert_same(found, expected)
    logs = [read_log(tmp_path / name) for name in ("whole", "killed")]
    whole, killed = ([(row["step"], row["loss"]) for row in log] for log in logs)
    assert whole == killed and [step for step, _ in whole] == list(range(5, 61, 5))
    assert "already trained" in finish(start(tmp_path / "killed"))
