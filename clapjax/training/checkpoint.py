"""Orbax checkpoints of a training run, and reading a model back from its workdir."""

import errno
import json
import math
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from clapjax.data import paths
from clapjax.data.bucket_errors import BucketError, telling_of
from clapjax.data.paths import as_path, is_local, no_room, write_text
from clapjax.training import distributed
from clapjax.training.config import CHECKPOINTS
from clapjax.training.state import TrainState

DAMAGED = "damaged_checkpoints"  # where those go that could not be read
ITEM = "default"  # Orbax's name of the state within a checkpoint
SCORES = "metrics"  # and of the scores, folder and file


# By which TensorStore and XLA say, in an error of any kind, that it is not what is read.
REFUSED = ("PERMISSION_DENIED", "UNAUTHENTICATED")
BUSY = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
FULL_MEMORY = "RESOURCE_EXHAUSTED"


class DamagedError(ValueError):
    """No checkpoint of a run can be read."""


def open_manager(
    workdir: str | os.PathLike, keep: int = 2, best: str = ""
) -> ocp.CheckpointManager:
    """The manager of `workdir`'s checkpoints; saves are atomic and asynchronous.

    Args:
      workdir: of the run.
      keep: how many of the last checkpoints stay.
      best: TrainConfig.keep_best: the score of which the highest stays ("-NAME": the lowest).
    """
    name, lowest = best.removeprefix("-"), best.startswith("-")

    def score(scores: dict[str, float]) -> float:
        return scores.get(name, math.inf if lowest else -math.inf)

    policies = [ocp.checkpoint_managers.LatestN(keep)]
    if best:
        policies.append(
            ocp.checkpoint_managers.BestN(
                get_metric_fn=score, reverse=lowest, n=1, keep_checkpoints_without_metrics=False
            )
        )
    options = ocp.CheckpointManagerOptions(
        create=True,
        cleanup_tmp_directories=True,  # what a killed process was writing
        preservation_policy=ocp.checkpoint_managers.AnyPreservationPolicy(policies),
        best_fn=score,  # without one no scores are written
    )
    if jax.process_count() > 1:
        barrier = distributed.make_barrier()
        options.async_options = ocp.AsyncOptions(barrier_sync_fn=barrier)
    goodness = (lambda scores: -score(scores) if lowest else score(scores)) if best else None
    return _Manager(_folder(workdir), options, keep, goodness)


def _folder(workdir: str | os.PathLike) -> Path:
    """Where a run's checkpoints are, as Orbax wants to have it; S3 is made known to it."""
    path = as_path(workdir)
    if is_local(path):
        return path.absolute() / CHECKPOINTS
    from clapjax.training import orbax_s3

    orbax_s3.set_up()
    return path / CHECKPOINTS  # etils makes a folder of this machine of a bucket's "absolute" path


class _Manager(ocp.CheckpointManager):
    """Knows what stays: the last `keep`, and the best by a function of scores, if there is one."""

    def __init__(
        self,
        folder: Path,
        options: ocp.CheckpointManagerOptions,
        keep: int,
        goodness: Callable[[dict[str, float]], float] | None,
    ):
        super().__init__(folder, options=options)
        self._keep, self._goodness = keep, goodness

    def tidy(self) -> None:
        """Deletes what scores that came late tell is not the best, as the next save would."""
        steps = sorted(self.all_steps())
        kept = set(steps[-self._keep :])
        if self._goodness and (judged := scores_in(self)):
            kept.add(max(judged, key=lambda step: (self._goodness(judged[step]), step)))
        for step in steps:
            if step not in kept:
                self.delete(step)

    def reached_preemption(self, step: int) -> bool:
        """Asks nobody: JAX would take the step for one of the calls of `stop_requests`."""
        return False


