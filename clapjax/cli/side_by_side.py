"""Commands of clapjax at once: two small trainings, a core each, end sooner than one by one."""

import os
import queue
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from clapjax.data.build.processes import cores


def default_jobs() -> int:
    """2 where small models train on a CPU that has as many cores, else 1: a chip is not shared."""
    import jax

    return min(2, cores()) if jax.default_backend() == "cpu" else 1


def run_all(commands: Mapping[str, Sequence[str]], jobs: int = 1) -> int:
    """Runs commands, `jobs` at once, and prints each before it starts.

    Of several at once each is a process of its own, on its share of the cores, and its lines begin
    with its name.

    Args:
      commands: name -> the words after `clapjax`.
      jobs: how many at once; 1: in this process.

    Returns:
      0, or the status of one that failed, after which no other is started.
    """
    from clapjax.cli.main import main

    if min(jobs, len(commands)) == 1:
        for words in commands.values():
            print(f"$ clapjax {shlex.join(words)}", flush=True)
            if status := main(list(words)):
                return status
        return 0
    failed: list[int] = []
    children: list[subprocess.Popen] = []
    shares = _shares(min(jobs, len(commands)))

    def run(name: str, words: Sequence[str]) -> None:
        if failed:
            return
        share = shares.get()
        try:
            if status := _process(name, words, share, children):
                failed.append(status)
        finally:
            shares.put(share)

    with ThreadPoolExecutor(shares.qsize()) as pool:
        try:
            for ended in [pool.submit(run, *item) for item in commands.items()]:
                ended.result()
        except KeyboardInterrupt:
            failed.append(128 + signal.SIGINT)
            for child in children:
                child.terminate()
            raise
    return failed[0] if failed else 0


def _shares(jobs: int) -> queue.SimpleQueue:
    """Sets of cores, one a job; None where a process cannot be held to some."""
    shares = queue.SimpleQueue()
    own = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    for job in range(jobs):
        shares.put(own[job::jobs] or None)
    return shares


def _process(
    name: str, words: Sequence[str], share: list[int] | None, children: list[subprocess.Popen]
) -> int:
    """Runs one command in a process of its own, which ends with this one at its next line."""
    if share:
        os.sched_setaffinity(0, share)  # of this thread, whose child has the same
    print(f"$ clapjax {shlex.join(words)}", flush=True)
    child = subprocess.Popen(
        [sys.executable, "-m", "clapjax", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    children.append(child)
    with child:
        for line in child.stdout:
            print(f"{name}: {line}", end="", flush=True)
    return child.returncode
