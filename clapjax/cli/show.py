"""Progress on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
import warnings
from collections.abc import Iterable, Iterator

LOG_SECONDS = 30.0  # between the lines of a log


def progress(items: Iterable, total: int, what: str) -> Iterator:
    """Passes items on; a bar with a rate and an ETA, or lines with both now and then."""
    import tqdm

    if sys.stderr.isatty():
        yield from tqdm.tqdm(items, total=total, desc=what)
        return
    start = shown = time.perf_counter()
    for count, item in enumerate(items, 1):
        yield item
        now = time.perf_counter()
        if now - shown > LOG_SECONDS:
            shown, rate = now, count / (now - start)
            minutes, seconds = divmod(round((total - count) / rate), 60)
            _log(f"{what}: {count}/{total}, {rate:.1f}/s, {minutes} min {seconds} s left")
    seconds = time.perf_counter() - start
    _log(f"{what}: {total} in {seconds:.1f} s ({total / max(seconds, 1e-9):.1f}/s)")


def complain(verb: str, message: object) -> None:
    """One line on stderr about an input, above a progress bar if there is one."""
    import tqdm

    tqdm.tqdm.write(f"clapjax {verb}: {message}", file=sys.stderr)


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
