"""T-Classify (T-CLAP, arXiv 2404.17806, section 3.3): is the right temporal order preferred?"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clapjax.captions.rules.connectives import split_text
from clapjax.data.selection import nearest_text
from clapjax.evaluation.benchmarks import Benchmark, Judged
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.embed import Embedded
from clapjax.evaluation.ranks import unit_rows
from clapjax.evaluation.result import Result, Said, Shown, Sound
from clapjax.evaluation.statistics import measure

LEAST = 10  # pairs of a part that is told apart


def lacks(benchmark: Benchmark) -> str:
    """What a benchmark lacks for this task; "" for nothing."""
    if any(clip.captions and clip.negative_captions for clip in benchmark.clips):
        return ""
    return f"no example of the split {benchmark.split!r} has a negative caption"


def margins(query, right, wrong) -> np.ndarray:
    """By how much each query prefers what is right: sim(q_i, right_i) - sim(q_i, wrong_i), cosine.

    Args:
      query, right, wrong: (N, D) float32, unit length; row i of the three belongs together.

    Returns:
      (N,) float32 in -2..2; equal pairs give exactly 0.

    Raises:
      ValueError: bad or empty embeddings, or shapes that differ.
    """
    sides = {"query": query, "right": right, "wrong": wrong}
    query, right, wrong = (unit_rows(name, side) for name, side in sides.items())
    if not query.shape == right.shape == wrong.shape:
        raise ValueError(f"margins: shapes {query.shape}, {right.shape}, {wrong.shape} differ")
    # The difference first: near-equal ones lose no digits.
    return np.einsum("nd,nd->n", query, right - wrong)


@dataclass(frozen=True)
class Pairs:
    """Every negative caption of every clip, with the caption that it is to be told from."""

    clip: np.ndarray  # (P,) int64
    right: list[str]
    wrong: list[str]
    kind: list[str]  # how the negative came to be


def pair_up(clips: tuple[Judged, ...]) -> Pairs:
    """All pairs of the clips with negative captions.

    Raises:
      ValueError: there is none.
    """
    rows = [
        (index, nearest_text(wrong, clip.captions), wrong, kind)
        for index, clip in enumerate(clips)
        for wrong, kind in zip(clip.negative_captions, clip.negative_kinds, strict=True)
    ]
    if not rows:
        raise ValueError("T-Classify: no example of the split has a negative caption")
    clip, right, wrong, kind = map(list, zip(*rows, strict=True))
    return Pairs(np.array(clip, np.int64), right, wrong, kind)


def run(embedded: Embedded, settings: EvaluationConfig) -> list[Result]:
    """Shares of right judgements; a tie is wrong.

    text_to_audio: a clip prefers a caption to its negative; every negative is a pair.
    audio_to_text: a caption of such a pair prefers the clip to that in the wrong order.
    Each with "/all": the clips all of whose pairs are judged right; and with "/events=3",
    "/connective=then", "/provenance=llm:x": the pairs of a kind, where there are several.

    Returns:
      A result of each of these.
    """
    clips, pairs = embedded.benchmark.clips, pair_up(embedded.benchmark.clips)
    right, wrong = embedded.embed_text(pairs.right), embedded.embed_text(pairs.wrong)
    audio = embedded.audio[pairs.clip]
    found = _results(embedded, "text_to_audio", pairs, margins(audio, right, wrong), range(len(audio)))
    row = {clip: row for row, clip in enumerate(embedded.negative_of)}
    # A caption is asked once, however many negatives it has.
    asked = {(clip, text): at for at, (clip, text) in enumerate(zip(pairs.clip, pairs.right, strict=True)) if clip in row}
    if asked:
        at = sorted(asked.values())
        other = embedded.negative_audio[[row[clip] for clip in pairs.clip[at]]]
        margin = margins(right[at], audio[at], other)
        found += _results(embedded, "audio_to_text", pairs, margin, at)
    return found
