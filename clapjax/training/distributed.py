"""The processes of one run: how they find each other, agree, stop and fail together."""

import errno
import glob
import importlib.util
import itertools
import os
import re
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from clapjax.data.paths import no_room

ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
PATIENCE = 300.0  # seconds for all processes to come
LINGER = 5.0  # and for those that are nearly there, where this one is asked to stop
SILENCE = 30  # seconds after which JAX takes one that is not heard for lost, and ends the others
# What JAX, XLA and what they send by say where a process is gone.
LOST = re.compile(
    r"Gloo \w+ failed|ncclRemoteError|coordination ?service|heartbeat|UNAVAILABLE", re.IGNORECASE
)


class Preempted(SystemExit):
    """A run that was asked to stop has saved its state: exit status 75, "start me again"."""

    def __init__(self):
        super().__init__(os.EX_TEMPFAIL)


def preempted(what: str) -> NoReturn:
    """Says what is saved, and raises Preempted."""
    print(f"{what}; start again to go on", file=sys.stderr, flush=True)
    raise Preempted


def leave(why: str) -> None:
    """Ends this process at once, with status 75: the others are not there to end it with."""
    print(f"{why}; start again to go on", file=sys.stderr, flush=True)
    os._exit(os.EX_TEMPFAIL)


def start(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins the processes of this run; does nothing where this one is alone.

    Call it before anything else of JAX. What is not given comes from the environment:
    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or else what a TPU pod or SLURM
    tell of themselves; a process in which JAX has begun, and found no other, as a notebook's, is
    alone. Ends the process with status 75, "start me again", where the others do not
    come in time, or not soon after it is asked to stop.

    Args:
      coordinator: host:port of process 0, where the others find it.
      num_processes, process_id: how many there are, and which one this is.

    Raises:
      ValueError: some of the three are missing.
    """
    given = {
        "coordinator": coordinator or os.environ.get(ADDRESS),
        "num_processes": _number(num_processes, COUNT),
        "process_id": _number(process_id, INDEX),
    }
    missing = [name for name, value in given.items() if value is None]
    if not missing:
        address = given.pop("coordinator")
        if ":" not in address:
            raise ValueError(f"coordinator {address!r} is not host:port")
        if not 0 <= given["process_id"] < given["num_processes"]:
            raise ValueError(
                f"process_id {given['process_id']} is not one of {given['num_processes']} processes"
            )
        _join(address, **given)
    elif _in_cluster() and not _begun_alone():
        _join()
    elif len(missing) < len(given):
        raise ValueError(
            "several processes need --coordinator, --num_processes and --process_id (or "
            f"{ADDRESS}, {COUNT} and {INDEX}); {', '.join(missing)} is missing"
        )


def _join(*arguments, **given) -> None:
    """`jax.distributed.initialize`, in a thread: where that waits, Python hears no signal.

    A request to stop that comes meanwhile is handed to JAX, which tells the others of it.
    """
    given["heartbeat_timeout_seconds"] = SILENCE
    if threading.current_thread() is not threading.main_thread():
        jax.distributed.initialize(*arguments, **given)  # only the main thread handles signals
        return
    asked, failed = threading.Event(), []

    def join() -> None:
        try:  # JAX's own patience ends in an abort
            jax.distributed.initialize(
                *arguments, **given, initialization_timeout=2 * int(PATIENCE)
            )
        except BaseException as error:  # handed to the caller
            failed.append(error)

    thread = threading.Thread(target=join, daemon=True, name="join")
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    with _handler(signal.SIGINT, lambda *_: asked.set()):
        thread.start()
        left, linger = PATIENCE, LINGER
        while thread.is_alive() and left > 0 and linger > 0:
            thread.join(0.1)
            left, linger = left - 0.1, linger - 0.1 * asked.is_set()
    if thread.is_alive():
        why = "asked to stop" if asked.is_set() else "the other processes have not come"
        leave(why)  # as the thread cannot be ended
    if failed:
        signal.signal(signal.SIGTERM, before)  # else it is JAX's now
        raise failed[0]
    if asked.is_set():
        signal.raise_signal(signal.SIGTERM)


def _number(value: int | None, name: str) -> int | None:
    if value is not None or name not in os.environ:
        return value
    try:
        return int(os.environ[name])
    except ValueError:
        raise ValueError(f"{name}={os.environ[name]!r} is not a number") from None


def place(num_processes: int | None = None, process_id: int | None = None) -> tuple[int, int]:
    """(Number of this process, how many there are) where each does its part without the others.

    They need not find one another, nor run at the same time. What is not given comes from the
    environment: JAX_NUM_PROCESSES and JAX_PROCESS_ID, or else SLURM, or what a TPU pod tells JAX.

    Raises:
      ValueError: one of the two is missing, or there is no such process.
    """
    count, index = _number(num_processes, COUNT), _number(process_id, INDEX)
    if count is None and index is None:
        if "SLURM_PROCID" in os.environ:
            return int(os.environ["SLURM_PROCID"]), int(os.environ.get("SLURM_NTASKS", "1"))
        return jax.process_index(), jax.process_count()
    if count is None or index is None:
        raise ValueError(
            f"several processes need --num_processes and --process_id (or {COUNT} and {INDEX})"
        )
    if not 0 <= index < count:
        raise ValueError(f"process_id {index} is not one of {count} processes")
    return index, count


def _in_cluster() -> bool:
    """Whether `jax.distributed` will find the other processes by itself."""
    if "SLURM_PROCID" in os.environ:
        return int(os.environ.get("SLURM_NTASKS", "1")) > 1
    wanted = jax.config.jax_platforms or "tpu"
    chips = glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*")
    return "tpu" in wanted and bool(chips) and importlib.util.find_spec("libtpu") is not None


def _begun_alone() -> bool:
    """Whether JAX has its devices already, and knows of no other process."""
    return jax._src.xla_bridge.backends_are_initialized() and jax.process_count() == 1


def is_main() -> bool:
    """Whether this process writes what is written once: logs, configs, reports."""
    return jax.process_index() == 0


def lost_another(error: Exception) -> bool:
    """Whether an error says that another process of this run cannot be reached any more."""
    return jax.process_count() > 1 and bool(LOST.search(str(error)))


def wait_for_all(where: str) -> None:
    """Returns when every process is at `where`."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def all_agree(here: bool) -> bool:
    """Whether it holds on every process."""
    if jax.process_count() == 1:
        return here
    return bool(np.all(multihost_utils.process_allgather(np.asarray(here))))


def same(value: int) -> bool:
    """Whether all processes have the same number here, of 32 bits."""
    if jax.process_count() == 1:
        return True
    found = multihost_utils.process_allgather(np.asarray(value, np.uint32))
    return bool(np.all(found == found[0]))


def others(value: int) -> list[int]:
    """The processes that have another number here, of 32 bits, than process 0."""
    if jax.process_count() == 1:
        return []
    found = multihost_utils.process_allgather(np.asarray(value, np.uint32))
    return np.flatnonzero(found != found[0]).tolist()


def from_main(value: int) -> int:
    """The number that process 0 has here, of 31 bits."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.asarray(value, np.int32)))


@contextmanager
def together(folder: Path) -> Iterator[None]:
    """What one process cannot write below `folder` is raised on all, who must all come here.

    Raises:
      OSError: no room, whatever library found it; or the error of another process, by its number.
    """
    own = None
    try:
        yield
    except Exception as error:  # raised below, when the others know
        own = no_room(error, folder) or error
    number = 0 if own is None else getattr(own, "errno", None) or errno.EIO
    if jax.process_count() > 1:
        numbers = multihost_utils.process_allgather(np.asarray(number, np.int32))
        # Who only found that another one has failed does not know why.
        known = [int(n) for n in numbers if n not in (0, errno.ECANCELED)]
        if known and number in (0, errno.ECANCELED):
            why = f"{os.strerror(known[0])}, on another process"
            raise OSError(known[0], why, os.fspath(folder)) from own
    if own is not None:
        raise own


def make_barrier() -> Callable[..., None]:
    """Where threads of all processes wait for each other; they must come in the same order.

    Orbax's own takes 20 minutes to notice that one process could not write its part, and is at
    another place. Here both learn of it at once, and no later call waits.

    Returns:
      A function of `key`, the place, and `timeout_ms`; it raises OSError (ECANCELED) where another
      process is at another place.
    """
    client, count, parted = jax._src.distributed.global_state.client, itertools.count(), []
    place = f"clapjax/barrier/{from_main(secrets.randbits(31))}"  # of no other barrier

    def wait(*, key: str, timeout_ms: int) -> None:
        if not parted:
            number = next(count)
            name = f"{place}/{number}"
            client.key_value_set(f"{name}/{jax.process_index()}", key)
            client.wait_at_barrier(name, timeout_ms)
            if len({key for _, key in client.key_value_dir_get(name)}) > 1:
                parted.append(key)
            if number and is_main():  # all have read what stood at the one before
                client.key_value_delete(f"{place}/{number - 1}")
        if parted:
            raise OSError(errno.ECANCELED, "another process could not write its part")

    return wait


@contextmanager
def stop_requests() -> Iterator[Callable[[int], bool]]:
    """Within it SIGTERM and the first Ctrl-C stop nobody, but are reported.

    On several processes they are reported to all at one step.

    Yields:
      A function to be called at the end of each step with its number: whether to save and stop now.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda step: False  # only the main thread may handle signals
        return
    before = signal.getsignal(signal.SIGINT)

    def interrupted(*_) -> None:
        signal.signal(signal.SIGINT, before)  # who asks twice is not kept waiting
        signal.raise_signal(signal.SIGTERM)

    with _handler(signal.SIGINT, interrupted):
        if jax.distributed.is_initialized():  # JAX has taken SIGTERM over
            # It wants calls counted from 1: what comes before the first call stops at number 1.
            calls = itertools.count(1)
            yield lambda step: multihost_utils.reached_preemption_sync_point(next(calls))
            return
        asked = threading.Event()
        with _handler(signal.SIGTERM, lambda *_: asked.set()):
            yield lambda step: asked.is_set()


@contextmanager
def _handler(number: signal.Signals, handler: Callable) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
