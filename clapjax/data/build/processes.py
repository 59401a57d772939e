"""Units of a build in several processes of this machine."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait

from clapjax.data.build.units import Unit, Work


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_units(
    units: list[Unit],
    work: Work,
    what: str,
    *,
    processes: int,
    progress: Callable[[Iterable, int, str], Iterable],
) -> None:
    """Does units; where there is one unit or one process, in this process.

    Args:
      units: at least one.
      work: what is done with each; it is pickled once for each process.
      what: names it in the progress.
      processes: how many at most.
      progress: as in `build_records`; it counts items.

    Raises:
      ChildProcessError: a process was killed.
      Exception: whatever `work` raises.
    """
    processes = min(processes, len(units))
    if processes > 1:
        ticks = _in_processes(units, work, processes)
    else:
        ticks = (tick for unit in units for tick in work(unit))
    for _ in progress(ticks, sum(len(unit.items) for unit in units), what):
        pass


def _in_processes(units: list[Unit], work: Work, processes: int) -> Iterator[None]:
    """Hands out units; yields once for each item that is done."""
    context = multiprocessing.get_context("spawn")  # threads of TensorFlow do not survive a fork
    todo = iter(units)
    busy: dict[Connection, Unit] = {}
    children = []
    try:
        for _ in range(processes):
            ours, theirs = context.Pipe()
            child = context.Process(target=_serve, args=(theirs, work), daemon=True)
            child.start()
            theirs.close()  # so that its end is seen where the child ends
            children.append(child)
            busy[ours] = next(todo)
            ours.send(busy[ours])
        while busy:
            for connection in wait(list(busy)):
                if (answer := _receive(connection, busy[connection])) is None:
                    yield
                elif isinstance(answer, Exception):
                    raise answer
                elif (unit := next(todo, None)) is not None:
                    busy[connection] = unit
                    connection.send(unit)
                else:
                    del busy[connection]
                    connection.close()
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.join()


def _receive(connection: Connection, unit: Unit) -> None | str | Exception:
    """None for an item, the unit's name at its end, or what went wrong in it."""
    try:
        return connection.recv()
    except (EOFError, ConnectionError) as error:
        raise ChildProcessError(
            f"a process died while it made {unit.name} (out of memory, or a decoder crashed); what "
            "is finished is kept: build again, with --processes 1 to see where it fails"
        ) from error


def _serve(connection: Connection, work: Work) -> None:
    """A child: does the units that it is sent, and ends when its parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its children
    with contextlib.suppress(EOFError, ConnectionError):  # the parent is gone
        while True:
            unit = connection.recv()
            try:
                for _ in work(unit):
                    connection.send(None)
            except ConnectionError:
                raise
            except Exception as error:
                connection.send(_portable(error))
            else:
                connection.send(unit.name)


def _portable(error: Exception) -> Exception:
    """An error that survives the way to another process, with where it came from."""
    error.add_note(f"in a process of its own:\n{traceback.format_exc()}")
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its own reduction raises
        return RuntimeError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
