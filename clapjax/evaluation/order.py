"""T-Classify (T-CLAP, arXiv 2404.17806, section 3.3): is the right temporal order preferred?"""

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from clapjax.captions.rules.connectives import split_text
from clapjax.data.build.config import TEST, TEST_PROBE
from clapjax.data.schema import PROBE
from clapjax.data.selection import nearest_text
from clapjax.evaluation.benchmarks import Benchmark, Judged, load_benchmark
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.embed import Embedded
from clapjax.evaluation.ranks import unit_rows
from clapjax.evaluation.result import Result, Said, Shown, Sound
from clapjax.evaluation.statistics import interval

LEAST = 10  # clips of a part that is told apart


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

    def take(self, at: list[int]) -> "Pairs":
        """Those at some places."""
        texts = ([part[i] for i in at] for part in (self.right, self.wrong, self.kind))
        return Pairs(self.clip[at], *texts)


def pair_up(clips: tuple[Judged, ...]) -> Pairs:
    """All pairs of the clips with negative captions.

    Raises:
      ValueError: there is none.
    """
    rows = [
        (index, nearest_text(wrong, clip.captions), wrong, kind)
        for index, clip in enumerate(clips)
        if clip.captions  # else nothing is right
        for wrong, kind in zip(clip.negative_captions, clip.negative_kinds, strict=True)
    ]
    if not rows:
        raise ValueError("T-Classify: no example of the split has a negative caption")
    clip, right, wrong, kind = map(list, zip(*rows, strict=True))
    return Pairs(np.array(clip, np.int64), right, wrong, kind)


def run(embedded: Embedded, settings: EvaluationConfig) -> list[Result]:
    """Shares of right judgements; a tie is wrong.

    text_to_audio: a clip prefers a caption to its negative; every negative is a pair.
    audio_to_text: a caption that has a negative prefers the clip to that in the wrong order.
    Each with "/all": the clips all of whose pairs are judged right; and with "/events=3",
    "/pair=dog,rain", "/connective=then", "/provenance=rules": the pairs of a kind, of ten clips or
    more. "/probe=paraphrase", "/probe=events=4": those of the order probe, which beside a split
    test is that of test_probe.

    Returns:
      A result of each of these.
    """
    found, benchmark = _both_ways(embedded), embedded.benchmark
    if benchmark.split == TEST and TEST_PROBE in benchmark.splits:
        probe = embedded.embed(load_benchmark(benchmark.name, benchmark.path, TEST_PROBE))
        found += [one for one in _both_ways(probe) if "/probe=" in next(iter(one.metrics))]
    return found


def _both_ways(embedded: Embedded) -> list[Result]:
    pairs = pair_up(embedded.benchmark.clips)
    right, wrong = embedded.embed_text(pairs.right), embedded.embed_text(pairs.wrong)
    audio = embedded.audio[pairs.clip]
    found = _results(embedded, "text_to_audio", pairs, margins(audio, right, wrong))

    row = {clip: row for row, clip in enumerate(embedded.negative_of.tolist())}
    asked = {key: at for at, key in enumerate(zip(pairs.clip.tolist(), pairs.right, strict=True))}
    at = [at for (clip, _), at in asked.items() if clip in row]  # a caption once
    if at:
        other = embedded.negative_audio[[row[clip] for clip in pairs.clip[at]]]
        margin = margins(right[at], audio[at], other)
        found += _results(embedded, "audio_to_text", pairs.take(at), margin)
    return found


