"""`clapjax bootstrap`: captions from audio and tags, and what a CLAP model learns of them."""

import argparse
import shlex
from collections.abc import Iterator
from pathlib import Path

EXAMPLE = "clapjax bootstrap --workdir bootstrap"
CONFIG = "configs/bootstrap.py"
GUIDED = {"b": "none", "c": "tags"}  # models, and what guided the captions that they learn from
FILTER = ("--min_agreement", "1")  # of d: captions that name all tags
SHARE = 0.75  # of a batch that is not of the captioned part


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--config FILE[:DATA] --workdir W."""
    parser.add_argument(
        "--config",
        default=CONFIG,
        metavar="FILE[:DATA]",
        help=f"file of the parts' configs (default: {CONFIG}); --config.FIELD=VALUE goes to all",
    )
    parser.add_argument(
        "--workdir", default="clapjax_bootstrap", help="folder for records, runs and the report"
    )


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Runs one command after the other; the same again goes on where it ended."""
    from clapjax.cli.main import main

    for words in commands(args.config, Path(args.workdir), overrides):
        print(f"$ clapjax {shlex.join(words)}", flush=True)
        if status := main(words):
            return status
    return 0


def commands(config: str, root: Path, overrides: list[str]) -> Iterator[list[str]]:
    """What is done, one command line of `clapjax` after the other."""
    place = {
        name: str(root / name) for name in ("captioned", "rest", "captioner", "tagger", *"abcde")
    }

    def train(model: str, part: str, records: str, *more: str) -> list[str]:
        where = ["--data_dir", place[records], "--workdir", place[model]]
        return ["train", "--config", _part(config, part), *where, *overrides, *more]

    # --- records, a captioner and a first CLAP model of the captioned part ----------------------
    for part in ("captioned", "rest"):
        where = ["--config", _part(config, part), "--data_dir", place[part]]
        yield ["records", "build", *where, *overrides]
    yield train("captioner", "captioner", "captioned")
    yield train("tagger", "tagger", "rest")
    yield train("a", "clap", "captioned")

    # --- captions for the rest --------------------------------------------------------------------
    told = {model: root / "captions" / model for model in "bc"}
    for model, guidance in GUIDED.items():
        how = ["--model", place["captioner"], "--guidance", guidance, "--clap", place["a"]]
        yield ["captions", "generate", f"{place['rest']}:train", *how, "--out", str(told[model])]
    chosen = str(root / "captions" / "d.jsonl")
    yield ["captions", "filter", "--input", str(told["c"]), "--output", chosen, *FILTER]
    tables = {model: sorted(map(str, out.glob("*.jsonl"))) for model, out in told.items()}
    further = {"e": place["rest"]}
    for model, files in (tables | {"d": [chosen]}).items():
        texts = further[model] = str(root / "records" / model)
        how = ["--captions", *files, "--replace", "--apart"]
        yield ["records", "annotate", texts, place["rest"], *how]
    # What was not chosen still has its true captions.
    further["d"] += "_alone"
    kept = ["--where", "provenance=captioner", "split=train"]
    yield ["records", "filter", further["d"], further["d"].removesuffix("_alone"), *kept]

    # --- CLAP on both, and what all are worth -----------------------------------------------------
    for model, records in sorted(further.items()):
        yield train(model, "clap", "captioned", f"--config.data.mixture=('{records}={SHARE}',)")
    models = [f"{name}={place[name]}" for name in ("captioner", *"abcde")]
    judged = ["--config.evaluation.guidance=('none', 'tags', 'order')"]
    judged.append(f"--config.evaluation.tagger={place['tagger']}")
    where = ["--benchmark", f"held_out={place['captioned']}", "--out", str(root)]
    yield ["eval", "--model", *models, *where, *judged]


def _part(config: str, part: str) -> str:
    """FILE:DATA to FILE:DATA-PART."""
    file, _, data = config.partition(":")
    return f"{file}:{data}-{part}" if data else f"{file}:{part}"
