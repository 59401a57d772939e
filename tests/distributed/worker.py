"""One process of several: five steps and an evaluation on each mesh, and writes that fail.

python -m tests.distributed.worker OUT RECORDS (with JAX_COORDINATOR_ADDRESS and so on)
"""

import dataclasses
import errno
import json
import resource
import sys
import time
from pathlib import Path

import jax
import numpy as np

from clapjax.cli.train import judge
from clapjax.data.records import RecordsError
from clapjax.experiment import Experiment, make_task
from clapjax.training import checkpoint, distributed, workdir
from clapjax.training.config import MeshConfig
from clapjax.training.mesh import make_mesh, replicated, state_specs
from clapjax.training.rows import make_forward
from clapjax.training.state import init_state
from clapjax.training.step import setting
from tests.training.tiny import pairs_batch, pairs_config, run_steps

STEPS = 5
MESHES = {"data": MeshConfig(), "mixed": MeshConfig(2, 4, split_above=100)}


def config(mesh: MeshConfig) -> Experiment:
    """The tiny model with order pairs, which keep four rows on one device."""
    tiny = pairs_config()
    return dataclasses.replace(tiny, steps=STEPS, mesh=mesh)


def trained(settings: Experiment, mesh: jax.sharding.Mesh) -> dict[str, np.ndarray]:
    """Parameters after the steps, by path."""
    state, _ = run_steps(settings, mesh, [pairs_batch(index) for index in range(STEPS)])
    whole = jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(state.params)
    leaves = jax.tree.leaves_with_path(jax.device_get(whole))
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def judged(
    settings: Experiment, mesh: jax.sharding.Mesh, data_dir: Path, workdir: Path
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """(scores of the evaluation of `clapjax train` of the model as it is drawn; what it embeds).

    Of each tower, the different embeddings (N, D), sorted.
    """
    make_task(settings).keep(data_dir, workdir)
    task = make_task(settings).open(workdir)
    state = init_state(settings, task, mesh)
    specs = state_specs(state.params, mesh, settings.mesh)
    forward = make_forward(task, setting(settings, mesh), specs)
    seen: dict[str, list[np.ndarray]] = {name: [] for name in forward}

    def noted(name: str):
        def call(*arguments):
            seen[name].append(np.asarray(forward[name](*arguments)))
            return seen[name][-1]

        return call

    evaluate = judge(settings, str(data_dir), str(workdir), {})
    scores = evaluate({name: noted(name) for name in forward}, state.variables(), 0)
    return scores, {name: np.unique(np.concatenate(x), axis=0) for name, x in seen.items()}


def failed_writes(out: Path) -> tuple[list[int], list[float]]:
    """Numbers of the errors, and their seconds, where process 1 or process 0 may not write on."""
    numbers, seconds = [], []
    for who in (1, 0):
        settings, folder = config(MESHES["mixed"]), out / f"full{who}"
        state = init_state(settings, make_task(settings), make_mesh(settings.mesh))
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


def told(out: Path, data_dir: Path) -> list[str]:
    """What both processes hear where one of them does not see the other's workdir, or records."""
    settings, index, heard = config(MESHES["data"]), jax.process_index(), []
    none = out / "none"
    for records in (data_dir, data_dir if distributed.is_main() else none, none):
        try:
            workdir.builds(records, settings)
        except RecordsError as error:
            heard.append(str(error))
    workdir.PATIENCE = 1.0
    build = workdir.builds(data_dir, settings)
    for folder in (out / "seen", out / f"own{index}"):
        try:
            workdir.prepare(folder, data_dir, build, make_task(settings))
        except ValueError as error:
            heard.append(str(error))
    return heard


def main(out: Path, data_dir: Path) -> None:
    """Writes MESH.npz, and what this process finds in evaluations."""
    distributed.start()
    for name, mesh in MESHES.items():
        found = trained(config(mesh), make_mesh(mesh))
        if distributed.is_main():
            np.savez(out / f"{name}.npz", **found)

    index = jax.process_index()
    agreed = [distributed.all_agree(True), distributed.all_agree(index == 0)]
    agreed += [distributed.same(7), distributed.same(index), distributed.from_main(index) == 0]
    heard = {}
    for name in MESHES:
        folder, mesh = out / f"process{index}", MESHES[name]
        scores, embeddings = judged(config(mesh), make_mesh(mesh), data_dir, folder)
        heard |= {f"{name}/{tower}": rows for tower, rows in embeddings.items()}
        heard[f"{name}/scores"] = json.dumps(scores)
    heard["told"] = told(out, data_dir)
    numbers, seconds = failed_writes(out)
    np.savez(out / f"process{index}.npz", agreed=agreed, numbers=numbers, seconds=seconds, **heard)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
