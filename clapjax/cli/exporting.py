"""`clapjax export`."""

import argparse

EXAMPLE = "clapjax export --workdir runs/demo --to clapjax demo-model"


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
    from clapjax.data.paths import as_path
    from clapjax.experiment import load_experiment
    from clapjax.inference.store import model_fingerprint
    from clapjax.interop.export import write_model
    from clapjax.interop.load import Pretrained
    from clapjax.tasks.texts import workdir_model
    from clapjax.training.checkpoint import load_variables

    if as_path(args.workdir).is_file():
        raise ValueError(
            f"{args.workdir}: a file, no folder of a run; `clapjax import` makes a model of a CLAP "
            "checkpoint, and `clapjax tag` takes a tagger (PANNs, HTS-AT, a CLAP checkpoint's) as "
            "it is"
        )
    experiment = load_experiment(args.workdir)
    if experiment.task != "contrastive":
        raise ValueError(
            f"{args.workdir}: a model for {experiment.task}, which cannot be exported; use the "
            "workdir itself (clapjax.load), or give its audio encoder to a CLAP model: `clapjax "
            f"train` with --config.init_from={args.workdir}"
        )
    config, tokenizer = workdir_model(experiment.model, experiment.data.tokenizer, args.workdir)
    variables, step = load_variables(args.workdir)
    results = own_results(args.workdir, model_fingerprint(config, variables), step)
    write_model(args.folder, Pretrained(config, variables, tokenizer), to=args.to, results=results)
    print(f"{args.folder}: step {step} of {args.workdir} written for {args.to}")
    return 0


def own_results(workdir: str, fingerprint: str, step: int) -> str:
    """The results of a workdir as a Markdown table; "" where nothing was measured.

    Raises:
      ValueError: they are damaged, or of another model than this.
    """
    from clapjax.data.paths import as_path
    from clapjax.evaluation.result import FILE, read_results
    from clapjax.evaluation.text import markdown

    file = as_path(workdir) / FILE
    if not file.is_file():
        return ""
    results = read_results(workdir)
    for result in results:
        if result.provenance.get("fingerprint") != fingerprint:
            measured = f"{result.model}, step {result.provenance.get('step')}"
            raise ValueError(
                f"{file}: measured with another model ({measured}) than step {step}, which is to "
                f"be exported; run `clapjax eval --workdir {workdir} --data_dir D` again, or "
                "remove the file"
            )
    return markdown(results)
