"""`clapjax records build|info|check|overlap`."""

import argparse
import json
import sys

from clapjax.cli.config import add_config_argument, load_config
from clapjax.cli.show import progress

EXAMPLE = "clapjax records build --config configs/demo.py --data_dir data/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """build --config F --data_dir D; info D; check D; overlap TRAIN TEST."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    build = actions.add_parser("build", help="make a data set", epilog=f"example: {EXAMPLE}")
    add_config_argument(build)
    build.add_argument("--data_dir", required=True, help="folder of the data set")
    for name, text in (
        ("info", "counts, hours, captions and labels"),
        ("check", "read every record and list what is wrong"),
    ):
        example = f"example: clapjax records {name} data/demo"
        action = actions.add_parser(name, help=text, epilog=example)
        action.add_argument("data_dir", help="folder of the data set")
    overlap = actions.add_parser(
        "overlap",
        help="list the audio that is in a training and in a test set",
        epilog="example: clapjax records overlap data/wavcaps:train data/clotho:test",
    )
    overlap.add_argument("train", help="DIR or DIR:SPLIT, of which train is the default")
    overlap.add_argument("test", help="DIR or DIR:SPLIT, of which test is the default")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Runs one of them."""
    from clapjax.data import records

    if args.action == "info":
        print(json.dumps(records.describe(args.data_dir), indent=2))
        return 0
    if args.action == "check":
        problems = records.check(args.data_dir)
        print("\n".join(problems) or f"{args.data_dir}: sound")
        return 1 if problems else 0
    if args.action == "overlap":
        return report_overlap(args.train, args.test)
    return build(load_config(args.config, overrides), args.data_dir)


def report_overlap(train: str, test: str) -> int:
    """Prints each recording that is in both, one JSON object a line; 1 where there is any."""
    import dataclasses

    from clapjax.data.overlap import find_duplicates, fingerprint_records, hold_out, split_of
    from clapjax.data.records import split_size

    held_out = hold_out(fingerprint_records(*split_of(test, "test")))
    train = split_of(train, "train")
    count, found = split_size(*train), set()
    prints = progress(fingerprint_records(*train), count, "comparing")
    for twin in find_duplicates(prints, held_out):
        found.add(twin.train)
        print(json.dumps(dataclasses.asdict(twin)))
    print(f"{len(found)} of {count} recordings are in both")
    return 1 if found else 0


def build(experiment, data_dir: str) -> int:
    """Builds the records of an experiment and says what came of it."""
    from clapjax.synthesis.build import build_records

    result = build_records(
        experiment.source,
        experiment.synthesis,
        experiment.data,
        seed=experiment.seed,
        sample_rate=experiment.model.audio.sample_rate,
        data_dir=data_dir,
        progress=progress,
    )
    for item in result.rejected:
        print(f"left out: {item.source}: {item.reason}", file=sys.stderr)
    counts = ", ".join(f"{count} {split}" for split, count in result.counts.items())
    print(f"{data_dir}: {'already built' if result.reused else 'built'}: {counts}")
    if result.rejected:
        print(f"{data_dir}: {len(result.rejected)} recordings left out, see rejected.jsonl")
    return 0
