"""Stopped or killed at any moment, a run goes on and ends as an undisturbed one."""

import dataclasses
import os
import resource
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from clapjax.data.paths import FULL
from clapjax.training import checkpoint, distributed, loop
from clapjax.training.log import TrainLog
from clapjax.training.log_files import LOG_FILE, read_log
from clapjax.training.optimizer import make_schedule
from tests.training.tiny import assert_same, train


class Killed(Exception):
    """Stands for the end of a process."""


def test_resuming_equals_an_undisturbed_run(tiny, whole, demo_records, tmp_path):
    def die(forward, variables, step):
        if step == 4:
            raise Killed
        return {"score": 0.0}

    config = dataclasses.replace(tiny, eval_every=4)  # dies in the evaluation of 4, which is saved
    with pytest.raises(Killed):
        train(config, data_dir=demo_records, workdir=tmp_path, evaluate=die)
    assert checkpoint.latest_step(tmp_path) == 4
    assert [row["step"] for row in read_log(tmp_path)] == [0, 2, 3, 4]
    state = train(config, data_dir=demo_records, workdir=tmp_path)
    assert_same(jax.device_get(state), whole[1])
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
    assert_same(jax.device_get(state), whole[1])


def test_a_full_disk_stops_the_run_and_it_goes_on(tiny, whole, demo_records, tmp_path):
    """The write of step 6 fails in the background; what was there before is not lost."""
    config = dataclasses.replace(tiny, eval_every=4)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(forward, variables, step):
        if step == 4:  # more than the log takes, less than a checkpoint
            while checkpoint.latest_step(tmp_path) != 4:  # which is written meanwhile
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
    assert checkpoint.latest_step(tmp_path) == 4
    assert [row["step"] for row in read_log(tmp_path)] == [2, 3, 4, 6]
    _wait_for_writers(tmp_path)
    state = train(config, **arguments)
    assert_same(jax.device_get(state), whole[1])


def _wait_for_writers(folder):
    """A process that ends takes TensorStore's threads with it; here some still write."""
    seen = None
    while seen != (seen := sorted(folder.rglob("*"))):
        time.sleep(0.5)


def test_a_finished_run_stays_as_it_is(tiny, whole, demo_records):
    before = (whole[0] / LOG_FILE).read_text()
    config = dataclasses.replace(tiny, eval_every=4)
    state = train(config, data_dir=demo_records, workdir=whole[0])
    assert_same(jax.device_get(state), whole[1])
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
    assert_same(jax.device_get(state), whole[1])
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
    assert calls == [0, 2, 4, 6] and _kept(tmp_path) == [0, 2, 3, 4, 6]
    assert list(checkpoint.scores(tmp_path)) == [0, 2, 4]
    state = train(config, **arguments)
    assert calls == [0, 2, 4, 6, 6]
    assert_same(jax.device_get(state), whole[1])
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
