"""What the command line does around its verbs."""

import gc
import signal
import sys
import threading
from types import SimpleNamespace

from clapjax.cli.main import VERBS, main


def test_ctrl_c_in_a_callback_of_the_garbage_collector_is_not_lost(monkeypatch, capsys):
    """Fails before: Python ignores what such a callback raises, and the verb goes on."""

    def interrupt(*_) -> None:
        gc.callbacks.remove(interrupt)
        signal.raise_signal(signal.SIGINT)

    def run(args, overrides) -> int:
        gc.callbacks.append(interrupt)
        gc.collect()
        threading.Event().wait(20)
        return 0

    verb = SimpleNamespace(EXAMPLE="", add_arguments=lambda parser: None, run=run)
    monkeypatch.setitem(sys.modules, "waiting", verb)
    monkeypatch.setitem(VERBS, "wait", ("waiting", ""))
    hook, handler = sys.unraisablehook, signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["wait"]) == 130
    finally:
        signal.signal(signal.SIGINT, handler)
    assert capsys.readouterr().err == "clapjax wait: interrupted\n"
    assert sys.unraisablehook is hook
