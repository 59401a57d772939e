"""Commands of clapjax at once: two small trainings, a core each, end sooner than one by one."""

import json
import os
import select
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from clapjax.data.build.processes import cores

WORKER = ["-m", "clapjax.cli.side_by_side"]  # behind the interpreter: `serve`
ENDED = "\0"  # begins the line of a worker that tells the status of a command


def default_jobs() -> int:
    """2 where small models train on a CPU that has as many cores, else 1: a chip is not shared."""
    import jax

    return min(2, cores()) if jax.default_backend() == "cpu" else 1


def run_all(
    commands: Mapping[str, Sequence[str]],
    jobs: int = 1,
    needs: Mapping[str, Collection[str]] | None = None,
) -> int:
    """Runs commands, `jobs` at once, and prints each before it starts.

    Of several at once each is in one of `jobs` other processes, on its share of the cores, and its
    lines begin with its name.

    Args:
      commands: name -> the words after `clapjax`; those that are earlier begin earlier.
      jobs: how many at once; 1: in this process, one after the other.
      needs: name -> the names of earlier ones that must have ended.

    Returns:
      0, or the status of one that failed, after which no other is started.

    Raises:
      ValueError: one needs another that is not earlier.
    """
    from clapjax.cli.main import main

    plan = _Plan(commands, needs or {})
    if min(jobs, len(commands)) == 1:
        for words in commands.values():
            print(f"$ clapjax {shlex.join(words)}", flush=True)
            if status := main(list(words)):
                return status
        return 0
    workers: list[_Worker] = []

    def work(share: list[int] | None) -> None:
        try:
            with _Worker(share) as worker:
                workers.append(worker)
                while item := plan.take():
                    name, words = item
                    if status := worker.run(name, words):
                        said = f"{name} ended with status {status}; what it said stands above"
                        print(f"clapjax {words[0]}: {said}", file=sys.stderr, flush=True)
                    plan.ended(name, status)
        except BaseException:
            plan.stop(1)  # the others would wait for what does not come
            raise

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for ended in [pool.submit(work, share) for share in _shares(jobs)]:
                ended.result()
        except BaseException:
            plan.stop(128 + signal.SIGINT)
            for worker in workers:
                worker.child.terminate()
            raise
    return plan.status


class _Plan:
    """What is left to do, of which several threads take."""

    def __init__(self, commands: Mapping, needs: Mapping):
        before: set[str] = set()
        for name in commands:
            if missing := set(needs.get(name, ())) - before:
                raise ValueError(f"{name} needs {', '.join(sorted(missing))}, which is not earlier")
            before.add(name)
        self.status = 0
        self._left, self._needs, self._done = dict(commands), needs, set()
        self._changed = threading.Condition()

    def take(self) -> tuple[str, Sequence[str]] | None:
        """The next one of which all is there that it needs; None: there is nothing more to do."""
        with self._changed:
            while self._left and not self.status:
                for name in self._left:
                    if self._done.issuperset(self._needs.get(name, ())):
                        return name, self._left.pop(name)
                self._changed.wait()
        return None

    def ended(self, name: str, status: int) -> None:
        """One has ended; the status of the first that failed stays."""
        with self._changed:
            self._done.add(name)
            self.stop(status)

    def stop(self, status: int) -> None:
        """Nothing more is begun, unless this is 0."""
        with self._changed:
            self.status = self.status or status
            self._changed.notify_all()


def _shares(jobs: int) -> list[list[int] | None]:
    """Sets of cores, one a job; None where a process cannot be held to some."""
    own = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    return [own[job::jobs] or None for job in range(jobs)]


class _Worker:
    """A process that runs one command after the other, and imports what they need once."""

    def __init__(self, share: list[int] | None):
        if share:
            os.sched_setaffinity(0, share)  # of this thread, whose child has the same
        self.child = subprocess.Popen(
            [sys.executable, *WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def run(self, name: str, words: Sequence[str]) -> int:
        """The status of a command, whose lines are printed; of a process that died, its own."""
        print(f"$ clapjax {shlex.join(words)}", flush=True)
        try:
            print(json.dumps(list(words)), file=self.child.stdin, flush=True)
        except BrokenPipeError:
            return self.child.wait() or 1
        for line in self.child.stdout:
            if line.startswith(ENDED):
                return int(line.removeprefix(ENDED))
            print(f"{name}: {line}", end="", flush=True)
        return self.child.wait() or 1

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.child.stdin.close()  # after which it ends
        self.child.wait()


def serve() -> None:
    """Runs the commands whose words come in, a JSON list a line, and tells how each ended."""
    from clapjax.cli.entry import prepare

    prepare()
    from clapjax.cli.main import main

    with os.fdopen(os.dup(0)) as asked:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # no command is to read the next ones
        busy = threading.Event()
        threading.Thread(target=_end_with_parent, args=(asked.fileno(), busy), daemon=True).start()
        for line in asked:
            busy.set()
            try:
                status = main(json.loads(line))
            except SystemExit as error:  # of argparse
                status = error.code
            busy.clear()
            sys.stderr.flush()
            print(f"{ENDED}{status or 0}", flush=True)
            if status:
                return


def _end_with_parent(asked: int, busy: threading.Event) -> None:
    """Asks a command to stop where nobody is left to tell of it: two would write one workdir."""
    end = select.poll()
    end.register(asked, 0)
    end.poll()
    if busy.is_set():  # else there are no more commands
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    serve()
