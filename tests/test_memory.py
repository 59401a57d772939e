"""The settings of the process: that the command line applies them, and only to itself."""

import os
import subprocess
import sys

import pytest

from clapjax import memory

GLIBC = pytest.mark.skipif(memory._glibc() is None, reason="not on Linux with glibc")


@GLIBC
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, ["", "glibc.malloc.hugetlb=1"]),
        (
            "glibc.malloc.check=0",
            ["glibc.malloc.check=0", "glibc.malloc.check=0:glibc.malloc.hugetlb=1"],
        ),
        ("glibc.malloc.hugetlb=0", ["glibc.malloc.hugetlb=0"]),  # as the user has it
    ],
)
def test_the_command_line_starts_again_with_large_pages(tmp_path, quick_env, before, after):
    """Each Python that starts writes down the tunables it was started with."""
    starts = tmp_path / "starts"
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        f"with open({str(starts)!r}, 'a') as file:\n"
        "    print(os.environ.get('GLIBC_TUNABLES', ''), file=file)\n"
    )
    env = quick_env | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{quick_env['PYTHONPATH']}"}
    env.pop("GLIBC_TUNABLES", None)
    if before is not None:
        env["GLIBC_TUNABLES"] = before
    command = [sys.executable, "-m", "clapjax", "train", "--help"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.startswith("usage: clapjax train")
    assert starts.read_text().splitlines() == after


@GLIBC
@pytest.mark.parametrize(
    ("arguments", "again"),
    [
        (["-m", "clapjax", "train"], True),
        (["/usr/local/bin/clapjax", "train"], True),
        (["-m", "pytest"], False),
        (["-m", "ipykernel_launcher", "-f", "kernel.json"], False),  # %run in a notebook
        (["-c", "import clapjax"], False),
        ([], False),
    ],
)
def test_no_other_process_starts_again(monkeypatch, arguments, again):
    calls = []
    monkeypatch.setattr(os, "execv", lambda *call: calls.append(call))
    monkeypatch.setattr(sys, "orig_argv", ["python", *arguments])
    monkeypatch.setenv("GLIBC_TUNABLES", "")
    memory.large_pages()
    expected = [(sys.executable, [sys.executable, *arguments])] if again else []
    assert calls == expected


@GLIBC
def test_kept_memory_is_not_faulted_in_again(quick_env):
    """A block of over 2 GiB, the most that an int can tell glibc to keep, taken again and again."""
    program = """
import ctypes
import resource
from clapjax.memory import keep_memory
keep_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
faults = []
for _ in range(3):
    block = libc.malloc(ctypes.c_size_t(5 * 2**29))
    ctypes.memset(block + 2**31, 1, 2**26)  # 64 MiB of it, not near its start, which stays anyhow
    libc.free(ctypes.c_void_p(block))
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(*faults)
"""
    env = quick_env | {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}  # pages of 4 KiB
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    first, second, third = map(int, done.stdout.split())
    assert first > 2**26 / 65_536  # also where a page has 64 KiB
    assert third - second < 100
