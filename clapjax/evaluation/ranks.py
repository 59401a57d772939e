"""Exact ranks of the matching items of large sets, both ways from one pass over the products.

A rank needs no sorted list: it is the number of wrong items that score no less than the match. So
the scores of the matches are computed first, and blocks of all products are only counted against
them, on every device of a mesh. Memory is linear in the clips and captions, and little of it is on
the devices: embeddings may be memory-mapped files.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from scipy.special import gammaln

DEPTH = 10  # mAP@10: items ranked lower count nothing
TIE = 1e-6  # products are summed in different orders: equal cosines differ by up to 1e-7
TILE, COLUMNS = 256, 8192  # clips and captions of one product: 8 MiB of scores, which a cache holds
ROWS = 2**15  # clips that a device holds at once: 64 MiB of 512 dimensions
CHECKED = 2**14  # rows looked at or multiplied on the host at once


@dataclass(frozen=True)
class Outcomes:
    """What one direction of retrieval found, query by query."""

    rank: np.ndarray  # (Q,) int64, wrong items ahead of the best match: 0 is the first place
    precision: np.ndarray  # (Q,) float64, average precision at 10
    matches: np.ndarray  # (Q,) int64, items that match, at least 1
    items: int  # in the pool


def unit_rows(name: str, array) -> np.ndarray:
    """Embeddings as float32, refused unless they are finite, non-empty and of unit length.

    Args:
        name: what the error calls the array.
        array: (N, D), any float dtype; float32 is not copied, so that it may be memory-mapped.

    Returns:
        (N, D) float32.

    Raises:
        ValueError: not numeric, not 2-D, empty, NaN or infinite, or a length is not 1 +- 1e-3.
    """
    try:
        array = np.asarray(array, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: not an array of numbers ({error})") from error
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name}: expected a non-empty (N, D) array, got shape {array.shape}")
    for start in range(0, len(array), CHECKED):
        off = np.abs(np.linalg.norm(array[start : start + CHECKED], axis=1) - 1)  # (rows,)
        if not np.isfinite(off).all():
            raise ValueError(f"{name}: row {start + np.isfinite(off).argmin()} is NaN or infinite")
        if off.max() > 1e-3:
            row = start + off.argmax()
            raise ValueError(f"{name}: row {row} is not of unit length (off by {off.max():.2g})")
    return array


def index_rows(name: str, array, length: int, limit: int) -> np.ndarray:
    """Row indices as int64, refused unless they are `length` integers in [0, limit).

    Raises:
        ValueError: wrong shape, not integers, or out of range.
    """
    array = np.asarray(array)
    if array.shape != (length,) or array.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: expected ({length},) integers, got shape {array.shape} of {array.dtype}"
        )
    if array.size and (array.min() < 0 or array.max() >= limit):
        raise ValueError(f"{name}: {array.min()}..{array.max()} is outside 0..{limit - 1}")
    return array.astype(np.int64)


@functools.partial(jax.jit, static_argnames="mesh")
def _count_block(audio, row_levels, text, column_levels, clips, captions, mesh: Mesh):
    """How many products of a block reach each level, clip by clip and caption by caption.

    Args:
        audio: (R, D) float32, sharded over the mesh; of them the first `clips` are real.
        row_levels: (R, K) float32, sharded likewise.
        text: (C, D) float32; of them the first `captions` are real.
        column_levels: (C,) float32.

    Returns:
        (R, K) int32, sharded; (C,) int32.
    """
    axes = tuple(mesh.axis_names)

    def own_rows(audio, row_levels, text, column_levels, clips, captions):
        first = jax.lax.axis_index(axes) * len(audio)
        real_columns = jnp.arange(len(text)) < captions  # (C,)

        def tile(inputs):
            rows, levels, index = inputs  # (TILE, D), (TILE, K), (TILE,)
            scores = jnp.dot(rows, text.T, precision=jax.lax.Precision.HIGHEST)  # (TILE, C)
            by_row = [
                jnp.sum((scores >= level[:, None]) & real_columns, axis=1, dtype=jnp.int32)
                for level in levels.T
            ]
            real_rows = (index < clips)[:, None]
            by_column = jnp.sum((scores >= column_levels) & real_rows, axis=0, dtype=jnp.int32)
            return jnp.stack(by_row, axis=1), by_column

        tiles = len(audio) // TILE
        cut = [audio, row_levels, first + jnp.arange(len(audio))]
        cut = [x.reshape(tiles, TILE, *x.shape[1:]) for x in cut]
        by_row, by_column = jax.lax.map(tile, cut)
        return by_row.reshape(row_levels.shape), jax.lax.psum(by_column.sum(0), axes)

    specs = (P(axes), P(axes), P(), P(), P(), P())
    counts = jax.shard_map(own_rows, mesh=mesh, in_specs=specs, out_specs=(P(axes), P()))
    return counts(audio, row_levels, text, column_levels, clips, captions)


def _padded(array: np.ndarray, length: int) -> np.ndarray:
    return np.pad(array, [(0, length - len(array))] + [(0, 0)] * (array.ndim - 1))


def count_reaching(
    audio: np.ndarray,
    row_levels: np.ndarray,
    text: Callable[[slice], np.ndarray],
    column_levels: np.ndarray,
    mesh: Mesh,
) -> tuple[np.ndarray, np.ndarray]:
    """How many of all products reach each clip's levels, and each caption's: one pass.

    Args:
        audio: (N, D) float32.
        row_levels: (N, K) float32.
        text: text(slice) gives those of the (M, D) float32.
        column_levels: (M,) float32.
        mesh: whose devices share the clips.

    Returns:
        (N, K) and (M,) int64.
    """
    shard = NamedSharding(mesh, P(tuple(mesh.axis_names)))
    everywhere = jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, P()))
    n, m = len(audio), len(column_levels)
    rows = mesh.size * min(ROWS, -(-n // (mesh.size * TILE)) * TILE)
    columns = min(COLUMNS, -(-m // 128) * 128)

    def on_mesh(block):
        block = _padded(block, rows)
        return jax.make_array_from_callback(block.shape, shard, lambda index: block[index])

    by_row, by_column = np.zeros(row_levels.shape, np.int64), np.zeros(m, np.int64)
    for first in range(0, n, rows):
        here = slice(first, min(first + rows, n))
        clips, levels = on_mesh(audio[here]), on_mesh(row_levels[here])
        total, waiting = jnp.zeros((), jnp.int32), []
        for start in range(0, m, columns):
            block = slice(start, min(start + columns, m))
            counts, found = _count_block(
                clips,
                levels,
                _padded(text(block), columns),
                _padded(column_levels[block], columns),
                here.stop - first,
                block.stop - start,
                mesh=mesh,
            )
            total = total + counts
            waiting.append((block, found))
            if len(waiting) == 2:  # no more blocks than this are on their way
                _collect(by_column, *waiting.pop(0))
        _collect(by_column, *waiting.pop())
        by_row[here] = np.asarray(everywhere(total))[: here.stop - first]
    return by_row, by_column


def _collect(by_column: np.ndarray, block: slice, found) -> None:
    by_column[block] += np.asarray(found)[: block.stop - block.start]


@dataclass(frozen=True)
class _Matches:
    """Distinct matches of every query, query by query and the best first; P of them."""

    query: np.ndarray  # (P,) ascending
    pair: np.ndarray  # (P,) which pair of clip and caption
    level: np.ndarray  # (P,) float32: an item that reaches it is not behind the match
    before: np.ndarray  # (P,) matching items ahead of it
    reached: np.ndarray  # (P,) matching items that reach the level
    first: np.ndarray  # (Q,) where each query's matches begin
    count: np.ndarray  # (Q,) matching items of each query


def _matches(query: np.ndarray, score: np.ndarray, weight: np.ndarray) -> _Matches:
    """Sorts pairs by query and score.

    Matches of which each is within 2 TIE of the next take the level of the lowest, so that no
    match lies so near a level that rounding decides whether it is reached.

    Args:
        query: (P,) int, every query occurs.
        score: (P,) float64.
        weight: (P,) int, how many equal items a pair stands for.
    """
    pair = np.lexsort((-score, query))
    query, score, weight = query[pair], score[pair], weight[pair]
    new_query = np.diff(query, prepend=-1) > 0  # (P,)
    first = np.flatnonzero(new_query)
    new_group = new_query | (np.diff(score, prepend=np.inf) < -2 * TIE)
    group, last = np.cumsum(new_group) - 1, np.append(np.flatnonzero(new_group)[1:], len(pair)) - 1
    through = np.cumsum(weight)
    ahead = (through - weight)[first]  # (Q,) items of earlier queries
    return _Matches(
        query=query,
        pair=pair,
        level=(score[last][group] - TIE).astype(np.float32),
        before=through - weight - ahead[query],
        reached=through[last][group] - ahead[query],
        first=first,
        count=np.add.reduceat(weight, first),
    )


def _outcomes(matches: _Matches, reached, weight, items: int, place=None) -> Outcomes:
    """From how many items reached each match's level to ranks.

    Args:
        reached: (P,) int, items of the whole pool.
        weight: (P,) int, equal items of each match.
        items: in the pool.
        place: (P,) int, numbers a query's hits in this order instead of the best first.
    """
    wrong = reached - matches.reached  # (P,) wrong items ahead
    best = wrong[matches.first]
    copies = np.minimum(weight, DEPTH)
    of = np.repeat(np.arange(len(wrong)), copies)  # (I,) the match that each item belongs to
    rank = (wrong + matches.before)[of]
    rank += np.arange(len(of)) - np.repeat(np.cumsum(copies) - copies, copies)
    hit = rank < DEPTH
    of, rank = of[hit], rank[hit]
    if place is not None:
        order = np.lexsort((place[of], matches.query[of]))
        of, rank = of[order], rank[order]
    query = matches.query[of]  # (hits,)
    nth = np.arange(len(query)) - np.searchsorted(query, query)  # 0 for a query's first hit, 1, ...
    total = np.bincount(query, (nth + 1) / (rank + 1), minlength=len(best))
    return Outcomes(best, total / np.minimum(matches.count, DEPTH), matches.count, items)


def rank(
    audio, text, text_to_clip, same=None, mesh: Mesh | None = None, laion_compat: bool = False
) -> tuple[Outcomes, Outcomes]:
    """Where every caption finds its clips, and every clip its captions.

    A rank counts the wrong items of no lower cosine (within 1e-6), so that ties count against the
    model. Items that match do not compete with each other. Average precision at 10 is the sum of
    i / (place of the i-th match among all items) over the matches in the first ten places, over
    the number of matches, or over 10 where there are more: the formula of WavCaps
    (retrieval/tools/utils.py).

    Takes N * M * D multiply-adds, and memory linear in N and M.

    Args:
        audio: (N, D) float32, unit length.
        text: (M, D) float32, unit length.
        text_to_clip: (M,) int, the row of `audio` that each caption describes; every row occurs.
        same: (M,) int, equal for identical captions: each of them matches the clips of all, and is
            given the embedding of the first. None: no two captions are the same.
        mesh: whose devices share the work; None: all of this process.
        laion_compat: number a clip's captions in the given order, as LAION-CLAP's code does
            (training/train.py, evaluate_clotho_audiocaps), with which mAP@10 can pass 1.

    Returns:
        (text to audio: one outcome a caption, audio to text: one outcome a clip).

    Raises:
        ValueError: bad embeddings, different D, indices out of range, or a clip with no caption.
    """
    audio, text = unit_rows("audio", audio), unit_rows("text", text)
    if audio.shape[1] != text.shape[1]:
        raise ValueError(f"audio has {audio.shape[1]} dimensions, text has {text.shape[1]}")
    n, m = len(audio), len(text)
    clip = index_rows("text_to_clip", text_to_clip, m, n)
    bare = np.bincount(clip, minlength=n) == 0  # (N,)
    if bare.any():
        raise ValueError(f"text_to_clip: clip {bare.argmax()} has no caption ({bare.sum()} such)")
    same = np.arange(m) if same is None else np.asarray(same)
    if same.shape != (m,):
        raise ValueError(f"same: expected ({m},), got shape {same.shape}")
    if mesh is None:
        mesh = Mesh(np.array(jax.local_devices()), ("clips",))

    _, example, sentence, copies = np.unique(
        same, return_index=True, return_inverse=True, return_counts=True
    )
    source = example[sentence]  # (M,) the caption whose embedding each caption takes
    # A pair of a clip and a sentence that describes it, however often it is written.
    _, caption, pair = np.unique(
        clip * len(copies) + sentence, return_index=True, return_inverse=True
    )
    score = np.empty(len(caption))
    for start in range(0, len(caption), CHECKED):
        block = caption[start : start + CHECKED]
        left, right = audio[clip[block]], text[source[block]]
        score[start : start + CHECKED] = np.einsum("nd,nd->n", left, right, dtype=np.float64)

    to_text = _matches(clip[caption], score, copies[sentence[caption]])
    to_audio = _matches(sentence[caption], score, np.ones(len(caption), np.int64))
    # Of a clip's matches those that can be among the first ten have levels.
    nth = np.arange(len(caption)) - to_text.first[to_text.query]
    seen = to_text.before < DEPTH
    row_levels = np.full((n, nth[seen].max() + 1), np.inf, np.float32)
    row_levels[to_text.query[seen], nth[seen]] = to_text.level[seen]
    column_levels = np.empty(len(caption), np.float32)
    column_levels[to_audio.pair] = to_audio.level

    by_row, by_column = count_reaching(
        audio, row_levels, lambda block: text[source[block]], column_levels[pair], mesh
    )

    found = np.full(len(caption), m, np.int64)  # the others are behind the first ten anyway
    found[seen] = by_row[to_text.query[seen], nth[seen]]
    weight = copies[sentence[caption[to_text.pair]]]
    place = caption[to_text.pair] if laion_compat else None
    clips = _outcomes(to_text, found, weight, m, place)

    found = by_column[caption[to_audio.pair]]
    sentences = _outcomes(to_audio, found, np.ones_like(found), n)
    captions = Outcomes(
        sentences.rank[sentence], sentences.precision[sentence], sentences.matches[sentence], n
    )
    return captions, clips


def metrics(outcomes: Outcomes) -> dict[str, float]:
    """R@1, R@5, R@10 and mAP@10 in 0..1; median and mean rank, of which 1 is the first place."""
    rank = outcomes.rank
    recall = {f"R@{k}": float(np.mean(rank < k)) for k in (1, 5, 10)}
    return recall | {
        "mAP@10": float(np.mean(outcomes.precision)),
        "median rank": float(np.median(rank) + 1),
        "mean rank": float(np.mean(rank) + 1),
    }


def chance(outcomes: Outcomes, k: int) -> float:
    """R@k of a random order: 1 - C(n - matches, k) / C(n, k), the mean over the queries."""
    n, wrong = outcomes.items, outcomes.items - outcomes.matches  # (Q,)
    possible = wrong >= k  # else one of the first k matches whatever the order
    left = np.where(possible, wrong - k, 0)
    miss = gammaln(wrong + 1) - gammaln(left + 1) - gammaln(n + 1) + gammaln(max(n - k, 0) + 1)
    return float(np.mean(1 - np.where(possible, np.exp(miss), 0)))
