"""`clapjax demo`: synthesise, train, evaluate and report on the embedded sounds."""

import argparse
import dataclasses
import time

from clapjax.cli.config import load_config

EXAMPLE = "clapjax demo --workdir demo"
CONFIG = "configs/demo.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--workdir W."""
    parser.add_argument(
        "--workdir", default="clapjax_demo", help="folder for records, runs and the report"
    )


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Trains a model with order pairs and the temporal loss, and one without, and compares them."""
    from clapjax.cli.evaluate import evaluate_models
    from clapjax.cli.records import build
    from clapjax.cli.train import train_and_evaluate
    from clapjax.data.paths import need_local

    start = time.perf_counter()
    root = need_local(args.workdir, "the demo")
    temporal = load_config(CONFIG, [])
    alone = dataclasses.replace(temporal.loss, temporal_weight=0.0, order_pairs=0)
    runs = {"temporal": temporal, "control": dataclasses.replace(temporal, loss=alone)}
    data_dir = str(root / "records")
    print(f"demo in {root.resolve()}", flush=True)
    build(temporal, data_dir)
    for name, experiment in runs.items():
        loss = experiment.loss
        print(
            f"--- {name} (lambda {loss.temporal_weight:g}, order pairs {loss.order_pairs})",
            flush=True,
        )
        train_and_evaluate(experiment, data_dir, str(root / name))
    models = {name: str(root / name) for name in runs}
    benchmarks = [("demo", data_dir, temporal.evaluation)]
    results = evaluate_models(models, benchmarks, root, command=args.command)
    print(comparison(results), end="")
    minutes = (time.perf_counter() - start) / 60
    print(f"{minutes:.1f} minutes; results: {root / 'results.json'}")
    print(f"open the report: {(root / 'report.html').resolve()}")
    return 0


def comparison(results: list) -> str:
    """A table of the first metric of each task, one column a model."""
    from clapjax.evaluation.text import is_part, markdown

    first = [(next(iter(result.metrics.items())), result) for result in results]
    return markdown(
        [
            dataclasses.replace(result, metrics={name: metric})
            for (name, metric), result in first
            if not is_part(name)
        ]
    )
