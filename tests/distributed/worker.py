"""One process of several: twenty steps on each mesh, embeddings on each, and writes that fail.

python -m tests.distributed.worker OUT (with JAX_COORDINATOR_ADDRESS and so on)
"""

import dataclasses
import errno
import resource
import sys
import time
from pathlib import Path

import jax
import numpy as np

from clapjax.experiment import Experiment, make_task
from clapjax.training import checkpoint, distributed
from clapjax.training.config import MeshConfig
from clapjax.training.mesh import make_mesh, replicated, state_specs
from clapjax.training.rows import make_forward
from clapjax.training.step import setting
from tests.training.tiny import init_state, run_steps, some_batch, tiny_config

STEPS = 20
ROWS, ROWS_OF_A_DEVICE = 16, 2
MESHES = {
    "data": MeshConfig(),
    "fsdp": MeshConfig(1, 8, split_above=100),
    "mixed": MeshConfig(2, 4, split_above=100),
}


def config(mesh: MeshConfig) -> Experiment:
    """The tiny model, without dropout; epsilon keeps Adam from blowing up rounding noise."""
    tiny = tiny_config()
    optimizer = dataclasses.replace(tiny.optimizer, eps=1e-3)
    return dataclasses.replace(tiny, steps=STEPS, optimizer=optimizer, mesh=mesh)


def trained(settings: Experiment, mesh: jax.sharding.Mesh) -> dict[str, np.ndarray]:
    """Parameters after twenty steps, by path."""
    state, _ = run_steps(settings, mesh, [some_batch(index) for index in range(STEPS)])
    whole = jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(state.params)
    leaves = jax.tree.leaves_with_path(jax.device_get(whole))
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def embedded(settings: Experiment, mesh: jax.sharding.Mesh) -> np.ndarray:
    """Embeddings of `ROWS_OF_A_DEVICE` clips a device, of the model as it is drawn."""
    state, batch = init_state(settings, mesh), some_batch(0, ROWS)
    specs = state_specs(state.params, mesh, settings.mesh)
    forward = make_forward(make_task(settings), setting(settings, mesh), specs)["audio"]
    lengths = np.full(ROWS, batch["audio"].shape[1], np.int32)
    size = ROWS_OF_A_DEVICE * mesh.size
    return np.concatenate(
        [
            np.asarray(forward(state.variables(), batch["audio"][s], lengths[s]))
            for s in (slice(first, first + size) for first in range(0, ROWS, size))
        ]
    )


def failed_writes(out: Path) -> tuple[list[int], list[float]]:
    """Numbers of the errors, and their seconds, where process 1 or process 0 may not write on."""
    numbers, seconds = [], []
    for who in (1, 0):
        mesh = make_mesh(MESHES["fsdp"])
        state, folder = init_state(config(MESHES["fsdp"]), mesh), out / f"full{who}"
        with checkpoint.open_manager(folder) as manager:
            checkpoint.save(manager, 1, state, {})
            checkpoint.finish(manager)
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            if jax.process_index() == who:
                resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
            start = time.monotonic()
            try:
                checkpoint.save(manager, 2, state, {})
                checkpoint.finish(manager)
            except OSError as error:
                numbers.append(error.errno)
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            seconds.append(time.monotonic() - start)
    try:
        with distributed.together(out):
            if distributed.is_main():
                raise OSError(errno.EDQUOT, "no more")
    except OSError as error:
        numbers.append(error.errno)
    return numbers, seconds


def main(out: Path) -> None:
    """Writes MESH.npz, and what this process has of the embeddings."""
    jax.config.update("jax_disable_most_optimizations", True)
    distributed.start()
    for name, mesh in MESHES.items():
        found = trained(config(mesh), make_mesh(mesh))
        if distributed.is_main():
            np.savez(out / f"{name}.npz", **found)

    index = jax.process_index()
    agreed = [distributed.all_agree(True), distributed.all_agree(index == 0)]
    agreed += [distributed.same(7), distributed.same(index), distributed.from_main(index) == 0]
    heard = {name: embedded(config(mesh), make_mesh(mesh)) for name, mesh in MESHES.items()}
    numbers, seconds = failed_writes(out)
    np.savez(out / f"process{index}.npz", agreed=agreed, numbers=numbers, seconds=seconds, **heard)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
