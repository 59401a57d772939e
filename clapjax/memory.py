"""How this process takes memory from the system.

XLA:CPU's fresh buffers cost a page fault for every 4 KiB otherwise (docs/performance.md). Elsewhere
than on Linux with glibc nothing is done.
"""

import ctypes
import os
import sys
from pathlib import Path

TUNABLE = "glibc.malloc.hugetlb"  # 1: large pages where the system grants them on request


def keep_memory() -> None:
    """Tells glibc to keep freed memory."""
    libc = _glibc()
    if libc is None:
        return
    trim_threshold, top_pad, mmap_max, arena_max = -1, -2, -4, -8  # M_* of <malloc.h>
    libc.mallopt(mmap_max, 0)
    libc.mallopt(arena_max, 1)  # other arenas map every block of over 64 MiB anew
    libc.mallopt(trim_threshold, -1)  # never
    libc.mallopt(top_pad, 2**28)


def large_pages() -> None:
    """Starts this command again with large pages, which glibc asks for only if told at its start.

    Only of a process that is `clapjax` or `python -m clapjax`, and once: its environment tells.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    arguments = sys.orig_argv[1:]
    ours = arguments[:2] == ["-m", "clapjax"] or Path(*arguments[:1]).name == "clapjax"
    if not ours or TUNABLE in tunables or _glibc() is None:
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, [tunables, f"{TUNABLE}=1"]))
    os.execv(sys.executable, [sys.executable, *arguments])


def _glibc() -> ctypes.CDLL | None:
    """The C library, where it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
