"""Rows in lists around centroids, with faiss: what is nearest to a query without reading every row.

A query is compared with the rows of the lists whose centroids are nearest to it, as bytes
(a byte a dimension), and the best of these by their float32 vectors. The bytes stay on disk, mapped
into memory, so that what is read of a library larger than memory is a few lists one after another.
"""

import contextlib
import importlib.util
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

LISTS, BYTES = "lists.faiss", "lists.bytes"  # centroids; the rows of their lists
SHARD = 2**20  # rows in memory at once while lists are filled
BLOCK = 2**15  # rows that are read or compared at once
NEAR = 2**9  # rows whose near ones are looked for at once
SAMPLE = 48  # rows a list that centroids are learned from
RECALL = 0.9975  # of the nearest ten, on queries that are made up: what is found on others is less
ASKED = 200  # queries of each kind of `make_queries`


def available() -> bool:
    """Whether faiss is installed."""
    return importlib.util.find_spec("faiss") is not None


class Lists:
    """The lists of `build_lists`, opened: `search` and `near`."""

    def __init__(self, folder: Path, vectors: np.ndarray, probe: int):
        """`vectors`: the (N, D) rows; `probe`: how many lists a search reads."""
        import faiss

        # The folder may have been moved since; faiss's own flag for that prints to stdout.
        self._index = faiss.read_index(os.fspath(folder / LISTS), faiss.IO_FLAG_SKIP_IVF_DATA)
        mapped = faiss.downcast_InvertedLists(self._index.invlists)
        mapped.filename, mapped.read_only = os.fspath(folder / BYTES), True
        if (folder / BYTES).stat().st_size < mapped.totsize:  # reading on would end the process
            raise ValueError(f"{BYTES} is cut off")
        mapped.do_mmap()
        self._vectors, self.probe = vectors, probe
        if self._index.ntotal != len(vectors) or self._index.d != vectors.shape[1]:
            raise ValueError(f"{self._index.ntotal} rows in lists, {len(vectors)} vectors")

    @property
    def count(self) -> int:
        """How many lists there are."""
        return self._index.nlist

    def search(
        self, queries: np.ndarray, top: int, probe: int | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each of (Q, D) queries (rows (n,), cosines (n,)), n <= top, the best first."""
        # One query goes over its lists with all threads, several are shared out among them.
        self._index.parallel_mode = int(len(queries) == 1)
        more = min(len(self._vectors), 2 * top + 30)  # the bytes may put neighbours out of order
        _, found = self._index.search(queries, more, params=self._params(probe or self.probe))
        results = []
        for query, rows in zip(queries, found, strict=True):
            rows = np.sort(rows[rows >= 0])
            cosines = self._vectors[rows] @ query
            order = np.argsort(-cosines, kind="stable")[:top]
            results.append((rows[order], cosines[order]))
        return results

    def near(self, start: int, stop: int, least: float) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of a row in start .. stop and an earlier one that are at least so similar.

        Returns:
          ((P, 2) rows, (P,) cosines).
        """
        block = np.ascontiguousarray(self._vectors[start:stop])
        # What is so near is in the same list, or in one beside it.
        params = self._params(min(8, self.count))
        limits, _, found = self._index.range_search(block, least - 0.02, params=params)
        rows = np.repeat(np.arange(start, stop), np.diff(limits.astype(np.int64)))
        pairs = np.stack([rows, found], axis=1)[found < rows]
        cosines = np.empty(len(pairs), np.float32)
        for at in range(0, len(pairs), BLOCK):
            left, right = (self._vectors[side] for side in pairs[at : at + BLOCK].T)
            cosines[at : at + BLOCK] = np.einsum("pd,pd->p", left, right)
        kept = cosines >= least
        return pairs[kept], cosines[kept]

    def _params(self, probe: int):
        import faiss

        return faiss.SearchParametersIVF(nprobe=probe)


def build_lists(vectors: np.ndarray, folder: Path, seed: int = 0) -> dict:
    """Writes the lists of (N, D) rows of unit length, and measures what they find.

    Memory is bounded by SHARD and the sample, whatever N is; on disk there is for a while twice
    what stays.

    Args:
      vectors: may be mapped from a file.
      folder: of this machine; LISTS and BYTES are written there.
      seed: of the sample and the queries.

    Returns:
      {"lists": how many, "probe": how many a search reads, "recall": {kind of query: of ten}}.
    """
    import faiss

    generator = np.random.default_rng(seed)
    count = list_count(len(vectors))
    sample = _sample(vectors, SAMPLE * count, generator)
    index = _train(sample, count)
    shards = []
    for start in range(0, len(vectors), SHARD):
        stop = min(start + SHARD, len(vectors))
        for at in range(start, stop, BLOCK):
            ids = np.arange(at, min(at + BLOCK, stop))
            index.add_with_ids(np.ascontiguousarray(vectors[ids[0] : ids[-1] + 1]), ids)
        shards.append(os.fspath(folder / f"shard-{len(shards)}"))
        faiss.write_index(index, shards[-1])
        index.reset()
    _merge(index, shards, folder)
    del index
    queries = make_queries(sample, ASKED, generator)
    lists = Lists(folder, vectors, 1)
    return {"lists": lists.count} | _tune(lists, vectors, queries)


def list_count(rows: int) -> int:
    """About four times the root of the number of rows; a square, for centroids in groups."""
    return min(rows, round(2 * rows**0.25) ** 2)


def exact_search(
    vectors: np.ndarray, queries: np.ndarray, top: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """As `Lists.search`, by comparing with every row, some at a time."""
    best = [(np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in queries]
    for start in range(0, len(vectors), BLOCK):
        cosines = queries @ vectors[start : start + BLOCK].T  # (Q, block)
        for at, row in enumerate(cosines):
            chosen = np.argpartition(-row, top - 1)[:top] if len(row) > top else np.arange(len(row))
            chosen.sort()
            rows = np.concatenate([best[at][0], start + chosen])
            scores = np.concatenate([best[at][1], row[chosen]])
            order = np.argsort(-scores, kind="stable")[:top]
            best[at] = rows[order], scores[order]
    return best


def exact_near(
    vectors: np.ndarray, start: int, stop: int, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """As `Lists.near`, by comparing with every row before."""
    pairs, found = [], []
    block = vectors[start:stop]
    for at in range(0, stop, BLOCK):
        cosines = block @ vectors[at : min(at + BLOCK, stop)].T
        late, early = np.nonzero(cosines >= least)
        kept = at + early < start + late
        pairs.append(np.stack([start + late, at + early], axis=1)[kept])
        found.append(cosines[late, early][kept])
    return np.concatenate(pairs), np.concatenate(found)


def make_queries(
    vectors: np.ndarray, count: int, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """Queries that a library may be asked, made of (N, D) rows of it: {kind: (count, D)}.

    "sounds" are like its rows. "words" are like texts, which a constant sets apart from sounds:
    cosines are small, and what is nearest lies in more lists.
    """
    generated = {}
    for kind, centre in (("sounds", 0.0), ("words", vectors.mean(axis=0))):
        rows = vectors[generator.integers(0, len(vectors), count)] - centre
        noise = generator.normal(size=rows.shape).astype(np.float32)
        generated[kind] = _unit(_unit(rows) + 0.75 * _unit(noise))
    return generated


def recall(found: list[np.ndarray], exact: list[np.ndarray]) -> float:
    """The share of the nearest that were found, of the cosines (n,) of each query, best first.

    Of rows that are equally near any will do.
    """
    pairs = zip(found, exact, strict=True)
    return float(np.mean([(some >= best[-1] - 1e-6).sum() / len(best) for some, best in pairs]))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-9)


def _sample(vectors: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """(size, D) rows, or all where there are fewer."""
    if size >= len(vectors):
        return np.array(vectors)
    return vectors[np.sort(generator.choice(len(vectors), size, replace=False))]


def _train(sample: np.ndarray, count: int):
    """An empty index with its centroids, and the range of each dimension."""
    import faiss

    centroids = _unit(_centroids(sample, count))
    # A graph of centroids (HNSW) put 2.5 % of the rows into lists that no query near them reads.
    near = faiss.IndexFlatIP(sample.shape[1])
    near.add(centroids)
    bytes_, inner = faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexIVFScalarQuantizer(near, *centroids.shape[::-1], bytes_, inner)
    index.train(sample)
    return index


def _centroids(sample: np.ndarray, count: int) -> np.ndarray:
    """About (count, D), in groups: of all at once they would take as many times longer."""
    import faiss

    def learn(rows: np.ndarray, centroids: int):
        found = faiss.Kmeans(rows.shape[1], centroids, niter=10, min_points_per_centroid=1)
        found.train(rows)
        return found

    above = learn(sample, round(count**0.5))
    group = above.assign(sample)[1]
    groups = [sample[group == number] for number in np.unique(group)]
    share = count / len(sample)
    return np.concatenate([learn(rows, math.ceil(len(rows) * share)).centroids for rows in groups])


def _merge(index, shards: list[str], folder: Path) -> None:
    """Writes LISTS and BYTES from the files of shards, which go."""
    import faiss
    from faiss.contrib.ondisk import merge_ondisk

    with _no_stderr():  # where faiss tells the size of the file
        merge_ondisk(index, shards, os.fspath(folder / BYTES))
    faiss.write_index(index, os.fspath(folder / LISTS))
    for shard in shards:
        os.unlink(shard)


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Within it nothing that a C library prints to stderr is seen."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def _tune(lists: Lists, vectors: np.ndarray, queries: dict[str, np.ndarray]) -> dict:
    """The least number of lists with which RECALL is reached for all kinds of queries, if any."""
    asked = np.concatenate(list(queries.values()))
    exact = [cosines for _, cosines in exact_search(vectors, asked, 10)]
    most = min(lists.count, max(256, lists.count // 8))  # else comparing with all would be as quick
    probe, found = 1, {}
    while True:
        results = [cosines for _, cosines in lists.search(asked, 10, probe)]
        for at, kind in enumerate(queries):
            part = slice(at * ASKED, (at + 1) * ASKED)
            found[kind] = recall(results[part], exact[part])
        if min(found.values()) >= RECALL or probe == most:
            return {"probe": probe, "recall": {k: round(v, 4) for k, v in found.items()}}
        probe = min(most, max(probe + 1, probe * 5 // 4))
