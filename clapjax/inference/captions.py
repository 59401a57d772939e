"""What a captioner says of the clips of a data set: a table for each shard of its records.

Captions depend on the seed and the id of their clip, and neither on the shard, nor on what is
heard beside it: whoever writes a table writes the same one. Finished tables are there whole, so a
start after an interruption makes those that lack.
"""

import hashlib
import itertools
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clapjax.audio.files import AudioError
from clapjax.captions.keywords import share_named
from clapjax.captions.tables import Texts
from clapjax.data import paths, records
from clapjax.data.forms import heard
from clapjax.data.overlap import find_splits
from clapjax.data.shards import RecordsError, Shards, Split
from clapjax.data.tables import caption_items, write_rows
from clapjax.inference.captioner import Caption, Captioner, Told, ranked
from clapjax.inference.clap import Clap
from clapjax.inference.store import model_fingerprint
from clapjax.inference.tagger import Tagger
from clapjax.models.config import DecodingConfig
from clapjax.plain import to_dict
from clapjax.tasks.guidance import guidance_text, order_of

GUIDANCE = ("none", "tags", "order")
MADE_FROM = "made_from.json"
# Shards are gone through together, for the sake of full batches, as long as they have no more
# clips than so many batches: at their end all that waits for others of its length is heard.
GROUP_BATCHES = 32


@dataclass(frozen=True)
class Wording:
    """What guides, and how words are chosen."""

    provenance: str  # of the captions
    decoding: DecodingConfig
    guidance: str = "tags"  # what of a record guides: of GUIDANCE, "order" being of the tags too
    threshold: float = 0.5  # of the tags of a tagger, which then guide instead
    style: str = ""
    seed: int = 0
    long: str | None = None  # see `Captioner`

    def __post_init__(self):
        if self.guidance not in GUIDANCE:
            raise ValueError(
                f"guidance must be one of {', '.join(GUIDANCE)}, not {self.guidance!r}"
            )
        model = self.provenance.removeprefix("captioner:")
        if model in ("", self.provenance) or ";" in model or model != " ".join(model.split()):
            raise ValueError(f"{model!r} names no model in a provenance; give another --name")


class Models(NamedTuple):
    """Who writes, who tells the tags, and who says how well a caption fits."""

    captioner: Captioner
    tagger: Tagger | None = None
    clap: Clap | None = None


@dataclass(frozen=True)
class Shard:
    """Records, and the table of their captions."""

    table: Path
    split: str
    records: Split
    sample_rate: int


class Clip(NamedTuple):
    """A record on its way to a row."""

    shard: int  # of those that are gone through together
    place: int
    id: str
    audio: np.ndarray | None
    tags: tuple[str, ...] = ()
    order: str = ""
    guidance: str = ""
    captions: tuple[Caption, ...] = ()
    heard: np.ndarray | None = None  # embedding
    reason: str = ""  # why there are no captions


def folder_beside(source: str) -> Path:
    """Where the captions of "DIR" or "DIR:SPLIT" go if nothing else is said: DIR.captions."""
    folder = paths.as_path(find_splits(source, "train")[0][0])
    if folder.name in ("", "..") and paths.is_local(folder):
        folder = folder.resolve()
    return folder.parent / f"{folder.name}.captions"


def find_shards(source: str, out: str | os.PathLike) -> list[Shard]:
    """The shards of "DIR:SPLIT", or of the splits of "DIR" for training, that have records.

    Raises:
      RecordsError: no such records.
    """
    found = []
    for folder, split in find_splits(source, "train"):
        rate = records.read_build(folder)["sample_rate"]
        whole = records.open_split(folder, split)
        for number, count in enumerate(whole.layers[0].lengths):
            parts = [Shards((layer.files[number],), (count,)) for layer in whole.layers]
            name = f"captions-{split}-{number:05d}.jsonl"
            if count:
                part = Split(tuple(parts), whole.readers)
                found.append(Shard(paths.as_path(out) / name, split, part, rate))
    return found


