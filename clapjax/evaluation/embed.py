"""Embeddings of a benchmark: computed once, streamed, kept on disk in parts; every task reads them.

Whoever asks again, after an interruption or for another task, computes what is not there yet.
"""

import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from jax.sharding import Mesh

from clapjax.audio.files import AudioError
from clapjax.evaluation.benchmarks import Benchmark
from clapjax.evaluation.result import Metric, Result, Shown
from clapjax.inference.store import Table, read_table, write_table

PART = 512  # clips of a file; what is computed anew after an interruption
TEXTS = 4096  # of a file
WRONG = "negative_audio"  # kind of a row


class Embedder(Protocol):
    """What evaluation needs of a model: `clapjax.inference.Clap` is one."""

    config: object  # with audio.sample_rate

    def each_audio(
        self,
        audio: Iterable,
        *,
        sampling_rate: int,
        long: str | None = None,
        hop: float | None = None,
    ) -> Iterator[tuple[int, np.ndarray | AudioError]]:
        """(number of the input, (D,) float32 of unit length, or why there is none).

        `sampling_rate` of the (T,) inputs is that of `config`.
        """

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """(N, D) float32, unit length."""


@dataclass(frozen=True)
class Cache:
    """A folder of embeddings, and whose they are."""

    folder: Path
    model: str  # for the reader
    fingerprints: Mapping[str, str]  # of its towers, as clapjax.inference.store has them
    tokenizer: str  # tells tokenizers apart

    def file(self, tower: str, *of) -> Path:
        """Where a tower's embeddings of something are kept."""
        said = json.dumps([self.fingerprints[tower], *of], sort_keys=True)
        return self.folder / f"{tower}-{hashlib.sha256(said.encode()).hexdigest()[:32]}.npz"


@dataclass(frozen=True)
class Embedded:
    """A benchmark as a model hears and reads it."""

    model: str  # its name, for the reader
    benchmark: Benchmark  # without the clips that could not be decoded
    audio: np.ndarray  # (N, D) float32, unit length, of its clips
    negative_audio: np.ndarray  # (K, D), of the clips with audio in a wrong order
    negative_of: np.ndarray  # (K,) int64, which clip
    embed_text: Callable[[Sequence[str]], np.ndarray] = field(repr=False)
    embed: Callable[[Benchmark], "Embedded"] = field(repr=False)  # another one, in the same way
    provenance: Mapping[str, object] = field(default_factory=dict)  # of every result
    scale: float | None = None  # of cosines, that makes them logits; None: not known
    mesh: Mesh | None = None  # whose devices count ranks; None: all of this process

    def result(
        self,
        task: str,
        chance: float | None,
        metrics: Mapping[str, Metric],
        items: Mapping[str, np.ndarray],
        examples: Sequence[Shown] = (),
        **provenance,
    ) -> Result:
        """A `Result` of this model on this benchmark, over the rows of `items`."""
        (count,) = {len(column) for column in items.values()}
        return Result(
            self.model,
            self.benchmark.name,
            task,
            count,
            chance,
            metrics,
            {**self.provenance, **provenance},
            items,
            examples,
        )


