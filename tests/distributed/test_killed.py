"""Real processes on this machine stop, die and come back as one."""

import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import time

import pytest

from benchmarks.kill_resume import SMALL, Job, evaluations, newest, same, truncate
from clapjax.data.paths import as_path, copy_folder
from clapjax.training.checkpoint import steps_in
from clapjax.training.log_files import read_log
from tests.conftest import REPO
from tests.tpu_scripts.conftest import NAMES, SCRIPTS, Cloud
from tests.tpu_scripts.stand_in import end_processes

# JAX asks once a second whether SIGTERM has come: they have to last.
STEPS, INTERVAL = 40, 5
COUNTS = {"steps": STEPS, "checkpoint_every": INTERVAL, "eval_every": STEPS // 2}
ENDS = (f"--config.{name}={count}" for name, count in COUNTS.items())
# Each start compiles, and Muon takes long; tests/cli/test_finetune.py kills a run that has it.
ADAMW = "--config.optimizer.kind=adamw"
OVERRIDES = (*SMALL, ADAMW, "--config.loss.order_pairs=2", "--config.data.order=blocks", *ENDS)
KILLS = int(os.environ.get("CLAPJAX_KILLS", "2"))
FREQUENT = 120  # seconds from a start to a kill, at most


@pytest.fixture(scope="module")
def whole(demo_records, tmp_path_factory, quick_env):
    """(workdir of an undisturbed run, the seconds that it took)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", quick_env["PYTHONPATH"])
        patch.chdir(REPO)
        began, workdir = time.monotonic(), tmp_path_factory.mktemp("undisturbed")
        job = Job(demo_records, workdir, OVERRIDES, devices=1)
        assert job.wait() == [0, 0], job.logs[0].read_text()
        assert newest(workdir) == STEPS
    return workdir, time.monotonic() - began


def test_killed_runs_end_as_if_undisturbed(demo_records, tmp_path, quick_env, monkeypatch, whole):
    """SIGKILL to both, SIGTERM to one, a truncated checkpoint: the same bits in the end."""
    monkeypatch.setenv("PYTHONPATH", quick_env["PYTHONPATH"])
    monkeypatch.chdir(REPO)
    killed = tmp_path / "killed"

    job = Job(demo_records, killed, OVERRIDES, devices=1)
    _until(lambda: newest(killed) >= INTERVAL, job)
    job.send(signal.SIGKILL)
    assert job.wait() == [-signal.SIGKILL] * 2
    first = newest(killed)

    job = Job(demo_records, killed, OVERRIDES, devices=1)
    _until(lambda: newest(killed) > first, job)
    job.send(signal.SIGTERM, 1)
    assert job.wait() == [os.EX_TEMPFAIL] * 2, job.logs[0].read_text()
    stopped = newest(killed)
    assert first < stopped < STEPS
    for log in job.logs:
        assert f"step {stopped}: saved; start again to go on" in log.read_text()

    truncate(killed / "checkpoints" / str(stopped))
    earlier = max(step for step in steps_in(killed) if step < stopped)
    assert stopped - earlier <= INTERVAL
    job = Job(demo_records, killed, OVERRIDES, devices=1)
    assert job.wait() == [0, 0], job.logs[0].read_text()
    assert f"{stopped}: cannot be read; going back further" in job.logs[0].read_text()
    assert (killed / "damaged_checkpoints" / str(stopped)).is_dir()
    _check_alike(whole[0], killed)
    assert [row["step"] for row in evaluations(killed)] == [0, 20, 40]


def _check_alike(whole, killed) -> None:
    """The same parameters and scores; only one process wrote the log, each step of it once."""
    assert same(whole, killed)
    assert evaluations(whole) == evaluations(killed)
    logged = [row["step"] for row in read_log(killed) if "loss" in row]
    assert logged == sorted(set(logged)) and logged[-1] == STEPS


def _until(happened, job) -> None:
    while not happened():
        if not job.running():
            logs = "\n".join(log.read_text() for log in job.logs)
            pytest.fail(f"ended with {job.wait()} before that\n{logs}")
        time.sleep(0.02)


@pytest.mark.parametrize("kind", ["gs"] if KILLS < 3 else ["gs", "s3"])
def test_a_pod_that_loses_hosts_ends_as_if_undisturbed(
    kind, bucket_of, demo_records, tmp_path, quick_env, monkeypatch, whole
):
    """restart.sh starts it again whenever one of two was killed, or had vanished with all it ran.

    Records and workdir are in a bucket; CLAPJAX_KILLS says how often.
    """
    place = as_path(bucket_of(kind))
    copy_folder(demo_records, place / "records")
    monkeypatch.setenv("PYTHONPATH", quick_env["PYTHONPATH"])
    cloud = Cloud(tmp_path)
    cloud.install()
    try:
        loop = _restart(cloud, f"{place}/records", f"{place}/run")
        generator = random.Random(7)
        for _ in range(KILLS):
            began = {home: _started(home, loop) for home in cloud.homes}
            time.sleep(generator.uniform(0.5, min(FREQUENT, whole[1])))
            home, vanishes = generator.choice(cloud.homes), generator.random() < 0.5
            _kill(home, began[home], vanishes)
        assert loop.wait(timeout=900) == 0, _logs(cloud)
    finally:
        loop.kill()
        loop.wait()
        for home in cloud.homes:
            end_processes(home)
    told = (tmp_path / "restart.txt").read_text()
    assert told.count("starting again in 0 s") >= 1
    assert " was lost: start again\n" in told
    _check_alike(whole[0], f"{place}/run")


def _restart(cloud: Cloud, records: str, workdir: str) -> subprocess.Popen:
    """restart.sh of a run on two workers, each of which leaves the number of its process."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    train = [sys.executable, "-m", "clapjax", "train", "--config", "configs/demo.py:runlocal"]
    train += ["--data_dir", records, "--workdir", workdir, *OVERRIDES]
    worker = (
        f"cd {REPO}; export JAX_PROCESS_ID=${{HOME##*/}}; echo $$ >$HOME/process.new; "
        f"mv $HOME/process.new $HOME/process; exec {shlex.join(train)}"
    )
    jax = {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
        "JAX_NUM_PROCESSES": "2",
    }
    flags = [*NAMES, "--type=t", "--runtime=r", f"--source={cloud.source}", "--poll=0.5"]
    flags += ["--delay=0", "--grace=5", f"--max-killed={KILLS + 1}", "--", "bash", "-c", worker]
    with (cloud.root / "restart.txt").open("w") as file:
        return subprocess.Popen(
            [SCRIPTS / "restart.sh", *flags],
            env=cloud.env | dict(os.environ, PATH=cloud.env["PATH"]) | jax,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )


def _started(home, loop) -> str:
    """The process that a worker has, when it has one that was not killed."""
    end = time.monotonic() + 300
    while True:
        assert loop.poll() is None and time.monotonic() < end, f"{home}: does not start"
        file = home / "process"
        if file.exists() and _alive(number := file.read_text().strip()):
            return number
        time.sleep(0.1)


def _alive(number: str) -> bool:
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, ValueError):
        return False
    return True


def _kill(home, number: str, vanishes: bool) -> None:
    """SIGKILL to the process, or to all that the run has there, as when the machine goes away."""
    if not _alive(number):
        return  # it has ended meanwhile
    if vanishes:
        end_processes(home)
    else:
        os.kill(int(number), signal.SIGKILL)
    while _alive(number):
        time.sleep(0.05)


def _logs(cloud: Cloud) -> str:
    files = [cloud.root / "restart.txt", *cloud.root.glob("workers/*/clapjax_runs/train/log")]
    return "\n".join(file.read_text()[-4000:] for file in files)