def make_save(manager: ocp.CheckpointManager) -> Callable[..., None]:
    """A function (step, state, scores, hurry=False) that saves; the first checkpoint is read back.

    In a hurry it is the next one. Raises as `save` and `read_back` do.
    """
    unread = [True]

    def write(step: int, state: TrainState, scores: dict[str, float], hurry: bool = False) -> None:
        save(manager, step, state, scores)
        if unread and not hurry:
            read_back(manager, step, state)
            unread.clear()

    return write


def save(
    manager: ocp.CheckpointManager, step: int, state: TrainState, scores: dict[str, float]
) -> None:
    """Saves `state` as checkpoint `step`; returns while the write goes on.

    Args:
      manager, step, state: what, where and as what.
      scores: of its evaluation; empty: it has not been evaluated.

    Raises:
      OSError: no room for it, or the last save has failed; on all processes.
    """
    check_room(manager, state)
    args = ocp.args.StandardSave(_to_tree(state))
    with distributed.together(as_path(manager.directory)):
        manager.save(step, args=args, metrics=scores, force=True)


def finish(manager: ocp.CheckpointManager) -> None:
    """Returns when all is written; raises as `save` does, on all processes."""
    with distributed.together(as_path(manager.directory)):
        manager.wait_until_finished()


def close(manager: ocp.CheckpointManager) -> None:
    """Waits for the last save, without the other processes; no room is an OSError."""
    try:
        manager.close()
    except Exception as error:
        if found := no_room(error, as_path(manager.directory)):
            raise found from error
        raise


def check_room(manager: ocp.CheckpointManager, state: TrainState) -> None:
    """Raises OSError on all processes where there is no room for one more checkpoint of `state`."""
    folder = as_path(manager.directory)
    with distributed.together(folder):
        if distributed.is_main():
            needed = sum(leaf.nbytes for leaf in jax.tree.leaves(_to_tree(state)))
            if not is_local(folder):  # a bucket has room
                return
            disk = shutil.disk_usage(folder)
            if disk.total > 0 and disk.free < needed:  # some file systems do not tell
                why = f"{os.strerror(errno.ENOSPC)}: a checkpoint takes {needed:,} bytes"
                raise OSError(errno.ENOSPC, why, os.fspath(folder))


def read_back(manager: ocp.CheckpointManager, step: int, state: TrainState) -> None:
    """Waits for checkpoint `step`, and reads it to see that it is `state`, bit for bit.

    Takes the time to read it, and as long the memory of a second state on the devices. Each process
    compares what its own devices hold.

    Raises:
      DamagedError: it cannot be found or read, or is another one; on all processes.
      OSError: as `finish`; or it is out of reach for a moment.
    """
    finish(manager)
    folder, problem, away = as_path(manager.directory), "", None
    if step not in steps_in(folder.parent):
        problem = "is not found"
    else:
        try:
            with telling_of([os.fspath(folder / str(step))]):
                found = _read(folder / str(step), state)
        except Exception as error:  # whatever Orbax and TensorStore find
            away = out_of_reach(error, folder / str(step))
            problem = f"cannot be read ({str(error).partition(chr(10))[0]})"
        else:
            if wrong := _different(_to_tree(state), _to_tree(found)):
                problem = f"is not what was saved: {', '.join(wrong[:3])} differ ({len(wrong)})"
    _stop_together(away, folder / str(step))
    if not distributed.all_agree(not problem):
        problem = problem or "cannot be read by another process"
        raise DamagedError(f"{folder / str(step)}: was saved, but {problem}; use another workdir")


def _different(left: dict, right: dict) -> list[str]:
    """Paths of the arrays of which a shard on a device of this process differs in a bit."""
    found = []
    for (path, a), b in zip(jax.tree.leaves_with_path(left), jax.tree.leaves(right), strict=True):
        ours, theirs = ({str(s.index): s.data for s in x.addressable_shards} for x in (a, b))
        if any(np.asarray(ours[i]).tobytes() != np.asarray(theirs[i]).tobytes() for i in ours):
            found.append(jax.tree_util.keystr(path, simple=True, separator="/"))
    return found


