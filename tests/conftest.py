"""Eight virtual CPU devices for every test, and inputs that several tests share."""

import atexit
import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # else TensorFlow imports Keras: 3 s of CPU
# What one test compiles, all others find: pytest's workers and their subprocesses inherit this.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="clapjax-compiled-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
# Compiling is most of a test: XLA's emitters of fusions take half of it, and optimising more.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

import filelock
import jax
import pytest

from benchmarks.bucket_server import BUCKET, bucket_server
from tests.apart import clapjax, run_apart

jax.config.update("jax_num_cpu_devices", 8)  # before JAX's first use

REPO = Path(__file__).resolve().parents[1]
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def esc10() -> Path:
    """The folder of ESC-10's real recordings, where it lies beside the checkout."""
    folder = SHARED / "esc10"
    if not (folder / "meta.csv").is_file():
        pytest.skip("ESC-10 recordings are not beside this checkout (../shared/data/esc10)")
    return folder


@pytest.fixture(scope="session")
def quick_env() -> dict[str, str]:
    """Environment of a subprocess: one CPU device."""
    return os.environ | {"PYTHONPATH": str(REPO), "JAX_PLATFORMS": "cpu"}


@pytest.fixture(scope="session")
def command(quick_env):
    """command("train", "--config", ...): `clapjax` in a process of its own (tests/apart.py)."""

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return run_apart(clapjax, tuple(map(str, arguments)), quick_env)

    return run


@pytest.fixture(scope="session")
def bucket_of():
    """bucket_of("gs"): a folder of nobody else in a bucket, whose server this session starts."""
    with contextlib.ExitStack() as servers, pytest.MonkeyPatch.context() as patch:
        started, numbers = set(), itertools.count()

        def start(kind: str) -> str:
            if kind not in started:
                started.add(kind)
                for name, value in servers.enter_context(bucket_server(kind)).items():
                    patch.setenv(name, value)
            return f"{kind}://{BUCKET}/{next(numbers)}"

        yield start


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """made_once("run", make): a copy of the folder run, which one of pytest's workers makes."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # of all workers

    def copy(name: str, make: Callable[[Path], None]) -> Path:
        folder, made = shared / name, shared / f"{name}.made"
        with filelock.FileLock(shared / f"{name}.making"):
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)  # another worker failed at it
                make(folder)
                made.touch()
        return shutil.copytree(folder, tmp_path_factory.mktemp("copy") / name)

    return copy


@pytest.fixture(scope="session")
def demo_records(made_once) -> Path:
    """Records of configs/demo.py:runlocal, 160 of them to train on."""
    from clapjax.cli.main import main

    def make(data_dir: Path) -> None:
        demo = ["--config", "configs/demo.py:runlocal", "--data_dir", str(data_dir)]
        assert main(["records", "build", *demo]) == 0

    return made_once("records", make)


@pytest.fixture(scope="session")
def demo_workdir(made_once, demo_records, command) -> Path:
    """A workdir in which configs/demo.py:runlocal was trained on these records."""

    def make(workdir: Path) -> None:
        demo = ["--config", "configs/demo.py:runlocal", "--data_dir", demo_records]
        done = command("train", *demo, "--workdir", workdir)
        assert done.returncode == 0, done.stderr

    return made_once("run", make)
