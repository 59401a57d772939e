"""`clapjax records build|info|check`."""

import argparse
import json
import sys

from clapjax.cli.config import add_config_argument, load_config
from clapjax.cli.show import progress

EXAMPLE = "clapjax records build --config configs/demo.py --data_dir data/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """build --config F --data_dir D; info D; check D."""
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


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Runs one of the three."""
    from clapjax.data import records

    if args.action == "info":
        print(json.dumps(records.describe(args.data_dir), indent=2))
        return 0
    if args.action == "check":
        problems = records.check(args.data_dir)
        print("\n".join(problems) or f"{args.data_dir}: sound")
        return 1 if problems else 0
    return build(load_config(args.config, overrides), args.data_dir)


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
