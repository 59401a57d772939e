"""Judges a captioner: what it writes of the clips of a benchmark, with and without guidance."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from clapjax.audio.files import AudioError
from clapjax.evaluation.benchmarks import Benchmark, Judged, recordings
from clapjax.evaluation.captioning import captioning
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.embed import Embedder
from clapjax.evaluation.result import Result
from clapjax.tasks.guidance import order_of


class Writes(Protocol):
    """What is judged: `clapjax.inference.Captioner` is one."""

    config: object  # with audio.sample_rate

    def each(
        self, audio: Iterable, *, tags: Sequence, order: Sequence[str], style: str, long: str | None
    ) -> Iterator[tuple[int, list | AudioError]]:
        """(number of the input, captions with a `text`, the best first; or why there is none)."""


def evaluate_captioner(
    captioner: Writes,
    name: str,
    benchmark: Benchmark,
    settings: EvaluationConfig,
    *,
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
      clap: a model for the CLAP score of clips and captions; None: there is none.
      long: how audio longer than a clip is heard.
      provenance: what every result shall tell besides.

    Returns:
      A result each: "captioning" without guidance, "captioning_with_tags", and
      "captioning_with_order", where their order is told too; metrics are those of `captioning`.

    Raises:
      ValueError: a clip without a caption, or none that can be decoded.
    """
    found = []
    for guidance in settings.guidance:
        said = write(captioner, benchmark, guidance, settings.style, long)
        clips = [benchmark.clips[at] for at in sorted(said)]
        texts = [said[at] for at in sorted(said)]
        told = {"data": benchmark.data, "path": benchmark.path, "split": benchmark.split}
        told |= {"guidance": guidance, "style": settings.style}
        embeddings = None
        if clap is not None:
            told["clap"] = settings.clap
            embeddings = _heard(clap, benchmark, sorted(said)), clap.embed_text(texts)
        group = recordings(clips)
        metrics, items = captioning(
            texts, [clip.captions for clip in clips], embeddings, groups=group
        )
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
    captioner: Writes, benchmark: Benchmark, guidance: str, style: str = "", long: str | None = None
) -> dict[int, str]:
    """{number of a clip: what a captioner says of it}, of those that can be decoded.

    Raises:
      ValueError: none can be.
    """
    numbers, tags, orders = [], [], []

    def sounds() -> Iterator:
        for number, wrong, samples in benchmark.sounds(captioner.config.audio.sample_rate, 0):
            if not wrong:
                numbers.append(number)
                tags.append(_tags(benchmark.clips[number], guidance))
                orders.append(order_of(benchmark.clips[number].events) * (guidance == "order"))
                yield samples

    found = captioner.each(sounds(), tags=tags, order=orders, style=style, long=long)
    said = {
        numbers[at]: captions[0].text if captions else ""
        for at, captions in found
        if not isinstance(captions, AudioError)
    }
    if not said:
        raise ValueError(f"{benchmark.path}: none of its clips can be decoded")
    return said


def _tags(clip: Judged, guidance: str) -> tuple[str, ...]:
    return () if guidance == "none" else clip.labels


def _heard(clap: Embedder, benchmark: Benchmark, kept: Sequence[int]) -> np.ndarray:
    """(n, D) embeddings of the clips `kept`."""
    numbers = []

    def sounds() -> Iterator:
        for number, wrong, samples in benchmark.sounds(clap.config.audio.sample_rate, 0):
            if not wrong and number in kept:
                numbers.append(number)
                yield samples

    rows = {numbers[at]: row for at, row in clap.each_audio(sounds())}
    for row in rows.values():
        if isinstance(row, AudioError):
            raise row
    return np.stack([rows[at] for at in kept])
