"""Orbax checkpoints of a training run, and reading a model back from its workdir."""

import os
from pathlib import Path

import jax
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


def load_variables(workdir: str | os.PathLike) -> tuple[dict, int]:
    """Parameters and batch statistics of the newest checkpoint, as numpy arrays.

    Returns:
      ({"params", "batch_stats"}, step).

    Raises:
      FileNotFoundError: the workdir has no checkpoint yet.
    """
    folder = Path(workdir).absolute() / FOLDER
    if not folder.is_dir():
        raise FileNotFoundError(f"{workdir}: no checkpoint yet; train first")
    with open_manager(workdir) as manager:
        step = manager.latest_step()
        if step is None:
            raise FileNotFoundError(f"{workdir}: no checkpoint yet; train first")
        tree = ocp.StandardCheckpointer().metadata(folder / str(step) / "default")
        wanted = {name: tree.item_metadata.tree[name] for name in ("params", "batch_stats")}
        abstract = jax.tree.map(lambda leaf: 0, wanted)
        restored = manager.restore(
            step,
            args=ocp.args.PyTreeRestore(
                abstract,
                partial_restore=True,
                restore_args=jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=None), abstract),
            ),
        )
    return restored, step
