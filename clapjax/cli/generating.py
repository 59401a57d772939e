"""`clapjax captions generate|filter`: a captioner's captions of records."""

import argparse
import os
from collections.abc import Sequence

from clapjax.cli.decoding import (
    add_decoding_arguments,
    add_threshold_argument,
    find_decoding,
    find_threshold,
    probability,
)
from clapjax.cli.inputs import load_kind
from clapjax.cli.show import complain, progress

GENERATE_EXAMPLE = (
    "clapjax captions generate data/demo:train --model runs/captioner --n 2 --clap runs/clap"
)
FILTER_EXAMPLE = (
    "clapjax captions filter --input data/demo.captions --output chosen.jsonl --min_score 0.3"
)
SHOWN = 20  # clips without captions that are listed


def add_parsers(actions) -> None:
    """generate D --model M; filter --input IN... --output OUT."""
    generate = actions.add_parser(
        "generate", help="of sounds, by a captioner", epilog=f"example: {GENERATE_EXAMPLE}"
    )
    generate.add_argument(
        "records", metavar="D", help="records: DIR (its splits for training) or DIR:SPLIT"
    )
    generate.add_argument("--model", required=True, help="workdir of a captioning run")
    generate.add_argument(
        "--out", metavar="FOLDER", help="of the tables, one a shard (default: DIR.captions)"
    )
    generate.add_argument(
        "--name", help="of the model in the captions' provenance (default: that of its folder)"
    )
    told = generate.add_mutually_exclusive_group()
    told.add_argument(
        "--guidance",
        choices=("none", "tags", "order"),
        default="tags",
        help="what a record tells of itself: its labels, or in what order its events sound as well "
        "(default: tags)",
    )
    told.add_argument(
        "--tagger", metavar="T", help="workdir of a tagging run that hears the tags instead"
    )
    add_threshold_argument(generate)
    add_decoding_arguments(generate)
    generate.add_argument(
        "--clap", metavar="MODEL", help="a CLAP model that says how well each caption fits"
    )
    generate.add_argument(
        "--batch_size", type=int, default=16, help="clips at once on each device (default: 16)"
    )
    several = generate.add_argument_group(
        "several processes", "each takes its part of the shards; TPU pods and SLURM need none"
    )
    several.add_argument("--num_processes", type=int, metavar="N", help="how many there are")
    several.add_argument("--process_id", type=int, metavar="I", help="which this is, from 0")
    choose = actions.add_parser(
        "filter",
        help="those of `generate` that fit, into one table; and what each threshold would keep",
        epilog=f"example: {FILTER_EXAMPLE}",
    )
    choose.add_argument(
        "--input", required=True, nargs="+", metavar="IN", help="its folder, or tables of it"
    )
    choose.add_argument(
        "--output", metavar="OUT.jsonl", help="JSON lines of the clips that keep a caption"
    )
    choose.add_argument("--min_score", type=float, metavar="X", help="cosine by --clap, at least")
    choose.add_argument(
        "--min_agreement",
        type=probability,
        metavar="Y",
        help="share of the tags that a caption names, at least",
    )


def generate(args: argparse.Namespace) -> int:
    """Writes the tables of this process's shards; status 1 where some clips have no caption."""
    from clapjax.data.paths import last_name
    from clapjax.inference import captions
    from clapjax.training import distributed

    threshold = find_threshold(args)
    index, processes = distributed.place(args.num_processes, args.process_id)
    out = args.out or captions.folder_beside(args.records)
    shards = captions.find_shards(args.records, out)
    own = shards[index::processes]
    models = captions.Models(
        load_kind("captioner", args.model, args.batch_size, "--model"),
        args.tagger and load_kind("tagger", args.tagger, args.batch_size, "--tagger"),
        args.clap and load_kind("clap", args.clap, args.batch_size, "--clap"),
    )
    name = last_name(args.model) if args.name is None else args.name
    wording = captions.Wording(
        provenance=f"captioner:{name}",
        decoding=find_decoding(args, models.captioner.settings.decoding),
        guidance=args.guidance,
        threshold=threshold,
        style=args.style,
        seed=args.seed,
        long=args.long,
    )
    captions.claim(out, captions.made_from(args.records, models, wording))
    left = [shard for shard in own if not shard.table.exists()]
    if len(left) < len(own):
        print(f"{out}: {len(own) - len(left)} of {len(own)} tables are finished", flush=True)
    if left:
        _write(left, models, wording)
    bare = _list_bare(own)
    _report(out, shards)
    return 1 if bare else 0


def _write(shards: Sequence, models, wording) -> None:
    """Writes tables, on all devices."""
    from clapjax.api import on_all_devices
    from clapjax.inference.captions import write_tables

    captioner, *others = models
    others = (model and on_all_devices(model) for model in others)
    spread = type(models)(on_all_devices(captioner, wording.decoding), *others)
    total = sum(len(shard.records) for shard in shards)
    for _ in progress(write_tables(shards, spread, wording), total, "captioning"):
        pass


def _list_bare(shards: Sequence) -> int:
    """The number of clips without a caption; says why."""
    from clapjax.captions.choosing import read_scored

    bare = 0
    for shard in shards:
        for row in read_scored([shard.table]):
            if not row["captions"]:
                bare += 1
                if bare <= SHOWN:
                    known = row.get("id") or "a record"
                    complain("captions", f"{shard.split}/{known}: {row.get('reason')}")
    if bare > SHOWN:
        complain("captions", f"and {bare - SHOWN} more clips without a caption")
    return bare


def _report(out: str | os.PathLike, shards: Sequence) -> None:
    """What came of it, where all tables are there."""
    from clapjax.captions.choosing import read_scored, report

    there = [shard.table for shard in shards if shard.table.exists()]
    if len(there) < len(shards):
        print(f"{out}: {len(there)} of {len(shards)} tables; other processes write the rest")
        return
    print(f"{out}: all tables are there, {len(there)} of {len(shards)}")
    print("\n".join(report(read_scored(there))))


def choose(args: argparse.Namespace) -> int:
    """Writes the captions that are kept, and says how many each threshold would keep."""
    from clapjax.captions.choosing import choose, read_scored, report
    from clapjax.captions.tables import tables_of
    from clapjax.data.paths import same_place
    from clapjax.data.tables import write_rows

    files = [file for name in args.input for file in tables_of(name)]
    asked = {"similarity": args.min_score, "agreement": args.min_agreement}
    least = {name: value for name, value in asked.items() if value is not None}
    if args.min_score is not None and not -1 <= args.min_score <= 1:
        raise ValueError(f"--min_score: a cosine is in -1 .. 1, not {args.min_score:g}")
    if args.output and same_place(args.output) in map(same_place, files):
        raise ValueError(f"--output {args.output} is one of --input: name another file")
    if least and not args.output:
        raise ValueError("name a table for what is kept: --output OUT.jsonl")
    print("\n".join(report(read_scored(files))))
    if not args.output:
        return 0
    clips = kept = 0

    def written():
        nonlocal clips, kept
        for row in choose(read_scored(files), least):
            clips, kept = clips + 1, kept + len(row["captions"])
            yield row
        if not kept:
            raise ValueError(f"no caption is kept, and {args.output} not written; ask for less")

    write_rows(args.output, written())
    print(f"{args.output}: {kept} captions of {clips} clips")
    return 0
