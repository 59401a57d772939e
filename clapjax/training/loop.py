"""The training loop: read from top to bottom."""

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import jax

from clapjax.data import records
from clapjax.data.pipeline import train_batches
from clapjax.data.tokenizer import load_tokenizer
from clapjax.models.config import with_vocabulary
from clapjax.training import checkpoint
from clapjax.training.config import TrainConfig
from clapjax.training.feed import device_batches
from clapjax.training.log import TrainLog
from clapjax.training.mesh import batch_sharding, make_mesh
from clapjax.training.state import TrainState, init_state
from clapjax.training.step import make_train_step

RECORDS_FILE = "records.json"


class NonFiniteError(FloatingPointError):
    """A loss became NaN or infinite; the message names the step and the losses."""


def train(
    config: TrainConfig,
    *,
    data_dir: str | os.PathLike,
    workdir: str | os.PathLike,
    evaluate: Callable[[dict, TrainConfig, int], dict[str, float]] | None = None,
) -> TrainState:
    """Trains, or goes on where `workdir`'s newest checkpoint stands.

    A run that was killed and started again ends with the parameters of an undisturbed one, bit for
    bit: batches and keys are functions of (seed, step), and the state is all else there is.

    Args:
      config: the run; `workdir` must have been made with the same.
      data_dir: records.
      workdir: checkpoints, logs and tokenizer go here.
      evaluate: called with (variables, config, step) every `eval_every` steps and at the end; its
        scalars are logged as eval/NAME.

    Returns:
      The final state.

    Raises:
      NonFiniteError: a loss is NaN or infinite; nothing is saved after that step.
      RecordsError: the records are missing, damaged, or not the ones that this run began with.
      ValueError: the batch does not divide among the devices.
    """
    # --- text and records -------------------------------------------------------------------
    build = records.read_build(data_dir)
    mesh = make_mesh(config.mesh)
    if config.batch_size % mesh.size:
        raise ValueError(
            f"batch_size {config.batch_size} does not divide among {mesh.size} devices"
        )
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    _same_records(workdir, build)
    if config.data.tokenizer == "records":
        made = Path(data_dir) / records.TOKENIZER_FOLDER
        shutil.copytree(made, workdir / records.TOKENIZER_FOLDER, dirs_exist_ok=True)
    tokenizer = workdir_tokenizer(config, workdir)
    config = adapt_to_tokenizer(config, tokenizer)

    # --- state ------------------------------------------------------------------------------
    manager = checkpoint.open_manager(workdir)
    state = checkpoint.restore(manager, init_state(config, mesh))
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
    log = TrainLog(workdir, start, config.steps, config.batch_size)
    pending: list[dict] = []  # metrics on the device since the last look
    try:
        for step in range(start + 1, config.steps + 1):
            last = step == config.steps
            with jax.transfer_guard("disallow"):
                state, metrics = train_step(state, next(feed))
            pending.append(metrics)
            log.advance()
            saving = last or step % config.checkpoint_every == 0
            if saving or step % config.log_every == 0:
                log.write(step, _fetch(pending, step))
                pending = []
            if saving:
                checkpoint.save(manager, step, state)
            due = last or (config.eval_every and step % config.eval_every == 0)
            if evaluate is not None and due:
                variables = {"params": state.params, "batch_stats": state.batch_stats}
                scores = evaluate(variables, config, step)
                log.write_scores(step, scores)
    finally:
        feed.close()
        log.close()
        manager.wait_until_finished()
        manager.close()
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


def _same_records(workdir: Path, build: dict) -> None:
    """Refuses to go on with other records than the checkpoints were made with."""
    file = workdir / RECORDS_FILE
    begun = checkpoint.latest_step(workdir) is not None and file.is_file()
    if begun and json.loads(file.read_text()) != build:
        raise records.RecordsError(
            f"{workdir}: this run began with other records; use a new --workdir, or the old records"
        )
    file.write_text(json.dumps(build, indent=2) + "\n")