def embed_dataset(
    model: Embedder,
    benchmark: Benchmark,
    name: str,
    *,
    cache: Cache | None = None,
    long: str | None = None,
    hop: float | None = None,
    provenance: Mapping[str, object] | None = None,
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, what: items,
) -> Embedded:
    """Embeds the clips of a benchmark; one clip at a time is held besides the embeddings.

    Args:
      model: the model.
      benchmark: the clips.
      name: of the model, for the reader.
      cache: where parts that are there are read, and others written; None: nothing is kept.
      long, hop: how audio longer than a clip is heard, as for `Clap.embed_audio`.
      provenance: what every result shall tell besides.
      progress: wraps an iterable of known length to show how far it is.

    Raises:
      ValueError: no clip can be decoded.
    """
    total = sum(1 + clip.negative_audio for clip in benchmark.clips)
    found = _audio_rows(model, benchmark, cache, {"long": long, "hop": hop})
    found = progress(found, total, f"embedding {benchmark.name}")
    rows = {tag: row for tag, row in found if row is not None}
    kept = [index for index in range(len(benchmark.clips)) if (index, False) in rows]
    if not kept:
        raise ValueError(f"{benchmark.path}: none of its clips can be decoded")
    negative = [at for at, index in enumerate(kept) if (index, True) in rows]
    width = len(rows[kept[0], False])
    told = {"data": benchmark.data, "path": benchmark.path, "split": benchmark.split}
    if lost := len(benchmark.clips) - len(kept):
        told["unreadable"] = lost
    return Embedded(
        model=name,
        benchmark=replace(benchmark, clips=tuple(benchmark.clips[index] for index in kept)),
        audio=np.stack([rows[index, False] for index in kept]),
        negative_audio=np.array([rows[kept[at], True] for at in negative]).reshape(-1, width),
        negative_of=np.array(negative, np.int64),
        embed_text=_text_reader(model, cache),
        embed=functools.partial(
            embed_dataset,
            model,
            name=name,
            cache=cache,
            long=long,
            hop=hop,
            provenance=provenance,
            progress=progress,
        ),
        provenance=told | dict(provenance or {}),
        scale=getattr(model, "scale", None),
        mesh=getattr(model, "mesh", None),
    )


def _audio_rows(
    model: Embedder, benchmark: Benchmark, cache: Cache | None, way: dict
) -> Iterator[tuple[tuple[int, bool], np.ndarray | None]]:
    """((clip, whether in a wrong order), its (D,) or None where it cannot be decoded)."""
    sounds = None
    for part in range(-(-len(benchmark.clips) // PART)):
        file = cache and cache.file("audio", benchmark.key, way, part)
        table = _read(file)
        if table is not None:
            tags = zip(map(int, table.names), (kind == WRONG for kind in table.kinds), strict=True)
            yield from zip(tags, table.vectors, strict=True)
            continue
        if sounds is None:
            sounds = benchmark.sounds(model.config.audio.sample_rate, part * PART)
            sounds = itertools.groupby(sounds, lambda sound: sound[0] // PART)
        found = {}
        for tag, row in _embed(model, _group(sounds, part), way):
            if row is not None:
                found[tag] = row
            yield tag, row
        if found and cache:
            tags = sorted(found)
            kinds = [WRONG if wrong else "audio" for _, wrong in tags]
            vectors = np.stack([found[tag] for tag in tags])
            _write(file, cache, vectors, [str(index) for index, _ in tags], kinds)


def _group(sounds: Iterator, part: int) -> Iterator:
    """The sounds of a part; those before it are known already."""
    return next((group for number, group in sounds if number == part), iter(()))


def _embed(model: Embedder, sounds: Iterator, way: dict) -> Iterator[tuple]:
    """((clip, whether in a wrong order), its (D,) or None) of some sounds."""
    tags = []

    def inputs() -> Iterator:
        for index, wrong, samples in sounds:
            tags.append((index, wrong))
            yield samples

    rate = model.config.audio.sample_rate
    for number, row in model.each_audio(inputs(), sampling_rate=rate, **way):
        yield tags[number], None if isinstance(row, AudioError) else row


def _text_reader(model: Embedder, cache: Cache | None) -> Callable:
    """A function of texts to their embeddings (N, D), which embeds each text once."""
    known: dict[str, np.ndarray] = {}

    def embed_text(texts: Sequence[str]) -> np.ndarray:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        for start in range(0, len(new), TEXTS):
            part = new[start : start + TEXTS]
            file = cache and cache.file("text", cache.tokenizer, part)
            table = _read(file)
            vectors = model.embed_text(part) if table is None else table.vectors
            if table is None and cache:
                _write(file, cache, vectors, part, ["text"] * len(part))
            known.update(zip(part, vectors, strict=True))
        return np.stack([known[text] for text in texts])

    return embed_text


def _read(file: Path | None) -> Table | None:
    if file is None or not file.is_file():
        return None
    try:
        return read_table(file)
    except ValueError:  # damaged: it is made again
        return None


def _write(file: Path, cache: Cache, vectors: np.ndarray, names: list, kinds: list) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_table(file, Table(vectors, names, kinds, cache.model, dict(cache.fingerprints)))