def made_from(source: str, models: Models, wording: Wording) -> dict:
    """What captions depend on, for JSON; `source` as in `find_shards`."""
    folder = find_splits(source, "train")[0][0]
    captioner, tagger, clap = models
    return {
        "records": records.build_id(folder),
        "model": captioner_fingerprint(captioner),
        "tagger": tagger and model_fingerprint(tagger.config, tagger.variables),
        "clap": clap and model_fingerprint(clap.config, clap.variables),
        **to_dict(wording),
    }


def captioner_fingerprint(model: Captioner) -> str:
    """32 hex digits of a captioner's variables, sizes and vocabulary."""
    known = (
        model_fingerprint(model.config, model.variables),
        to_dict(model.settings.decoder),
        sorted(model.tokenizer.get_vocab().items()),
    )
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:32]


def claim(out: str | os.PathLike, made: dict) -> None:
    """Makes a folder that of captions with these settings, or finds that it is.

    Raises:
      ValueError: it holds others, or tables of which nothing is known.
    """
    folder = paths.as_path(out)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / MADE_FROM
    if not file.exists():
        if any(folder.glob("captions-*.jsonl")):
            raise ValueError(f"{folder}: holds tables, but no {MADE_FROM}; choose another --out")
        paths.write_text(file, json.dumps(made, indent=2) + "\n")
    try:
        there = json.loads(paths.read_text(file))
    except ValueError as error:
        raise ValueError(f"{file}: damaged ({error}); remove {folder}") from error
    changed = [name for name in made | there if made.get(name) != there.get(name)]
    if changed:
        raise ValueError(
            f"{folder}: holds captions made from something else (other {', '.join(changed)}); "
            "remove it, or choose another --out"
        )


def write_tables(shards: Sequence[Shard], models: Models, wording: Wording) -> Iterator[dict]:
    """Writes the table of each shard as soon as its clips are done; yields each row.

    A row has "id", "captions", "provenance"; "guidance", what the captioner was told; and lists
    with a number for each caption: "log_probability" of the model, "similarity", the cosine of
    recording and caption, where there is a CLAP model, the closest first, and "agreement", the
    share of the clip's tags of which it has a word, null where there are none. A clip that cannot
    be heard has a row with a "reason", and no captions.

    Raises:
      RecordsError: a shard is damaged or missing.
      OSError: a table cannot be written.
    """
    for shard in shards:
        if paths.is_local(shard.table):
            for stray in shard.table.parent.glob(f".{shard.table.name}.*.tmp"):  # of one killed
                stray.unlink()
    for group in grouped(shards, GROUP_BATCHES * models.captioner.batch_size):
        rows: list[dict[int, dict]] = [{} for _ in group]
        for clip in captioned(each_clip(group), group[0].sample_rate, models, wording):
            found = rows[clip.shard]
            found[clip.place] = to_row(clip, wording.provenance)
            if len(found) == len(group[clip.shard].records):
                write_rows(group[clip.shard].table, (found[place] for place in sorted(found)))
            yield found[clip.place]


def grouped(shards: Iterable[Shard], clips: int) -> Iterator[list[Shard]]:
    """Shards that follow one another, together while they have no more than so many clips."""
    group: list[Shard] = []
    for shard in shards:
        if group and sum(len(one.records) for one in (*group, shard)) > clips:
            yield group
            group = []
        group.append(shard)
    if group:
        yield group


def each_clip(shards: Sequence[Shard]) -> Iterator[Clip]:
    """The records of shards in order."""
    parse = records.parser()
    for number, shard in enumerate(shards):
        for place, data in enumerate(shard.records.scan()):
            try:
                example = parse(data)
            except RecordsError as error:
                yield Clip(number, place, "", None, reason=f"{shard.records.place(place)}: {error}")
                continue
            order = order_of(example.events)
            sound = heard(example.audio, shard.records.place(place))
            yield Clip(number, place, example.id, sound, example.labels, order)


