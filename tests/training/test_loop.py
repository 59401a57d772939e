"""The loop: resuming, stopping, logging, and what it refuses."""

import dataclasses
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clapjax.data.paths import FULL
from clapjax.data.records import RecordsError
from clapjax.tasks.texts import adapt_to_tokenizer, workdir_tokenizer
from clapjax.training import checkpoint, distributed, loop
from clapjax.training.config import MeshConfig
from clapjax.training.log import LOG_FILE, TrainLog, read_log
from clapjax.training.optimizer import make_schedule
from clapjax.training.workdir import RECORDS_FILE
from tests.training.tiny import abstract_state, init_state, some_mesh, train


class Killed(Exception):
    """Stands for the end of a process."""


def _assert_same(left, right) -> None:
    jax.tree.map(np.testing.assert_array_equal, left, right)


@pytest.fixture(scope="module")
def whole(tiny, demo_records, tmp_path_factory):
    """(workdir, final state, calls of `evaluate`) of six steps without a break."""
    workdir, calls = tmp_path_factory.mktemp("whole"), []

    def evaluate(forward, variables, step):
        words = variables["params"]["text_encoder"]["word"]["embedding"].shape[0]
        calls.append((step, sorted(variables), words))
        return {"score": float(step)}

    config = dataclasses.replace(tiny, eval_every=4)
    state = train(config, data_dir=demo_records, workdir=workdir, evaluate=evaluate)
    return workdir, jax.device_get(state), calls


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
    scores = [row for row in rows if "loss" not in row]
    assert scores == [{"step": step, "eval/score": float(step)} for step in (0, 4, 6)]
    assert checkpoint.scores(workdir) == {4: {"score": 4.0}, 6: {"score": 6.0}}
    assert list((workdir / "tensorboard").iterdir())
    assert checkpoint.latest_step(workdir) == 6
    variables, step = checkpoint.load_variables(workdir)
    assert step == 6
    _assert_same(variables["params"], state.params)
    _assert_same(variables["batch_stats"], state.batch_stats)
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(variables))


def test_resuming_equals_an_undisturbed_run(tiny, whole, demo_records, tmp_path):
    def die(forward, variables, step):
        if step == 4:
            raise Killed
        return {"score": 0.0}

    config = dataclasses.replace(tiny, eval_every=4)  # dies at 4; the checkpoint is of step 3
    with pytest.raises(Killed):
        train(config, data_dir=demo_records, workdir=tmp_path, evaluate=die)
    assert checkpoint.latest_step(tmp_path) == 3
    assert [row["step"] for row in read_log(tmp_path)] == [0, 2, 3, 4]
    state = train(config, data_dir=demo_records, workdir=tmp_path)
    _assert_same(jax.device_get(state), whole[1])
    rows, expected = (
        [row for row in read_log(workdir) if "loss" in row] for workdir in (tmp_path, whole[0])
    )
    assert [row["step"] for row in rows] == [2, 3, 4, 6]
    assert [row["loss"] for row in rows] == [row["loss"] for row in expected]


def test_a_named_tokenizer_is_kept(tiny, whole, demo_records, tmp_path):
    """It is gone from where it came, as a hub that cannot be reached: the run goes on with it."""
    hub, run = tmp_path / "hub", tmp_path / "run"
    shutil.copytree(demo_records / "tokenizer", hub)
    data = dataclasses.replace(tiny.data, tokenizer=str(hub))
    config = dataclasses.replace(tiny, data=data, eval_every=4)

    def die(forward, variables, step):
        if step == 4:
            raise Killed
        return {}

    with pytest.raises(Killed):
        train(config, data_dir=demo_records, workdir=run, evaluate=die)
    shutil.rmtree(hub)
    state = train(config, data_dir=demo_records, workdir=run)
    _assert_same(jax.device_get(state), whole[1])


def test_a_full_disk_stops_the_run_and_it_goes_on(tiny, whole, demo_records, tmp_path):
    """The write of step 4 fails, and is known of when the next is due; nothing is lost."""
    config = dataclasses.replace(tiny, eval_every=4)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(forward, variables, step):
        if step == 4:  # more than the log takes, less than a checkpoint
            while checkpoint.latest_step(tmp_path) != 3:  # which is written meanwhile
                time.sleep(0.01)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        return {}

    arguments = {"data_dir": demo_records, "workdir": tmp_path}
    try:
        with pytest.raises(OSError, match="File too large, .* bytes are free: ") as caught:
            train(config, **arguments, evaluate=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno in FULL
    assert checkpoint.latest_step(tmp_path) == 3
    assert [row["step"] for row in read_log(tmp_path)] == [2, 3, 4, 6]
    _wait_for_writers(tmp_path)
    state = train(config, **arguments)
    _assert_same(jax.device_get(state), whole[1])


def _wait_for_writers(folder):
    """A process that ends takes TensorStore's threads with it; here some still write."""
    seen = None
    while seen != (seen := sorted(folder.rglob("*"))):
        time.sleep(0.5)


def test_a_finished_run_stays_as_it_is(tiny, whole, demo_records):
    before = (whole[0] / LOG_FILE).read_text()
    config = dataclasses.replace(tiny, eval_every=4)
    state = train(config, data_dir=demo_records, workdir=whole[0])
    _assert_same(jax.device_get(state), whole[1])
    assert (whole[0] / LOG_FILE).read_text() == before


def test_sigterm_saves_and_says_start_me_again(tiny, whole, demo_records, tmp_path, capsys):
    """The signal comes after step 4; the run ends as an undisturbed one. The best step is kept."""
    config = dataclasses.replace(tiny, eval_every=2, keep_last=1, keep_best="-score")

    def evaluate(forward, variables, step):
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"score": float(step or 9), "other": 0.0}

    arguments = {"data_dir": demo_records, "workdir": tmp_path, "evaluate": evaluate}
    with pytest.raises(distributed.Preempted) as stopped:
        train(config, **arguments)
    assert stopped.value.code == 75
    assert "step 5: saved; start again to go on" in capsys.readouterr().err
    assert _kept(tmp_path) == [2, 5]
    state = train(config, **arguments)
    _assert_same(jax.device_get(state), whole[1])
    assert _kept(tmp_path) == [2, 6]


