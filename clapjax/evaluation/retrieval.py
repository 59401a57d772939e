"""Text-to-audio and audio-to-text retrieval: R@1, R@5, R@10 and mAP@10."""

import numpy as np

DEPTH = 10  # mAP@10: captions and clips ranked lower count nothing
BLOCK = 2**24  # scores held at once: 64 MiB of float32
TIE = 1e-6  # BLAS sums equal vectors in different orders: equal cosines differ by up to 1e-7


def unit_rows(name, array) -> np.ndarray:
    """Embeddings as float32, refused unless they are finite, non-empty and of unit length.

    Args:
        name: what the error calls the array.
        array: (N, D), any float dtype.

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
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: holds NaN or infinity")
    off = np.abs(np.linalg.norm(array, axis=1) - 1)  # (N,)
    if off.max() > 1e-3:
        raise ValueError(
            f"{name}: row {off.argmax()} is not of unit length (off by {off.max():.2g})"
        )
    return array


def index_rows(name, array, length, limit) -> np.ndarray:
    """Row indices as int64, refused unless they are `length` integers in [0, limit).

    Raises:
        ValueError: wrong shape, not integers, or out of range.
    """
    array = np.asarray(array)
    if array.shape != (length,) or array.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: expected ({length},) integers, got shape {array.shape} of {array.dtype}"
        )
    if array.min() < 0 or array.max() >= limit:
        raise ValueError(f"{name}: {array.min()}..{array.max()} is outside 0..{limit - 1}")
    return array.astype(np.int64)


def _rivals(queries, items, query_clip, item_clip, target):
    """Of every query: its target item's score, and how many items of other clips score no less."""
    own = np.empty(len(queries), np.float32)
    rivals = np.empty(len(queries), np.int64)
    rows = max(1, BLOCK // len(items))
    for start in range(0, len(queries), rows):
        block = slice(start, start + rows)
        scores = queries[block] @ items.T  # (rows, items)
        own[block] = scores[np.arange(len(scores)), target[block]]
        ahead = scores >= own[block, None] - TIE  # (rows, items)
        ahead &= item_clip != query_clip[block, None]
        rivals[block] = np.count_nonzero(ahead, axis=1)
    return own, rivals


def _summary(rank, precision) -> dict:
    """Recalls of the best ranks (0-based) and the mean of the average precisions, as floats."""
    recall = {f"R@{k}": float(np.mean(rank < k)) for k in (1, 5, 10)}
    return recall | {"mAP@10": float(np.mean(precision))}


def _text_to_audio(audio, text, clip) -> dict:
    """Every caption asks for its one clip; average precision is then 1 / (rank + 1)."""
    _, rank = _rivals(text, audio, clip, np.arange(len(audio)), clip)  # (M,)
    return _summary(rank, np.where(rank < DEPTH, 1 / (rank + 1), 0))


def _audio_to_text(audio, text, clip, laion_compat) -> dict:
    """Every clip asks for its captions; recall looks at the best placed of them."""
    own, rivals = _rivals(audio[clip], text, clip, clip, np.arange(len(text)))  # (M,)
    count = np.bincount(clip)  # (N,) captions of each clip
    first = np.cumsum(count) - count  # (N,) where each clip's captions begin, in clip order
    best_first = np.lexsort((-own, clip))  # (M,) clip by clip, best caption first
    rank = np.empty_like(rivals)  # (M,) rivals ahead, and own captions ahead
    rank[best_first] = rivals[best_first] + np.arange(len(text)) - np.repeat(first, count)

    rank = rank[np.argsort(clip, kind="stable") if laion_compat else best_first]  # clip by clip
    hit = rank < DEPTH
    seen = np.cumsum(hit)
    nth = seen - np.repeat((seen - hit)[first], count)  # 1 for a clip's first hit, 2, ...
    precision = np.add.reduceat(np.where(hit, nth / (rank + 1), 0), first) / count  # (N,)
    return _summary(np.minimum.reduceat(rank, first), precision)


def retrieval(audio, text, text_to_clip, laion_compat=False) -> dict:
    """Retrieval in both directions over one pool of clips and captions.

    Text to audio: every caption is a query. Audio to text: every clip is a query, R@k takes the
    best of its captions, and mAP@10 is the mean over clips of sum_i i / (rank_i + 1) / captions,
    over the captions in order of rank, rank_i < 10 (0-based), i = 1, 2, ... This is the formula of
    WavCaps (retrieval/tools/utils.py) and of LAION-CLAP's docstring; LAION-CLAP's code
    (training/train.py, evaluate_clotho_audiocaps) leaves the captions unsorted, which can pass 1.

    Ties are pessimistic: a wrong item whose cosine is equal (within 1e-6) ranks first, so constant
    embeddings score nothing. Captions of the same clip do not compete with each other, but a clip
    whose caption another clip shares word for word cannot reach R@1 by that caption.

    Takes N * M * D multiply-adds one way, M * M * D the other, and memory linear in N and M.

    Args:
        audio: (N, D) float32, unit length.
        text: (M, D) float32, unit length.
        text_to_clip: (M,) int, the row of `audio` that each caption describes; every row occurs.
        laion_compat: number the captions in the given order, as LAION-CLAP's code does.

    Returns:
        {"text_to_audio": {"R@1", "R@5", "R@10", "mAP@10"}, "audio_to_text": {the same},
        "n_audio": N, "n_text": M}; fractions in 0..1.

    Raises:
        ValueError: bad embeddings, different D, indices out of range, or a clip with no caption.
    """
    audio, text = unit_rows("audio", audio), unit_rows("text", text)
    if audio.shape[1] != text.shape[1]:
        raise ValueError(f"audio has {audio.shape[1]} dimensions, text has {text.shape[1]}")
    clip = index_rows("text_to_clip", text_to_clip, len(text), len(audio))
    bare = np.bincount(clip, minlength=len(audio)) == 0  # (N,)
    if bare.any():
        raise ValueError(f"text_to_clip: clip {bare.argmax()} has no caption ({bare.sum()} such)")
    return {
        "text_to_audio": _text_to_audio(audio, text, clip),
        "audio_to_text": _audio_to_text(audio, text, clip, laion_compat),
        "n_audio": len(audio),
        "n_text": len(text),
    }
