"""Files of sound by libsndfile, without what libmpg123 inside it writes to stderr of many MP3s."""

import contextlib
import ctypes
import functools
import platform
import threading
from collections.abc import Iterator

import soundfile


class SoundFile(soundfile.SoundFile):
    """`soundfile.SoundFile`, hushed."""

    def __init__(self, *args, **settings):
        try:
            with hushed():
                super().__init__(*args, **settings)
        except TypeError as error:  # soundfile asks of a ".raw" by its name what it holds
            raise ValueError("no header says its rate and its type; make it a WAV") from error

    def read(self, *args, **settings):
        with hushed():
            return super().read(*args, **settings)

    def seek(self, *args, **settings):
        with hushed():
            return super().seek(*args, **settings)


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """What C code of this process writes to its `stderr` is dropped; Python's goes where it went.

    Of glibc only, whose variable it is; elsewhere nothing changes. libmpg123 can be told to be
    quiet, but not through libsndfile.
    """
    stream = _stream()
    if stream is None:
        yield
        return
    with stream.lock:
        if stream.users == 0:
            stream.kept, stream.variable.value = stream.variable.value, stream.nowhere
        stream.users += 1
    try:
        yield
    finally:
        with stream.lock:
            stream.users -= 1
            if stream.users == 0:
                stream.variable.value = stream.kept


class _Stream:
    """C's stderr: the variable, what it held, and a stream that leads nowhere."""

    def __init__(self):
        libc = ctypes.CDLL(None)
        libc.fopen.restype = ctypes.c_void_p
        libc.fopen.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
        self.variable = ctypes.c_void_p.in_dll(libc, "stderr")
        self.nowhere = libc.fopen(b"/dev/null", b"w")
        self.lock, self.users, self.kept = threading.Lock(), 0, None


@functools.cache
def _stream() -> _Stream | None:
    if platform.libc_ver()[0] != "glibc":
        return None
    with contextlib.suppress(OSError, ValueError):
        stream = _Stream()
        return stream if stream.nowhere else None
    return None
