"""Checkpoints: which are kept, what is read where one is damaged, and what a model is."""

import contextlib
import dataclasses
import errno
import os
import resource
import shutil
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clapjax.training import checkpoint
from clapjax.training.state import TrainState

# Orbax leaves the reads behind that a damaged file has made fail.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def _state(step: int, ema: bool = False) -> TrainState:
    """Small, but with a file of its own for each array."""
    params = {"audio_x": jnp.full((64, 64), float(step)), "text_x": jnp.arange(4.0) + step}
    average = {name: value + 100 for name, value in params.items()} if ema else None
    moments = ({"mu": params}, {"count": jnp.int32(step)})
    return TrainState(jnp.int32(step), params, {"audio_x": jnp.ones(2)}, moments, average)


def _write(workdir: Path, steps, scores=None, ema: bool = False, **options) -> None:
    with checkpoint.open_manager(workdir, **options) as manager:
        for step in steps:
            checkpoint.save(manager, step, _state(step, ema), (scores or {}).get(step, {}))


def _files(workdir: Path, step: int) -> list[Path]:
    return [path for path in (workdir / "checkpoints" / str(step)).rglob("*") if path.is_file()]


def _steps(workdir: Path) -> list[int]:
    with checkpoint.open_manager(workdir) as manager:
        return sorted(manager.all_steps())


def test_the_last_and_the_best_are_kept(tmp_path):
    scores = {1: {"a": 0.3}, 2: {"a": 0.9}, 3: {"a": 0.5}, 4: {"a": 0.4}}
    _write(tmp_path / "high", range(1, 6), scores, keep=2, best="a")
    assert _steps(tmp_path / "high") == [2, 4, 5]
    assert checkpoint.scores(tmp_path / "high") == {2: {"a": 0.9}, 4: {"a": 0.4}}
    _write(tmp_path / "low", range(1, 6), scores, keep=1, best="-a")
    assert _steps(tmp_path / "low") == [1, 5]
    _write(tmp_path / "last", range(1, 6), scores, keep=3)
    assert _steps(tmp_path / "last") == [3, 4, 5]
    # Scores of another name decide nothing; the later of two equal ones stays.
    equal = {1: {"b": 9.0}, 2: {"a": 1.0}, 3: {"a": 1.0}}
    _write(tmp_path / "equal", range(1, 5), equal, keep=1, best="a")
    assert _steps(tmp_path / "equal") == [3, 4]


def test_orbax_does_not_count_the_calls_that_ask_whether_to_stop(tmp_path, monkeypatch):
    """Fails before: after a save of step 300, a SIGTERM was due 300 calls later."""
    asked = []
    monkeypatch.setattr(
        jax.experimental.multihost_utils, "reached_preemption_sync_point", asked.append
    )
    _write(tmp_path, [1, 300])
    assert asked == []


def test_scores_that_come_later(tmp_path):
    """They count as those do that came with the checkpoint."""
    _write(tmp_path, [1, 2], keep=2)
    assert checkpoint.scores(tmp_path) == {}
    with checkpoint.open_manager(tmp_path, 1, "a") as manager:
        checkpoint.add_scores(manager, 1, {"a": 5.0})
        assert checkpoint.scores_in(manager) == checkpoint.scores(tmp_path) == {1: {"a": 5.0}}
        checkpoint.save(manager, 3, _state(3), {"a": 4.0})
    assert _steps(tmp_path) == [1, 3]
    assert checkpoint.scores(tmp_path) == {1: {"a": 5.0}, 3: {"a": 4.0}}


