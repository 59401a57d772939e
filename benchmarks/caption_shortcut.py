"""Can negatives be spotted by reading alone? The table of docs/captions.md.

    python -m benchmarks.caption_shortcut --captions audiocaps_train.csv audiocaps_val.csv
    python -m benchmarks.caption_shortcut --captions ... --llm negatives.jsonl

Accuracy of a bag-of-words and of a small transformer at telling temporal negatives from captions,
on held-out captions (half of them negatives: 0.5 is chance), before and after balancing
connectives. `--llm` takes files that `clapjax captions negate --backend openai` wrote. Without one,
a stand-in takes that place: the negatives of `rules` in the wording that T-CLAP (2.3) reports of
LLMs, "First, ..., then ...".
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks import shortcut
from clapjax.captions.balance import balance
from clapjax.captions.rules import rules
from clapjax.captions.rules.clauses import parse
from clapjax.captions.rules.connectives import sounding_order, split_text
from clapjax.captions.rules.forms import converted, finite
from clapjax.captions.rules.words import join
from clapjax.captions.tables import read_captions, read_texts
from clapjax.captions.templates import order_captions
from clapjax.synthesis.sounds import SOUND_CLASSES

Pairs = list[tuple[str, str]]


def by_rules(captions: Iterable[str], count: int) -> Pairs:
    """(caption, negative) of the first `count` distinct captions that have one."""
    pairs = []
    for caption in dict.fromkeys(captions):
        pairs += [(caption, negative) for negative in rules.negate(caption).negatives]
        if len(pairs) >= count:
            break
    return pairs[:count]


def by_template(count: int) -> Pairs:
    """(caption, negative) of mix-ups of two or three embedded sounds."""
    generator = np.random.default_rng(0)
    pairs: dict[str, str] = {}
    while len(pairs) < count:
        size = int(generator.integers(2, 4))
        events = tuple(SOUND_CLASSES[i] for i in generator.permutation(len(SOUND_CLASSES))[:size])
        (right,), (wrong,) = order_captions(events, 1, generator)
        pairs.setdefault(right, wrong)
    return list(pairs.items())


def in_llm_style(negative: str) -> str | None:
    """ "A dog barks followed by a man speaking" as "First, a dog barks, then a man speaks"."""
    found = split_text(negative)
    if found is None or found.lead:
        return None
    texts = []
    for i in sounding_order(found):
        clauses = parse(found.segments[i])
        words = None if clauses is None else converted(clauses, finite)
        texts.append(join(list(found.segments[i]) if words is None else words))
    return f"First, {', then '.join(texts)}"


def from_file(paths: list[Path]) -> Pairs:
    """The pairs of files that `clapjax captions negate` wrote."""
    rows = (row for path in paths for row in read_texts(path))
    return [(row.captions[0], text) for row in rows for text in row.negatives[:1]]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--captions", nargs="+", type=Path, required=True)
    parser.add_argument("--column", default="")
    parser.add_argument("--llm", nargs="*", type=Path, default=[])
    parser.add_argument("--pairs", type=int, default=3000, help="of each set")
    parser.add_argument("--epochs", type=int, default=8, help="of the transformer")
    args = parser.parse_args()
    rows = (row for path in args.captions for row in read_captions(path, args.column))
    captions = [caption for row in rows for caption in row.captions]
    by_hand = by_rules(captions, 2 * args.pairs)
    sets = {"rules": by_hand[: args.pairs], "template": by_template(args.pairs)}
    styled = [(right, in_llm_style(wrong)) for right, wrong in by_hand[args.pairs :]]
    llm = from_file(args.llm) if args.llm else [(r, w) for r, w in styled if w is not None]
    sets["LLM" if args.llm else "LLM-styled"] = llm[: args.pairs]
    third = args.pairs // 3
    sets["mixed"] = [pair for pairs in sets.values() for pair in pairs[:third]]
    print("| negatives | pairs | bag of words | transformer | balanced pairs "
          "| bag of words | transformer |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    for name, pairs in sets.items():
        kept = balance(pairs)
        cells = []
        for some in (pairs, kept):
            counts = shortcut.bag_of_words_accuracy(some)
            reads = shortcut.transformer_accuracy(some, epochs=args.epochs)
            cells += [str(len(some)), f"{counts:.3f}", f"{reads:.3f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
