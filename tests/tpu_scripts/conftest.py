"""A slice of two workers that are folders, behind a recording stand-in for gcloud."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tpu_scripts import stand_in

SCRIPTS = Path(__file__).resolve().parents[2] / "tpu_scripts"
NAMES = ("--name=pod", "--zone=z-1")
PLACE = ("pod", "--zone=z-1")


class Cloud:
    """The folder of the stand-in: calls made, replies to come, homes of the workers."""

    def __init__(self, root: Path, workers: int = 2):
        self.root = root
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("TPU_", "SLURM_"))}
        self.env |= {"PATH": f"{root / 'bin'}:{os.environ['PATH']}", "STAND_IN": str(root)}
        self.homes = [root / "workers" / str(i) for i in range(workers)]
        for folder in [root / "bin", *self.homes]:
            folder.mkdir(parents=True)
        self.source = root / "source"  # a checkout to install
        subprocess.run(["git", "init", "--quiet", self.source], check=True)
        (self.source / "README.md").write_text("clapjax")
        self.replies({})
        for name in ("gcloud", "uv", "gcsfuse", "mountpoint", "scontrol"):
            self.program(name, f'exec {sys.executable} -S -E {stand_in.__file__} {name} "$@"')

    def program(self, name: str, body: str) -> None:
        """Puts a shell script on the PATH."""
        file = self.root / "bin" / name
        file.write_text(f"#!/bin/bash\n{body}\n")
        file.chmod(0o755)

    def replies(self, replies: dict) -> None:
        """What the stand-in answers; see there."""
        (self.root / "replies.json").write_text(json.dumps(replies))

    def install(self) -> None:
        """What setup.sh leaves on the workers, without the environment."""
        for home in self.homes:
            (home / "clapjax").mkdir()
            (home / "clapjax_runs").mkdir()
            (home / "clapjax_runs" / "ready").touch()
            shutil.copy(SCRIPTS / "on_worker.sh", home)

    def run(self, script: str, *arguments, **more_env: str) -> subprocess.CompletedProcess:
        """Runs one of the scripts."""
        return subprocess.run(
            [SCRIPTS / script, *map(str, arguments)],
            env=self.env | more_env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def calls(self, name: str = "gcloud") -> list[list[str]]:
        """The argument lists of the calls so far."""
        file = self.root / "calls.jsonl"
        calls = (
            [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        )
        return [call[1:] for call in calls if call[0] == name]

    def verbs(self) -> list[str]:
        """The calls of gcloud in short: "create", "describe", "setup", "ready", "start"..."""
        verbs = []
        for call in self.calls():
            command = next((item for item in call if item.startswith("--command=")), None)
            verbs.append(Path(command.split()[2]).name if command else call[3])
        return verbs


def wait_for(file: Path) -> None:
    """Returns when a file is there."""
    end = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < end, f"{file} does not come"
        time.sleep(0.05)


@pytest.fixture
def cloud(tmp_path):
    """A slice on which nothing runs or is installed; nothing of it outlives the test."""
    if not (shutil.which("flock") and shutil.which("setsid")):
        pytest.skip("no flock and setsid (util-linux), which on_worker.sh needs")
    cloud = Cloud(tmp_path)
    yield cloud
    for home in cloud.homes:
        stand_in.end_processes(home)
