"""What the verbs take that write captions: how words are chosen, and in whose style."""

import argparse
from dataclasses import replace

LIKELY = 0.5  # of a tag, where no threshold is given


def add_decoding_arguments(parser: argparse.ArgumentParser) -> None:
    """--style S, --beam K or --nucleus P, --groups G, --n N, --seed S, --long MODE."""
    parser.add_argument("--style", default="", help="the data set whose captions are written like")
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--beam", type=int, metavar="K", help="beam search; 1: the likeliest word each"
    )
    way.add_argument(
        "--nucleus",
        type=float,
        metavar="P",
        help="draw from the likeliest words, as many as have this probability together",
    )
    parser.add_argument("--groups", type=int, help="of beams that differ from one another")
    parser.add_argument("--n", type=int, metavar="N", help="captions of each clip (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of --nucleus (default: 0)")
    parser.add_argument(
        "--long",
        choices=("truncate", "fusion", "whole"),
        help="audio longer than a clip: its middle, feature fusion, or as it is (default: what the "
        "model was made for)",
    )


def find_decoding(args: argparse.Namespace, own):
    """The `DecodingConfig` of the run with what the arguments change.

    Raises:
      ValueError: arguments that do not go together, by their names.
    """
    options = {"count": "n", "groups": "groups", "beams": "beam", "nucleus": "nucleus"}
    asked = {name: getattr(args, option) for name, option in options.items()}
    changes = {name: value for name, value in asked.items() if value is not None}
    if args.beam is not None:
        changes["nucleus"] = 0.0
    elif args.nucleus is None:  # as many beams as captions are asked for
        changes["beams"] = max(own.beams, args.n or 1)
    try:
        return replace(own, **changes)
    except ValueError as error:
        said = str(error)
        for name, option in options.items():
            said = said.replace(f"decoding.{name}", f"--{option}")
        raise ValueError(said) from error


def add_threshold_argument(parser: argparse.ArgumentParser) -> None:
    """--threshold X, beside --tagger T."""
    parser.add_argument(
        "--threshold",
        type=probability,
        help=f"how probable the tagger's tags are, at least (default: {LIKELY})",
    )


def find_threshold(args: argparse.Namespace) -> float:
    """That of `add_threshold_argument`.

    Raises:
      ValueError: it is given, and no tagger that it is of.
    """
    if args.threshold is not None and not args.tagger:
        raise ValueError("--threshold is of the tags that --tagger hears; name one")
    return LIKELY if args.threshold is None else args.threshold


def probability(text: str) -> float:
    """A number of 0 to 1, for argparse."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be in 0 .. 1, not {text}")
    return value
