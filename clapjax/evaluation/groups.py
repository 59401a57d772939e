"""Clips and captions in groups of two or three, each caption wrong for the others of its group.

Winoground's scores (Thrush et al., arXiv 2204.03162), as CompA has them (arXiv 2310.08753).
"""

import math

import numpy as np

from clapjax.evaluation.benchmarks import Benchmark, Judged
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.embed import Embedded
from clapjax.evaluation.ranks import unit_rows
from clapjax.evaluation.result import Result
from clapjax.evaluation.statistics import interval


def find_groups(clips: tuple[Judged, ...]) -> list[list[int]]:
    """The clips of each group: of one origin, each with the others' first captions as negatives."""
    by_origin: dict[str, list[int]] = {}
    for index, clip in enumerate(clips):
        if clip.origin and clip.captions:
            by_origin.setdefault(clip.origin, []).append(index)

    def told_apart(group: list[int]) -> bool:
        return len(group) > 1 and all(
            clips[other].captions[0] in clips[one].negative_captions
            for one in group
            for other in group
            if one != other
        )

    return [group for group in by_origin.values() if told_apart(group)]


def lacks(benchmark: Benchmark) -> str:
    """What a benchmark lacks for this task; "" for nothing."""
    if find_groups(benchmark.clips):
        return ""
    return f"no clips of the split {benchmark.split!r} have each other's captions as negatives"


def group_margins(audio: np.ndarray, text: np.ndarray) -> tuple[float, float]:
    """By how much each clip of a group prefers its caption, and each caption its clip; the least.

    Args:
      audio, text: (k, D) float32, unit length; row i of both belongs together.

    Returns:
      (text, audio): sim(a_i, t_i) - sim(a_i, t_j) at its least over all i and j other than i, and
      sim(a_i, t_i) - sim(a_j, t_i); differences first, so that equal pairs give exactly 0.
    """
    others = [(i, j) for i in range(len(audio)) for j in range(len(audio)) if i != j]
    to_text = min(float(audio[i] @ (text[i] - text[j])) for i, j in others)
    return to_text, min(float(text[i] @ (audio[i] - audio[j])) for i, j in others)


def group_chance(size: int) -> float:
    """How often, of random scores, each right pair is above all others in its row and column.

    The i-th lowest of the right pairs is the one that 2 (size - i) wrong ones must lie below.
    """
    below = np.cumsum([2 * (size - i) + 1 for i in range(1, size + 1)])
    return math.factorial(size) / float(np.prod(below))


def run(embedded: Embedded, settings: EvaluationConfig) -> list[Result]:
    """Shares of the groups that are right as a whole; a tie is wrong.

    text: each clip prefers its own caption. audio: each caption prefers its own clip. group: both.
    """
    clips, groups = embedded.benchmark.clips, find_groups(embedded.benchmark.clips)
    texts = [[clips[index].captions[0] for index in group] for group in groups]
    return score("groups", embedded, groups, texts, [clips[group[0]].origin for group in groups])


def score(
    task: str,
    embedded: Embedded,
    groups: list[list[int]],
    texts: list[list[str]],
    names: list[str],
    prefix: str = "",
) -> list[Result]:
    """What `run` gives, of any groups.

    Args:
      task: of the results.
      embedded: the clips.
      groups: indices of the clips of each, two or more.
      texts: the caption of each of these clips.
      names: of the groups.
      prefix: of the metrics' names.
    """
    audio, size = unit_rows("audio", embedded.audio), np.array([len(group) for group in groups])
    text = unit_rows("text", embedded.embed_text([text for said in texts for text in said]))
    text = np.split(text, np.cumsum(size)[:-1])
    margin = np.array([group_margins(audio[g], t) for g, t in zip(groups, text, strict=True)])
    name = np.array(names)

    def result(metric: str, margin: np.ndarray, chance: float) -> Result:
        right = margin > 0
        items = {"id": name, "right": right, "margin": margin, "size": size, "group": name}
        return embedded.result(task, chance, {prefix + metric: interval(right)}, items)

    one_way = float(np.mean(1.0 / size**size))  # each of `size` items prefers one of as many
    both = float(np.mean([group_chance(k) for k in size]))
    return [
        result("text", margin[:, 0], one_way),
        result("audio", margin[:, 1], one_way),
        result("group", margin.min(axis=1), both),
    ]
