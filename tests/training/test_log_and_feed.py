"""The log of a run, and the thread that feeds it."""

import errno
import json
import resource
import time
from types import SimpleNamespace

import numpy as np
import pytest

from clapjax.data.records import RecordsError
from clapjax.training.config import MeshConfig
from clapjax.training.feed import Waiting, device_batches
from clapjax.training.log import TrainLog
from clapjax.training.log_files import LOG_FILE, read_log
from clapjax.training.mesh import batch_sharding, make_mesh
from clapjax.training.workdir import prepare


def test_log_drops_the_rows_of_a_killed_attempt(tmp_path, capsys):
    log = TrainLog(tmp_path, start_step=0, steps=10, batch_size=4)
    for step in (2, 4, 6):
        log.write(step, {"loss": step / 2, "logit_scale": 14.0})
    log.write_scores(6, {"accuracy": 0.5})
    log.close()
    assert "step 6/10: loss 3.0000, " in capsys.readouterr().err
    with (tmp_path / LOG_FILE).open("a") as file:
        file.write('\0\0\n5\n{"loss": 1}\n{"step": 8, "lo')  # the machine died here, twice
    assert [row["step"] for row in read_log(tmp_path)] == [2, 4, 6, 6]

    log = TrainLog(tmp_path, start_step=6, steps=10, batch_size=4, judged=True)
    log.close()
    assert [row["step"] for row in read_log(tmp_path)] == [2, 4, 6, 6]
    log = TrainLog(tmp_path, start_step=6, steps=10, batch_size=4, judged=False)
    log.close()
    assert [row.get("loss") for row in read_log(tmp_path)] == [1.0, 2.0, 3.0]

    log = TrainLog(tmp_path, start_step=4, steps=10, batch_size=4)
    log.write(8, {"loss": 9.0})
    log.close()
    rows = read_log(tmp_path)
    assert [(row["step"], row["loss"]) for row in rows] == [(2, 1.0), (4, 2.0), (8, 9.0)]
    assert all(json.loads(line) for line in (tmp_path / LOG_FILE).read_text().splitlines())


def test_of_two_starts_in_a_workdir_the_later_one_goes_on(tmp_path):
    """Fails where both write one log, and checkpoints over one another."""
    task, logs = SimpleNamespace(keep=lambda data_dir, workdir: None), []
    for loss in (1.0, 2.0):
        check = prepare(tmp_path, tmp_path, {}, task)
        logs.append(TrainLog(tmp_path, start_step=0, steps=10, batch_size=4, check=check))
        logs[-1].write(2, {"loss": loss})
    with pytest.raises(ValueError, match=f"{tmp_path}: was started a second time, which goes on"):
        logs[0].write(4, {"loss": 1.0})
    logs[1].write(4, {"loss": 2.0})
    for log in logs:
        log.close()
    assert [(row["step"], row["loss"]) for row in read_log(tmp_path)] == [(2, 2.0), (4, 2.0)]


def test_a_start_that_was_overtaken_leaves_the_log_as_it_is(tmp_path):
    """Fails before: while it started, another start had logged; its rows were lost."""
    (tmp_path / LOG_FILE).write_text('{"step": 120, "loss": 1.0}\n')

    def overtaken():
        raise RuntimeError("taken over")

    with pytest.raises(RuntimeError, match="taken over"):
        TrainLog(tmp_path, start_step=0, steps=10, batch_size=4, check=overtaken)
    assert read_log(tmp_path) == [{"step": 120, "loss": 1.0}]


def test_a_log_says_where_a_run_goes_on_and_rates_count_no_compiling(tmp_path, capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("clapjax.training.log.time.perf_counter", lambda: now[0])
    for start, steps, first in ((0, 1000, ""), (30, 100, f"{tmp_path}: goes on from step 30\n")):
        log = TrainLog(tmp_path, start_step=start, steps=steps, batch_size=4)
        assert capsys.readouterr().err == first
        for step in range(start + 1, start + 21):
            now[0] += 2.0 if step > start + 1 else 300.0  # which is compiled
            log.advance()
            if step % 10 == 0:
                log.write(step, {"loss": 1.0})
                assert ", 2.0 clips/s, " in capsys.readouterr().err
        log.close()
    TrainLog(tmp_path, start_step=100, steps=100, batch_size=4).close()
    assert capsys.readouterr().err == ""

    log = TrainLog(tmp_path, start_step=0, steps=121, batch_size=4)
    # One that was killed before its first checkpoint.
    assert capsys.readouterr().err == f"{tmp_path}: goes on from step 0\n"
    now[0] += 0.9975  # of a first step that is all there is, compiling and all
    log.advance()
    log.write(1, {"loss": 1.0})
    assert capsys.readouterr().err.endswith("4.0 clips/s\n")  # which says nothing of the others
    log.close()


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


def test_a_log_that_cannot_be_written_says_so_at_the_step(tmp_path):
    """TensorBoard's file is flushed with each row, lest the disk is found full some rows later."""
    log = TrainLog(tmp_path, start_step=0, steps=10, batch_size=4)
    log.write(2, {"loss": 1.0})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert events.stat().st_size > (tmp_path / LOG_FILE).stat().st_size
    for file, step in ((events, 4), (tmp_path / LOG_FILE, 6)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, hard))
        try:
            with pytest.raises(OSError, match=f"too large, .* free: '{tmp_path}") as caught:
                log.write(step, {"loss": 1.0})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert caught.value.errno == errno.EFBIG
    assert [row["step"] for row in read_log(tmp_path)] == [2, 4]
    log.close()


def test_waiting_is_told_since_it_was_asked_last():
    def slow():
        for number in range(4):
            time.sleep(0.05 if number % 2 else 0.0)
            yield number

    waiting = Waiting(slow())
    assert [next(waiting), next(waiting)] == [0, 1] and waiting.seconds() >= 0.05
    assert waiting.seconds() == 0.0
    assert list(waiting) == [2, 3] and waiting.seconds() >= 0.05
    waiting.close()
