"""`clapjax search`."""

import argparse
import json
import math

import numpy as np

from clapjax.cli.inputs import add_model_arguments, add_threshold, load_clap, read_threshold
from clapjax.cli.show import complain, in_line

EXAMPLE = (
    "clapjax search --model laion/clap-htsat-unfused --index library.index 'a dog barks' --top 5"
)

TOP = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--model M --index F QUERY... --audio F --plus T --minus T --kind K --top N."""
    add_model_arguments(parser, required=False)
    parser.add_argument("query", metavar="QUERY", nargs="*", help="what to look for, in words")
    parser.add_argument(
        "--audio",
        metavar="FILE",
        action="append",
        default=[],
        help="a sound to look for the like of; may be repeated",
    )
    for sign, told in (("plus", "also"), ("minus", "not")):
        parser.add_argument(
            f"--{sign}",
            metavar="TEXT[:WEIGHT]",
            action="append",
            default=[],
            help=f"what each query is {told} to be like, with a weight (default: 1)",
        )
    parser.add_argument(
        "--index", required=True, help="what `clapjax index` made, or `clapjax embed` wrote"
    )
    parser.add_argument("--kind", choices=("audio", "text"), help="results of this kind only")
    parser.add_argument("--top", type=int, help=f"results a query (default: {TOP})")
    parser.add_argument("--exact", action="store_true", help="compare with every row of the index")
    parser.add_argument(
        "--duplicates",
        type=float,
        metavar="COSINE",
        help="instead of a query: pairs that are at least so similar, as 0.98; needs no --model",
    )
    add_threshold(parser)
    parser.add_argument("--json", action="store_true", help="a JSON object for each result")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints the rows of the index that are closest to each query."""
    from clapjax.inference.index import Index

    if args.top is not None and args.top < 1:
        raise ValueError(f"--top must be positive, not {args.top}")
    asked = [*args.query, *args.audio]
    if args.duplicates is not None:
        if asked or args.plus or args.minus or args.threshold or args.top is not None:
            raise ValueError("--duplicates is instead of a query, with its --top and --threshold")
        return print_duplicates(args, Index(args.index))
    if not asked:
        raise ValueError("nothing to look for; name a QUERY, --audio or --duplicates")
    if args.model is None:
        raise ValueError("--model is needed, the one that made the index")
    index = Index(args.index)
    model = load_for(args, index)
    least, kind = -np.inf, args.kind
    if args.threshold:
        least = read_threshold(args.threshold, model)["threshold"]
        kind = kind or "audio"  # whether a sound is there; texts are nearer to one another
    found = index.search(make_queries(args, model), args.top or TOP, kind, args.exact)
    for query, hits in zip(asked, found, strict=True):
        kept = [hit for hit in hits if hit.score >= least]
        if not kept:
            nearest = f"the nearest has {hits[0].score:.4f}"
            complain("search", f"{query}: nothing reaches {least:.4f}; {nearest}")
        if len(asked) > 1 and not args.json:
            print(f"{query}:")
        for hit in kept:
            as_json = {"query": query} | told(hit)
            line = f"{hit.score:.4f}  {place(hit)}"
            print(json.dumps(as_json, ensure_ascii=False) if args.json else line)
    return 0


def load_for(args: argparse.Namespace, index):
    """The model that made the index: with the towers that the queries need, or that must show it.

    Raises:
      ValueError: it is another one.
    """
    from clapjax.inference.store import told_fingerprints

    # Where the model's file tells what it is, its weights need not; a tokenizer changes what it is.
    told = {} if args.tokenizer else told_fingerprints(args.model)
    index.check_fingerprints(told)
    silent = index.fingerprints.keys() - told.keys()
    needed = set(silent)
    if args.audio:
        needed.add("audio")
    if args.query or args.plus or args.minus:
        needed.add("text")
    both = len(needed) > 1 or args.threshold  # results are of both towers
    model = load_clap(args, "both" if both else needed.pop())
    if silent:
        index.check(model)
    return model


def make_queries(args: argparse.Namespace, model) -> np.ndarray:
    """(Q, D) of the words, then of the sounds, each with what it is also, or not, to be like."""
    from clapjax.inference.index import combine

    queries = [model.embed_text(args.query)] if args.query else []
    if args.audio:
        queries.append(model.embed_audio(args.audio))
    queries = np.concatenate(queries)
    more = [weighted(item, 1) for item in args.plus] + [weighted(item, -1) for item in args.minus]
    if not more:
        return queries
    vectors = model.embed_text([text for text, _ in more])
    weights = [1.0] + [weight for _, weight in more]
    return np.stack([combine(np.stack([query, *vectors]), weights) for query in queries])


def weighted(item: str, sign: int) -> tuple[str, float]:
    """(text, weight) of "thunder:0.5", or of "thunder" alone."""
    text, _, weight = item.rpartition(":")
    try:
        weight = float(weight) if text else 1.0
    except ValueError:  # a colon in the text
        text, weight = "", 1.0
    if not math.isfinite(weight):
        name = "plus" if sign > 0 else "minus"
        raise ValueError(f"--{name} {item}: its weight must be a finite number")
    return text or item, sign * weight


def print_duplicates(args: argparse.Namespace, index) -> int:
    """Prints each pair, the earlier row first."""
    count = 0
    for first, second in index.duplicates(args.duplicates, args.kind or "audio"):
        count += 1
        if args.json:
            pair = {"score": first.score, "first": told(second), "second": told(first)}
            for hit in (pair["first"], pair["second"]):
                del hit["score"]
            print(json.dumps(pair, ensure_ascii=False))
        else:
            print(f"{first.score:.4f}  {place(second)}  {place(first)}")
    if not count:
        complain("search", f"no two are at least {args.duplicates} alike")
    return 0


def told(hit) -> dict:
    """A hit as JSON has it: with its times where it is of a window."""
    found = {"score": hit.score, "kind": hit.kind, "name": hit.name}
    return found if hit.start is None else found | {"start": hit.start, "end": hit.end}


def place(hit) -> str:
    """A hit in words: its name, and its seconds where it is of a window."""
    name = in_line(hit.name)
    return name if hit.start is None else f"{name}  {hit.start:.1f}-{hit.end:.1f} s"