def _results(embedded: Embedded, direction: str, pairs: Pairs, margin: np.ndarray) -> list[Result]:
    """One over all pairs, one over clips, and one over each part of the pairs."""
    clips, clip = embedded.benchmark.clips, pairs.clip
    won, ids = margin > 0, np.array([clips[index].id for index in clip])
    parts = _parts(pairs, clips)

    def result(name: str, chosen: np.ndarray, chance=0.5, outcome=won, shown=()) -> Result:
        right = outcome[chosen]
        items = {"id": ids[chosen], "right": right, "margin": margin[chosen], "group": clip[chosen]}
        texts = {"caption": pairs.right, "negative_caption": pairs.wrong}
        items |= {key: np.array(text)[chosen] for key, text in (texts | parts).items()}
        metric = interval(right, "mean", clip[chosen])
        return embedded.result("t_classify", chance, {direction + name: metric}, items, shown)

    everything = np.arange(len(clip))
    found = [result("", everything, shown=_examples(embedded, pairs, margin))]
    whole = _whole_clips(pairs, won)
    if len(whole.first) < len(clip):
        all_right = np.zeros(len(clip), bool)
        all_right[whole.first] = whole.right
        found.append(result("/all", whole.first, whole.chance, all_right))
    for name, values in parts.items():
        kinds = np.unique(values)
        for kind in kinds if len(kinds) > 1 or name == "probe" else ():
            chosen = np.flatnonzero(values == kind)
            if kind and len(np.unique(clip[chosen])) >= LEAST:
                found.append(result(f"/{name.partition('_')[0]}={kind}", chosen))
    return found


class _Whole(NamedTuple):
    """Clips, all of whose pairs must be judged right."""

    first: np.ndarray  # (N,) a pair of each
    right: np.ndarray  # (N,) bool
    chance: float  # of scores in a random order


def _whole_clips(pairs: Pairs, won: np.ndarray) -> _Whole:
    clips, first, place = np.unique(pairs.clip, return_index=True, return_inverse=True)
    lost = np.bincount(place, ~won)
    chances = np.ones(len(clips))
    for (at, _), rivals in Counter(zip(place.tolist(), pairs.right, strict=True)).items():
        chances[at] /= 1 + rivals  # a caption is the best of itself and its negatives
    return _Whole(first, lost == 0, float(chances.mean()))


def _parts(pairs: Pairs, clips: tuple[Judged, ...]) -> dict[str, np.ndarray]:
    """Of each pair of captions what it is a part of; "" for nothing.

    How many events, which two, which connectives, how the negative came to be, what it probes, and
    whether the order is told forwards or backwards there.
    """
    splits = [split_text(text) for text in pairs.right]
    events = [clips[index].events for index in pairs.clip]
    classes = [sorted(set(names)) for names in events]
    told = [kind.removeprefix(PROBE) if kind.startswith(PROBE) else "" for kind in pairs.kind]
    probes = [
        f"events={len(names)}" if probe == "events" else probe.partition(":")[0]
        for probe, names in zip(told, events, strict=True)
    ]
    columns = {
        "events": [str(len(names)) for names in events],
        "pair": [",".join(names) if len(names) == 2 else "" for names in classes],
        "connective": [" ".join(split.names) if split else "none" for split in splits],
        "provenance": pairs.kind,
        "probe": probes,
        "probe_told": [probe if ":" in probe else "" for probe in told],
    }
    return {name: np.array(column) for name, column in columns.items()}


def _examples(embedded: Embedded, pairs: Pairs, margin: np.ndarray) -> list[Shown]:
    """The median and the worst pair."""
    order, shown = np.argsort(margin, kind="stable"), []
    negative = dict(zip(embedded.negative_of.tolist(), embedded.negative_audio, strict=True))
    for title, at in (("median", order[len(order) // 2]), ("worst", order[0])):
        clip, texts = int(pairs.clip[at]), (pairs.right[at], pairs.wrong[at])
        vectors = embedded.embed_text(texts)
        heard = {False: embedded.audio[clip]}
        if clip in negative:
            heard[True] = negative[clip]
        sounds = tuple(
            Sound(
                embedded.benchmark.clips[clip].id,
                wrong,
                tuple(
                    Said(text, float(vector @ sound), right != wrong)
                    for text, vector, right in zip(texts, vectors, (True, False), strict=True)
                ),
            )
            for wrong, sound in heard.items()
        )
        shown.append(Shown(f"T-Classify: {title} margin", sounds))
    return shown
