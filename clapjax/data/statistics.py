"""What a data set of records holds: counts, hours, captions, labels and provenance."""

import os
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np

from clapjax.data import records
from clapjax.data.schema import SEPARATOR, Example


def describe(
    data_dir: str | os.PathLike,
    connectives: Callable[[str], Counter] = lambda caption: Counter(),
    look: Callable[[str, Example], None] = lambda split, example: None,
) -> dict:
    """Figures of each split, for `clapjax records info`; every record is read once.

    Args:
      data_dir: the data set.
      connectives: how often a caption has each temporal connective.
      look: called with each example and its split.

    Raises:
      RecordsError: not a finished data set, or damaged.
    """
    build, form = records.read_build(data_dir), records.read_form(data_dir)
    out = {"data_dir": os.fspath(data_dir), "build": build, "splits": {}}
    for split, info in records.open_builder(data_dir).info.splits.items():
        examples = _looked_at(records.read_examples(data_dir, split), split, look)
        size = round(info.num_bytes / max(1, info.num_examples))
        held = {"audio": form.of_split(split), "bytes_per_example": size}
        out["splits"][split] = held | _describe_split(examples, connectives)
    return out


def _looked_at(examples: Iterable[Example], split: str, look) -> Iterable[Example]:
    for example in examples:
        look(split, example)
        yield example


def _describe_split(examples: Iterable[Example], connectives) -> dict:
    count = captions = negatives = with_negatives = negative_audio = pairs = 0
    seconds, words, origins, without_origin = [], [], set(), 0
    labels, links = Counter(), Counter()
    provenance = {"captions": Counter(), "negative_captions": Counter()}
    for example in examples:
        count += 1
        seconds.append(example.seconds)
        captions += len(example.captions)
        words += [len(caption.split()) for caption in example.captions]
        negatives += len(example.negative_captions)
        with_negatives += bool(example.negative_captions)
        negative_audio += example.negative_audio is not None
        # Of more events, records do not say which wrong order is heard: `loss.order_pairs`.
        whole = example.negative_captions and example.negative_audio is not None
        pairs += bool(whole) and len(example.events) == 2
        for counter, kinds in zip(provenance.values(), example.kinds(), strict=True):
            counter.update(kinds)
        origins.update(filter(None, example.origin.split(SEPARATOR)))
        without_origin += not example.origin
        labels.update(example.labels)
        for caption in example.captions:
            links.update(connectives(caption))
    return {
        "examples": count,
        "hours": round(sum(seconds) / 3600, 3),
        "seconds": _spread(seconds),
        "captions_per_example": round(captions / max(1, count), 2),
        "words_per_caption": round(sum(words) / max(1, captions), 2),
        "caption_words": {str(n): times for n, times in sorted(Counter(words).items())},
        "negative_captions": negatives,
        "with_negative_captions": with_negatives,
        "with_negative_audio": negative_audio,
        "order_pairs": pairs,
        "origins": len(origins),
        "without_origin": without_origin,
        "connectives": dict(sorted(links.items(), key=lambda item: (-item[1], item[0]))),
        "provenance": {name: dict(counter) for name, counter in provenance.items()},
        "labels": dict(sorted(labels.items())),
    }


def _spread(values: list[float]) -> dict[str, float]:
    """Shortest, median and longest."""
    found = np.quantile(values, (0, 0.5, 1)) if values else np.zeros(3)
    return dict(zip(("shortest", "median", "longest"), found.round(2).tolist(), strict=True))
