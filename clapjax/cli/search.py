"""`clapjax search`."""

import argparse
import json

import numpy as np

from clapjax.cli.inputs import add_model_arguments, add_threshold, load_clap, read_threshold
from clapjax.cli.show import complain

EXAMPLE = "clapjax search --model laion/clap-htsat-unfused --index index.npz 'a dog barks' --top 5"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--model M --index F QUERY --top N."""
    add_model_arguments(parser)
    parser.add_argument("query", metavar="QUERY", help="what to look for, in words")
    parser.add_argument("--index", required=True, help="file that `clapjax embed` wrote")
    parser.add_argument("--top", type=int, default=10, help="results (default: 10)")
    add_threshold(parser)
    parser.add_argument("--json", action="store_true", help="a JSON object for each result")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints the rows of the index that are closest to the query."""
    from clapjax.inference.store import fingerprint, nearest, read_table

    if args.top < 1:
        raise ValueError(f"--top must be positive, not {args.top}")
    table = read_table(args.index)
    # The audio tower only has to show that it is the one that made the index, or was judged.
    towers = "both" if "audio" in table.fingerprints or args.threshold else "text"
    model = load_clap(args, towers)
    for tower, made_by in table.fingerprints.items():
        if fingerprint(model.config, model.variables, tower) != made_by:
            raise ValueError(
                f"{args.index}: was made with another model ({table.model}); make it anew with "
                f"`clapjax embed --model {args.model}`"
            )
    query = model.embed_text(args.query)[0]
    # A threshold is of sounds: texts are nearer to one another.
    least = read_threshold(args.threshold, model)["threshold"] if args.threshold else -np.inf
    hits = nearest(table, query, args.top)
    kept = [(row, score) for row, score in hits if score >= least or table.kinds[row] == "text"]
    if not kept:
        complain("search", f"nothing reaches {least:.4f}; the nearest has {hits[0][1]:.4f}")
    for row, score in kept:
        hit = {"score": score, "kind": table.kinds[row], "name": table.names[row]}
        if table.times is not None and table.kinds[row] == "audio":
            hit |= {"start": float(table.times[row, 0]), "end": float(table.times[row, 1])}
        if args.json:
            print(json.dumps(hit, ensure_ascii=False))
        else:
            place = f"  {hit['start']:.1f}-{hit['end']:.1f} s" if "start" in hit else ""
            print(f"{score:.4f}  {hit['name']}{place}")
    return 0
