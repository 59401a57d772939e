"""`clapjax demo`: synthesise, train, evaluate and report on the embedded sounds."""

import argparse
import dataclasses
import time
from pathlib import Path

from clapjax.cli.config import load_config

EXAMPLE = "clapjax demo --workdir demo"
CONFIG = "configs/demo.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--workdir W."""
    parser.add_argument(
        "--workdir", default="clapjax_demo", help="folder for records, runs and the report"
    )


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Trains the temporal model and the same one without the temporal loss, and compares them."""
    from clapjax.cli.evaluate import evaluate_workdir
    from clapjax.cli.records import build
    from clapjax.cli.train import train_and_evaluate

    start = time.perf_counter()
    root = Path(args.workdir)
    temporal = load_config(CONFIG, [])
    loss = dataclasses.replace(temporal.loss, temporal_weight=0.0)
    plain = dataclasses.replace(temporal, loss=loss)
    data_dir = str(root / "records")
    print(f"demo in {root.resolve()}", flush=True)
    build(temporal, data_dir)

    runs = {
        f"temporal (lambda {temporal.loss.temporal_weight:g})": (temporal, root / "temporal"),
        "no order negatives (lambda 0)": (plain, root / "plain"),
    }
    rows = []
    for name, (experiment, workdir) in reversed(runs.items()):
        print(f"--- {name}", flush=True)
        scores = train_and_evaluate(experiment, data_dir, str(workdir))
        if not scores:  # trained by an earlier call
            scores = evaluate_workdir(experiment, data_dir, str(workdir))
        rows.insert(0, comparison_row(name, scores))
    evaluate_workdir(temporal, data_dir, str(root / "temporal"), comparison=rows)
    print_table(rows)
    minutes = (time.perf_counter() - start) / 60
    print(f"{minutes:.1f} minutes; results: {root / 'temporal' / 'results.json'}")
    print(f"open the report: {(root / 'temporal' / 'report.html').resolve()}")
    return 0


def comparison_row(name: str, results: dict) -> dict:
    """One row of the table that sets the models side by side; fractions."""
    return {
        "model": name,
        "T-Classify text-to-audio": results["t_classify"]["text_to_audio"],
        "T-Classify audio-to-text": results["t_classify"]["audio_to_text"],
        "zero-shot accuracy": results["zero_shot"]["accuracy"],
        "retrieval text-to-audio R@1": results["retrieval"]["text_to_audio"]["R@1"],
    }


def print_table(rows: list[dict]) -> None:
    """Prints rows of fractions as a table of per cents."""
    columns = list(rows[0])
    cells = [columns] + [
        [row[c] if isinstance(row[c], str) else f"{100 * row[c]:.1f} %" for c in columns]
        for row in rows
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
