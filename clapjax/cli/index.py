"""`clapjax index`."""

import argparse
from pathlib import Path

from clapjax.cli.show import complain

EXAMPLE = "clapjax index vectors/ --out library.index"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """INPUT --out I, and whether it is exact."""
    parser.add_argument("input", metavar="INPUT", help="file or folder that `clapjax embed` wrote")
    parser.add_argument("--out", required=True, help="the folder to search in")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--exact", action="store_true", help="searches compare with every row")
    how.add_argument(
        "--approximate",
        action="store_true",
        help="searches read a few lists of rows, also of a small library (default: from 50,000 "
        "rows on, where faiss is installed)",
    )


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Makes the folder, and says what it finds."""
    from clapjax.inference.index import APPROXIMATE_FROM, Index
    from clapjax.inference.lists import available
    from clapjax.inference.parts import LOCK

    approximate = args.approximate or (False if args.exact else None)
    index = Index.build(args.input, args.out, approximate)
    for kind, about in index.about.items():
        how = "compared with one by one"
        if "lists" in about:
            found = ", ".join(f"{100 * x:.1f} % for {k}" for k, x in about["recall"].items())
            how = f"{about['probe']} of {about['lists']} lists read; recall@10 {found}"
        elif about["rows"] >= APPROXIMATE_FROM and approximate is None and not available():
            how += "; pip install 'clapjax[index]' for an approximate index"
        print(f"{args.out}: {about['rows']} of {kind}, {how}")
    if (Path(args.input) / LOCK).exists():
        told = "`clapjax embed` has not come to its end there; the same command again goes on"
        complain("index", f"{args.input}: {told}")
    return 0
