"""What a large index finds, how fast, and with how much time and memory it is made.

    python -m benchmarks.index --folder F [--sizes 1000000 2000000 4000000] [--numpy_rows 2000000]

Of vectors of 512 numbers that lie in groups (`benchmarks.made_vectors`). Each size is made in one
process and searched in another, by 200 sounds and 200 texts that are not in it, one at a time.
Beside it, in the same process and up to `--numpy_rows` rows, the same questions to numpy over all
rows in memory, to `semantic_search` of sentence-transformers where that is installed, and with
--rivals to HNSW over bytes of usearch. Prints Markdown tables; "own" memory is what is not mapped
from files, of which the system takes away what it needs.
"""

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.made_vectors import BLOCK, Made
from clapjax.inference.index import Index
from clapjax.inference.lists import exact_search, recall
from clapjax.inference.store import Table

SIZE, ASKED, TOP = 512, 200, 10
KINDS = ("sounds", "words")


def tables(rows: int, spent: list[tuple[float, float]]) -> Iterator[Table]:
    """The library as `clapjax embed` would have written it; (s, CPU s) to draw it go to `spent`."""
    made = Made(SIZE)
    for number, start in enumerate(range(0, rows, BLOCK)):
        before = time.perf_counter(), time.process_time()
        count = min(BLOCK, rows - start)
        names = [f"library/{start + row:09d}.wav" for row in range(count)]
        table = Table(made.block(number, count), names, ["audio"] * count, "made", {"audio": "0"})
        spent.append((time.perf_counter() - before[0], time.process_time() - before[1]))
        yield table


class OwnMemory(threading.Thread):
    """The most memory that this process has had of its own, in bytes, while it is watched."""

    def __init__(self):
        super().__init__(daemon=True)
        self.most = 0

    def run(self) -> None:
        while True:
            fields = Path("/proc/self/status").read_text().split("RssAnon:")[1].split()
            self.most = max(self.most, int(fields[0]) * 1024)
            time.sleep(0.1)


def build(rows: int, folder: Path) -> dict:
    """Makes the index; what it took."""
    own = OwnMemory()
    own.start()
    spent: list[tuple[float, float]] = []
    before = time.perf_counter(), time.process_time()
    index = Index.build(tables(rows, spent), folder, approximate=True)
    seconds, cpu = time.perf_counter() - before[0], time.process_time() - before[1]
    disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    cost = {"seconds": seconds - sum(x for x, _ in spent), "cpu": cpu - sum(x for _, x in spent)}
    return cost | {"own": own.most, "disk": disk} | index.about["audio"]


def ask(rows: int, folder: Path, rivals: bool, numpy_rows: int) -> dict:
    """Opens the index and searches in it, and in memory with other means."""
    start = time.perf_counter()
    index = Index(folder)
    found = {"open": time.perf_counter() - start}
    own = OwnMemory()
    own.start()
    made = Made(SIZE)
    queries = {kind: made.queries(kind, ASKED) for kind in KINDS}
    vectors = index.vectors()
    numbers = {
        "clapjax": lambda one: [hit.row for hit in index.search(one, TOP)[0]],
        "clapjax, exact": lambda one: [hit.row for hit in index.search(one, TOP, exact=True)[0]],
    }
    exact = {kind: exact_search(vectors, asked, TOP) for kind, asked in queries.items()}
    exact = {kind: [scores for _, scores in found] for kind, found in exact.items()}
    # The exact search comes last: it brings all rows into the page cache.
    found["ways"] = [measure("clapjax", numbers["clapjax"], vectors, queries, exact)]
    found["own"] = own.most
    start = time.perf_counter()
    index.search(np.concatenate(list(queries.values())), TOP)
    found["together"] = (time.perf_counter() - start) / (len(KINDS) * ASKED)
    way = "clapjax, exact"
    found["ways"].append(measure(way, numbers[way], vectors, queries, exact, 20))
    if rows <= numpy_rows:
        for name, function, cost in others(np.array(vectors), rivals):
            found["ways"].append(measure(name, function, vectors, queries, exact, 20) | cost)
    return found