def test_every_file_that_is_cut_is_noticed_or_does_not_matter(tmp_path):
    """Whatever file loses its end, what is read is what was written, now or one step before."""
    _write(tmp_path, [1, 2])
    fell_back = 0
    for file in _files(tmp_path, 2):
        content = file.read_bytes()
        os.truncate(file, len(content) // 2)
        try:
            state = checkpoint._read(tmp_path / "checkpoints" / "2", _state(0))
        except Exception:
            fell_back += 1
            state = checkpoint._read(tmp_path / "checkpoints" / "1", _state(0))
        jax.tree.map(np.testing.assert_array_equal, state, _state(int(state.step)))
        file.write_bytes(content)
    assert fell_back >= 3


def test_a_damaged_newest_checkpoint_costs_one_interval(tmp_path):
    _write(tmp_path, [1, 2, 3], keep=3)
    largest = max(_files(tmp_path, 3), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    with pytest.warns(UserWarning, match="checkpoints/3: cannot be read"):
        variables, step = checkpoint.load_variables(tmp_path)
    assert step == 2 and variables["params"]["audio_x"][0, 0] == 2
    with checkpoint.open_manager(tmp_path, keep=3) as manager:
        with pytest.warns(UserWarning, match="checkpoints/3: cannot be read; going back further"):
            state = checkpoint.restore(manager, _state(0))
        jax.tree.map(np.testing.assert_array_equal, state, _state(2))
        checkpoint.save(manager, 3, _state(3), {})  # the run comes there again
    assert _steps(tmp_path) == [1, 2, 3]
    assert (tmp_path / "damaged_checkpoints" / "3" / "default").is_dir()
    assert checkpoint.load_variables(tmp_path)[1] == 3


@pytest.mark.parametrize(
    ("error", "kind", "passes"),
    [
        (ValueError("PERMISSION_DENIED: Error reading\n[source locations]"), OSError, False),
        (ValueError("UNAVAILABLE: the server is busy"), OSError, True),
        (OSError(errno.EMFILE, "Too many open files"), OSError, True),
        (PermissionError(errno.EACCES, "Permission denied"), PermissionError, False),
        (RuntimeError("RESOURCE_EXHAUSTED: out of memory on the device"), MemoryError, False),
        (MemoryError(), MemoryError, False),
    ],
)
def test_what_is_out_of_reach_is_not_damaged(tmp_path, monkeypatch, error, kind, passes):
    """A full device or an outage for a moment costs no interval."""
    _write(tmp_path, [1, 2])
    real = checkpoint._read

    def read(folder, template):
        if folder.name == "2":
            raise ValueError("Orbax says so") from error
        return real(folder, template)

    monkeypatch.setattr(checkpoint, "_read", read)
    monkeypatch.setattr(checkpoint, "_read_variables", read)
    with checkpoint.open_manager(tmp_path) as manager, pytest.raises(kind) as restoring:
        checkpoint.restore(manager, _state(0))
    with pytest.raises(kind) as loading:
        checkpoint.load_variables(tmp_path)
    with checkpoint.open_manager(tmp_path) as manager, pytest.raises(kind) as back:
        checkpoint.read_back(manager, 2, _state(2))
    for found in (restoring.value, loading.value, back.value):
        assert getattr(found, "passes", False) is passes and "\n" not in str(found)
    assert _steps(tmp_path) == [1, 2]


@pytest.mark.parametrize("passes", [True, False])
def test_what_another_process_cannot_reach_stops_this_one_with_its_status(
    tmp_path, monkeypatch, passes
):
    """Else one host would ask to be started again, and the others' status end the run."""
    _write(tmp_path, [1])
    answers = iter([False, passes])
    with checkpoint.open_manager(tmp_path) as manager:
        monkeypatch.setattr(checkpoint.distributed, "all_agree", lambda _: next(answers))
        with pytest.raises(OSError, match="out of reach for another process") as found:
            checkpoint.restore(manager, _state(0))
    assert found.value.passes is passes and _steps(tmp_path) == [1]


def test_nothing_is_moved_where_nothing_can_be_read(tmp_path):
    _write(tmp_path, [1, 2])
    other = dataclasses.replace(_state(0), params={"audio_x": jnp.zeros((3, 3))})
    with (
        checkpoint.open_manager(tmp_path) as manager,
        pytest.warns(UserWarning),
        pytest.raises(checkpoint.DamagedError, match=r"none of the checkpoints \[2, 1\]"),
    ):
        checkpoint.restore(manager, other)
    assert _steps(tmp_path) == [1, 2]
    assert not (tmp_path / "damaged_checkpoints").exists()
    for step in (1, 2):
        for file in _files(tmp_path, step):
            os.truncate(file, 0)
    with pytest.warns(UserWarning), pytest.raises(checkpoint.DamagedError, match="can be read"):
        checkpoint.load_variables(tmp_path)


@contextlib.contextmanager
def _files_of_at_most(size: int):
    """Writes beyond it fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _until_threads_have_ended(folder: Path) -> None:
    """TensorStore's write on for a moment; those of a run are gone when it is started again."""
    before, now = None, set(folder.rglob("*"))
    while now != before:
        time.sleep(0.1)
        before, now = now, set(folder.rglob("*"))


def test_a_write_that_fails_is_one_line_and_the_last_whole_one_stays(tmp_path):
    """Fails before: a traceback of TensorStore."""
    with checkpoint.open_manager(tmp_path) as manager:
        checkpoint.save(manager, 1, _state(1), {})
        checkpoint.finish(manager)
        with _files_of_at_most(500):
            checkpoint.save(manager, 2, _state(2), {})
            with pytest.raises(OSError, match=r"too large, [\d,]+ bytes are free: '.*") as caught:
                checkpoint.finish(manager)
        assert caught.value.errno == errno.EFBIG and "\n" not in str(caught.value)
        assert caught.value.filename == str(tmp_path / "checkpoints")
    assert checkpoint.latest_step(tmp_path) == 1
    _until_threads_have_ended(tmp_path)
    with checkpoint.open_manager(tmp_path) as manager:
        jax.tree.map(
            np.testing.assert_array_equal, checkpoint.restore(manager, _state(0)), _state(1)
        )
        checkpoint.save(manager, 2, _state(2), {})
    assert _steps(tmp_path) == [1, 2]


def test_a_write_that_fails_while_the_run_ends_is_one_line_as_well(tmp_path):
    """It comes while the error that ended the run is on its way, and must not hide what it was."""
    manager = checkpoint.open_manager(tmp_path)
    with pytest.raises(OSError, match="File too large"), _files_of_at_most(500):
        try:
            checkpoint.save(manager, 2, _state(2), {})
            raise OSError("of the log")
        finally:
            checkpoint.close(manager)


def test_no_room_is_noticed_before_anything_is_written(tmp_path, monkeypatch):
    state, usage = _state(1), shutil.disk_usage(tmp_path)
    bytes_of_state = 2 * 4 * (64 * 64 + 4) + 4 * (2 + 1 + 1)  # params and mu; the rest
    with checkpoint.open_manager(tmp_path) as manager:
        free = bytes_of_state - 1
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
        message = f"a checkpoint takes {bytes_of_state:,} bytes, {free:,} bytes are free"
        with pytest.raises(OSError, match=f"No space left on device: {message}"):
            checkpoint.save(manager, 1, state, {})
        free += 1
        checkpoint.save(manager, 1, state, {})
        free = 0
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(total=0, free=0))
        checkpoint.save(manager, 2, _state(2), {})  # a file system that does not tell
    monkeypatch.undo()
    assert _steps(tmp_path) == [1, 2]


def test_what_was_saved_is_read_back_once(tmp_path, monkeypatch):
    reads, read = [], checkpoint._read
    monkeypatch.setattr(
        checkpoint, "_read", lambda folder, state: reads.append(folder.name) or read(folder, state)
    )
    with checkpoint.open_manager(tmp_path, keep=5) as manager:
        save = checkpoint.make_save(manager)
        for step in (1, 2, 3):
            save(step, _state(step), {}, hurry=step == 1)
        assert reads == ["2"]
        with pytest.raises(checkpoint.DamagedError, match=r"3: .*count differ \(6\)"):
            checkpoint.read_back(manager, 3, _state(4))
        largest = max(_files(tmp_path, 3), key=lambda path: path.stat().st_size)
        os.truncate(largest, largest.stat().st_size // 2)
        with pytest.raises(checkpoint.DamagedError, match="3: was saved, but cannot be read"):
            checkpoint.read_back(manager, 3, _state(3))
        os.rename(tmp_path / "checkpoints" / "3", tmp_path / "3")
        with pytest.raises(checkpoint.DamagedError, match="3: was saved, but is not found"):
            checkpoint.read_back(manager, 3, _state(3))


def test_a_zero_and_a_minus_zero_are_not_the_same_bits(tmp_path):
    states = [
        dataclasses.replace(_state(1), batch_stats={"x": jnp.float32(z)}) for z in (0.0, -0.0)
    ]
    with checkpoint.open_manager(tmp_path) as manager:
        checkpoint.save(manager, 1, states[0], {})
        checkpoint.read_back(manager, 1, states[0])
        with pytest.raises(checkpoint.DamagedError, match="batch_stats/x differ"):
            checkpoint.read_back(manager, 1, states[1])


def test_no_checkpoint_yet(tmp_path):
    with checkpoint.open_manager(tmp_path) as manager:
        assert checkpoint.restore(manager, _state(0)) is None
    with pytest.raises(FileNotFoundError, match="no checkpoint yet; train first"):
        checkpoint.load_variables(tmp_path)


def test_the_moving_average_is_the_model(tmp_path):
    _write(tmp_path, [1, 2], ema=True)
    variables, _ = checkpoint.load_variables(tmp_path)
    assert variables["params"]["audio_x"][0, 0] == 102
    assert sorted(variables) == ["batch_stats", "params"]
    assert sorted(checkpoint.load_variables(tmp_path, "audio_")[0]["params"]) == ["text_x"]
    with checkpoint.open_manager(tmp_path) as manager:
        state = checkpoint.restore(manager, _state(0, ema=True))
    jax.tree.map(np.testing.assert_array_equal, state, _state(2, ema=True))


def test_an_older_checkpoint_by_its_step(tmp_path):
    _write(tmp_path, [1, 2])
    variables, step = checkpoint.load_variables(tmp_path, step=1)
    assert step == 1 and variables["params"]["audio_x"][0, 0] == 1
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 7; there are \[2, 1\]"):
        checkpoint.load_variables(tmp_path, step=7)
