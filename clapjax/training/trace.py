"""A profiler trace of some steps of a run."""

import shutil
import tempfile
import warnings
from pathlib import Path

import jax

from clapjax.data.paths import copy_folder, is_local


class Trace:
    """Traces steps `span[0]` to `span[1]` of the steps `start` + 1 ... `steps`, or none.

    The files are for TensorBoard's profile plugin and ui.perfetto.dev.

    Steps that are past are a warning, and not traced.

    Raises:
      ValueError: the span is no span, or beyond those steps.
    """

    def __init__(self, folder: Path, span: tuple[int, int] | None, start: int, steps: int):
        if span is not None and not 0 < span[0] <= span[1] <= steps:
            raise ValueError(f"profile {span[0]}:{span[1]}: this run does steps 1 to {steps}")
        if span is not None and span[0] <= start:
            warnings.warn(
                f"profile {span[0]}:{span[1]}: nothing is traced, for this run goes on at step "
                f"{start + 1}",
                stacklevel=2,
            )
            span = None
        self._folder, self._span, self._running = folder, span, False
        self._written = folder  # by JAX, which knows no bucket

    def __enter__(self):
        return self

    def before(self, step: int) -> None:
        """Call it before each step."""
        if self._span and step == self._span[0]:
            if not is_local(self._folder):
                self._written = Path(tempfile.mkdtemp())
            jax.profiler.start_trace(self._written)
            self._running = True

    def after(self, step: int, results) -> None:
        """Call it after each step; waits for the last traced one to be done."""
        if self._running and step == self._span[1]:
            jax.block_until_ready(results)
            self.__exit__()

    def __exit__(self, *_) -> None:
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
            if self._written != self._folder:
                copy_folder(self._written, self._folder)
                shutil.rmtree(self._written)
