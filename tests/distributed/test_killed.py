"""Real processes on this machine stop, die and come back as one."""

import os
import signal
import time

import pytest

from benchmarks.kill_resume import SMALL, Job, evaluations, newest, same, steps_of, truncate
from clapjax.training.log import read_log
from tests.conftest import REPO


def test_killed_runs_end_as_if_undisturbed(demo_records, tmp_path, quick_env, monkeypatch):
    """SIGKILL to both, SIGTERM to one, a truncated checkpoint: the same bits in the end."""
    monkeypatch.setenv("PYTHONPATH", quick_env["PYTHONPATH"])
    monkeypatch.chdir(REPO)
    # JAX asks once a second whether SIGTERM has come: they have to last.
    steps, interval = 40, 5
    counts = {"steps": steps, "checkpoint_every": interval, "eval_every": steps // 2}
    ends = (f"--config.{x}={n}" for x, n in counts.items())
    overrides = (*SMALL, "--config.loss.order_pairs=2", *ends)

    def start(workdir):
        return Job(demo_records, workdir, overrides, devices=1)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    job = start(whole)
    assert job.wait() == [0, 0], job.logs[0].read_text()
    assert newest(whole) == steps

    job = start(killed)
    _until(lambda: newest(killed) >= interval, job)
    job.send(signal.SIGKILL)
    assert job.wait() == [-signal.SIGKILL] * 2
    first = newest(killed)

    job = start(killed)
    _until(lambda: newest(killed) > first, job)
    job.send(signal.SIGTERM, 1)
    assert job.wait() == [os.EX_TEMPFAIL] * 2, job.logs[0].read_text()
    stopped = newest(killed)
    assert first < stopped < steps
    for log in job.logs:
        assert f"step {stopped}: saved; start again to go on" in log.read_text()

    truncate(killed / "checkpoints" / str(stopped))
    earlier = max(step for step in steps_of(killed) if step < stopped)
    assert stopped - earlier <= interval
    job = start(killed)
    assert job.wait() == [0, 0], job.logs[0].read_text()
    assert f"{stopped}: cannot be read; going back further" in job.logs[0].read_text()
    assert (killed / "damaged_checkpoints" / str(stopped)).is_dir()
    assert same(whole, killed)
    assert [row["step"] for row in evaluations(whole)] == [0, 20, 40]
    assert evaluations(whole) == evaluations(killed)
    # Only one process wrote the log, and each step that is in it once.
    logged = [row["step"] for row in read_log(killed) if "loss" in row]
    assert logged == sorted(set(logged)) and logged[-1] == steps


def _until(happened, job) -> None:
    while not happened():
        if not job.running():
            logs = "\n".join(log.read_text() for log in job.logs)
            pytest.fail(f"ended with {job.wait()} before that\n{logs}")
        time.sleep(0.02)
