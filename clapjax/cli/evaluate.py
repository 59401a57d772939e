"""`clapjax eval`."""

import argparse
import shlex
from pathlib import Path

from clapjax.cli.config import load_config, override
from clapjax.cli.show import complain, progress

EXAMPLE = """clapjax eval --workdir runs/demo --data_dir data/demo
         clapjax eval --model runs/demo laion/clap-htsat-unfused --benchmark esc50=data/ESC-50 \\
             clotho=data/clotho --out results"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--workdir W --data_dir D, or --model M [M ...] --benchmark NAME=PATH [...] --out R."""
    own = parser.add_argument_group("a run on its own records")
    own.add_argument("--workdir", metavar="W", help="of the run; its config says what is evaluated")
    own.add_argument("--data_dir", metavar="D", help="folder of the records")
    own.add_argument("--config", metavar="FILE[:ARG]", help="evaluate as this config says instead")
    any_ = parser.add_argument_group("any models on any benchmarks")
    any_.add_argument(
        "--model",
        nargs="+",
        default=[],
        metavar="[NAME=]M",
        help="workdir, export, Hugging Face folder or hub id, LAION .pt file or BLAT folder",
    )
    any_.add_argument(
        "--benchmark",
        nargs="+",
        default=[],
        metavar="NAME=PATH",
        help="records, a published layout (NAME is that of its source) or a folder of your own",
    )
    parser.add_argument("--out", metavar="R", help="folder of the results; default: the workdir")
    parser.add_argument("--cache", metavar="C", help="folder of embeddings; default: R/embeddings")
    parser.add_argument("--batch_size", type=int, default=16, help="clips at once (default: 16)")
    parser.add_argument("--tokenizer", metavar="NAME", help="hub id or folder; default: a model's own")
    parser.add_argument(
        "--long",
        choices=("truncate", "windows", "fusion", "whole"),
        help="audio longer than a clip: its middle, the mean of windows, feature fusion or, for "
        "BLAT, as it is (default: what the model was made for)",
    )
    parser.add_argument("--hop", type=float, help="seconds between windows of --long windows")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Evaluates, and writes results.json and report.html."""
    from clapjax.cli.report import write
    from clapjax.evaluation.result import write_results
    from clapjax.evaluation.text import line, summary

    models, benchmarks, out = plan(args, overrides)
    command = shlex.join(["clapjax", "eval", *(args.argv or [])])
    results = []
    for name, source in models.items():
        found = evaluate_model(args, name, source, benchmarks, out, command)
        for result in found:
            print(f"{name} on {result.benchmark}: {line(result)}", flush=True)
        results += found
    write_results(out, results)
    write([out], out / "report.html")
    print(f"wrote {out / 'results.json'} and {out / 'report.html'}")
    return 0
