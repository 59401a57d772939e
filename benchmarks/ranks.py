"""What exact ranks cost beside the bare matrix product, and how much memory they take.

    python -m benchmarks.ranks                                     # seconds
    python -m benchmarks.ranks --clips 100000 --captions 5         # the size of a large test set
    python -m benchmarks.ranks --clips 1000000 --slice 8192        # memory at a million clips

The embeddings are memory-mapped files. Bare products of the same blocks, of NumPy and of XLA, are
timed while the ranks are counted, one in `--every` blocks, so that a busy machine slows both. With
`--slice` only so many of the clips are counted, against all captions.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

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
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        measure(args, Path(folder))


def measure(args, folder: Path) -> None:
    audio = write_unit(folder / "audio.npy", args.clips, args.dimensions)
    text = write_unit(folder / "text.npy", args.clips * args.captions, args.dimensions, audio)
    bare = jax.jit(lambda a, b: jnp.dot(a, b.T, precision=jax.lax.Precision.HIGHEST))
    spent, products, shares = {"NumPy": 0.0, "XLA": 0.0}, 0, []
    count_block = ranks._count_block

    def timed(clips, levels, block, columns, *real, mesh):
        """A block of the count, and now and then the bare products of as many rows of it."""
        nonlocal products
        if len(shares) % args.every == 0:
            left = np.asarray(clips[: ranks.TILE * 8])
            tiles = left.reshape(-1, ranks.TILE, left.shape[1])
            for name, product in (("NumPy", lambda a, b: a @ b.T), ("XLA", bare)):
                product(tiles[0], block)
                start = time.perf_counter()
                for tile in tiles:
                    jax.block_until_ready(product(tile, block))
                spent[name] += time.perf_counter() - start
            products += left.shape[0] * len(block)
        shares.append(None)
        return count_block(clips, levels, block, columns, *real, mesh=mesh)

    ranks._count_block = timed
    start = time.perf_counter()
    if args.slice:
        levels = np.full((args.slice, args.captions), 0.5, np.float32)
        columns = np.full(len(text), 0.5, np.float32)
        mesh = Mesh(np.array(jax.local_devices()), ("clips",))
        ranks.count_reaching(audio[: args.slice], levels, text.__getitem__, columns, mesh)
        counted = args.slice
    else:
        clip = np.arange(len(text)) // args.captions
        found = ranks.rank(audio, text, clip)
        counted = args.clips
    seconds = time.perf_counter() - start - sum(spent.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    pairs = counted * len(text)
    print(f"{counted} of {args.clips} clips against {len(text)} captions, {args.dimensions}-d")
    if not args.slice:
        for name, outcomes in zip(("text to audio", "audio to text"), found, strict=True):
            values = ", ".join(f"{k} {v:.4g}" for k, v in ranks.metrics(outcomes).items())
            print(f"{name}: {values}")
    for name, bare_seconds in spent.items():
        whole = bare_seconds / products * pairs
        print(f"bare products ({name}): {whole:.1f} s; ranks take {seconds / whole:.2f} times that")
    print(f"ranks, both directions: {seconds:.1f} s on {jax.device_count()} devices")
    print(f"peak resident memory: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
