"""The training loop: read from top to bottom."""

import dataclasses
import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import jax

from clapjax.data import records
from clapjax.data.order import parse_share
from clapjax.data.pipeline import train_batches
from clapjax.data.tokenizer import load_tokenizer
from clapjax.models.config import with_vocabulary
from clapjax.training import checkpoint, distributed
from clapjax.training.config import TrainConfig
from clapjax.training.feed import device_batches
from clapjax.training.log import TrainLog, read_scores
from clapjax.training.mesh import batch_sharding, check_batch, make_mesh, replicated
from clapjax.training.state import TrainState, abstract_state, init_state, start_from
from clapjax.training.step import make_train_step
from clapjax.training.trace import Trace

RECORDS_FILE = "records.json"


class NonFiniteError(FloatingPointError):
    """A loss became NaN or infinite; the message names the step and the losses."""


def train(
    config: TrainConfig,
    *,
    data_dir: str | os.PathLike,
    workdir: str | os.PathLike,
    evaluate: Callable[[dict, TrainConfig, int], dict[str, float]] | None = None,
    load: Callable[[str], dict] | None = None,
    profile: tuple[int, int] | None = None,
) -> TrainState:
    """Trains, or goes on where `workdir`'s newest checkpoint stands.

    A run that was killed and started again ends with the parameters of an undisturbed one, bit for
    bit: batches and keys are functions of (seed, step), and the state is all else there is. On
    several processes (`distributed.start`) all of them call this, with one `workdir` for all.

    Args:
      config: the run; `workdir` must have been made with the same.
      data_dir: records.
      workdir: checkpoints, logs and tokenizer go here.
      evaluate: called with (variables, config, step) every `eval_every` steps and at the end, on
        every process; its scalars are logged as eval/NAME. The variables are numpy arrays.
      load: from `config.init_from` to {"params", "batch_stats"}; called where that is set and there
        is no checkpoint yet.
      profile: first and last step of a trace, written to `workdir`/profile.

    Returns:
      The final state.

    Raises:
      Preempted: SIGTERM came, to any process; the state is saved (a SystemExit with status 75).
      NonFiniteError: a loss is NaN or infinite; nothing is saved after that step.
      RecordsError: the records are missing, damaged, or not the ones that this run began with.
      DamagedError: there are checkpoints, but none can be read.
      ValueError: the batch does not divide among the devices; the model of `init_from` does not
        fit; steps to profile that are not to come.
    """
    # --- text and records -------------------------------------------------------------------
    build = _builds(data_dir, config)
    mesh = make_mesh(config.mesh)
    check_batch(config, mesh.size)
    workdir = Path(workdir)
    _prepare(workdir, data_dir, build, config)
    tokenizer = workdir_tokenizer(config, workdir)
    config = adapt_to_tokenizer(config, tokenizer)

    # --- state ------------------------------------------------------------------------------
    scores = read_scores(workdir, config.keep_best.removeprefix("-"))
    manager = checkpoint.open_manager(workdir, config.keep_last, config.keep_best, scores)
    state = checkpoint.restore(manager, abstract_state(config, mesh))
    if state is None:
        state = init_state(config, mesh)
        if config.init_from:
            state = _start_from(config, state, load)
    start = int(state.step)
    train_step = make_train_step(config, mesh)

    # --- input ------------------------------------------------------------------------------
    batches = train_batches(
        data_dir,
        config.data,
        config.model.audio,
        tokenizer,
        max_length=config.model.text.max_length,
        batch_size=config.batch_size,
        seed=config.seed,
        start_step=start,
        host=jax.process_index(),
        hosts=jax.process_count(),
    )
    feed = device_batches(batches, batch_sharding(mesh), config.data.prefetch)

    # --- loop -------------------------------------------------------------------------------
    pending: list[dict] = []  # metrics on the device since the last look
    with ExitStack() as stack:
        asked_to_stop = stack.enter_context(distributed.stop_requests())
        stack.callback(manager.close)  # which waits for the last save
        trace = stack.enter_context(Trace(workdir / "profile", profile, start, config.steps))
        log = TrainLog(workdir, start, config.steps, config.batch_size, distributed.is_main())
        stack.callback(log.close)
        stack.callback(feed.close)
        for step in range(start + 1, config.steps + 1):
            trace.before(step)
            with jax.transfer_guard("disallow"):
                state, metrics = train_step(state, next(feed))
            trace.after(step, state)
            pending.append(metrics)
            log.advance()

            last, stop = step == config.steps, asked_to_stop(step)
            due = last or (config.eval_every and step % config.eval_every == 0)
            saving = last or stop or step % config.checkpoint_every == 0
            saving |= bool(due and config.keep_best)
            if saving or step % config.log_every == 0:
                log.write(step, _fetch(pending, step))
                pending = []
            if saving:
                checkpoint.save(manager, step, state)
            if stop and not last:
                print(f"step {step}: saved; start again to go on", file=sys.stderr, flush=True)
                raise distributed.Preempted
            if evaluate is not None and due:
                found = evaluate(_on_host(state.variables(), mesh), config, step)
                log.write_scores(step, found)
                scores |= _score(found, config.keep_best.removeprefix("-"), step)
    return state


