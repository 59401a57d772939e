"""`clapjax bootstrap`: captions from audio and tags, and what a CLAP model learns of them."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from clapjax.cli.decoding import probability

EXAMPLE = "clapjax bootstrap --workdir bootstrap"
CONFIG = "configs/bootstrap.py"
GUIDED = {"b": "none", "c": "tags"}  # models, and what guided the captions that they learn from
NOTE = (
    "Captions from audio and tags (BLAT). CLAP that learned from (a) the small captioned part "
    "alone; (b) and captions that the captioner wrote of the rest without guidance; (c) and those "
    "written under the guidance of its tags; (d) and of those the ones that name all tags; (e) and "
    "the true captions of the rest."
)
SHARE = 0.75  # of a batch that is not of the captioned part
# Groups of fields that one part alone reads, to which `clapjax train` holds.
READ_BY = {"loss": "clap", "captioning": "captioner", "tagging": "tagger"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--config FILE[:DATA] --workdir W --jobs N."""
    parser.add_argument(
        "--config",
        default=CONFIG,
        metavar="FILE[:DATA]",
        help=f"file of the parts' configs (default: {CONFIG}); --config.FIELD=VALUE goes to all "
        "that read it",
    )
    parser.add_argument(
        "--workdir", default="clapjax_bootstrap", help="folder for records, runs and the report"
    )
    parser.add_argument(
        "--min_agreement",
        type=probability,
        default=1.0,
        metavar="Y",
        help="share of the tags that a caption of (d) names, at least (default: 1)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="trainings at once, which share the cores (default: 2 on a CPU, 1 on a chip)",
    )


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Runs the commands, each when all that it needs is there; again it goes on where it ended."""
    from clapjax.cli.side_by_side import default_jobs, run_all
    from clapjax.data.paths import need_local

    root = need_local(args.workdir, "what `clapjax bootstrap` makes")
    jobs = default_jobs() if args.jobs is None else args.jobs
    if jobs < 1:
        raise ValueError(f"--jobs must be positive, not {jobs}")
    _bind(root, args.min_agreement)
    made = list(commands(args.config, root, args.min_agreement, overrides))
    needs = {one.name: one.needs for one in made}
    status = run_all({one.name: one.words for one in made}, jobs, needs)
    listen = ["records", "info", str(root / "records" / "c"), "--html", str(root / "captions.html")]
    last = {"eval": judge(root), "report": ["report", str(root), "--note", NOTE]}
    return status or run_all(last | {"captions": listen})


def _bind(root: Path, min_agreement: float) -> None:
    """Raises ValueError where (d) was begun with another agreement, whose captions would go."""
    from clapjax.data.paths import write_text
    from clapjax.plain import read_json

    file = root / "bootstrap.json"
    if file.exists() and (was := read_json(file, dict).get("min_agreement")) != min_agreement:
        said = f"was begun with --min_agreement {was}, not {min_agreement}"
        raise ValueError(f"{root}: {said}; say that, or use another --workdir")
    root.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps({"min_agreement": min_agreement}) + "\n")


class Command(NamedTuple):
    """One of `clapjax`, by the words behind that."""

    name: str
    words: list[str]
    needs: tuple[str, ...] = ()  # the names of others


def commands(
    config: str, root: Path, min_agreement: float, overrides: list[str]
) -> Iterator[Command]:
    """What makes the models; what is earlier is begun earlier."""
    place = {
        name: str(root / name) for name in ("captioned", "rest", "captioner", "tagger", *"abcde")
    }

    def train(model: str, part: str, records: str, *more: str) -> list[str]:
        where = ["--data_dir", place[records], "--workdir", place[model]]
        read = [item for item in overrides if READ_BY.get(_group(item), part) == part]
        return ["train", "--config", _part(config, part), *where, *read, *more]

    # --- records, a captioner and a first CLAP model of the captioned part ----------------------
    for part in ("captioned", "rest"):
        where = ["--config", _part(config, part), "--data_dir", place[part]]
        yield Command(f"records/{part}", ["records", "build", *where, *overrides])
    yield Command("captioner", train("captioner", "captioner", "captioned"), ("records/captioned",))
    yield Command("a", train("a", "clap", "captioned"), ("records/captioned",))

    # --- captions for the rest, and a tagger of its tags ------------------------------------------
    tables = {model: str(root / "captions" / model) for model in GUIDED}
    for model, guidance in GUIDED.items():
        how = ["--model", place["captioner"], "--guidance", guidance, "--clap", place["a"]]
        words = ["captions", "generate", f"{place['rest']}:train", *how, "--out", tables[model]]
        yield Command(f"captions/{model}", words, ("captioner", "a", "records/rest"))
    yield Command("tagger", train("tagger", "tagger", "rest"), ("records/rest",))
    tables["d"] = str(root / "captions" / "d.jsonl")
    choose = ["--input", tables["c"], "--output", tables["d"]]
    choose += ["--min_agreement", str(min_agreement)]
    yield Command("captions/d", ["captions", "filter", *choose], ("captions/c",))

    # --- CLAP on both -----------------------------------------------------------------------------
    def mixed(model: str, records: str, needs: str) -> Command:
        mixture = f"--config.data.mixture=('{records}={SHARE}',)"
        return Command(model, train(model, "clap", "captioned", mixture), (needs,))

    for model, table in tables.items():
        records = str(root / "records" / model)
        told = f"{records}.all"  # clips without a caption of the table keep the true ones
        how = ["--captions", table, "--replace", "--apart"]
        words = ["records", "annotate", told, place["rest"], *how]
        yield Command(f"records/{model}.all", words, (f"captions/{model}",))
        words = ["records", "filter", records, told]
        words += ["--where", "provenance=captioner", "split=train"]
        yield Command(f"records/{model}", words, (f"records/{model}.all",))
        yield mixed(model, records, f"records/{model}")
    yield mixed("e", place["rest"], "records/rest")


def judge(root: Path) -> list[str]:
    """What all models are worth, as words behind `clapjax`."""
    models = [f"{name}={root / name}" for name in ("captioner", *"abcde")]
    judged = ["--config.evaluation.guidance=('none', 'tags', 'order')"]
    judged.append(f"--config.evaluation.tagger={root / 'tagger'}")
    where = ["--benchmark", f"held_out={root / 'captioned'}", "--out", str(root)]
    return ["eval", "--model", *models, *where, *judged]


def _group(override: str) -> str:
    """ "loss" of "--config.loss.kind=sigmoid"."""
    return override.removeprefix("--config.").partition(".")[0]


def _part(config: str, part: str) -> str:
    """FILE:DATA to FILE:DATA-PART."""
    file, _, data = config.partition(":")
    return f"{file}:{data}-{part}" if data else f"{file}:{part}"