def others(vectors: np.ndarray, rivals: bool) -> Iterator[tuple[str, Callable, dict]]:
    """(name, function of a query to the numbers of rows, what it took) of other means."""
    yield "numpy, sorted", lambda one: np.argsort(-(vectors @ one))[:TOP], {}
    if importlib.util.find_spec("sentence_transformers"):
        import torch
        from sentence_transformers.util import semantic_search

        tensor = torch.from_numpy(vectors)

        def semantic(one: np.ndarray) -> list[int]:
            hits = semantic_search(torch.from_numpy(one), tensor, top_k=TOP)[0]
            return [hit["corpus_id"] for hit in hits]

        yield "semantic_search", semantic, {}
    if rivals and importlib.util.find_spec("usearch"):
        from usearch.index import Index as Graph

        graph = Graph(ndim=SIZE, metric="cos", dtype="i8", connectivity=16, expansion_add=128)
        start = time.perf_counter()
        graph.add(np.arange(len(vectors)), vectors)
        cost = {"seconds": time.perf_counter() - start}
        for beam in (64, 256, 1024):

            def search(one: np.ndarray, beam: int = beam) -> np.ndarray:
                graph.expansion_search = beam
                return graph.search(one, TOP).keys

            yield f"usearch i8, beam {beam}", search, cost


def measure(
    name: str,
    function: Callable,
    vectors: np.ndarray,
    queries: dict[str, np.ndarray],
    exact: dict[str, list],
    count: int = ASKED,
) -> dict:
    """Recall and latency of each kind of query, one query at a time."""
    found = {"name": name}
    for kind, asked in queries.items():
        scores, seconds = [], []
        for one in asked[:count]:
            start = time.perf_counter()
            rows = np.asarray(function(one))
            seconds.append(time.perf_counter() - start)
            scores.append(vectors[rows] @ one)
        ms = 1000 * np.percentile(seconds, [50, 95])
        found[kind] = {"recall": recall(scores, exact[kind][:count]), "ms": ms.tolist()}
    return found


def in_process(step: str, rows: int, args: argparse.Namespace) -> dict:
    """One step in a process of its own, whose memory is nobody else's."""
    command = [sys.executable, "-m", "benchmarks.index", "--step", step, "--sizes", str(rows)]
    command += ["--folder", str(args.folder), "--numpy_rows", str(args.numpy_rows)]
    command += ["--rivals"] if args.rivals else []
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000_000, 2_000_000, 4_000_000])
    parser.add_argument("--folder", type=Path, required=True, help="for what is made")
    parser.add_argument("--numpy_rows", type=int, default=2_000_000, help="in memory up to here")
    parser.add_argument("--rivals", action="store_true", help="usearch too, which takes long")
    parser.add_argument("--step", choices=("build", "ask"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    place = args.folder / "library.index"
    if args.step == "build":
        print(json.dumps(build(args.sizes[0], place)))
        return
    if args.step == "ask":
        print(json.dumps(ask(args.sizes[0], place, args.rivals, args.numpy_rows)))
        return
    print("| rows | by | recall@10 sounds, words | ms a query: median (95 %), sounds, words |")
    print("| ---: | --- | --- | --- |")
    lines = []
    for rows in args.sizes:
        args.folder.mkdir(parents=True, exist_ok=True)
        made, asked = in_process("build", rows, args), in_process("ask", rows, args)
        for way in asked["ways"]:
            recalls = ", ".join(f"{way[kind]['recall']:.4f}" for kind in KINDS)
            times = ", ".join("{:.1f} ({:.1f})".format(*way[kind]["ms"]) for kind in KINDS)
            name = way["name"] + (f", made in {way['seconds']:.0f} s" if "seconds" in way else "")
            print(f"| {rows:,} | {name} | {recalls} | {times} |", flush=True)
        lines.append(
            f"| {rows:,} | {made['seconds']:.0f} ({made['cpu']:.0f}) | {made['own'] / 2**30:.2f} | "
            f"{made['disk'] / 2**30:.2f} | {made['probe']} of {made['lists']} | "
            f"{asked['open']:.3f} | {asked['own'] / 2**30:.2f} | {1000 * asked['together']:.1f} |"
        )
        shutil.rmtree(place)
    print("\n| rows | s to build (CPU) | GiB own | GiB on disk | lists read | s to open | "
          "GiB own, asked | ms a query, 400 at once |")  # fmt: skip
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", *lines, sep="\n")


if __name__ == "__main__":
    main()
