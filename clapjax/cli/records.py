"""`clapjax records build|info|check|overlap|merge|filter|annotate`."""

import argparse
import json
import sys
from collections import Counter

from clapjax.cli.config import (
    add_config_argument,
    add_model_argument,
    check_given,
    given_fields,
    load_config,
    with_model,
)
from clapjax.cli.show import progress

EXAMPLE = "clapjax records build --config configs/demo.py --data_dir data/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """build --config F --data_dir D; info|check D; overlap A B; merge|filter|annotate OUT IN."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, text: str, example: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=text, epilog=f"example: {example}")

    build = add("build", "make a data set; the same command again goes on", EXAMPLE)
    add_config_argument(build)
    add_model_argument(build, "for a run that starts from a model, at the rate that it hears")
    build.add_argument("--data_dir", required=True, help="folder of the data set, or gs://...")
    build.add_argument("--processes", type=int, help="that make samples; default: one a core")
    build.add_argument("--runner", default="", help="of Apache Beam, instead of processes")
    build.add_argument("--beam_options", default="", help='Beam\'s flags: "--project=p ..."')
    build.add_argument(
        "--restart", action="store_true", help="discard what --data_dir holds, finished or not"
    )
    info = add("info", "counts, hours, captions and labels", "clapjax records info data/demo")
    info.add_argument("data_dir", help="folder of the data set")
    info.add_argument("--html", metavar="FILE", help="write a page with players as well")
    check = add("check", "read every record, list what is wrong", "clapjax records check data/demo")
    check.add_argument("data_dir", help="folder of the data set")
    overlap = add(
        "overlap",
        "list the audio that is in a training and in a test set",
        "clapjax records overlap data/wavcaps:train data/clotho:test",
    )
    overlap.add_argument("train", help="DIR (its splits for training) or DIR:SPLIT")
    overlap.add_argument("test", help="DIR (its held-out splits) or DIR:SPLIT")
    merge = add("merge", "join data sets", "clapjax records merge data/all data/clotho data/macs")
    merge.add_argument("data_dir", metavar="OUT", help="the new data set")
    merge.add_argument("inputs", metavar="IN", nargs="+", help="data sets of one sample rate")
    merge.add_argument("--prefix", action="store_true", help="make ids unique: FOLDER/ID")
    choose = add(
        "filter",
        "copy the records that fulfil criteria",
        "clapjax records filter data/short data/all --where max_seconds=10 label=dog,rain",
    )
    choose.add_argument("data_dir", metavar="OUT", help="the new data set")
    choose.add_argument("source", metavar="IN", help="the data set to choose from")
    choose.add_argument(
        "--where",
        metavar="NAME=VALUE",
        nargs="+",
        required=True,
        help="min_seconds, max_seconds; split, provenance, label: one of a,b,c; labels, negatives: "
        "yes or no",
    )
    tell = add(
        "annotate",
        "join tables of captions and negatives to records",
        "clapjax records annotate data/clotho_negatives data/clotho --captions negatives.jsonl",
    )
    tell.add_argument("data_dir", metavar="OUT", help="the new data set")
    tell.add_argument("source", metavar="IN", help="the data set whose records are told anew")
    tell.add_argument(
        "--captions",
        metavar="FILE",
        nargs="+",
        required=True,
        help="of `clapjax captions` (of `generate` its folder), or any table with id or file, "
        "captions, negative_captions",
    )
    tell.add_argument("--replace", action="store_true", help="in place of the texts there are")
    tell.add_argument(
        "--apart", action="store_true", help="write texts alone; the audio is read from IN"
    )
    for parser in (check, merge, choose, tell):
        parser.add_argument(
            "--processes", type=int, help="default: one a core, or one where there is little to do"
        )


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Runs one of them."""
    if args.action == "info":
        return info(args.data_dir, args.html)
    if args.action == "check":
        from clapjax.data.checking import check
        from clapjax.data.edits.common import processes_for

        some = processes_for([args.data_dir]) if args.processes is None else args.processes
        problems = check(args.data_dir, some, progress)
        print("\n".join(problems) or f"{args.data_dir}: sound")
        return 1 if problems else 0
    if args.action == "overlap":
        return report_overlap(args.train, args.test)
    if args.action in ("merge", "filter", "annotate"):
        return edit(args)
    from clapjax.starting import resolve

    overrides = with_model(overrides, args.model)
    given, experiment = given_fields(overrides), load_config(args.config, overrides)
    check_given({field for field in given if field.startswith("synthesis.")}, experiment)
    if "init_from" in given:  # else the config knows of what rate the model's records are
        experiment, _ = resolve(experiment, given)
    return build(
        experiment,
        args.data_dir,
        processes=args.processes,
        runner=args.runner,
        beam_options=args.beam_options,
        restart=args.restart,
    )


def edit(args: argparse.Namespace) -> int:
    """Makes a data set of records out of others and says what is in it; so it does given again."""
    from clapjax.captions.tables import tables_of
    from clapjax.data import paths, records
    from clapjax.data.edits.annotate import annotate
    from clapjax.data.edits.common import processes_for
    from clapjax.data.edits.filter import parse_where, select
    from clapjax.data.edits.merge import merge

    inputs = args.inputs if args.action == "merge" else [args.source]
    processes = processes_for(inputs) if args.processes is None else args.processes
    how = {"processes": processes, "progress": progress}
    there = (paths.as_path(args.data_dir) / records.BUILD_FILE).exists()
    made = f"{args.data_dir}: {'already made: ' if there else ''}"
    if args.action == "annotate":
        kind = {"replace": args.replace, "apart": args.apart}
        tables = [table for name in args.captions for table in tables_of(name)]
        report = annotate(args.data_dir, args.source, tables, **kind, **how)
        print(f"{made}{_listed(report.counts)}; the tokenizer is that of {args.source}")
        _show(report)
        return 0
    if args.action == "merge":
        counts = merge(args.data_dir, inputs, prefix=args.prefix, **how)
    else:
        counts = select(args.data_dir, args.source, parse_where(args.where), **how)
    print(f"{made}{_listed(counts)}")
    return 0


def _show(report) -> None:
    matched = report.rows - report.unmatched - report.ambiguous
    print(
        f"rows: {report.rows}, {matched} joined, {report.unmatched} that match no record, "
        f"{report.ambiguous} ambiguous; {report.without} records without a row"
    )
    print(
        f"captions: {report.captions_added} added, {report.captions_removed} removed; negatives: "
        f"{report.negatives_added} added, {report.negatives_removed} removed, {report.equal} left "
        "out since they are captions of their record"
    )
    shares = (f"{report.negatives[name]} of {n} {name}" for name, n in report.counts.items())
    print(f"records with negatives: {', '.join(shares)}")
    for line in report.listed:
        print(line, file=sys.stderr)
    if (hidden := report.unmatched + report.ambiguous - len(report.listed)) > 0:
        print(f"and {hidden} more rows that are not joined", file=sys.stderr)


def info(data_dir: str, html: str | None) -> int:
    """Prints the figures of a data set as JSON, and writes its page."""
    from clapjax.captions.balance import connectives_of
    from clapjax.data.records import open_builder
    from clapjax.data.statistics import describe
    from clapjax.evaluation.records_page import Chooser, write_page
    from clapjax.planning.reading import CORES, build_hours

    def connectives(caption: str) -> Counter:
        return Counter(link.strip(" ,") for link in connectives_of(caption).elements())

    splits = open_builder(data_dir).info.splits
    chooser = Chooser({split: info.num_examples for split, info in splits.items()})
    described = describe(data_dir, connectives, chooser.look)
    for one in described["splits"].values():
        one["build_hours"] = {
            f"{count} machine{'s' * (count > 1)} of {CORES} cores": float(
                f"{build_hours(one['hours'], one['audio'], count):.3g}"
            )
            for count in (1, 100)
        }
    print(json.dumps(described, indent=2))
    if html:
        write_page(html, described, chooser.chosen)
        print(f"wrote {html}", file=sys.stderr)
    return 0


def report_overlap(train: str, test: str) -> int:
    """Prints each recording that is in both, one JSON object a line; 1 where there is any."""
    import dataclasses

    from clapjax.data.overlap import find_duplicates, find_splits, fingerprint_records, hold_out
    from clapjax.data.records import split_size

    held_out = hold_out(fingerprint_records(find_splits(test, "held_out")))
    splits = find_splits(train, "train")
    count, found = sum(split_size(*split) for split in splits), set()
    prints = progress(fingerprint_records(splits), count, "comparing")
    for twin in find_duplicates(prints, held_out):
        found.add(twin.train)
        print(json.dumps(dataclasses.asdict(twin)))
    print(f"{len(found)} of {count} recordings are in both")
    return 1 if found else 0


def build(
    experiment,
    data_dir: str,
    *,
    processes: int | None = None,
    runner: str = "",
    beam_options: str = "",
    restart: bool = False,
) -> int:
    """Builds the records of an experiment and says what came of it."""
    from clapjax.data.build.builder import build_records
    from clapjax.data.build.folder import MOST_SHOWN, REJECTED_FILE
    from clapjax.data.build.processes import cores

    check_clip_seconds(experiment)
    processes = cores() if processes is None and not runner else processes
    if processes is not None and processes < 1:
        raise ValueError(f"--processes must be at least 1, not {processes}")
    if runner and processes is not None:
        raise ValueError("either --processes or --runner; Beam has flags of its own for workers")
    if beam_options and not runner:
        raise ValueError("--beam_options goes with --runner")
    result = build_records(
        experiment.source,
        experiment.synthesis,
        experiment.data,
        seed=experiment.seed,
        sample_rate=experiment.model.audio.sample_rate,
        data_dir=data_dir,
        audio=experiment.model.audio,
        progress=progress,
        processes=processes or 0,
        runner=runner,
        beam_options=beam_options,
        restart=restart,
    )
    for item in result.rejected[:MOST_SHOWN]:
        print(f"left out: {item.source}: {item.reason}", file=sys.stderr)
    if (more := len(result.rejected) - MOST_SHOWN) > 0:
        print(f"left out: {more} more", file=sys.stderr)
    for file, count in result.excluded.items():
        print(f"{file}: names {count} training clips, which are left out", file=sys.stderr)
    done = "already built" if result.reused else "built"
    print(f"{data_dir}: {done}: {_listed(result.counts)}")
    if result.rejected:
        print(f"{len(result.rejected)} recordings left out, see {data_dir}/{REJECTED_FILE}")
    return 0


def check_clip_seconds(experiment) -> None:
    """Makes sure that the model hears mixtures whole: cut, they are not what their caption tells.

    Raises:
      ValueError: mixtures may be longer than its clips.
    """
    audio, data = experiment.model.audio, experiment.data
    heard = audio.clip_samples / audio.sample_rate
    if data.long_clips == "whole":
        heard = max(heard, data.longest_seconds)
    longest = experiment.synthesis.clip_seconds
    if experiment.source.mixes_up() and longest > heard:
        raise ValueError(
            f"synthesis.clip_seconds is {longest:g}, but the model hears {heard:g} s "
            "(model.audio.clip_samples): mixtures would be cut, and their captions false; set "
            f"--config.synthesis.clip_seconds={heard:g}"
        )


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {split}" for split, count in counts.items())
