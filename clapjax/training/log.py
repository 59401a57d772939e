"""Training logs: JSONL, TensorBoard, and a progress bar or plain lines."""

import os
import sys
import time
from collections.abc import Callable

from clapjax.data.paths import as_path
from clapjax.training import distributed
from clapjax.training.log_files import open_files, read_log


def is_scores(row: dict) -> bool:
    """Whether a row of the log is of an evaluation."""
    return any(name.startswith("eval/") for name in row)


class TrainLog:
    """Writes scalars of a run; rows beyond `start_step`, of a killed attempt, are dropped first.

    So are the scores of `start_step`, unless it is `judged` for good. Of several processes only one
    is `active`; the others write nothing, but learn where that one cannot (OSError). Before it
    writes, `check` raises where it is not to.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        start_step: int,
        steps: int,
        batch_size: int,
        active: bool = True,
        judged: bool = True,
        check: Callable[[], None] = lambda: None,
    ):
        import tqdm

        self._active, self._folder, self._check = active, as_path(workdir), check
        begun = start_step > 0
        with distributed.together(self._folder):
            if active:
                check()  # a slow start may have been overtaken by another
                begun |= self._open(start_step, judged)
        self._steps, self._batch_size = steps, batch_size
        self._last = (start_step, time.perf_counter())
        self._compiled: tuple[int, float] | None = None  # the first step, and when it had been
        if active and begun and start_step < steps:
            print(f"{workdir}: goes on from step {start_step}", file=sys.stderr, flush=True)
        hidden = not (active and sys.stderr.isatty())
        self._bar = tqdm.tqdm(total=steps, initial=start_step, unit="step", disable=hidden)

    def _open(self, start_step: int, judged: bool) -> bool:
        """Whether there are rows of a killed attempt."""
        rows = read_log(self._folder)
        kept = [
            row
            for row in rows
            if row["step"] < start_step
            or (row["step"] == start_step and (judged or not is_scores(row)))
        ]
        self._rows, self._events = open_files(self._folder, kept)
        return bool(rows)

    def advance(self) -> None:
        """Counts one step on the bar; compiling the first counts in no rate but that step's own."""
        if self._compiled is None:
            self._compiled = (self._last[0] + 1, time.perf_counter())
        if self._active:
            self._bar.update()

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Logs one row of training metrics and shows it."""
        now = time.perf_counter()
        if self._compiled and step > self._compiled[0] > self._last[0]:
            self._last = self._compiled
        rate = (step - self._last[0]) * self._batch_size / max(1e-9, now - self._last[1])
        self._last = (step, now)
        self._append(step, {**scalars, "clips_per_second": rate})
        if not self._active:
            return
        shown = {name: scalars[name] for name in scalars if name.endswith("loss")}
        text = ", ".join(f"{name} {value:.4f}" for name, value in shown.items())
        if self._bar.disable:
            left = self._left(step, rate)
            line = f"step {step}/{self._steps}: {text}, {rate:.1f} clips/s{left}"
            print(line, file=sys.stderr, flush=True)
        else:
            self._bar.set_postfix_str(f"{rate:.1f} clips/s, {text}")

    def _left(self, step: int, rate: float) -> str:
        """How long it will take; of a step that was compiled, nothing can be said."""
        if self._compiled and step == self._compiled[0]:
            return ""
        minutes, seconds = divmod(round((self._steps - step) * self._batch_size / rate), 60)
        return f", {minutes} min {seconds} s left"

    def write_scores(self, step: int, scores: dict[str, float]) -> None:
        """Logs one row of evaluation scores, each as eval/NAME; its time counts in no rate."""
        if scores:
            self._append(step, {f"eval/{name}": value for name, value in scores.items()})
        self._last = (step, time.perf_counter())

    def _append(self, step: int, scalars: dict[str, float]) -> None:
        with distributed.together(self._folder):
            if self._active:
                self._check()
                self._rows.append({"step": step, **scalars})
                self._events.append(step, scalars)

    def close(self) -> None:
        """Flushes everything."""
        if not self._active:
            return
        self._events.close()
        self._bar.close()
