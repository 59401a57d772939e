"""`clapjax train`."""

import argparse

from clapjax.cli.config import add_config_argument, load_config

EXAMPLE = (
    "clapjax train --config configs/demo.py --data_dir data/demo --workdir runs/demo "
    "--config.steps=100"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--config F --data_dir D --workdir W, and what several processes need."""
    add_config_argument(parser)
    parser.add_argument("--data_dir", required=True, help="folder of the records")
    parser.add_argument("--workdir", required=True, help="folder of the run")
    parser.add_argument(
        "--profile",
        metavar="FROM:TO",
        type=_span,
        help="write a profiler trace of these steps to WORKDIR/profile",
    )
    group = parser.add_argument_group(
        "several processes", "TPU pods and SLURM need none of these; they exit with 75 on SIGTERM"
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 is found")
    group.add_argument("--num_processes", type=int, metavar="N", help="how many there are")
    group.add_argument("--process_id", type=int, metavar="I", help="which this is, from 0")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Trains or resumes."""
    from clapjax.training import distributed
    from clapjax.training.checkpoint import latest_step

    experiment = load_config(args.config, overrides)
    distributed.start(args.coordinator, args.num_processes, args.process_id)
    done = latest_step(args.workdir) == experiment.steps
    train_and_evaluate(experiment, args.data_dir, args.workdir, args.profile)
    if done and distributed.is_main():
        print(f"{args.workdir}: already trained; `clapjax eval` writes its results")
    return 0


def train_and_evaluate(
    experiment, data_dir: str, workdir: str, profile: tuple[int, int] | None = None
) -> dict:
    """Trains with the experiment's evaluation; returns the last scores."""
    from clapjax.cli.evaluate import summary_line
    from clapjax.evaluation.tasks import evaluate
    from clapjax.experiment import save_experiment
    from clapjax.inference import Clap
    from clapjax.training import distributed
    from clapjax.training.loop import train, workdir_tokenizer

    distributed.wait_for_all("config is read")
    save_experiment(experiment, workdir, write=distributed.is_main())
    scores: dict = {}

    def judge(variables: dict, config, step: int) -> dict[str, float]:
        tokenizer = workdir_tokenizer(config, workdir)
        model = distributed.SharedEmbedder(Clap(config.model, variables, tokenizer))
        evaluation = evaluate(model, data_dir, experiment.evaluation)
        scores.update(evaluation.results)
        if distributed.is_main():
            print(f"step {step}: {summary_line(evaluation.results)}", flush=True)
        return evaluation.scalars()

    train(
        experiment,
        data_dir=data_dir,
        workdir=workdir,
        evaluate=judge,
        load=load_model,
        profile=profile,
    )
    return scores


def load_model(source: str) -> dict:
    """{"params", "batch_stats"} of a workdir, or of whatever else `clapjax.load` takes."""
    from clapjax.interop.load import load_pretrained
    from clapjax.training.checkpoint import latest_step, load_variables

    if latest_step(source) is not None:
        return load_variables(source)[0]
    return load_pretrained(source).variables


def _span(text: str) -> tuple[int, int]:
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not FROM:TO, two steps")
    return int(first), int(last)