def add_scores(manager: ocp.CheckpointManager, step: int, scores: dict[str, float]) -> None:
    """Puts scores into checkpoint `step`, which was saved without; raises as `finish` does.

    What is no longer among the last and the best goes.
    """
    finish(manager)
    with distributed.together(as_path(manager.directory)):
        if distributed.is_main():
            file = as_path(manager.directory) / str(step) / SCORES / SCORES
            file.parent.mkdir(exist_ok=True)
            write_text(file, json.dumps(scores))
    distributed.wait_for_all("scores are written")
    manager.reload()
    manager.tidy()


def scores_in(manager: ocp.CheckpointManager) -> dict[int, dict[str, float]]:
    """{step: {name: score}} of the checkpoints that were evaluated."""
    found = {step: manager.metrics(step) for step in manager.all_steps()}
    return {step: scores for step, scores in sorted(found.items()) if scores}


def scores(workdir: str | os.PathLike) -> dict[int, dict[str, float]]:
    """{step: {name: score}} of a workdir's checkpoints that were evaluated."""
    found = {}
    for step in steps_in(workdir):
        file = as_path(workdir) / CHECKPOINTS / str(step) / SCORES / SCORES
        if file.is_file() and (held := json.loads(file.read_text())):
            found[step] = held
    return found


def restore(manager: ocp.CheckpointManager, template: TrainState) -> TrainState | None:
    """The newest checkpoint that can be read, placed on the devices as `template` is.

    Newer ones that are damaged are moved out of the way, with a warning; none is where it may be
    read another time.

    Args:
      manager: of `open_manager`.
      template: arrays, or their shapes and shardings; any mesh and number of processes.

    Returns:
      The state; None where there is no checkpoint.

    Raises:
      DamagedError: there are checkpoints, but none can be read.
      OSError: one is out of reach, for this process or another one: no permission, or a bucket that
        does not answer.
      MemoryError: there is no room for it in memory, of this machine or of a device.
    """
    folder = as_path(manager.directory)
    steps, damaged, problem = sorted(manager.all_steps(), reverse=True), [], None
    for step in steps:
        state = away = None
        try:
            with telling_of([os.fspath(folder / str(step))]):
                state = _read(folder / str(step), template)
        except Exception as error:  # whatever Orbax and TensorStore find in a broken file
            problem, away = problem or error, out_of_reach(error, folder / str(step))
        _stop_together(away, folder / str(step))
        if distributed.all_agree(state is not None):
            _set_aside(folder, damaged)
            if damaged:
                manager.reload()
            return state
        warnings.warn(f"{folder / str(step)}: cannot be read; going back further", stacklevel=2)
        damaged.append(step)
    if steps:
        raise DamagedError(f"{folder}: none of the checkpoints {steps} can be read") from problem
    return None


def out_of_reach(error: Exception, path: Path) -> Exception | None:
    """What to raise of an error in reading `path` that does not tell of damage; None: it does."""
    limits = errno.EMFILE, errno.ENFILE, errno.ENOMEM
    cause: BaseException | None = error
    while cause is not None:
        said = str(cause)
        if isinstance(cause, MemoryError) or FULL_MEMORY in said:
            return MemoryError(said)
        if isinstance(cause, BucketError | PermissionError):
            return cause
        passes = any(word in said for word in BUSY) or getattr(cause, "errno", None) in limits
        if passes or any(word in said for word in REFUSED):
            found = OSError(f"{path}: cannot be read now ({' '.join(said.split())[:200]})")
            found.passes = passes
            return found
        cause = cause.__cause__ or cause.__context__
    return None


def _stop_together(away: Exception | None, path: Path) -> None:
    """Raises on all processes where one found `path` out of reach (`out_of_reach`), and why.

    Whether that may pass decides about the exit status, and is the same for all.
    """
    if distributed.all_agree(away is None):
        return
    passes = distributed.all_agree(away is None or getattr(away, "passes", False))
    if away is None:
        away = OSError(f"{path}: is out of reach for another process")
        away.passes = passes
    raise away


