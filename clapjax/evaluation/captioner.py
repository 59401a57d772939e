"""Judges a captioner: what it writes of the clips of a benchmark, with and without guidance."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from clapjax.audio.files import AudioError
from clapjax.evaluation.benchmarks import Benchmark, recordings
from clapjax.evaluation.captioning import captioning
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.embed import Embedder
from clapjax.evaluation.result import Result
from clapjax.evaluation.tagging import tag_clips
from clapjax.evaluation.told import events_told
from clapjax.inference import Tagger
from clapjax.tasks.guidance import order_of

PREDICTED = "predicted_tags"


class Writes(Protocol):
    """What is judged: `clapjax.inference.Captioner` is one."""

    config: object  # with audio.sample_rate

    def each(
        self,
        audio: Iterable,
        *,
        sampling_rate: int,
        tags: Sequence,
        order: Sequence[str],
        style: str,
        long: str | None,
    ) -> Iterator[tuple[int, list | AudioError]]:
        """(number of the input, captions with a `text`, the best first; or why there is none)."""


def evaluate_captioner(
    captioner: Writes,
    name: str,
    benchmark: Benchmark,
    settings: EvaluationConfig,
    *,
    tagger: Tagger | None = None,
    clap: Embedder | None = None,
    long: str | None = None,
    provenance: Mapping[str, object] | None = None,
) -> list[Result]:
    """The captions of a model against the clips' own, for each of `settings.guidance`.

    Args:
      captioner: the model.
      name: of the model, for the reader.
      benchmark: clips with captions.
      settings: guidance and style.
      tagger: a model by whose tags it writes as well; None: there is none.
      clap: a model for the CLAP score of clips and captions; None: there is none.
      long: how audio longer than a clip is heard.
      provenance: what every result shall tell besides.

    Returns:
      A result each: "captioning" without guidance, "captioning_with_tags",
      "captioning_with_order", where their order is told too, and "captioning_with_predicted_tags".
      Metrics are those of `captioning`, and of `events_told` where all clips' events are known.

    Raises:
      ValueError: a clip without a caption, or none that can be decoded.
    """
    found = []
    for guidance in (*settings.guidance, *([PREDICTED] if tagger else [])):
        told = {"data": benchmark.data, "path": benchmark.path, "split": benchmark.split}
        told |= {"guidance": guidance, "style": settings.style}
        tags = [() if guidance == "none" else clip.labels for clip in benchmark.clips]
        if guidance == PREDICTED:
            tags, told["tagger"] = _predicted(tagger, benchmark, long), settings.tagger
        orders = [order_of(clip.events) * (guidance == "order") for clip in benchmark.clips]
        said = write(captioner, benchmark, tags, orders, settings.style, long)
        clips = [benchmark.clips[at] for at in sorted(said)]
        texts = [said[at] for at in sorted(said)]
        embeddings = None
        if clap is not None:
            told["clap"] = settings.clap
            embeddings = _heard(clap, benchmark, sorted(said)), clap.embed_text(texts)
        group = recordings(clips)
        metrics, items = captioning(
            texts, [clip.captions for clip in clips], embeddings, groups=group
        )
        if all(clip.events for clip in clips):
            shares, right = events_told(texts, [clip.events for clip in clips], group)
            metrics, items = metrics | shares, items | right
        items = {
            "id": np.array([clip.id for clip in clips]),
            "group": group,
            "caption": np.array(texts),
            **items,
        }
        task = "captioning" if guidance == "none" else f"captioning_with_{guidance}"
        whence = told | dict(provenance or {})
        found.append(Result(name, benchmark.name, task, len(clips), None, metrics, whence, items))
    return found


def write(
    captioner: Writes,
    benchmark: Benchmark,
    tags: Sequence[Sequence[str]],
    orders: Sequence[str],
    style: str = "",
    long: str | None = None,
) -> dict[int, str]:
    """{number of a clip: what a captioner says of it}, of those that can be decoded.

    Raises:
      ValueError: none can be.
    """
    told = {"tags": tags, "order": orders, "style": style, "long": long}
    said = {
        number: captions[0].text if captions else ""
        for number, captions in captioner.each(**_sounds(benchmark, captioner), **told)
        if not isinstance(captions, AudioError)
    }
    if not said:
        raise ValueError(f"{benchmark.path}: none of its clips can be decoded")
    return said


def _predicted(tagger: Tagger, benchmark: Benchmark, long: str | None) -> list[tuple[str, ...]]:
    """The tags of each clip; none of one that cannot be decoded."""
    kept, scores = tag_clips(tagger, benchmark, long)
    found = dict(zip(kept, map(tagger.likely, scores), strict=True))
    return [found.get(number, ()) for number in range(len(benchmark.clips))]


def _sounds(benchmark: Benchmark, model) -> dict:
    """What a model is given of each clip, in order, and its rate."""
    rate = model.config.audio.sample_rate
    every = benchmark.sounds(rate, 0)
    return {
        "audio": (samples for _, wrong, samples in every if not wrong),
        "sampling_rate": rate,
    }


def _heard(clap: Embedder, benchmark: Benchmark, kept: Sequence[int]) -> np.ndarray:
    """(n, D) embeddings of the clips `kept`."""
    rows = dict(clap.each_audio(**_sounds(benchmark, clap)))
    for number in kept:
        if isinstance(rows[number], AudioError):
            raise rows[number]
    return np.stack([rows[number] for number in kept])
