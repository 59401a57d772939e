"""Orbax checkpoints of a training run, and reading a model back from its workdir."""

import os
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from clapjax.training.state import TrainState

FOLDER = "checkpoints"


def open_manager(workdir: str | os.PathLike, keep: int = 2) -> ocp.CheckpointManager:
    """The manager of `workdir`'s checkpoints; saves are atomic and asynchronous."""
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
    return ocp.CheckpointManager(Path(workdir).absolute() / FOLDER, options=options)


def save(manager: ocp.CheckpointManager, step: int, state: TrainState) -> None:
    """Saves `state` as checkpoint `step`; returns while the write goes on."""
    manager.save(step, args=ocp.args.StandardSave(state))


def restore(manager: ocp.CheckpointManager, template: TrainState) -> TrainState:
    """The newest checkpoint, placed as `template` is; `template` itself where there is none."""
    step = manager.latest_step()
    if step is None:
        return template
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), template
    )
    return manager.restore(step, args=ocp.args.StandardRestore(abstract))


def latest_step(workdir: str | os.PathLike) -> int | None:
    """Step of the newest finished checkpoint of a workdir; None where there is none."""
    folder = Path(workdir).absolute() / FOLDER
    return max(ocp.utils.checkpoint_steps(folder), default=None) if folder.is_dir() else None


def load_variables(workdir: str | os.PathLike) -> tuple[dict, int]:
    """Parameters and batch statistics of the newest checkpoint, as numpy arrays.

    Returns:
      ({"params", "batch_stats"}, step).

    Raises:
      FileNotFoundError: the workdir has no checkpoint yet.
    """
    step = latest_step(workdir)
    if step is None:
        raise FileNotFoundError(f"{workdir}: no checkpoint yet; train first")
    folder = Path(workdir).absolute() / FOLDER
    with ocp.CheckpointManager(folder, item_handlers=ocp.PyTreeCheckpointHandler()) as manager:
        tree = manager.item_metadata(step).tree
        wanted = {name: tree[name] for name in ("params", "batch_stats")}
        # As numpy: the devices that wrote the checkpoint need not be here.
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
        args = ocp.args.PyTreeRestore(wanted, restore_args=as_numpy, partial_restore=True)
        return manager.restore(step, args=args), step