def _read(folder: Path, template: TrainState) -> TrainState:
    """One checkpoint. No process waits for another here, as it would for one that finds damage."""
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), _to_tree(template)
    )
    handler = ocp.StandardCheckpointHandler()
    args = ocp.args.StandardRestore(abstract)
    return TrainState(**handler.restore(epath.Path(folder / ITEM), args=args))


def _set_aside(folder: Path, steps: list[int]) -> None:
    if steps and distributed.is_main():
        for step in steps:
            target = folder.parent / DAMAGED / str(step)
            paths.remove_folder(target)
            target.parent.mkdir(exist_ok=True)
            paths.move_folder(folder / str(step), target)
    distributed.wait_for_all("damaged checkpoints are out of the way")


def _to_tree(state: TrainState) -> dict:
    """What is on disk: no entry for a moving average that is off."""
    tree = {name: getattr(state, name) for name in ("step", "params", "batch_stats", "opt_state")}
    return tree if state.ema is None else tree | {"ema": state.ema}


def latest_step(workdir: str | os.PathLike) -> int | None:
    """Step of the newest finished checkpoint of a workdir; None where there is none."""
    return max(steps_in(workdir), default=None)


def steps_in(workdir: str | os.PathLike) -> list[int]:
    """Steps of the finished checkpoints of a workdir, ascending."""
    folder = _folder(workdir)
    return sorted(ocp.utils.checkpoint_steps(folder)) if folder.is_dir() else []


def load_variables(
    workdir: str | os.PathLike, without: str | None = None, step: int | None = None
) -> tuple[dict, int]:
    """The model of the newest checkpoint that can be read, as numpy arrays.

    Where the run keeps a moving average of its parameters, that is the model.

    Args:
      workdir: of a run.
      without: parameters and statistics whose top-level name begins so are left out.
      step: that checkpoint instead.

    Returns:
      ({"params", "batch_stats"}, step).

    Raises:
      FileNotFoundError: the workdir has no checkpoint yet, or not that one.
      DamagedError: there are checkpoints, but none can be read.
      OSError, MemoryError: one is out of reach, as for `restore`.
    """
    steps = steps_in(workdir)[::-1]
    if not steps:
        raise FileNotFoundError(f"{workdir}: no checkpoint yet; train first")
    if step is not None and step not in steps:
        raise FileNotFoundError(f"{workdir}: no checkpoint of step {step}; there are {steps}")
    folder, problem = _folder(workdir), None
    for at in steps if step is None else [step]:
        try:
            with telling_of([os.fspath(folder / str(at))]):
                return _read_variables(folder / str(at), without), at
        except Exception as error:  # whatever Orbax and TensorStore find in a broken file
            if away := out_of_reach(error, folder / str(at)):
                raise away from error
            problem = problem or error
            warnings.warn(f"{folder / str(at)}: cannot be read", stacklevel=2)
    raise DamagedError(f"{folder}: none of the checkpoints {steps} can be read") from problem


def _read_variables(folder: Path, without: str | None) -> dict:
    handler, path = ocp.PyTreeCheckpointHandler(), epath.Path(folder / ITEM)
    tree = handler.metadata(path).tree
    params = "ema" if "ema" in tree else "params"
    wanted = {
        name: {
            key: part
            for key, part in tree[name].items()
            if without is None or not key.startswith(without)
        }
        for name in (params, "batch_stats")
    }
    wanted = {name: group for name, group in wanted.items() if group}  # Orbax reads no empty one
    # As numpy: the devices that wrote the checkpoint need not be here.
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    args = ocp.args.PyTreeRestore(wanted, restore_args=as_numpy, partial_restore=True)
    restored = handler.restore(path, args=args)
    return {"params": restored[params], "batch_stats": restored.get("batch_stats", {})}