def captioned(
    clips: Iterable[Clip], sample_rate: int, models: Models, wording: Wording
) -> Iterator[Clip]:
    """Clips with their captions; some may overtake others."""
    captioner, tagger, clap = models
    if tagger is not None:
        clips = _through(
            clips,
            lambda clip: clip.audio,
            lambda audio: tagger.each(audio, sample_rate),
            lambda clip, row: clip._replace(tags=tagger.likely(row, wording.threshold)),
        )
    clips = (_guided(clip, tagger is not None, wording) for clip in clips)
    clips = _through(
        clips,
        lambda clip: Told(clip.audio, clip.guidance, _key(wording.seed, clip.id)),
        lambda told: captioner.write(told, sample_rate, wording.decoding, wording.long),
        lambda clip, found: clip._replace(captions=_readable(found)),
    )
    if clap is None:
        return clips
    clips = _through(
        clips,
        lambda clip: clip.audio,
        lambda audio: clap.each_audio(audio, sample_rate),
        lambda clip, found: clip._replace(heard=found),
    )
    return _ranked(clips, clap)


def _readable(captions: Iterable[Caption]) -> tuple[Caption, ...]:
    """Those that a reader of tables takes for one: "..." and "[1]" are none."""
    return tuple(one for one in captions if caption_items(one.text) == [one.text])


def _guided(clip: Clip, by_tagger: bool, wording: Wording) -> Clip:
    """A clip with the text that guides."""
    tags = clip.tags if by_tagger or wording.guidance != "none" else ()
    order = clip.order if wording.guidance == "order" and not by_tagger else ""
    return clip._replace(guidance=guidance_text(tags, order, wording.style))


def _key(seed: int, name: str) -> tuple[int, int]:
    """64 bits of a seed and the id of a clip."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def _through(
    clips: Iterable[Clip], given: Callable, run: Callable, put: Callable[[Clip, object], Clip]
) -> Iterator[Clip]:
    """Clips through a model; those with a reason not to be heard pass it by.

    Args:
      clips: in any number.
      given: what the model is given of a clip.
      run: an iterator of those to one of (number of the input, what is found or an AudioError).
      put: a clip with what was found of it.
    """
    inside: dict[int, Clip] = {}
    beside: deque[Clip] = deque()

    def inputs() -> Iterator:
        number = itertools.count()
        for clip in clips:
            if clip.reason:
                beside.append(clip)
            else:
                inside[next(number)] = clip
                yield given(clip)

    for index, found in run(inputs()):
        clip = inside.pop(index)
        if isinstance(found, AudioError):
            reason = str(found).removeprefix(f"audio {index}: ")  # by the number of an input
            yield clip._replace(captions=(), reason=reason)
        else:
            yield put(clip, found)
        while beside:
            yield beside.popleft()
    yield from beside


def _ranked(clips: Iterable[Clip], clap: Clap) -> Iterator[Clip]:
    """Clips with their captions by the cosine to what was heard, a batch at a time."""
    clips = iter(clips)
    while some := tuple(itertools.islice(clips, clap.batch_size)):
        heard = [clip for clip in some if clip.captions and not clip.reason]
        found = ranked([clip.captions for clip in heard], [clip.heard for clip in heard], clap)
        yield from (clip for clip in some if not clip.captions or clip.reason)
        for clip, captions in zip(heard, found, strict=True):
            yield clip._replace(captions=tuple(captions))


def to_row(clip: Clip, provenance: str) -> dict:
    """The JSON object of a table; see `write_tables`."""
    if clip.reason or not clip.captions:
        return Texts("", id=clip.id).to_row(clip.reason or "the captioner wrote no words")
    texts = tuple(one.text for one in clip.captions)
    row = Texts("", texts, kinds=(provenance,) * len(texts), id=clip.id).to_row()
    row["guidance"] = clip.guidance
    row["log_probability"] = [round(one.log_probability, 4) for one in clip.captions]
    if clip.captions[0].similarity is not None:
        row["similarity"] = [round(one.similarity, 4) for one in clip.captions]
    shares = [share_named(clip.tags, text) for text in texts]
    row["agreement"] = [share if share is None else round(share, 4) for share in shares]
    return row
