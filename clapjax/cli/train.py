"""`clapjax train`."""

import argparse

from clapjax.cli.config import add_config_argument, load_config

EXAMPLE = (
    "clapjax train --config configs/demo.py --data_dir data/demo --workdir runs/demo "
    "--config.steps=100"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--config F --data_dir D --workdir W."""
    add_config_argument(parser)
    parser.add_argument("--data_dir", required=True, help="folder of the records")
    parser.add_argument("--workdir", required=True, help="folder of the run")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Trains or resumes."""
    from clapjax.training.checkpoint import latest_step

    experiment = load_config(args.config, overrides)
    done = latest_step(args.workdir) == experiment.steps
    train_and_evaluate(experiment, args.data_dir, args.workdir)
    if done:
        print(f"{args.workdir}: already trained; `clapjax eval` writes its results")
    return 0


def train_and_evaluate(experiment, data_dir: str, workdir: str) -> dict:
    """Trains with the experiment's evaluation; returns the last scores."""
    from clapjax.cli.evaluate import summary_line
    from clapjax.evaluation.tasks import evaluate
    from clapjax.experiment import save_experiment
    from clapjax.inference import Clap
    from clapjax.training.loop import train, workdir_tokenizer

    save_experiment(experiment, workdir)
    scores: dict = {}

    def judge(variables: dict, config, step: int) -> dict[str, float]:
        tokenizer = workdir_tokenizer(config, workdir)
        model = Clap(config.model, variables, tokenizer)
        evaluation = evaluate(model, data_dir, experiment.evaluation)
        scores.update(evaluation.results)
        print(f"step {step}: {summary_line(evaluation.results)}", flush=True)
        return evaluation.scalars()

    train(experiment, data_dir=data_dir, workdir=workdir, evaluate=judge)
    return scores
