"""The switch for deterministic programs; what it does on a GPU is XLA's."""

import subprocess
import sys

import jax
import pytest

from clapjax.training.deterministic import OPTION, make_deterministic

PROGRAM = """
import jax
from clapjax.training.deterministic import make_deterministic
make_deterministic()
jax.jit(lambda x: x + 1)(1.0)
"""


def test_every_program_of_the_process_is_compiled_with_it(quick_env, tmp_path):
    """As XLA itself writes down what it was asked for."""
    flags = f"--xla_dump_to={tmp_path}"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=quick_env | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    options = [file.read_text() for file in tmp_path.glob("*.debug_options")]
    assert options and all(f"{OPTION}: true" in text for text in options)


def test_too_late(monkeypatch):
    assert jax.devices()
    monkeypatch.setenv("XLA_FLAGS", "")
    with pytest.raises(ValueError, match="JAX has already started"):
        make_deterministic()
