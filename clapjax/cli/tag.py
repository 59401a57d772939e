"""`clapjax tag`."""

import argparse
import functools

from clapjax.cli.inputs import (
    add_long_arguments,
    audio_files,
    load_kind,
    print_labels,
    status,
    what_is_heard,
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
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder or 'pattern'")
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
    files, whole = audio_files("tag", args.inputs)
    tagger = load_kind("tagger", args.model, args.batch_size, "--model", args.labels)
    results = tagger.each(files, long=args.long, hop=args.hop)
    found = {}
    for index, row in what_is_heard("tag", "tagging", results, len(files)).items():
        names = tagger.likely(row, 0.0)
        probable = dict(zip(names, sorted(row.tolist(), reverse=True), strict=True))
        found[index] = {"probabilities": probable}
        if args.threshold is not None:
            found[index]["heard"] = tagger.likely(row, args.threshold)
    print_labels(files, found, functools.partial(told, top=args.top), args.json)
    return status(files, whole, found)


def told(found: dict, top: int) -> list[str]:
    """The likeliest labels; with a threshold, of those that reach it."""
    probable = found["probabilities"]
    names = list(found.get("heard", probable))[:top]
    return [f"{name} {100 * probable[name]:.1f} %" for name in names] or ["none of the labels"]
