"""Process-wide settings that must be made before JAX and TensorFlow start."""

import ctypes
import logging
import os
import signal
import sys


def keep_memory() -> None:
    """Tells glibc to keep freed memory: XLA:CPU's fresh buffers otherwise cost a page fault each.

    A quarter of a training step's time on a CPU. Elsewhere than on glibc nothing is done.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return
    trim_threshold, top_pad, mmap_max, arena_max = -1, -2, -4, -8  # M_* of <malloc.h>
    libc.mallopt(mmap_max, 0)
    libc.mallopt(arena_max, 1)  # else threads other than the first keep no memory
    libc.mallopt(trim_threshold, 2**31 - 1)
    libc.mallopt(top_pad, 2**28)


def entry() -> int:
    """The console script."""
    if sys.argv[1:2] == ["train"]:  # until training knows better: stop, and say "start me again"
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(os.EX_TEMPFAIL))
    keep_memory()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    logging.getLogger("absl").setLevel(logging.ERROR)  # TFDS and Orbax tell much of themselves
    from clapjax.cli.main import main

    return main()
