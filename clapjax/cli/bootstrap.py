"""`clapjax bootstrap`: captions from audio and tags, and what a CLAP model learns of them."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from clapjax.cli.decoding import probability

EXAMPLE = "clapjax bootstrap --workdir bootstrap"
CONFIG = "configs/bootstrap.py"
GUIDED = {"b": "none", "c": "tags"}  # models, and what guided the captions that they learn from
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
    """Runs one group of commands after the other; the same again goes on where it ended."""
    from clapjax.cli.side_by_side import default_jobs, run_all
    from clapjax.data.paths import need_local

    root = need_local(args.workdir, "what `clapjax bootstrap` makes")
    jobs = default_jobs() if args.jobs is None else args.jobs
    if jobs < 1:
        raise ValueError(f"--jobs must be positive, not {jobs}")
    for group in commands(args.config, root, args.min_agreement, overrides):
        if status := run_all(group, jobs):
            return status
    return 0


def commands(
    config: str, root: Path, min_agreement: float, overrides: list[str]
) -> Iterator[dict[str, list[str]]]:
    """What is done, in groups of command lines of `clapjax` that do not need one another."""
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
        yield {part: ["records", "build", *where, *overrides]}
    yield {
        "captioner": train("captioner", "captioner", "captioned"),
        "a": train("a", "clap", "captioned"),
    }

    # --- captions for the rest, and a tagger of its tags ------------------------------------------
    tables, learned = {}, {"e": place["rest"]}
    group = {"tagger": train("tagger", "tagger", "rest")}
    for model, guidance in GUIDED.items():
        how = ["--model", place["captioner"], "--guidance", guidance, "--clap", place["a"]]
        how += ["--out", str(root / "captions" / model)]
        group[f"captions/{model}"] = ["captions", "generate", f"{place['rest']}:train", *how]
    yield group
    for model in GUIDED:
        tables[model] = sorted(map(str, (root / "captions" / model).glob("*.jsonl")))
    tables["d"] = [str(root / "captions" / "d.jsonl")]
    choose = ["--input", str(root / "captions" / "c"), "--output", *tables["d"]]
    yield {"filter": ["captions", "filter", *choose, "--min_agreement", str(min_agreement)]}
    for model, files in tables.items():
        learned[model] = str(root / "records" / model)
        told = f"{learned[model]}.all"  # clips without a caption of the table keep the true ones
        how = ["--captions", *files, "--replace", "--apart"]
        yield {"annotate": ["records", "annotate", told, place["rest"], *how]}
        where = ["--where", "provenance=captioner", "split=train"]
        yield {"filter": ["records", "filter", learned[model], told, *where]}

    # --- CLAP on both, and what all are worth -----------------------------------------------------
    yield {
        model: train(model, "clap", "captioned", f"--config.data.mixture=('{records}={SHARE}',)")
        for model, records in sorted(learned.items())
    }
    models = [f"{name}={place[name]}" for name in ("captioner", *"abcde")]
    judged = ["--config.evaluation.guidance=('none', 'tags', 'order')"]
    judged.append(f"--config.evaluation.tagger={place['tagger']}")
    where = ["--benchmark", f"held_out={place['captioned']}", "--out", str(root)]
    yield {"eval": ["eval", "--model", *models, *where, *judged]}


def _group(override: str) -> str:
    """ "loss" of "--config.loss.kind=sigmoid"."""
    return override.removeprefix("--config.").partition(".")[0]


def _part(config: str, part: str) -> str:
    """FILE:DATA to FILE:DATA-PART."""
    file, _, data = config.partition(":")
    return f"{file}:{data}-{part}" if data else f"{file}:{part}"
