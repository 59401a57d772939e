"""`clapjax export`."""

import argparse
from pathlib import Path

EXAMPLE = "clapjax export --workdir runs/demo --to clapjax demo-model"
RESULTS = "results.json"  # of `clapjax eval`


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--workdir W --to hf|clapjax DIR."""
    parser.add_argument("--workdir", required=True, help="folder of the run")
    parser.add_argument(
        "--to",
        choices=("hf", "clapjax"),
        default="hf",
        help="hf (default): transformers.ClapModel; clapjax: any model",
    )
    parser.add_argument("folder", help="new folder for the model")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Writes the newest checkpoint of a workdir, with its results on the model card."""
    from clapjax.experiment import load_experiment
    from clapjax.interop.export import write_model
    from clapjax.interop.files import read_json
    from clapjax.interop.load import Pretrained
    from clapjax.tasks.contrastive import workdir_model
    from clapjax.training.checkpoint import load_variables

    experiment = load_experiment(args.workdir)
    config, tokenizer = workdir_model(experiment.model, experiment.data.tokenizer, args.workdir)
    variables, step = load_variables(args.workdir)
    file = Path(args.workdir) / RESULTS
    results = read_json(file) if file.is_file() else None
    write_model(args.folder, Pretrained(config, variables, tokenizer), to=args.to, results=results)
    print(f"{args.folder}: step {step} of {args.workdir} written for {args.to}")
    return 0
