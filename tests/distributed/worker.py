"""One process of several: twenty steps on each mesh, and what processes do together.

python -m tests.distributed.worker OUT (with JAX_COORDINATOR_ADDRESS and so on)
"""

import dataclasses
import sys
from pathlib import Path

import jax
import numpy as np

from clapjax.experiment import Experiment
from clapjax.training import distributed
from clapjax.training.config import MeshConfig
from clapjax.training.mesh import make_mesh, replicated
from tests.training.tiny import run_steps, some_batch, tiny_config

STEPS = 20
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


def main(out: Path) -> None:
    """Writes MESH.npz, and what this process has seen of the shared work."""
    jax.config.update("jax_disable_most_optimizations", True)
    distributed.start()
    for name, mesh in MESHES.items():
        found = trained(config(mesh), make_mesh(mesh))
        if distributed.is_main():
            np.savez(out / f"{name}.npz", **found)

    seen = []

    def embed(items) -> np.ndarray:
        seen.extend(items)
        return np.array([[item, item**2] for item in items], np.float32).reshape(-1, 2)

    rows = [distributed.by_share(embed, range(count)) for count in (7, 1)]
    index = jax.process_index()
    agreed = [distributed.all_agree(True), distributed.all_agree(index == 0)]
    np.savez(out / f"process{index}.npz", seen=seen, seven=rows[0], one=rows[1], agreed=agreed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
