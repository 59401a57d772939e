"""The training loop: read from top to bottom."""

import collections
import math
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import jax

from clapjax.data.paths import as_path
from clapjax.data.pipeline import train_batches
from clapjax.tasks.task import Task
from clapjax.training import checkpoint, distributed
from clapjax.training.config import TrainConfig
from clapjax.training.feed import Waiting, device_batches
from clapjax.training.log import TrainLog
from clapjax.training.mesh import batch_sharding, check_batch, make_mesh, state_specs
from clapjax.training.rows import make_forward
from clapjax.training.state import TrainState, abstract_state, init_state, load_into
from clapjax.training.step import make_train_step, setting
from clapjax.training.trace import Trace
from clapjax.training.workdir import builds, prepare

# Of the compiled functions of `Task.forward` by name, the model's variables and the step.
Evaluate = Callable[[Mapping[str, Callable], dict, int], dict[str, float]]


class NonFiniteError(FloatingPointError):
    """A loss became NaN or infinite; the message names the step and the losses."""


def train(
    run: TrainConfig,
    task: Task,
    *,
    data_dir: str | os.PathLike,
    workdir: str | os.PathLike,
    evaluate: Evaluate | None = None,
    load: Callable[[str], dict] | None = None,
    profile: tuple[int, int] | None = None,
) -> TrainState:
    """Trains, or goes on where `workdir`'s newest checkpoint stands.

    A run that was killed and started again ends with the parameters of an undisturbed one, bit for
    bit: batches and keys are functions of (seed, step), and the state is all else there is. On
    several processes (`distributed.start`) all of them call this, with one `workdir` for all.

    Args:
      run: the settings; `workdir` must have been made with the same.
      task: what is learned; what it lacks is taken from the records.
      data_dir: records.
      workdir: checkpoints, logs and what the task keeps go here.
      evaluate: called before the first step, every `eval_every` steps and at the end, on every
        process, while the step is saved; its scores are logged as eval/NAME and go into the
        checkpoint. The variables are on the devices, split as the state is. What was interrupted
        in it is evaluated first when it goes on.
      load: from `run.init_from` to {"params", "batch_stats"}; called where that is set and there
        is no checkpoint yet.
      profile: first and last step of a trace, written to `workdir`/profile.

    Returns:
      The final state.

    Raises:
      Preempted: SIGTERM or Ctrl-C came, to any process; the state is saved (a SystemExit with
        status 75).
      NonFiniteError: a loss is NaN or infinite; nothing is saved after that step.
      RecordsError: the records are missing, damaged, or not the ones that this run began with.
      DamagedError: there are checkpoints, but none can be read; or the first that this start saved
        is not what it wrote.
      OSError: no room for a checkpoint or the log, on all processes and before the next checkpoint
        at the latest; the last whole one stays.
      ValueError: the batch does not divide among the devices; the model of `init_from` does not
        fit; steps to profile beyond the last; no score that is called as `run.keep_best`; another
        start has taken `workdir` over.
    """
    # --- records and task -------------------------------------------------------------------
    build = builds(data_dir, run)
    if run.keep_best and evaluate is None:
        raise ValueError(f"keep_best={run.keep_best}: nothing is evaluated")
    mesh = make_mesh(run.mesh)
    check_batch(run, mesh.size, task.group)
    workdir = as_path(workdir)
    check_ours = prepare(workdir, data_dir, build, task)
    task = task.open(workdir)

    # --- state ------------------------------------------------------------------------------
    manager = checkpoint.open_manager(workdir, run.keep_last, run.keep_best)
    state = checkpoint.restore(manager, abstract_state(run, task, mesh))
    fresh = state is None
    if fresh:
        state = init_state(run, task, mesh)
        if run.init_from:
            state = load_into(state, run.init_from, load)
    start, known = int(state.step), checkpoint.scores_in(manager)
    if start < run.steps:
        checkpoint.check_room(manager, state)
    save = checkpoint.make_save(manager)
    train_step = make_train_step(run, task, mesh)
    forward = make_forward(task, setting(run, mesh), state_specs(state.params, mesh, run.mesh))

    # --- input ------------------------------------------------------------------------------
    batches = train_batches(
        data_dir,
        run.data,
        task.audio,
        task.features,
        task.collate,
        draws_of_a_row=task.draws,
        group=task.group,
        reverses=task.reverses,
        balance=task.balance,
        batch_size=run.batch_size,
        seed=run.seed,
        start_step=start,
        host=jax.process_index(),
        hosts=jax.process_count(),
    )
    # One more is of the step that computes, and one of the step that waits for it.
    feed = Waiting(device_batches(batches, batch_sharding(mesh), max(1, run.data.prefetch - 1)))

    with ExitStack() as stack:
        asked_to_stop = stack.enter_context(distributed.stop_requests())
        stack.callback(checkpoint.close, manager)
        trace = stack.enter_context(Trace(workdir / "profile", profile, start, run.steps))
        main, judged = distributed.is_main(), start in known
        log = TrainLog(workdir, start, run.steps, run.batch_size, main, judged, check_ours)
        stack.callback(log.close)
        stack.callback(feed.close)

        def due(step: int) -> bool:
            at = step in (0, run.steps) or (run.eval_every and step % run.eval_every == 0)
            return evaluate is not None and bool(at)

        def scores_of(step: int) -> dict[str, float]:
            found = evaluate(forward, state.variables(), step)
            _check_score(found, run.keep_best)
            log.write_scores(step, found)
            return found

        # --- what was left to evaluate ------------------------------------------------------
        if asked_to_stop(start):
            distributed.preempted(f"step {start}: nothing to save yet")
        if due(start) and start not in known:
            found = scores_of(start)
            if fresh:
                save(start, state, found)
            else:
                checkpoint.add_scores(manager, start, found)
        elif known:
            _check_score(known[max(known)], run.keep_best)

        # --- loop ---------------------------------------------------------------------------
        pending: list[dict] = []  # metrics on the device since the last look
        running = collections.deque(maxlen=2)  # metrics of the last two steps
        for step in range(start + 1, run.steps + 1):
            trace.before(step)
            if len(running) == 2:
                jax.block_until_ready(running[0])  # so at most two steps hold a batch
            with jax.transfer_guard("disallow"):
                state, metrics = train_step(state, next(feed))
            trace.after(step, state)
            pending.append(metrics)
            running.append(metrics)
            log.advance()

            last, stop = step == run.steps, asked_to_stop(step)
            saving = last or stop or due(step) or step % run.checkpoint_every == 0
            if saving or step % run.log_every == 0:
                means = _fetch(pending, step)
                log.write(step, means | {"seconds_waiting_for_data": feed.seconds() / len(pending)})
                pending = []
            if saving:
                save(step, state, {}, hurry=stop)
            # After the save: who is killed in it loses no step. Asked to stop, there may be no
            # time for it: it is done when the run goes on.
            if due(step) and not stop:
                checkpoint.add_scores(manager, step, scores_of(step))
            if stop or last:
                checkpoint.finish(manager)
            if stop and (due(step) or not last):
                distributed.preempted(f"step {step}: saved")
    return state


def _fetch(pending: list[dict], step: int) -> dict[str, float]:
    """Means of the metrics since the last look; stops at the first step that is not finite.

    A metric that is NaN in a step whose loss and gradient are finite had nothing to measure there:
    the mean is over the other steps, and it is left out where there are none.
    """
    rows = jax.device_get(pending)
    for index, row in enumerate(rows):
        if not (math.isfinite(row["loss"]) and math.isfinite(row["gradient_norm"])):
            at = step - len(rows) + 1 + index
            shown = ", ".join(f"{name}={float(value):.6g}" for name, value in row.items())
            raise NonFiniteError(f"step {at}: not finite: {shown}")
    measured = {name: [row[name] for row in rows if not math.isnan(row[name])] for name in rows[0]}
    return {name: float(sum(values) / len(values)) for name, values in measured.items() if values}


def _check_score(found: dict[str, float], keep_best: str) -> None:
    """Raises ValueError where an evaluation has no score that is called as `keep_best`."""
    name = keep_best.removeprefix("-")
    if name and name not in found:
        raise ValueError(f"keep_best: no score {name!r}; the evaluation has {', '.join(found)}")
