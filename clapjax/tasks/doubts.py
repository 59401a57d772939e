"""What a run's records cannot teach a model, said before the first step."""

import os
from collections import Counter
from collections.abc import Sequence

import numpy as np

from clapjax.data.config import DataConfig
from clapjax.data.order import batch_rows, parse_share, shuffled
from clapjax.data.records import open_split, parser
from clapjax.losses.config import LossConfig
from clapjax.tasks.contrastive import needs_negatives

LOOKED_AT, BATCHES_LOOKED_AT = 256, 64  # records of a data set, and batches


def doubts(
    data_dir: str | os.PathLike,
    data: DataConfig,
    loss: LossConfig,
    batch_size: int,
    seed: int,
    tokenizer,
    max_length: int,
    clip_samples: int,
) -> list[str]:
    """What these records cannot teach, or would teach wrongly: a line each.

    Looks at LOOKED_AT records of each data set, and at the order of the first batches.

    Args:
      data_dir: records on this machine.
      data, loss, batch_size, seed: of the run.
      tokenizer, max_length, clip_samples: and what its model reads and hears at most.

    Raises:
      RecordsError: no such data set or split, or a damaged record.
    """
    mixture = [parse_share(item) for item in data.mixture]
    folders = [data_dir, *(folder for folder, _ in mixture)]
    splits = [open_split(folder, data.split) for folder in folders]
    sizes = np.array([len(split) for split in splits])
    if not sizes.all():
        return []  # which reading them will say
    found = _repeats(sizes, [share for _, share in mixture], batch_size, seed)
    examples = [example for split in splits for example in _look_at(split)]
    texts = [text for example in examples for text in example.captions]
    found += _cut(tokenizer, texts, max_length, "model.text.max_length", ", given the positions")
    found += _cut_orders(examples, data, clip_samples)
    captions = Counter(example.captions[0] for example in examples)
    # Of a row, how many others have its caption, on average.
    alike = (batch_size - 1) * sum((n / len(examples)) ** 2 for n in captions.values())
    if alike >= 1 and len(captions) < len(examples) and not loss.mask_same_events:
        found.append(
            f"{len(examples)} records have {len(captions)} captions: in a batch of {batch_size}, "
            f"{alike:.1f} other rows have a row's caption and count as its negatives; a smaller "
            "batch_size, captions that differ, or --config.task=tagging"
        )
    asking = needs_negatives(loss)
    if asking and not any(example.negative_captions for example in examples):
        found.append(
            f"{' and '.join(f'loss.{name}' for name in asking)} ask for captions in a wrong order, "
            f"and none of {len(examples)} records has one: they teach nothing; make some (`clapjax "
            "captions negate`), or set "
            + " ".join(f"--config.loss.{name}={off}" for name, off in asking.items())
        )
    elif loss.order_pairs and not any(
        example.negative_audio is not None and len(example.events) == 2 for example in examples
    ):
        teaches = "captions alone teach" if loss.temporal_weight else "nothing teaches"
        # Which a mix-up alone makes, of clips with one label each.
        needed = "source.mode=mixup --config.synthesis.train_negative_audio=True"
        if any(example.negative_audio is not None for example in examples):
            needed = "synthesis.min_events=2"  # of more, which wrong order is heard is not recorded
        found.append(
            f"loss.order_pairs asks for sounds of two events in a wrong order, and none of "
            f"{len(examples)} records has one: {teaches} order; build them with "
            f"--config.{needed}, or set --config.loss.order_pairs=0"
        )
    return found


def caption_doubts(
    data_dir: str | os.PathLike, split: str, tokenizer, max_length: int
) -> list[str]:
    """Which captions a captioner would learn without their ends: a line, as of `doubts`."""
    examples = _look_at(open_split(data_dir, split))
    texts = [text for example in examples for text in example.captions]
    return _cut(tokenizer, texts, max_length + 1, "captioning.decoder.max_length", less=1)


def _cut(
    tokenizer, texts: list[str], max_length: int, field: str, given: str = "", less: int = 0
) -> list[str]:
    """Whether texts have more than so many tokens; `less` of which the field does not count."""
    if not texts:
        return []
    lengths = [len(ids) for ids in tokenizer(texts, verbose=False)["input_ids"]]
    if not (cut := sum(length > max_length for length in lengths)):
        return []
    return [
        f"{cut} of {len(texts)} captions are longer than {max_length - less} tokens and are cut; "
        f"--config.{field}={max(lengths) - less} reads them whole{given}"
    ]


def _cut_orders(examples: list, data: DataConfig, clip_samples: int) -> list[str]:
    """Whether records that tell an order lose some of it, well beyond a few samples at an end."""
    ordered = [one for one in examples if one.negative_captions or len(one.events) > 1]
    if not ordered or data.long_clips == "whole":
        return []
    cut = sum(one.seconds * one.sample_rate > 1.1 * clip_samples for one in ordered)
    seconds = clip_samples / ordered[0].sample_rate
    if not cut:
        return []
    return [
        f"{cut} of {len(ordered)} records that tell an order of events are longer than the "
        f"{seconds:g} s of a clip and are cut at a random place: their captions tell of more than "
        "is heard; shorter records, or a model of longer clips (model.audio.clip_samples)"
    ]


def label_doubts(data_dir: str | os.PathLike, split: str, labels: Sequence[str]) -> list[str]:
    """Which of the labels that a tagger is to learn no record has: a line, as of `doubts`.

    Of large splits it looks at LOOKED_AT records, and says so only where they have none of all.
    """
    records = open_split(data_dir, split)
    if not len(records):
        return []
    examples = _look_at(records)
    seen = {label for example in examples for label in example.labels}
    unseen = [label for label in labels if label not in seen]
    if not unseen or len(examples) < len(records) and len(unseen) < len(labels):
        return []
    there = ", ".join(sorted(seen)[:3]) + (", ..." if len(seen) > 3 else "") if seen else "no label"
    return [
        f"none of {len(examples)} records has {len(unseen)} of the {len(labels)} labels of "
        f"tagging.labels ({', '.join(unseen[:3])}{', ...' if len(unseen) > 3 else ''}): they are "
        f"learnt as never there; the records have {there}"
    ]


def _repeats(sizes: np.ndarray, shares: list, batch_size: int, seed: int) -> list[str]:
    """Whether records come more than once in a batch, where they are their own negatives."""
    counts = []
    for step in range(BATCHES_LOOKED_AT):
        sets, positions = batch_rows(step, batch_size, shares)
        rows = np.bincount(sets, minlength=len(sizes))
        if (sizes > 10 * rows).all():  # seldom more than a row or two at the end of an epoch
            return []
        places = np.stack([sets, shuffled(positions, sizes[sets], sets, seed)])
        counts.append(int(np.unique(places, axis=1, return_counts=True)[1].max()))
    often = sum(count > 1 for count in counts)
    if not often:
        return []
    return [
        f"{often} of the first {len(counts)} batches of {batch_size} rows hold a record more than "
        f"once, up to {max(counts)} times, and it is its own negative there: there are "
        f"{' + '.join(map(str, sizes))} records; set a batch_size that divides them, or a smaller "
        "one"
    ]


def _look_at(split) -> list:
    parse = parser()
    places = np.linspace(0, len(split) - 1, min(len(split), LOOKED_AT)).astype(int)
    return [parse(data) for data in split.read(places.tolist())]
