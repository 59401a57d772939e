"""`clapjax classify`."""

import argparse
import json

from clapjax.cli.inputs import (
    add_long_arguments,
    add_model_arguments,
    find_audio,
    load_clap,
    printable,
    read_lines,
)
from clapjax.cli.show import complain, progress

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
    add_long_arguments(parser)


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints the labels of each file; status 1 where some could not be heard."""
    if args.top < 1:
        raise ValueError(f"--top must be positive, not {args.top}")
    if args.labels_file:
        labels = read_lines(args.labels_file)
    else:
        labels = [label.strip() for label in args.labels.split(",") if label.strip()]
    files, problems = find_audio(args.inputs)
    for problem in problems:
        complain("classify", problem)
    if not files:
        raise ValueError("no audio files to classify")
    found = classify(args, files, labels)
    width = max((len(printable(files[index])) for index in found), default=0)
    for index in sorted(found):
        name = printable(files[index])
        if args.json:
            print(json.dumps({"file": name, "probabilities": found[index]}, ensure_ascii=False))
        else:
            best = list(found[index].items())[: args.top]
            print(name.ljust(width), *(f"{label} {100 * p:.1f} %" for label, p in best), sep="  ")
    return 1 if problems or len(found) < len(files) else 0


def classify(args: argparse.Namespace, files: list[str], labels: list[str]) -> dict:
    """{number of the file: {label: probability}}; complains about broken ones."""
    from clapjax.inference import TEMPLATE

    template = TEMPLATE if args.template is None else args.template
    model = load_clap(args)
    text = model.embed_labels(labels, template)
    found = {}
    results = model.each_audio(files, long=args.long, hop=args.hop)
    for index, result in progress(results, len(files), "classifying"):
        if isinstance(result, ValueError):
            complain("classify", result)
        else:
            (found[index],) = model.rank(result[None], text, labels)
    return found
