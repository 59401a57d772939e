"""Progress on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator


def progress(items: Iterable, total: int, what: str) -> Iterator:
    """Passes items on; shows a bar with a rate and an ETA, or one line when done."""
    import tqdm

    start = time.perf_counter()
    yield from tqdm.tqdm(items, total=total, desc=what, disable=not sys.stderr.isatty())
    seconds = time.perf_counter() - start
    if not sys.stderr.isatty():
        rate = total / max(seconds, 1e-9)
        print(f"{what}: {total} in {seconds:.1f} s ({rate:.0f}/s)", file=sys.stderr, flush=True)