def _fetch(pending: list[dict], step: int) -> dict[str, float]:
    """Means of the metrics since the last look; stops at the first step that is not finite."""
    rows = jax.device_get(pending)
    for index, row in enumerate(rows):
        if not all(math.isfinite(value) for value in row.values()):
            at = step - len(rows) + 1 + index
            shown = ", ".join(f"{name}={float(value):.6g}" for name, value in row.items())
            raise NonFiniteError(f"step {at}: not finite: {shown}")
    return {name: float(sum(row[name] for row in rows) / len(rows)) for name in rows[0]}


def adapt_to_tokenizer(config: TrainConfig, tokenizer) -> TrainConfig:
    """The config with the text encoder's vocabulary set to the tokenizer's."""
    model = with_vocabulary(config.model, len(tokenizer), tokenizer.pad_token_id)
    return dataclasses.replace(config, model=model)


def workdir_tokenizer(config: TrainConfig, workdir: str | os.PathLike):
    """The tokenizer of a run: the one kept in its workdir, or the named one."""
    if config.data.tokenizer != "records":
        return load_tokenizer(config.data.tokenizer)
    return load_tokenizer(Path(workdir) / records.TOKENIZER_FOLDER)


def _builds(data_dir: str | os.PathLike, config: TrainConfig) -> dict:
    """What the records were made from, those that are mixed in included."""
    build = records.read_build(data_dir)
    folders = [parse_share(item)[0] for item in config.data.mixture]
    if folders:
        build["mixture"] = [records.read_build(folder) for folder in folders]
    return build


def _prepare(workdir: Path, data_dir: str | os.PathLike, build: dict, config: TrainConfig) -> None:
    """Makes the workdir with what is copied from the records, written by one process for all.

    Raises:
      RecordsError: the checkpoints there were made with other records.
    """
    file = workdir / RECORDS_FILE
    begun = checkpoint.latest_step(workdir) is not None and file.is_file()
    if begun and json.loads(file.read_text()) != build:
        raise records.RecordsError(
            f"{workdir}: this run began with other records; use a new --workdir, or the old records"
        )
    distributed.wait_for_all("records are the same")
    if distributed.is_main():
        workdir.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(build, indent=2) + "\n")
        if config.data.tokenizer == "records":
            made = Path(data_dir) / records.TOKENIZER_FOLDER
            shutil.copytree(made, workdir / records.TOKENIZER_FOLDER, dirs_exist_ok=True)
    distributed.wait_for_all("workdir is ready")


def _start_from(config: TrainConfig, state: TrainState, load) -> TrainState:
    if load is None:
        raise ValueError("init_from is set, but train() was given nothing to load it with")
    state, new = start_from(state, load(config.init_from))
    if distributed.is_main():
        kept = f", but {len(new)} parameters are new: {', '.join(new[:5])}" if new else ""
        print(f"starts from {config.init_from}{kept}", file=sys.stderr, flush=True)
    return state


def _on_host(variables: dict, mesh: jax.sharding.Mesh) -> dict:
    """Numpy arrays of variables that may be split over devices and processes."""
    whole = jax.jit(lambda tree: tree, out_shardings=replicated(mesh))
    return jax.device_get(whole(variables))


def _score(found: dict[str, float], name: str, step: int) -> dict[int, float]:
    """{step: the score that decides which checkpoint is best}; empty where there is none.

    Raises:
      ValueError: the evaluation has no such score.
    """
    if not name:
        return {}
    if name not in found:
        raise ValueError(f"keep_best: no score {name!r}; the evaluation has {', '.join(found)}")
    return {step: found[name]}
