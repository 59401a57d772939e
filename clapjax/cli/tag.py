"""`clapjax tag`."""

import argparse
import functools
from collections.abc import Iterator

from clapjax.cli.inputs import (
    add_file_arguments,
    add_long_arguments,
    label_lines,
    load_kind,
    need_files,
    print_each,
)

EXAMPLE = "clapjax tag --model Cnn14_mAP=0.431.pth --labels class_labels_indices.csv sounds/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--model M FILE..., what is told, and how long audio is heard."""
    parser.add_argument(
        "--model",
        required=True,
        help="workdir of a tagging run; or a checkpoint of PANNs, HTS-AT or LAION-CLAP, or a BLAT "
        "folder, for the tagging head in it",
    )
    add_file_arguments(parser)
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="names of the labels of a checkpoint, on each line one or as a .csv with the columns "
        "index and display_name (default: class_labels_indices.csv beside it, else numbers)",
    )
    parser.add_argument("--batch_size", type=int, default=16, help="clips at once (default: 16)")
    parser.add_argument("--top", type=int, default=3, help="labels in the table (default: 3)")
    parser.add_argument(
        "--threshold", type=float, metavar="P", help="only what is at least so probable (0 .. 1)"
    )
    parser.add_argument(
        "--json", action="store_true", help="a JSON object for each file, with all labels"
    )
    add_long_arguments(parser)


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints the labels of each file; status 1 where some could not be heard."""
    if args.top < 1:
        raise ValueError(f"--top must be positive, not {args.top}")
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise ValueError(f"--threshold: a probability is in 0 .. 1, not {args.threshold:g}")
    files = need_files("tag", args)
    tagger = load_kind("tagger", args.model, args.batch_size, "--model", args.labels)

    def hear(some: list[str]) -> Iterator[tuple[int, dict | ValueError]]:
        for index, row in tagger.each(some, long=args.long, hop=args.hop):
            yield index, row if isinstance(row, ValueError) else found_in(row)

    def found_in(row) -> dict:
        names = tagger.likely(row, 0.0)
        probable = dict(zip(names, sorted(row.tolist(), reverse=True), strict=True))
        heard = {} if args.threshold is None else {"heard": tagger.likely(row, args.threshold)}
        return {"probabilities": probable} | heard

    words = functools.partial(told, top=args.top)
    lines = functools.partial(label_lines, words=words, as_json=args.json)
    return print_each("tag", "tagging", files, hear, lines)


def told(found: dict, top: int) -> list[str]:
    """The likeliest labels; with a threshold, of those that reach it."""
    probable = found["probabilities"]
    names = list(found.get("heard", probable))[:top]
    return [f"{name} {100 * probable[name]:.1f} %" for name in names] or ["none of the labels"]
