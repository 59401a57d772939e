"""How a process finds the others; what several really do is in tests/distributed."""

import os
import signal
import threading
from types import SimpleNamespace

import jax
import pytest

from clapjax.training import distributed, workdir

STOPS = (signal.SIGINT, signal.SIGTERM)
NAMES = (
    distributed.ADDRESS,
    distributed.COUNT,
    distributed.INDEX,
    "SLURM_PROCID",
    "SLURM_NTASKS",
)


@pytest.fixture
def calls(monkeypatch):
    """Arguments of jax.distributed.initialize, which is not called; a clean environment."""
    made = []
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(distributed.glob, "glob", lambda pattern: [])

    def initialize(*args, initialization_timeout, heartbeat_timeout_seconds, **kwargs):
        made.append((args, kwargs))

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    return made


def test_alone(calls, monkeypatch):
    distributed.start()
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    distributed.start()
    assert calls == []


def test_flags_come_before_the_environment(calls, monkeypatch):
    monkeypatch.setenv(distributed.ADDRESS, "there:1")
    monkeypatch.setenv(distributed.COUNT, "4")
    monkeypatch.setenv(distributed.INDEX, "3")
    distributed.start()
    distributed.start("here:2", 2, 0)
    expected = [("there:1", 4, 3), ("here:2", 2, 0)]
    assert calls == [
        ((address,), {"num_processes": count, "process_id": index})
        for address, count, index in expected
    ]


def test_clusters(calls, monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setattr(distributed, "jax", _Platforms("cpu"))
    distributed.start()
    assert calls == [((), {})]
    monkeypatch.delenv("SLURM_PROCID")
    monkeypatch.setattr(distributed.glob, "glob", lambda pattern: ["/dev/accel0"])
    monkeypatch.setattr(distributed.importlib.util, "find_spec", lambda name: name == "libtpu")
    monkeypatch.setattr(distributed, "jax", _Platforms("tpu,cpu"))
    distributed.start()
    monkeypatch.setattr(distributed, "jax", _Platforms("cpu"))
    distributed.start()
    assert calls == [((), {})] * 2


@pytest.mark.parametrize(("begun", "processes", "joins"), [(1, 1, 0), (1, 4, 1), (0, 1, 1)])
def test_a_notebook_on_a_tpu_is_alone(calls, monkeypatch, begun, processes, joins):
    """JAX cannot join others once it has begun, which it has where a cell asked for devices."""
    monkeypatch.setattr(distributed.glob, "glob", lambda pattern: ["/dev/vfio/0"])
    monkeypatch.setattr(distributed.importlib.util, "find_spec", lambda name: name == "libtpu")
    monkeypatch.setattr(distributed, "jax", _Platforms("tpu,cpu", begun, processes))
    distributed.start()
    assert calls == [((), {})] * joins


class _Platforms:
    """`jax` on a machine with TPUs, told to use these platforms, which it has begun to or not."""

    def __init__(self, platforms: str, begun: bool = False, processes: int = 1):
        self.config = SimpleNamespace(jax_platforms=platforms)
        self.distributed = jax.distributed
        self.process_count = lambda: processes
        bridge = SimpleNamespace(backends_are_initialized=lambda: bool(begun))
        self._src = SimpleNamespace(xla_bridge=bridge)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("host:1", None, None), "num_processes, process_id is missing"),
        ((None, 2, 0), "coordinator is missing"),
        (("host", 2, 0), "coordinator 'host' is not host:port"),
        (("host:1", 2, 2), "process_id 2 is not one of 2 processes"),
    ],
)
def test_half_told(calls, arguments, message):
    with pytest.raises(ValueError) as caught:
        distributed.start(*arguments)
    assert message in str(caught.value) and calls == []


def test_a_number_that_is_none(calls, monkeypatch):
    monkeypatch.setenv(distributed.COUNT, "two")
    with pytest.raises(ValueError, match="JAX_NUM_PROCESSES='two' is not a number"):
        distributed.start()


def test_a_workdir_whose_name_is_a_pattern(tmp_path):
    """Fails before: it trained, and no checkpoint could be read again."""
    folder = tmp_path / "exp[lr=1e-4]"
    with pytest.raises(ValueError, match="may not have . ., which Orbax takes for a pattern"):
        workdir.prepare(folder, tmp_path, {}, SimpleNamespace(keep=print))
    assert not folder.exists()