def _kept(workdir) -> list[int]:
    with checkpoint.open_manager(workdir, keep=10) as manager:
        return sorted(manager.all_steps())


def test_sigterm_before_the_first_step_does_nothing(tiny, demo_records, tmp_path, capsys):
    """No evaluation and no compilation: there may be seconds left."""

    def log(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return TrainLog(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "TrainLog", log)
        with pytest.raises(distributed.Preempted):
            train(tiny, data_dir=demo_records, workdir=tmp_path, evaluate=pytest.fail)
    assert "step 0: nothing to save yet; start again to go on" in capsys.readouterr().err
    assert checkpoint.latest_step(tmp_path) is None


def test_an_evaluation_that_was_due_is_done_first(tiny, whole, demo_records, tmp_path):
    """SIGTERM comes at a due step, the process dies in the last evaluation: none is lost.

    Scores of a restored state are those of the state before it was saved.
    """
    config = dataclasses.replace(tiny, eval_every=2, keep_last=9)
    calls, dies = [], [6]

    def evaluate(forward, variables, step):
        calls.append(step)
        if step in dies:
            dies.remove(step)
            raise Killed
        return {"mean": _mean(variables)}

    step_of = loop.make_train_step

    def with_signal(*arguments):
        step, count = step_of(*arguments), iter(range(1, 9))

        def signalled(state, batch):
            if next(count) == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(state, batch)

        return signalled

    arguments = {"data_dir": demo_records, "workdir": tmp_path, "evaluate": evaluate}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_train_step", with_signal)
        with pytest.raises(distributed.Preempted):
            train(config, **arguments)
    assert calls == [0, 2] and _kept(tmp_path) == [0, 2, 3, 4]
    assert list(checkpoint.scores(tmp_path)) == [0, 2]
    with pytest.raises(Killed):
        train(config, **arguments)
    assert calls == [0, 2, 4, 6] and _kept(tmp_path) == [0, 2, 3, 4]
    state = train(config, **arguments)
    assert calls == [0, 2, 4, 6, 6]
    _assert_same(jax.device_get(state), whole[1])
    scores = checkpoint.scores(tmp_path)
    assert scores == {
        step: {"mean": _mean(checkpoint.load_variables(tmp_path, step=step)[0])}
        for step in (0, 2, 4, 6)
    }
    logged = [row for row in read_log(tmp_path) if "eval/mean" in row]
    assert logged == [{"step": s, "eval/mean": scores[s]["mean"]} for s in (0, 2, 4, 6)]
    train(config, **arguments)  # a finished run is not judged again
    assert len(calls) == 5


def _mean(variables) -> float:
    leaves = jax.tree.leaves(jax.device_get(variables))
    return float(np.mean([np.mean(leaf, dtype=np.float64) for leaf in leaves]))


def test_more_steps_for_a_finished_run(tiny, whole, demo_records, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    calls = []

    def evaluate(forward, variables, step):
        calls.append(step)
        return {"score": 1.0}

    config = dataclasses.replace(tiny, steps=8, eval_every=4, log_every=1)
    arguments = {"data_dir": demo_records, "workdir": tmp_path / "run"}
    state = train(config, **arguments, evaluate=evaluate)
    assert int(state.step) == 8 and calls == [8]
    rates = {
        row["step"]: row["learning_rate"] for row in read_log(tmp_path / "run") if "loss" in row
    }
    # The cosine ends at the new last step: the steps to come are those of a run of eight.
    schedule = make_schedule(config.optimizer, 8)
    np.testing.assert_allclose([rates[7], rates[8]], [schedule(6), schedule(7)], rtol=1e-6)


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
    _assert_same(state.params["text_encoder"], whole[1].params["text_encoder"])
    fresh = jax.device_get(init_state(_adapted(config, whole[0]), some_mesh(1)))
    _assert_same(state.params["audio_encoder"], fresh.params["audio_encoder"])
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


def test_hidden_transfers_are_refused(tiny, demo_records, tmp_path, monkeypatch):
    add = jax.jit(lambda x, y: x + y)

    def from_host(step, state):
        return state.replace(step=add(state.step, np.zeros((), np.int32)))

    _broken_step(monkeypatch, from_host)
    with pytest.raises(Exception, match="(?i)disallowed host-to-device transfer"):
        train(tiny, data_dir=demo_records, workdir=tmp_path)


def test_a_batch_that_does_not_divide(tiny, demo_records, tmp_path):
    config = dataclasses.replace(tiny, batch_size=12)
    with pytest.raises(ValueError, match="^batch_size 12 does not divide among 8 devices$"):
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
    _assert_same(jax.device_get(state), whole[1])
    shardings = [[leaf.sharding for leaf in jax.tree.leaves(tree)] for tree in (state, template)]
    assert shardings[0] == shardings[1]
    split = [leaf for leaf in jax.tree.leaves(state) if not leaf.sharding.is_fully_replicated]
    assert (len(split) > 10) == (fsdp > 1)


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
