"""`clapjax classify`."""

import argparse
import functools

from clapjax.cli.inputs import (
    add_long_arguments,
    add_model_arguments,
    add_threshold,
    audio_files,
    load_clap,
    print_labels,
    read_threshold,
    status,
    what_is_heard,
)
from clapjax.plain import read_lines

EXAMPLE = "clapjax classify --model laion/clap-htsat-unfused --labels dog,rain,siren sounds/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--model M --labels L FILE..., the template, and how long audio is heard."""
    add_model_arguments(parser)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder or 'pattern'")
    labels = parser.add_mutually_exclusive_group(required=True)
    labels.add_argument("--labels", help="class names with commas between them")
    labels.add_argument("--labels_file", metavar="FILE", help="a file with a name on each line")
    parser.add_argument("--template", help="caption with {} for the name: 'This is a sound of {}.'")
    parser.add_argument("--top", type=int, default=3, help="labels in the table (default: 3)")
    parser.add_argument(
        "--json", action="store_true", help="a JSON object for each file, with all labels"
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
    files, whole = audio_files("classify", args.inputs)
    found = classify(args, files, labels)
    print_labels(files, found, functools.partial(told, top=args.top), args.json)
    return status(files, whole, found)


def told(found: dict, top: int) -> list[str]:
    """The likeliest labels; of those that are there or not, the ones that are."""
    if "heard" not in found:
        return [f"{name} {100 * p:.1f} %" for name, p in list(found["probabilities"].items())[:top]]
    if "presence" in found:
        words = [f"{name} {100 * found['presence'][name]:.1f} %" for name in found["heard"]]
    else:
        words = [f"{name} {found['cosines'][name]:.3f}" for name in found["heard"]]
    return words[:top] or ["none of the labels"]


def classify(args: argparse.Namespace, files: list[str], labels: list[str]) -> dict:
    """{number of the file: what is printed of it as JSON}; complains about broken ones.

    {"probabilities": {label: probability}}, which sum up to 1; with --threshold {"cosines": {label:
    cosine}, "heard": labels that reach it}, and of one that was measured "presence": {label: how
    probable it is that it is there}. The highest first.
    """
    from scipy.special import expit

    from clapjax.inference import TEMPLATE

    template = TEMPLATE if args.template is None else args.template
    model = load_clap(args)
    known = read_threshold(args.threshold, model, template) if args.threshold else None
    text = model.embed_labels(labels, template)
    found = {}
    results = model.each_audio(files, long=args.long, hop=args.hop)
    heard = what_is_heard("classify", "classifying", results, len(files))
    for index, result in heard.items():
        if known is None:
            found[index] = {"probabilities": model.rank(result[None], text, labels)[0]}
            continue
        pairs = zip(labels, model.similarity(result[None], text)[0].tolist(), strict=True)
        cosines = dict(sorted(pairs, key=lambda pair: -pair[1]))
        there = [label for label, cosine in cosines.items() if cosine >= known["threshold"]]
        found[index] = {"cosines": cosines, "heard": there}
        if "slope" in known:
            found[index]["presence"] = {
                label: float(expit(known["slope"] * cosine + known["offset"]))
                for label, cosine in cosines.items()
            }
    return found
