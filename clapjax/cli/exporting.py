"""`clapjax export`."""

import argparse

EXAMPLE = "clapjax export --workdir runs/demo --to clapjax demo-model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--workdir W or --model M, --to hf|clapjax|stablehlo DIR, --batch_size, --seconds."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--workdir", help="folder of the run")
    source.add_argument("--model", metavar="M", help="or another model, as `clapjax import` takes")
    parser.add_argument(
        "--to",
        choices=("hf", "clapjax", "stablehlo"),
        default="hf",
        help="hf (default): transformers.ClapModel; clapjax: any model; stablehlo: graphs of any "
        "model that run without JAX (docs/without_jax.md)",
    )
    parser.add_argument("--batch_size", type=int, help="of the graphs: rows at once (1)")
    parser.add_argument("--seconds", type=float, help="of the audio graph: heard at once (a clip)")
    parser.add_argument("folder", help="new folder for the model")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Writes a model, of a workdir its newest checkpoint, with its results on the model card."""
    from clapjax.experiment import is_workdir
    from clapjax.interop.export import write_model
    from clapjax.interop.graphs import write_graphs
    from clapjax.interop.load import load_pretrained

    shape = {"batch_size": args.batch_size, "seconds": args.seconds}
    shape = {name: value for name, value in shape.items() if value is not None}
    if args.to != "stablehlo" and shape:
        raise ValueError(f"--{next(iter(shape))} is of graphs: set --to stablehlo, or leave it out")
    results, told = "", args.model
    if args.model is not None and not is_workdir(args.model):
        model = load_pretrained(args.model)
    else:
        workdir = args.workdir or args.model
        model, step = workdir_pretrained(workdir)
        told = f"step {step} of {workdir}"
        if args.to != "stablehlo":
            results = own_results(workdir, model, step)
    if args.to == "stablehlo":
        write_graphs(args.folder, model, **shape)
    else:
        write_model(args.folder, model, to=args.to, results=results)
    print(f"{args.folder}: {told} written for {args.to}")
    return 0


def workdir_pretrained(workdir: str):
    """(the model of a run's newest checkpoint, its step).

    Raises:
      ValueError: no run of a CLAP model.
    """
    from clapjax.data.paths import as_path
    from clapjax.experiment import load_experiment
    from clapjax.interop.load import Pretrained
    from clapjax.tasks.texts import workdir_model
    from clapjax.training.checkpoint import load_variables

    if as_path(workdir).is_file():
        raise ValueError(
            f"{workdir}: a file, no folder of a run; `clapjax import` makes a model of a CLAP "
            "checkpoint, and `clapjax tag` takes a tagger (PANNs, HTS-AT, a CLAP checkpoint's) as "
            "it is"
        )
    experiment = load_experiment(workdir)
    if experiment.task != "contrastive":
        raise ValueError(
            f"{workdir}: a model for {experiment.task}, which cannot be exported; use the "
            "workdir itself (clapjax.load), or give its audio encoder to a CLAP model: `clapjax "
            f"train` with --config.init_from={workdir}"
        )
    config, tokenizer = workdir_model(experiment.model, experiment.data.tokenizer, workdir)
    variables, step = load_variables(workdir)
    return Pretrained(config, variables, tokenizer), step


def own_results(workdir: str, model, step: int) -> str:
    """The results of a workdir as a Markdown table; "" where nothing was measured.

    Raises:
      ValueError: they are damaged, or of another model than this.
    """
    from clapjax.data.paths import as_path
    from clapjax.evaluation.result import FILE, read_results
    from clapjax.evaluation.text import markdown
    from clapjax.inference.store import model_fingerprint

    fingerprint = model_fingerprint(model.config, model.variables)
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
