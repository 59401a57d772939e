"""`clapjax classify`."""

import argparse
import functools
from collections.abc import Callable, Iterator

from clapjax.cli.inputs import (
    add_file_arguments,
    add_long_arguments,
    add_model_arguments,
    add_threshold,
    label_lines,
    load_clap,
    need_files,
    print_each,
    read_threshold,
)
from clapjax.plain import read_lines

EXAMPLE = "clapjax classify --model laion/clap-htsat-unfused --labels dog,rain,siren sounds/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--model M --labels L FILE..., the template, and how long audio is heard."""
    add_model_arguments(parser)
    add_file_arguments(parser)
    labels = parser.add_mutually_exclusive_group(required=True)
    labels.add_argument("--labels", help="class names with commas between them")
    labels.add_argument("--labels_file", metavar="FILE", help="a file with a name on each line")
    parser.add_argument("--template", help="caption with {} for the name: 'This is a sound of {}.'")
    parser.add_argument("--top", type=int, default=3, help="labels in the table (default: 3)")
    parser.add_argument(
        "--json", action="store_true", help="a JSON object for each file, with all labels"
    )
    parser.add_argument(
        "--multi_label",
        action="store_true",
        help="each label for itself, as several may be there, or none",
    )
    add_threshold(parser)
    add_long_arguments(parser)


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints the labels of each file; status 1 where some could not be heard."""
    if args.top < 1:
        raise ValueError(f"--top must be positive, not {args.top}")
    if args.labels_file:
        labels = read_lines(args.labels_file)
    else:
        labels = [label.strip() for label in args.labels.split(",") if label.strip()]
    if args.multi_label and args.threshold:
        raise ValueError("--threshold has each label for itself already; leave --multi_label out")
    if len(labels) == 1 and not (args.threshold or args.multi_label):
        raise ValueError(
            "one label alone always has 100 %: name others to tell it from, or --multi_label, or a "
            "--threshold"
        )
    files = need_files("classify", args)
    hear = make_classifier(args, labels)
    words = functools.partial(told, top=args.top)
    lines = functools.partial(label_lines, words=words, as_json=args.json)
    return print_each("classify", "classifying", files, hear, lines)


def told(found: dict, top: int) -> list[str]:
    """The likeliest labels; of those that are there or not, the ones that are."""
    if "heard" not in found:
        return [f"{name} {100 * p:.1f} %" for name, p in list(found["probabilities"].items())[:top]]
    if "presence" in found:
        words = [f"{name} {100 * found['presence'][name]:.1f} %" for name in found["heard"]]
    else:
        words = [f"{name} {found['cosines'][name]:.3f}" for name in found["heard"]]
    return words[:top] or ["none of the labels"]


def make_classifier(args: argparse.Namespace, labels: list[str]) -> Callable:
    """A function of some files to (number of the file, what is printed of it as JSON or its error).

    {"probabilities": {label: probability}}, which sum up to 1 but with --multi_label; with
    --threshold {"cosines": {label: cosine}, "heard": labels that reach it}, and of one that was
    measured "presence": {label: how probable it is that it is there}. The highest first.
    """
    from scipy.special import expit

    from clapjax.inference import TEMPLATE
    from clapjax.inference.labels import NEUTRAL

    template = TEMPLATE if args.template is None else args.template
    model = load_clap(args)
    known = read_threshold(args.threshold, model, template) if args.threshold else None
    text = model.embed_labels(labels, template)
    against = model.embed_labels([NEUTRAL], template) if args.multi_label else None

    def judge(vector) -> dict:  # (D,)
        if known is None:
            return {"probabilities": model.rank(vector[None], text, labels, against)[0]}
        pairs = zip(labels, model.similarity(vector[None], text)[0].tolist(), strict=True)
        cosines = dict(sorted(pairs, key=lambda pair: -pair[1]))
        there = [label for label, cosine in cosines.items() if cosine >= known["threshold"]]
        found = {"cosines": cosines, "heard": there}
        if "slope" in known:
            found["presence"] = {
                label: float(expit(known["slope"] * cosine + known["offset"]))
                for label, cosine in cosines.items()
            }
        return found

    def hear(files: list[str]) -> Iterator[tuple[int, dict | ValueError]]:
        for index, heard in model.each_audio(files, long=args.long, hop=args.hop):
            yield index, heard if isinstance(heard, ValueError) else judge(heard)

    return hear
