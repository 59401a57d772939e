"""Units of a build in several processes of this machine."""

import contextlib
import dataclasses
import multiprocessing
import os
import pickle
import signal
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait

from clapjax.data.build.units import Crashed, Unit, Work

READY = "ready"  # what a child says first
MOST_CRASHES = 2  # of one item, the last of them with no other process beside; then it is left out
STUCK = 1800  # s for an item, after which its process is ended; hours of audio take minutes
PAUSE = 10  # s between two looks at who is stuck


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
    """Does units in processes of their own.

    Where an item kills its process (a decoder crashes), or holds it up for ever, its unit is done
    again, alone; where that ends at the same item, it is left out if the work can list it
    (`Work.leaves_out`).

    Args:
      units: at least one.
      work: what is done with each; it is pickled once for each process.
      what: names it in the progress.
      processes: how many at most. 0: all is done in this process, which a crash takes with it; so
        it is with 1 where the work leaves nothing out.
      progress: as in `build_records`; it counts items.

    Raises:
      ChildProcessError: a process was killed, and not by an item that can be left out.
      Exception: whatever `work` raises.
    """
    if processes > 1 or (processes and work.leaves_out):
        ticks = _in_processes(units, work, min(processes, len(units)))
    else:
        ticks = (tick for unit in units for tick in work(unit))
    for _ in progress(ticks, sum(len(unit.items) for unit in units), what):
        pass


def _in_processes(units: list[Unit], work: Work, processes: int) -> Iterator[None]:
    """Hands out units; yields once for each item that is done."""
    todo, again = deque(units), deque()
    counted = Counter()  # items of a unit that were yielded
    crashes = Counter()  # of (unit, item)
    children: dict[Connection, _Child] = {}
    try:
        while todo or again or children:
            while todo and len(children) < processes:
                child = _Child(work)
                children[child.connection] = child
                child.start(todo.popleft())
            if not children:  # what crashed, each with no other beside it
                child = _Child(work)
                children[child.connection] = child
                child.start(again.popleft())
            for child in children.values():
                child.end_if_stuck()
            for connection in wait(list(children), timeout=PAUSE):
                child = children[connection]
                name = child.unit.name
                try:
                    answer = connection.recv()
                except (EOFError, OSError):  # within a message, too
                    del children[connection]
                    again.append(_without_crashed(child, work, crashes))
                    continue
                child.heard = time.monotonic()
                if isinstance(answer, Exception):
                    raise answer
                if answer is None:
                    child.done += 1
                    if child.done > counted[name]:
                        counted[name] = child.done
                        yield
                elif answer == READY:
                    child.ready = True
                elif todo:
                    child.start(todo.popleft())
                else:
                    del children[connection]
                    child.end()
    finally:
        for child in children.values():
            child.process.terminate()
        for child in children.values():
            child.process.join()


class _Child:
    """A process that does one unit after the other."""

    def __init__(self, work: Work):
        context = multiprocessing.get_context("spawn")  # TensorFlow's threads survive no fork
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()  # so that its end is seen where the child ends
        self.ready = self.stuck = False

    def start(self, unit: Unit) -> None:
        """Gives it a unit."""
        self.unit, self.done, self.heard = unit, 0, time.monotonic()
        with contextlib.suppress(ConnectionError):  # it died: `recv` will tell
            self.connection.send(unit)

    def end(self) -> None:
        """Lets it go."""
        self.connection.close()
        self.process.join()

    def end_if_stuck(self) -> None:
        """Kills it where nothing has come of it for long."""
        if self.ready and time.monotonic() - self.heard > STUCK:
            self.stuck = True
            self.process.kill()

    def death(self) -> str:
        """What ended it, e.g. "SIGSEGV"."""
        self.process.join()
        if self.stuck:
            return f"nothing came of it for {STUCK} s"
        code = self.process.exitcode
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def _without_crashed(child: _Child, work: Work, crashes: Counter) -> Unit:
    """The unit that a dead child had: as it was, or without the item that crashed twice."""
    unit, death = child.unit, child.death()
    what = f"a process died ({death}) while it made {unit.name}"
    if not (child.ready and work.leaves_out):
        raise ChildProcessError(f"{what}; what is finished is kept: the same command goes on")
    crashes[unit.name, child.done] += 1
    if crashes[unit.name, child.done] < MOST_CRASHES:
        return unit
    if child.done == len(unit.items):  # all items were fine
        raise ChildProcessError(
            f"{what}, twice, when it had done all of it (out of memory, or of disk?); what is "
            "finished is kept: the same command goes on"
        )
    items = list(unit.items)
    items[child.done] = Crashed(items[child.done], f"decoding it killed the process ({death})")
    return dataclasses.replace(unit, items=tuple(items))


def _serve(connection: Connection, work: Work) -> None:
    """A child: does the units that it is sent, and ends when its parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its children
    with contextlib.suppress(EOFError, ConnectionError):  # the parent is gone
        connection.send(READY)
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
