"""The sbatch file, run as SLURM would against stand-ins for srun and scontrol."""

import json
import os
import shlex
import signal
import subprocess
import sys

import pytest

from tests.tpu_scripts.conftest import SCRIPTS, wait_for

# Runs the command after srun's flags in so many processes, hands SIGTERM on; the highest status.
SRUN = """\
import json, os, signal, subprocess, sys
from pathlib import Path
root = Path(os.environ["STAND_IN"])
command = sys.argv[1:]
(root / "srun.json").write_text(json.dumps(command[: command.index("bash")]))
command = command[command.index("bash") :]
tasks = [
    subprocess.Popen(
        command,
        env=os.environ | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)},
        start_new_session=True,
    )
    for i in range(int(os.environ["SLURM_NTASKS"]))
]
signal.signal(signal.SIGTERM, lambda *_: [os.killpg(t.pid, signal.SIGTERM) for t in tasks])
sys.exit(max(t.wait() for t in tasks))
"""
JOB = {"SLURM_JOB_ID": "42", "SLURM_NTASKS": "2", "SLURM_JOB_NUM_NODES": "2"}
GPUS = {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}


@pytest.fixture
def slurm(cloud):
    """A job of two processes."""
    (cloud.root / "srun.py").write_text(SRUN)
    cloud.program("srun", f'exec {sys.executable} -S {cloud.root}/srun.py "$@"')
    cloud.env |= JOB | GPUS
    return cloud


def _python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", f"import os, signal, sys, time, json\n{code}"]


SHOW = _python(
    "ids = [os.environ['SLURM_PROCID'], os.environ['JAX_LOCAL_DEVICE_IDS']]\n"
    "sys.stdout.write(json.dumps([*ids, *sys.argv[1:]]) + '\\n')"
)


@pytest.mark.parametrize(
    ("env", "ids"),
    [
        ({}, ["0,1,2,3"] * 2),  # one process per node: JAX would take one GPU only
        ({"SLURM_JOB_NUM_NODES": "1"}, ["0", "1"]),  # one per GPU
        ({"SLURM_JOB_NUM_NODES": "1", "CUDA_VISIBLE_DEVICES": "5"}, ["0", "0"]),  # bound by SLURM
        ({"JAX_LOCAL_DEVICE_IDS": "2,3"}, ["2,3"] * 2),
    ],
)
def test_every_process_gets_its_gpus_and_the_arguments(slurm, env, ids):
    odd = ["a b", "it's", "$HOME", "", "--flag"]
    done = slurm.run("slurm_train.sh", *SHOW, *odd, SLURM_CPUS_PER_TASK="7", **env)
    assert done.returncode == 0, done.stderr
    shown = sorted(json.loads(line) for line in done.stdout.splitlines())
    assert shown == [["0", ids[0], *odd], ["1", ids[1], *odd]]
    assert json.loads((slurm.root / "srun.json").read_text()) == [
        *("--kill-on-bad-exit=0", "--wait=300", "--gpu-bind=none", "--cpus-per-task=7")
    ]
    assert slurm.calls("scontrol") == []


def test_jax_reads_the_device_ids(slurm, monkeypatch):
    """What the sbatch file relies on: SLURM's local number is JAX's only device unless told."""
    from jax._src.clusters import ClusterEnv

    for name, value in {**JOB, "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_STEP_NODELIST", "node[1-2]")
    found = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, "slurm", 5)
    assert found[1:] == (2, 1, [0])


@pytest.mark.parametrize(
    ("code", "status", "requeued"),
    [
        ("pass", 0, False),
        ("sys.exit(75)", 75, True),
        ("sys.exit(75 * int(os.environ['SLURM_PROCID']))", 75, True),
        ("sys.exit(75 if os.environ['SLURM_PROCID'] == '0' else 1)", 76, False),
        ("sys.exit(1)", 76, False),
        ("os.abort()", 134, False),
        # Of one that was killed JAX aborts the others.
        ("os.abort() if os.environ['SLURM_PROCID'] == '0' else os.kill(os.getpid(), 9)", 137, True),
    ],
)
def test_75_requeues_and_a_real_error_does_not(slurm, code, status, requeued):
    done = slurm.run("slurm_train.sh", *_python(code))
    assert done.returncode == status
    assert slurm.calls("scontrol") == ([["requeue", "42"]] if requeued else [])
    assert ("exit status 1\n" in done.stderr) == (status == 76)


def test_restarts_are_counted(slurm):
    flags = ["--max-restarts", "3"]
    for count, requeued in (("2", 1), ("3", 1)):
        done = slurm.run(
            "slurm_train.sh", *flags, *_python("sys.exit(75)"), SLURM_RESTART_COUNT=count
        )
        assert done.returncode == 75 and len(slurm.calls("scontrol")) == requeued


def test_sigterm_reaches_every_process_which_saves_and_is_requeued(slurm):
    code = (
        "path = os.environ['STAND_IN'] + '/rank' + os.environ['SLURM_PROCID']\n"
        "def save(*_): time.sleep(0.5); open(path, 'a').write('saved'); sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, save); open(path, 'w').close(); time.sleep(60)"
    )
    job = subprocess.Popen(
        [SCRIPTS / "slurm_train.sh", *_python(code)],
        env=slurm.env,
        stderr=subprocess.PIPE,
        text=True,
    )
    ranks = [slurm.root / f"rank{i}" for i in range(2)]
    for rank in ranks:
        wait_for(rank)
    os.kill(job.pid, signal.SIGTERM)  # to the batch shell only, as --signal=B:TERM does
    assert "asking every process to save" in job.communicate(timeout=30)[1]
    assert job.returncode == 75
    assert [rank.read_text() for rank in ranks] == ["saved", "saved"]
    assert slurm.calls("scontrol") == [["requeue", "42"]]


def test_no_gpu_is_an_error_that_is_not_repeated(slurm):
    done = slurm.run("slurm_train.sh", "true", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 78 and "process 1 sees no GPU" in done.stderr
    assert slurm.calls("scontrol") == []


def test_the_directives_and_a_dry_run_outside_of_a_job(slurm):
    text = (SCRIPTS / "slurm_train.sh").read_text()
    head = text[: text.index("set -euo")]  # SLURM stops reading at the first command
    directives = [line.split()[1] for line in head.splitlines() if line.startswith("#SBATCH")]
    assert set(directives) >= {"--requeue", "--open-mode=append", "--signal=B:TERM@180"}
    assert text.count("#SBATCH --") == len(directives)
    done = slurm.run("slurm_train.sh", "--dry-run", "--grace", "9", "a b", SLURM_JOB_ID="")
    step = shlex.split(done.stdout)
    assert step[:4] == ["srun", "--kill-on-bad-exit=0", "--wait=9", "--gpu-bind=none"]
    assert step[-1] == "a b" and not (slurm.root / "srun.json").exists()
