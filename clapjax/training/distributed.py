"""The processes of one run: how they find each other, agree, and share work."""

import glob
import importlib.util
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental import multihost_utils

ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


class Preempted(SystemExit):
    """A run that was asked to stop has saved its state: exit status 75, "start me again"."""

    def __init__(self):
        super().__init__(os.EX_TEMPFAIL)


def start(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins the processes of this run; does nothing where this one is alone.

    Call it before anything else of JAX. What is not given comes from the environment:
    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or else what a TPU pod or SLURM
    tell of themselves.

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
        jax.distributed.initialize(address, **given)
    elif _in_cluster():
        jax.distributed.initialize()
    elif len(missing) < len(given):
        raise ValueError(
            "several processes need --coordinator, --num_processes and --process_id (or "
            f"{ADDRESS}, {COUNT} and {INDEX}); {', '.join(missing)} is missing"
        )


def _number(value: int | None, name: str) -> int | None:
    if value is not None or name not in os.environ:
        return value
    try:
        return int(os.environ[name])
    except ValueError:
        raise ValueError(f"{name}={os.environ[name]!r} is not a number") from None


def _in_cluster() -> bool:
    """Whether `jax.distributed` will find the other processes by itself."""
    if "SLURM_PROCID" in os.environ:
        return int(os.environ.get("SLURM_NTASKS", "1")) > 1
    wanted = jax.config.jax_platforms or "tpu"
    chips = glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*")
    return "tpu" in wanted and bool(chips) and importlib.util.find_spec("libtpu") is not None


def is_main() -> bool:
    """Whether this process writes what is written once: logs, configs, reports."""
    return jax.process_index() == 0


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


def from_main(value: int) -> int:
    """The number that process 0 has here, of 31 bits."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.asarray(value, np.int32)))


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
