"""`clapjax` in processes of their own that are forked from one in which all is imported.

Importing TensorFlow, transformers and JAX takes longer than most commands of the tests. That
`python -m clapjax` begins as a user begins it, tests/cli/test_main.py and others hold.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

IMPORTED = [
    "clapjax.cli.train",
    "clapjax.cli.evaluate",
    "clapjax.experiment",
    "clapjax.evaluation.evaluate",
    "clapjax.tasks.doubts",
    "clapjax.training.loop",
    "tensorflow",
    "torch",  # transformers imports it where it is there
    "transformers.models.auto.tokenization_auto",
]


def _context():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def run_apart(
    target: Callable[..., int | None],
    arguments: tuple,
    env: Mapping[str, str],
    seconds: float = 900,
) -> subprocess.CompletedProcess:
    """target(*arguments) in a process of its own that ends with the status that it returns.

    Of the environment only what is looked at after importing has an effect.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("out", "err")]
        process = _context().Process(target=_run, args=(target, arguments, dict(env), *files))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"{target.__name__}{arguments}: more than {seconds} s")
        said = [file.read_text() for file in files]
    return subprocess.CompletedProcess(arguments, process.exitcode, *said)


def _run(target, arguments, env, *files: Path) -> None:
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(env)
    status = target(*arguments)
    sys.stdout.flush()
    sys.exit(status)


def clapjax(*arguments: str) -> int:
    """`python -m clapjax` of these arguments."""
    from clapjax.cli.entry import entry

    sys.argv = ["clapjax", *arguments]
    return entry()
