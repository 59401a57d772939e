"""`clapjax report`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

EXAMPLE = "clapjax report results other_results --out report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """R [R ...] [--out FILE] [--markdown]."""
    parser.add_argument("results", nargs="+", metavar="R", help="folders of `clapjax eval`")
    parser.add_argument("--out", metavar="FILE", help="the page; default: report.html in the first")
    parser.add_argument(
        "--markdown", action="store_true", help="print a Markdown table, and write no page"
    )


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Writes a page with all results, or prints them as a table."""
    from clapjax.evaluation.text import markdown

    if args.markdown:
        print(markdown([result for _, result in _read(args.results)]), end="")
        return 0
    out = Path(args.out or Path(args.results[0]) / "report.html")
    write_page(args.results, out)
    print(f"wrote {out}")
    return 0


def write_page(folders: Sequence, path: Path) -> None:
    """Writes the page of the results in some folders.

    Raises:
      ValueError: a folder without results, or with damaged ones.
    """
    from clapjax.evaluation.report import write_report
    from clapjax.training.log import read_log

    found = _read(folders)
    sources = {result.model: result.provenance.get("source") for _, result in found}
    curves = {model: read_log(source) for model, source in sources.items() if source}
    write_report(path, found, {model: rows for model, rows in curves.items() if rows})


def _read(folders: Sequence) -> list[tuple]:
    """(folder, result) of all results there, whose names tell them apart."""
    from clapjax.evaluation.result import read_results, tell_apart

    found = [(Path(folder), result) for folder in folders for result in read_results(folder)]
    results = tell_apart([result for _, result in found])
    return [(folder, result) for (folder, _), result in zip(found, results, strict=True)]
