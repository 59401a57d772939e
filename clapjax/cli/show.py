"""Progress on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
import unicodedata
import warnings
from collections.abc import Iterable, Iterator

LOG_SECONDS = 30.0  # between the lines of a log


class Progress:
    """A bar with a rate and an ETA, or lines with both now and then.

    What came with the first item is not in the rate: reading a model, and compiling it.
    """

    def __init__(self, total: int | None, what: str):
        """Of so many items (None: nobody knows) that are `what`, as "embedding"."""
        import tqdm

        self.total, self.what, self.count = total, what, 0
        self.begun = self.shown = time.perf_counter()
        self.first = None  # when that came
        self.bar = tqdm.tqdm(total=total, desc=what) if sys.stderr.isatty() else None

    def step(self) -> None:
        """One item more is done."""
        now = time.perf_counter()
        self.count += 1
        if self.first is None:
            self.first = self.shown = now
            if self.bar is not None:
                self.bar.reset()
        if self.bar is not None:
            self.bar.update()
        elif now - self.shown > LOG_SECONDS and self.count > 1:
            self.shown, rate = now, (self.count - 1) / max(now - self.first, 1e-9)
            _log(f"{self.what}: {self._place()}, {rate:.1f}/s{self._left(rate)}")

    def skip(self, count: int) -> None:
        """So many items need not be done."""
        if self.total is not None:
            self.total -= count
            if self.bar is not None:
                self.bar.total = self.total
                self.bar.refresh()

    def __enter__(self):
        return self

    def __exit__(self, error, *_) -> None:
        if self.bar is not None:
            self.bar.close()
        elif error is None:
            seconds = time.perf_counter() - self.begun
            rate = self.count / max(seconds, 1e-9)
            _log(f"{self.what}: {self.count} in {seconds:.1f} s ({rate:.1f}/s)")

    def _place(self) -> str:
        return f"{self.count}" if self.total is None else f"{self.count}/{self.total}"

    def _left(self, rate: float) -> str:
        if self.total is None:
            return ""
        minutes, seconds = divmod(round((self.total - self.count) / rate), 60)
        return f", {minutes} min {seconds} s left"


def progress(items: Iterable, total: int | None, what: str) -> Iterator:
    """Passes items on, with a `Progress`."""
    with Progress(total, what) as shown:
        for item in items:
            yield item
            shown.step()


def complain(verb: str, message: object) -> None:
    """One line on stderr about an input, above a progress bar if there is one."""
    import tqdm

    tqdm.tqdm.write(f"clapjax {verb}: {message}", file=sys.stderr)


def in_line(name: str) -> str:
    """A name for a line of text: what would end the line, or move on it, is written as in Python.

    A file may be called so, and whoever reads the lines would find two.
    """
    ends = ("Cc", "Zl", "Zp")  # of control, and separators of lines and paragraphs
    return "".join(
        one.encode("unicode_escape").decode() if unicodedata.category(one) in ends else one
        for one in name
    )


def say(line: str) -> None:
    """One line of results, above a progress bar if there is one, and at once."""
    import tqdm

    tqdm.tqdm.write(line)
    sys.stdout.flush()


@contextlib.contextmanager
def plain_warnings(verb: str) -> Iterator[None]:
    """Warnings for the user come as plain lines on stderr; others, of libraries, as ever."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message, category, *place, **more) -> None:
            if issubclass(category, UserWarning):
                complain(verb, message)
            else:
                usual(message, category, *place, **more)

        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
