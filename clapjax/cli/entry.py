"""Process-wide settings that must be made before JAX and TensorFlow start."""

import logging
import os
import signal
import sys

from clapjax.memory import keep_memory, large_pages


def entry() -> int:
    """The console script."""
    large_pages()
    signal.signal(signal.SIGINT, _interrupted)
    # What nothing is to be tidied up for, until training knows better: stop, "start me again".
    goes_on = sys.argv[1:2] == ["train"] or sys.argv[1:3] == ["captions", "generate"]
    if goes_on:
        signal.signal(signal.SIGTERM, _asked_to_stop)
    if sys.argv[1:2] == ["plan"]:  # compiles for TPUs that are not here: nothing is to look for one
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    prepare()
    from clapjax.cli.main import main

    if not goes_on:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return main()


def prepare() -> None:
    """What is set in a process of clapjax before it imports JAX and TensorFlow."""
    keep_memory()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # else TensorFlow imports Keras: 3 s of CPU
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # that there is no PyTorch
    # TFDS and Orbax tell much of themselves, and of an error that they raise the whole stack.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal has no letters for


def _asked_to_stop(*_) -> None:
    """Ends the process: an exception that meets a collection of garbage is lost."""
    os.write(2, b"clapjax: asked to stop; start again to go on\n")
    os._exit(os.EX_TEMPFAIL)


def _interrupted(*_) -> None:
    """Ends the process: a library that is being imported may take KeyboardInterrupt for its own."""
    os.write(2, b"clapjax: interrupted\n")
    os._exit(128 + signal.SIGINT)
