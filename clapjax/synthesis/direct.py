"""Records of a source as it is published: each clip with its own captions, no mix-up."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from clapjax.data import records
from clapjax.data.fingerprint import Fingerprint, fingerprint
from clapjax.data.overlap import HeldOut, find_duplicates, hold_out
from clapjax.data.schema import Example
from clapjax.data.sources.clip import Clip, Rejected, decode_clip

SELECTIONS = ("none", "all", "augment_only")
SHARD_BYTES = 128 * 2**20


def clip_example(
    clip: Clip, sample_rate: int, *, min_seconds: float, silence_db: float, selection: str
) -> Example | Rejected:
    """The record of one clip, or why there is none: a pure function of its arguments.

    Args:
      clip: what to decode.
      sample_rate: Hz.
      min_seconds, silence_db: as for `decode_clip`.
      selection: LAION's text_augment_selection: "none" takes the captions as published, "all" also
        those that a model made of the tags, "augment_only" these alone where there are any.
    """
    found = decode_clip(clip, sample_rate, min_seconds=min_seconds, silence_db=silence_db)
    if isinstance(found, Rejected):
        return found
    captions, provenance = choose_captions(clip, selection)
    example = Example(
        id=clip.id,
        audio=found.samples,
        sample_rate=sample_rate,
        captions=captions,
        labels=clip.labels,
        events=sounding_order(clip),
        source=clip.source,
        provenance=provenance,
    )
    problems = example.problems()
    return Rejected(clip.source, "; ".join(problems)) if problems else example


def choose_captions(clip: Clip, selection: str) -> tuple[tuple[str, ...], str]:
    """(Captions, how they came to be); one is made of the labels where there is none."""
    augmented = clip.augmented if selection != "none" else ()
    published = () if augmented and selection == "augment_only" else clip.captions
    if published or augmented:
        return published + augmented, "keyword" if augmented else clip.provenance
    if clip.labels:
        return (label_caption(clip.labels),), "template"
    return clip.augmented, "keyword"


def label_caption(labels: tuple[str, ...]) -> str:
    """LAION-CLAP's caption for data that has labels only: "The sounds of A, B and C"."""
    if len(labels) == 1:
        return f"The sound of {labels[0]}"
    return f"The sounds of {', '.join(labels[:-1])} and {labels[-1]}"


def sounding_order(clip: Clip) -> tuple[str, ...]:
    """Events by onset, repetitions in a row once; a sole label where times are not known."""
    labels = [event.label for event in clip.events]
    if not labels:
        return clip.labels if len(clip.labels) == 1 else ()
    return tuple(label for i, label in enumerate(labels) if i == 0 or label != labels[i - 1])


def write_direct(
    folder: Path,
    parts: dict[str, list[Clip]],
    make: Callable[[Clip], Example | Rejected],
    *,
    file_format: str,
    kept_apart: Iterable[tuple[str, Fingerprint]] = (),
    drop_duplicates: bool = False,
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, what: items,
) -> tuple[list[tuple[str, list[int], int]], list[str], list[Rejected]]:
    """Writes the splits of a source, train last.

    Args:
      folder: where the shards go.
      parts: split to its clips.
      make: `clip_example` with its settings.
      file_format: of the records.
      kept_apart: (id, fingerprint) of recordings that train must not repeat.
      drop_duplicates: whether train must not repeat the split test either.
      progress: see `build_records`.

    Returns:
      (splits as `write_stream` returns them, captions of train or else of all, clips left out).

    Raises:
      ValueError: no clip could be used; the message says why the first could not.
    """
    kept_apart = list(kept_apart)
    splits, rejected = [], []
    captions: dict[str, list[str]] = {}
    for split in sorted(parts, key=lambda name: (name == "train", name)):
        clips = progress(parts[split], len(parts[split]), f"writing {split}")
        stream = _examples(clips, make, rejected)
        if split == "test" and drop_duplicates:
            stream = _collect_prints(stream, kept_apart)
        if split == "train" and kept_apart:
            stream = _without(stream, hold_out(kept_apart), rejected)
        stream = _collect_captions(stream, captions.setdefault(split, []))
        written = records.write_stream(folder, split, stream, file_format, SHARD_BYTES)
        splits += [written] if written[1] else []
    if not splits:
        first = f"; the first: {rejected[0].source}: {rejected[0].reason}" if rejected else ""
        raise ValueError(f"source: none of its clips can be used{first}")
    everything = [caption for part in captions.values() for caption in part]
    return splits, captions.get("train") or everything, rejected


def _examples(
    clips: Iterable[Clip], make: Callable[[Clip], Example | Rejected], rejected: list[Rejected]
) -> Iterator[Example]:
    for clip in clips:
        made = make(clip)
        if isinstance(made, Rejected):
            rejected.append(made)
        else:
            yield made


def _collect_prints(
    examples: Iterable[Example], prints: list[tuple[str, Fingerprint]]
) -> Iterator[Example]:
    for example in examples:
        prints.append((example.id, fingerprint(example.audio, example.sample_rate)))
        yield example


def _collect_captions(examples: Iterable[Example], captions: list[str]) -> Iterator[Example]:
    for example in examples:
        captions.extend(example.captions)
        yield example


def _without(
    examples: Iterable[Example], held_out: HeldOut, rejected: list[Rejected]
) -> Iterator[Example]:
    for example in examples:
        pair = (example.id, fingerprint(example.audio, example.sample_rate))
        twin = next(find_duplicates([pair], held_out), None)
        if twin is None:
            yield example
        else:
            rejected.append(Rejected(example.source, twin.reason()))
