"""`clapjax report`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

EXAMPLE = r"""clapjax report results other_results --out report.html
         clapjax report --seeds temporal=run1,run2,run3 control=run4,run5,run6"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """R [R ...] [--out FILE] [--markdown], or --seeds NAME=R,R,R [...]."""
    parser.add_argument("results", nargs="*", metavar="R", help="folders of `clapjax eval`")
    parser.add_argument("--out", metavar="FILE", help="the page; default: report.html in the first")
    parser.add_argument("--note", default="", metavar="TEXT", help="what the page says first")
    parser.add_argument(
        "--markdown", action="store_true", help="print Markdown tables, and write no page"
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        metavar="NAME=R,R",
        help="print means and deviations over folders of runs that differ in their seed; where a "
        "folder holds several models, of the one called NAME",
    )


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Writes a page with all results, or prints them as tables."""
    from clapjax.data.paths import as_path
    from clapjax.evaluation.text import comparison, markdown, over_seeds

    if args.seeds:
        if args.results or args.out:
            raise ValueError("--seeds prints a table of its own; ask for the page without it")
        print(over_seeds(find_seeds(args.seeds)), end="")
        return 0
    if not args.results:
        raise ValueError("nothing to report; name folders of `clapjax eval`, or --seeds NAME=R,R")
    if args.markdown:
        found = [result for _, result in _read(args.results)]
        print(markdown(found) + comparison(found), end="")
        return 0
    out = as_path(args.out or as_path(args.results[0]) / "report.html")
    write_page(args.results, out, args.note)
    print(f"wrote {out}")
    return 0


def find_seeds(given: Sequence[str]) -> dict[str, list]:
    """{name: the results of each run} of NAME=R,R,R.

    Raises:
      ValueError: another form, a folder or a name twice, or a folder without results.
    """
    from clapjax.data.paths import same_place
    from clapjax.evaluation.result import read_results

    runs: dict[str, list] = {}
    for item in given:
        name, equals, folders = item.partition("=")
        paths = [path for path in folders.split(",") if path]
        if not (name and equals and paths) or name in runs:
            raise ValueError(f"--seeds {item}: write NAME=R,R,R, each name once")
        if len(set(map(same_place, paths))) < len(paths):
            raise ValueError(f"--seeds {item}: a folder is named twice")
        runs[name] = [read_results(path) for path in paths]
    return runs


def write_page(folders: Sequence, path: Path, note: str = "") -> None:
    """Writes the page of the results in some folders, a note for its reader first.

    Raises:
      ValueError: a folder without results, or with damaged ones.
    """
    from clapjax.evaluation.report import write_report
    from clapjax.training.log_files import read_log

    found = _read(folders)
    sources = {result.model: result.provenance.get("source") for _, result in found}
    curves = {model: read_log(source) for model, source in sources.items() if source}
    write_report(path, found, {model: rows for model, rows in curves.items() if rows}, note)


def _read(folders: Sequence) -> list[tuple]:
    """(folder, result) of all results there, whose names tell them apart."""
    from clapjax.data.paths import as_path
    from clapjax.evaluation.result import read_results, tell_apart

    found = [(as_path(folder), result) for folder in folders for result in read_results(folder)]
    results = tell_apart([result for _, result in found])
    return [(folder, result) for (folder, _), result in zip(found, results, strict=True)]
