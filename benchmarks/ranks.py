"""What exact ranks cost beside the bare matrix product, and how much memory they take.

    python -m benchmarks.ranks                                     # seconds
    python -m benchmarks.ranks --clips 100000 --captions 5         # the size of a large test set
    python -m benchmarks.ranks --clips 1000000 --slice 4096 --dimensions 64   # a million: memory

The embeddings are memory-mapped files. Bare products of the same blocks, of NumPy and of XLA, are
timed while the ranks are counted, one in `--every` blocks, so that a busy machine slows both. With
`--slice` only the products of so many clips are counted, against all captions; all else is done for
all of them. Of resident memory, what belongs to no file is told apart: the system can drop pages
of the embeddings' files whenever it needs them.
"""

import argparse
import re
import resource
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from clapjax.evaluation import ranks


def write_unit(path: Path, rows: int, dimensions: int, near: np.ndarray | None = None):
    """A memory-mapped (rows, dimensions) float32 of unit rows; near: rows // len(near) of each."""
    rng = np.random.default_rng(rows)
    out = np.lib.format.open_memmap(path, "w+", np.float32, (rows, dimensions))
    for start in range(0, rows, 2**14):
        part = rng.standard_normal(out[start : start + 2**14].shape, np.float32)
        if near is not None:
            part = part / 4.5 + near[np.arange(start, start + len(part)) // (rows // len(near))]
        out[start : start + 2**14] = part / np.linalg.norm(part, axis=1, keepdims=True)
    out.flush()
    return np.load(path, mmap_mode="r")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--captions", type=int, default=5, help="of each clip")
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--slice", type=int, default=0, help="count only so many clips; 0: all")
    parser.add_argument(
        "--every", type=int, default=4, help="bare products of one block in so many"
    )
    parser.add_argument("--folder", help="for the embeddings; the system's own for such files")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        measure(args, Path(folder))


def own_memory() -> float:
    """GiB of this process that belong to no file; 0 where the system does not tell (not Linux)."""
    status = Path("/proc/self/status")
    found = re.search(r"RssAnon:\s*(\d+)", status.read_text()) if status.exists() else None
    return int(found[1]) / 2**20 if found else 0.0


def measure(args, folder: Path) -> None:
    audio = write_unit(folder / "audio.npy", args.clips, args.dimensions)
    text = write_unit(folder / "text.npy", args.clips * args.captions, args.dimensions, audio)
    bare = jax.jit(lambda a, b: jnp.dot(a, b.T, precision=jax.lax.Precision.HIGHEST))
    spent, products, own = {"NumPy": 0.0, "XLA": 0.0}, 0, [own_memory()]
    count_block, count_reaching = ranks._count_block, ranks.count_reaching

    def timed(clips, levels, block, columns, *real, mesh):
        """Counts a block, and now and then multiplies some of its rows with it."""
        nonlocal products
        if len(own) % args.every == 1:
            tiles = np.asarray(clips[: 8 * ranks.TILE]).reshape(-1, ranks.TILE, args.dimensions)
            for name, product in (("NumPy", lambda a, b: a @ b.T), ("XLA", bare)):
                product(tiles[0], block)
                start = time.perf_counter()
                for tile in tiles:
                    jax.block_until_ready(product(tile, block))
                spent[name] += time.perf_counter() - start
            products += tiles.shape[0] * tiles.shape[1] * len(block)
        own.append(own_memory())
        return count_block(clips, levels, block, columns, *real, mesh=mesh)

    def sliced(audio, row_levels, *rest):
        by_row = np.zeros(row_levels.shape, np.int64)
        by_row[: args.slice], by_column = timed_pass(
            audio[: args.slice], row_levels[: args.slice], *rest
        )
        return by_row, by_column

    seconds = 0.0

    def timed_pass(*arguments):
        nonlocal seconds
        start = time.perf_counter()
        found = count_reaching(*arguments)
        seconds = time.perf_counter() - start - sum(spent.values())
        return found

    ranks._count_block, ranks.count_reaching = timed, sliced if args.slice else timed_pass
    start = time.perf_counter()
    with np.errstate(divide="ignore"):  # of a slice, other clips have no ranks
        found = ranks.rank(audio, text, np.arange(len(text)) // args.captions)
    rest = time.perf_counter() - start - sum(spent.values()) - seconds
    own.append(own_memory())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    counted = args.slice or args.clips
    print(f"{counted} of {args.clips} clips against {len(text)} captions, {args.dimensions}-d")
    if not args.slice:
        for name, outcomes in zip(("text to audio", "audio to text"), found, strict=True):
            values = ", ".join(f"{k} {v:.4g}" for k, v in ranks.metrics(outcomes).items())
            print(f"{name}: {values}")
    print(f"counting, both directions: {seconds:.1f} s on {jax.device_count()} devices")
    print(f"checks, scores of the matches, sorting: {rest:.1f} s")
    for name, bare_seconds in spent.items():
        whole = bare_seconds / products * counted * len(text)
        print(f"bare products ({name}): {whole:.1f} s; counting takes {seconds / whole:.2f} of it")
    print(f"peak resident memory: {peak:.2f} GiB; of no file: {max(own):.2f} GiB")


if __name__ == "__main__":
    main()
