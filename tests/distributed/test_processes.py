"""Real processes on this machine compute as one."""

import errno
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from clapjax.training import checkpoint
from clapjax.training.mesh import make_mesh
from tests.conftest import REPO
from tests.distributed.worker import MESHES, config, judged, trained
from tests.training.tiny import norm, some_mesh

PROCESSES = 2


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory, quick_env, demo_records):
    """The folder that two workers with four devices each have written to."""
    out = tmp_path_factory.mktemp("workers")
    environment = quick_env | {
        "JAX_NUM_CPU_DEVICES": "4",
        # Only process 0 would find its program in a cache, and Gloo waits 30 s for the other.
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "JAX_COORDINATOR_ADDRESS": f"localhost:{_free_port()}",
        "JAX_NUM_PROCESSES": str(PROCESSES),
    }
    command = [sys.executable, "-m", "tests.distributed.worker", str(out), str(demo_records)]
    logs = [out / f"process{index}.txt" for index in range(PROCESSES)]
    workers = []
    for index, log in enumerate(logs):
        env = environment | {"JAX_PROCESS_ID": str(index)}
        with log.open("w") as file:
            workers.append(subprocess.Popen(command, env=env, cwd=REPO, stderr=file))
    for worker, log in zip(workers, logs, strict=True):
        assert worker.wait(timeout=900) == 0, log.read_text()
    return out


def _free_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def one_device():
    """Parameters after the steps on one device."""
    return trained(config(MESHES["data"]), some_mesh(1))


@pytest.mark.parametrize("name", MESHES)
def test_two_times_four_devices_equal_eight_and_one(name, two_processes, one_device):
    with np.load(two_processes / f"{name}.npz") as file:
        apart = dict(file)
    eight = trained(config(MESHES[name]), make_mesh(MESHES[name]))
    size = norm(one_device)
    for ours, theirs in ((apart, eight), (apart, one_device), (eight, one_device)):
        assert norm(jax.tree.map(np.subtract, ours, theirs)) < 1e-5 * size


def test_evaluations_are_the_same_on_any_mesh_and_process(
    two_processes, demo_records, tmp_path, monkeypatch
):
    """Bit for bit, of one model: 2 processes x 4 devices, 1 x 8, and one device."""
    files = [np.load(two_processes / f"process{index}.npz") for index in range(PROCESSES)]
    found = {
        name: judged(config(MESHES[name]), make_mesh(MESHES[name]), demo_records, tmp_path)
        for name in MESHES
    }
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    scores, embeddings = judged(config(MESHES["data"]), some_mesh(1), demo_records, tmp_path)
    assert len(scores) > 3 and all(len(rows) > 9 for rows in embeddings.values())
    for name in MESHES:
        assert found[name][0] == scores
        for file in files:
            assert json.loads(str(file[f"{name}/scores"])) == scores
        for tower, rows in embeddings.items():
            np.testing.assert_array_equal(found[name][1][tower], rows)
            for file in files:
                np.testing.assert_array_equal(file[f"{name}/{tower}"], rows)
    assert [file["agreed"].tolist() for file in files] == [[True, False, True, False, True]] * 2


def test_a_write_that_fails_on_one_process_is_known_to_both_at_once(two_processes):
    """Fails before: Orbax had the other one wait for 20 minutes."""
    for index in range(PROCESSES):
        with np.load(two_processes / f"process{index}.npz") as file:
            assert file["numbers"].tolist() == [errno.EFBIG, errno.EFBIG, errno.EDQUOT]
            assert file["seconds"].max() < 60
    for who in range(PROCESSES):
        assert checkpoint.latest_step(two_processes / f"full{who}") == 1


def test_a_host_that_sees_other_places_is_told_so_on_all(two_processes, demo_records):
    """Also where nobody sees any records; nothing is said where all see the same."""
    none = two_processes / "none"
    for index in range(PROCESSES):
        with np.load(two_processes / f"process{index}.npz") as file:
            apart, nobody, folder = file["told"].tolist()
        records = none if index else demo_records
        assert apart.startswith(f"{records}: host 1 sees no or other records there than host 0")
        assert nobody.startswith(f"{none}: no records here")
        own = two_processes / f"own{index}"
        assert folder.startswith(f"{own}: host 1 sees not what host 0 wrote there")
