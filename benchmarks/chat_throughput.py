"""Whether `clapjax captions negate --backend openai` keeps its endpoint busy.

    python -m benchmarks.chat_throughput [--captions 5000] [--concurrency 32] [--seconds 0.5]

A server on this machine answers each request after `--seconds`. Prints how many requests were with
it on average, as a share of the concurrency, from the first to the last. Status 1 where that is
under 0.9, or a caption has no negative or was asked twice.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

from clapjax.captions.llm.cache import open_cache
from clapjax.captions.llm.chat import ChatConfig, negate
from tests.captions.chat_server import content, serve

LEAST = 0.9


class Busy:
    """An endpoint that exchanges the two sides of "then", and its request-seconds."""

    def __init__(self, seconds: float):
        self.seconds, self.lock = seconds, threading.Lock()
        self.held, self.first, self.last = 0.0, None, 0.0

    def __call__(self, prompt: str, times: int):
        began = time.monotonic()
        time.sleep(self.seconds)
        first, second = prompt.removeprefix("Caption: ").split(" then ")
        with self.lock:
            self.last = time.monotonic()
            self.held += self.last - began
            self.first = began if self.first is None else min(self.first, began)
        return content(json.dumps({"negative_captions": [f"{second} then {first.lower()}"]}))


def main() -> int:
    """Measures, prints, and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--captions", type=int, default=5000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=0.5)
    args = parser.parse_args()
    captions = [f"A dog barks {i} times then rain falls" for i in range(args.captions)]
    busy = Busy(args.seconds)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_cache(Path(folder) / "answers") as cache,
        serve(busy) as endpoint,
    ):
        settings = ChatConfig(
            model="m", base_url=endpoint.url, api_key="k", concurrency=args.concurrency
        )
        done = list(negate(captions, 1, settings, cache))
    elapsed = busy.last - busy.first
    share = busy.held / elapsed / args.concurrency
    valid = sum(bool(item.negatives) for item in done)
    print(
        f"{args.captions} captions in {elapsed:.1f} s, {args.captions / elapsed:.0f} a second; "
        f"{share:.1%} of {args.concurrency} requests in flight; {valid} with a negative; "
        f"asked at most {max(endpoint.asked.values())} times"
    )
    once = set(endpoint.asked.values()) == {1}
    return 0 if share >= LEAST and valid == args.captions and once else 1


if __name__ == "__main__":
    sys.exit(main())
