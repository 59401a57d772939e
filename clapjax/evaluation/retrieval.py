"""Retrieval: a caption asks for its clip, a clip for its captions."""

import numpy as np

from clapjax.evaluation.benchmarks import Benchmark, Judged
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.embed import Embedded
from clapjax.evaluation.ranks import Outcomes, chance, rank
from clapjax.evaluation.result import Result, Said, Shown, Sound
from clapjax.evaluation.statistics import interval

WORST = 2  # failures that are shown


def lacks(benchmark: Benchmark) -> str:
    """What a benchmark lacks for this task; "" for nothing."""
    if bare := sum(not clip.captions for clip in benchmark.clips):
        return f"{bare} clips of the split {benchmark.split!r} have no caption"
    if len(distinct(benchmark.clips)) == 1:
        return f"there is one clip of the split {benchmark.split!r}, and none other to find"
    return ""


def distinct(clips: tuple[Judged, ...]) -> list[int]:
    """The clips that are asked for: of those that templates describe alike, the first.

    Whatever templates say of the events of one clip is true of all clips with these events. Clips
    with any other caption all stay.
    """
    seen, kept = set(), []
    for index, clip in enumerate(clips):
        told = clip.events if set(clip.kinds) == {"template"} else ()
        if not told or told not in seen:
            kept.append(index)
        if told:
            seen.add(told)
    return kept


def run(embedded: Embedded, settings: EvaluationConfig) -> list[Result]:
    """Recalls, mAP@10 and ranks (1 is the first place), text to audio and audio to text.

    Any of the clips that a caption describes word for word is right, and any caption of a clip;
    equal cosines are wrong. `ranks.rank` says how mAP@10 is defined.

    Returns:
      A result over captions and one over clips.
    """
    clips, kept = embedded.benchmark.clips, distinct(embedded.benchmark.clips)
    captions = [caption for index in kept for caption in clips[index].captions]
    owner = np.repeat(np.arange(len(kept)), [len(clips[index].captions) for index in kept])
    same = np.unique(captions, return_inverse=True)[1]
    audio, text = embedded.audio[kept], embedded.embed_text(captions)
    to_audio, to_text = rank(audio, text, owner, same, embedded.mesh, settings.laion_compat)
    names = np.array([clips[index].id for index in kept])
    asked = {"id": names[owner], "caption": np.array(captions)}
    shown = _failures(embedded, kept, captions, owner, audio, text, to_audio)
    return [
        _result(embedded, "text_to_audio", to_audio, asked, owner, shown),
        _result(embedded, "audio_to_text", to_text, {"id": names}, np.arange(len(kept)), ()),
    ]


def _result(embedded: Embedded, direction: str, found: Outcomes, ids, clip, shown) -> Result:
    """The metrics of one direction; intervals are over clips."""
    place = found.rank + 1
    places = (1, found.items)
    most = max(1.0, float(found.precision.max()))  # as LAION-CLAP's code has it, it can pass 1
    metrics = {f"R@{k}": interval(found.rank < k, "mean", clip) for k in (1, 5, 10)} | {
        "mAP@10": interval(found.precision, "mean", clip, (0.0, most)),
        "median_rank": interval(place, "median", clip, places),
        "mean_rank": interval(place, "skewed mean", clip, places),
    }
    return embedded.result(
        "retrieval",
        chance(found, 1),
        {f"{direction}/{name}": metric for name, metric in metrics.items()},
        ids | {"right": found.rank < 1, "rank": place, "precision": found.precision, "group": clip},
        shown,
        pool=found.items,
    )


def _failures(embedded: Embedded, kept, captions, owner, audio, text, found) -> list[Shown]:
    """The captions whose clips are found last, and what is found in their stead."""
    shown = []
    for query in np.argsort(-found.rank, kind="stable")[:WORST]:
        if not found.rank[query]:
            break
        scores = audio @ text[query]
        sounds = tuple(
            Sound(
                embedded.benchmark.clips[kept[at]].id,
                False,
                (Said(captions[query], float(scores[at]), right),),
            )
            for at, right in ((owner[query], True), (int(scores.argmax()), False))
        )
        shown.append(Shown(f"retrieval: asked for, found at place {found.rank[query] + 1}", sounds))
    return shown
