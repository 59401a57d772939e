"""Compositional retrieval: a query among clips that are wrong for it in one thing alone.

Clips whose ids are alike up to the last "/" are a pool. Its queries are the captions that are
negative captions of others in it: these are the distractors (`clapjax.synthesis.compositional`).
"""

from dataclasses import dataclass

import numpy as np

from clapjax.data.schema import PROBE
from clapjax.evaluation import groups
from clapjax.evaluation.benchmarks import Benchmark, Judged
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.embed import Embedded
from clapjax.evaluation.ranks import unit_rows
from clapjax.evaluation.result import Result, Said, Shown, Sound
from clapjax.evaluation.statistics import interval


@dataclass(frozen=True)
class Query:
    """A caption, and the clips that it is asked among."""

    caption: str
    kind: str  # in what its distractors differ
    right: int  # the clip that it is a caption of
    wrong: tuple[int, ...]  # distractors, in the order of the records


def find_queries(clips: tuple[Judged, ...]) -> list[Query]:
    """The queries of all pools, in the order of the records."""
    pools: dict[str, list[int]] = {}
    for index, clip in enumerate(clips):
        name, slash, _ = clip.id.rpartition("/")
        if slash:
            pools.setdefault(name, []).append(index)
    found = []
    for pool in pools.values():
        for right in pool:
            for caption, kind in zip(clips[right].captions, clips[right].kinds, strict=True):
                wrong = tuple(i for i in pool if caption in clips[i].negative_captions)
                if wrong:
                    found.append(Query(caption, kind.removeprefix(PROBE), right, wrong))
    return found


def lacks(benchmark: Benchmark) -> str:
    """What a benchmark lacks for this task; "" for nothing."""
    if find_queries(benchmark.clips):
        return ""
    return (
        f"no captions of the split {benchmark.split!r} are asked among distractors; build some "
        "with configs/compositional.py"
    )


def run(embedded: Embedded, settings: EvaluationConfig) -> list[Result]:
    """By kind of distractor: recalls and ranks in the pool, and the scores of `groups`.

    R@1, R@5, median_rank: of the clip that is asked for, among itself and its distractors; equal
    cosines are wrong. text, audio, group: of this clip and its first distractor with the caption of
    each, as `groups.run` has them.
    """
    clips, found = embedded.benchmark.clips, []
    queries = find_queries(clips)
    for kind in dict.fromkeys(query.kind for query in queries):
        asked = [query for query in queries if query.kind == kind]
        found.append(_retrieval(embedded, kind, asked))
        pairs = [[query.right, query.wrong[0]] for query in asked]
        texts = [[query.caption, clips[query.wrong[0]].captions[0]] for query in asked]
        names = [clips[query.right].id for query in asked]
        found += groups.score("compositional", embedded, pairs, texts, names, f"{kind}/")
    return found


def _retrieval(embedded: Embedded, kind: str, queries: list[Query]) -> Result:
    clips, audio = embedded.benchmark.clips, unit_rows("audio", embedded.audio)
    text = unit_rows("text", embedded.embed_text([query.caption for query in queries]))
    # How much better than its caption's right clip each distractor is; differences first.
    better = [
        (audio[list(query.wrong)] - audio[query.right]) @ text[at]
        for at, query in enumerate(queries)
    ]
    rank = 1 + np.array([(one >= 0).sum() for one in better])
    pool = np.array([1 + len(query.wrong) for query in queries])
    name = np.array([clips[query.right].id for query in queries])
    taken = [query.wrong[one.argmax()] for query, one in zip(queries, better, strict=True)]
    items = {
        "id": name,
        "caption": np.array([query.caption for query in queries]),
        "kind": np.array([kind] * len(queries)),
        "right": rank == 1,
        "rank": rank,
        "pool": pool,
        "margin": np.array([-one.max() for one in better]),
        "nearest_distractor": np.array([clips[index].id for index in taken]),
        "group": name,
    }
    most = int(pool.max())
    metrics = {f"{kind}/R@{k}": interval(rank <= k) for k in (1, 5) if k < most}
    metrics[f"{kind}/median_rank"] = interval(rank, "median", bounds=(1, most))
    shown = _worst(embedded, kind, queries, taken, items["margin"])
    return embedded.result("compositional", float(np.mean(1 / pool)), metrics, items, shown)


def _worst(embedded: Embedded, kind: str, queries, taken, margin: np.ndarray) -> list[Shown]:
    """The query whose best distractor is furthest in front of the clip that is asked for."""
    at = int(margin.argmin())
    query, (vector,) = queries[at], embedded.embed_text([queries[at].caption])
    sounds = tuple(
        Sound(
            embedded.benchmark.clips[index].id,
            False,
            (Said(query.caption, float(embedded.audio[index] @ vector), right),),
        )
        for index, right in ((query.right, True), (taken[at], False))
    )
    return [Shown(f"{kind}: the worst margin to a distractor", sounds)]