@pytest.fixture
def joining(monkeypatch):
    """joining(comes): a process that was asked to stop while it waits for the others to come."""
    before, heard = [signal.getsignal(number) for number in STOPS], []

    def start(comes: bool) -> list:
        asked = threading.Event()

        def initialize(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGTERM)
            asked.wait(0.3 if comes else 60)  # in C++, so to speak

        def leave(status):
            heard.append(status)
            asked.set()
            raise SystemExit(status)

        monkeypatch.setattr(distributed, "LINGER", 2.0 if comes else 0.3)
        monkeypatch.setattr(jax.distributed, "initialize", initialize)
        monkeypatch.setattr(distributed.os, "_exit", leave)
        monkeypatch.setattr(distributed.signal, "raise_signal", heard.append)
        distributed.start("here:2", 2, 0)
        return heard

    yield start, heard
    for number, handler in zip(STOPS, before, strict=True):
        signal.signal(number, handler)


def test_sigterm_while_the_others_are_waited_for(joining, capsys):
    """Fails before: jax.distributed hears no signal, and the process was killed at last."""
    start, heard = joining
    with pytest.raises(SystemExit):
        start(comes=False)
    assert heard == [75]
    assert capsys.readouterr().err == "asked to stop; start again to go on\n"


def test_sigterm_while_the_others_come_is_told_to_jax(joining):
    """They learn of it by JAX, and all stop at one step."""
    start, heard = joining
    start(comes=True)
    assert heard == [signal.SIGTERM]


def test_who_does_not_come_is_not_waited_for_forever(joining, capsys, monkeypatch):
    monkeypatch.setattr(distributed, "PATIENCE", 0.3)
    start, heard = joining
    monkeypatch.setattr(os, "kill", lambda *_: None)
    with pytest.raises(SystemExit):
        start(comes=False)
    assert heard == [75]
    assert "the other processes have not come" in capsys.readouterr().err


@pytest.mark.parametrize(
    "said",
    [
        "UNKNOWN: Gloo AllGather failed: [external/gloo/gloo/transport/tcp/pair.cc:547] Connection",
        "UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats)",
    ],
)
def test_what_is_said_where_a_process_is_gone(said, monkeypatch):
    """By JAX's runtime; and of one process it is an error like any other."""
    assert not distributed.lost_another(ValueError(said))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert distributed.lost_another(ValueError(said))
    assert not distributed.lost_another(ValueError("steps must be positive"))


def test_sigterm_is_reported_and_then_as_before():
    before = signal.getsignal(signal.SIGTERM)
    with distributed.stop_requests() as asked:
        assert not asked(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked(2) and asked(3)
    assert signal.getsignal(signal.SIGTERM) == before
    assert distributed.Preempted().code == 75


def test_ctrl_c_is_reported_once_and_then_interrupts(request):
    # What a shell starts in the background ignores it.
    found = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, found))
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with distributed.stop_requests() as asked:
        assert not asked(1)
        signal.raise_signal(signal.SIGINT)
        assert asked(2)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_calls_are_counted_from_1_wherever_a_run_goes_on(monkeypatch):
    """A SIGTERM before the first call is due at call 1, which a resumed run must not skip."""
    seen = []

    def reached(call: int) -> bool:
        seen.append(call)
        return call == 1

    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed.multihost_utils, "reached_preemption_sync_point", reached)
    with distributed.stop_requests() as asked:
        assert [asked(step) for step in (301, 302, 303)] == [True, False, False]
    assert seen == [1, 2, 3]


def test_places_of_processes_that_do_not_meet(monkeypatch):
    for name in (distributed.COUNT, distributed.INDEX, "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    assert distributed.place() == (0, 1)
    assert distributed.place(3, 2) == (2, 3)
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert distributed.place() == (1, 4)
    monkeypatch.setenv(distributed.COUNT, "2")
    with pytest.raises(ValueError, match="need --num_processes and --process_id"):
        distributed.place()
    monkeypatch.setenv(distributed.INDEX, "1")
    assert distributed.place() == (1, 2) and distributed.place(process_id=0) == (0, 2)
    with pytest.raises(ValueError, match="process_id 2 is not one of 2 processes"):
        distributed.place(process_id=2)
