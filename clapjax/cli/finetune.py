"""`clapjax finetune`."""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from clapjax.cli.config import add_config_argument, given_fields, load_config, with_model
from clapjax.cli.inputs import add_long_arguments, load_clap
from clapjax.cli.report import write_page
from clapjax.cli.show import plain_warnings, progress

EXAMPLE = "clapjax finetune --model runs/demo --benchmark esc50=data/ESC-50 --out tuned"
CONFIG = "configs/finetune.py"
EPOCHS = 100
BY_DATA = {"steps", "optimizer.warmup_steps", "tagging.loss"}  # where no config file names them
TASK = "supervised"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--model M --benchmark NAME=PATH --out R [--epochs N] [--hidden N] [--config F]."""
    parser.set_defaults(workdir=None, data_dir=None)  # which `eval` takes besides
    parser.add_argument(
        "--model",
        nargs=1,
        required=True,
        metavar="[NAME=]M",
        help="workdir, export, Hugging Face folder or hub id, LAION .pt file or BLAT folder",
    )
    parser.add_argument(
        "--benchmark",
        nargs=1,
        required=True,
        metavar="NAME=PATH",
        help="records, a published layout (NAME is that of its source), or a folder of your own "
        "sounds with labels",
    )
    parser.add_argument("--out", required=True, metavar="R", help="folder of the results and runs")
    parser.add_argument(
        "--epochs",
        type=float,
        metavar="N",
        help=f"times that each clip is heard (default: {EPOCHS:g}); or set --config.steps",
    )
    parser.add_argument(
        "--hidden", type=int, default=0, metavar="N", help="also probe with N hidden units"
    )
    add_config_argument(parser, required=False)
    parser.add_argument("--tokenizer", metavar="NAME", help="hub id or folder, not a model's own")
    parser.add_argument("--batch_size", type=int, default=16, help="clips embedded at once")
    add_long_arguments(parser)


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Probes the frozen model, tunes it fold by fold, and compares both on the same clips."""
    from clapjax.cli.compiled import say_where_compiled
    from clapjax.cli.evaluate import find_benchmarks, find_models
    from clapjax.data.paths import need_local
    from clapjax.evaluation import supervised
    from clapjax.evaluation.benchmarks import load_benchmark
    from clapjax.evaluation.probe import ProbeConfig, probe_labelled
    from clapjax.evaluation.result import write_results
    from clapjax.finetuning import check_given, finetune

    out = need_local(args.out, "what `clapjax finetune` makes")
    ((name, source),) = find_models(args).items()
    overrides = with_model(overrides, source)
    given, experiment = given_fields(overrides), load_config(args.config or CONFIG, overrides)
    check_given(given)
    given |= BY_DATA if args.config else set()
    if args.hidden < 0:
        raise ValueError(f"--hidden must be >= 0, not {args.hidden}")
    if args.epochs is not None and (not 0 < args.epochs < np.inf or "steps" in given):
        raise ValueError("--epochs must be positive, and not beside a config's steps")
    epochs = EPOCHS if args.epochs is None and "steps" not in given else args.epochs
    ((benchmark, path, settings),) = find_benchmarks(args, experiment.evaluation)
    parts = supervised.parts(load_benchmark(benchmark, path, settings.split))
    supervised.labelled(parts)  # what is wrong with it is said before a model is loaded
    args.model = source
    model = load_clap(args)
    embedded = embed(model, args, name, parts, out)
    data = supervised.labelled([one.benchmark for one in embedded])
    features, found = np.concatenate([one.audio for one in embedded]), {}
    for hidden in dict.fromkeys((0, args.hidden)):
        kind = f"probe of {hidden} units" if hidden else "linear probe"
        found[kind] = probe_labelled(features, data, ProbeConfig(hidden))
    say_where_compiled()
    tuned = finetune(
        experiment,
        given,
        model.variables,
        parts,
        data,
        out,
        epochs=epochs,
        progress=progress,
        say=lambda text: print(text, flush=True),
        long=args.long,
        hop=args.hop,
    )
    results = compared(embedded[0], name, data, {"fine-tuned": tuned, **found})
    write_results(out, results)
    write_page([out], out / "report.html")
    print(f"wrote {out / 'results.json'} and {out / 'report.html'}")
    return 0


def embed(model, args: argparse.Namespace, name: str, parts, out: Path) -> list:
    """The benchmark as the frozen model hears it, kept in `out`."""
    from clapjax import __version__
    from clapjax.cli.evaluate import EMBEDDINGS, embedding_cache
    from clapjax.evaluation.embed import embed_dataset
    from clapjax.inference.store import model_fingerprint
    from clapjax.training.checkpoint import latest_step

    told = {
        "source": args.model,
        "fingerprint": model_fingerprint(model.config, model.variables),
        "step": latest_step(args.model),
        "version": __version__,
        "command": args.command,
    }
    how = {
        "cache": embedding_cache(model, args.model, out / EMBEDDINGS),
        "long": args.long,
        "hop": args.hop,
        "provenance": told,
        "progress": progress,
    }
    with plain_warnings("finetune"):
        return [embed_dataset(model, part, name, **how) for part in parts]


def compared(embedded, name: str, data, found: dict) -> list:
    """A Result of each way to use the model; says the numbers, and how the first differs.

    Args:
      embedded: the benchmark.
      name: of the model.
      data: its clips, `clapjax.evaluation.supervised.Labelled`.
      found: of each way (which clips were judged, their scores, what a Result tells of it).
    """
    from clapjax.evaluation import supervised
    from clapjax.evaluation.text import line

    (first, (rows, best, _)), *others = found.items()
    against = {way: supervised.paired(data, rows, best, scores) for way, (_, scores, _) in others}
    results = []
    for way, (_, scores, told) in found.items():
        right = data.right[rows]
        result = replace(embedded, model=f"{name}, {way}").result(
            TASK,
            supervised.chance(right, data.several),
            supervised.measures(scores, right, data.origins[rows], data.several),
            supervised.outcomes(data, rows, scores),
            **supervised.details(data, rows, scores),
            **told,
            **({"compared": against} if way == first else {}),
        )
        print(f"{result.model} on {result.benchmark}: {line(result)}")
        results.append(result)
    for way, test in against.items():
        print(f"{name}, {first} against {way}: {difference(test)}")
    return results


def difference(test: dict) -> str:
    """What `supervised.paired` found, in a line."""
    low, high = 100 * test["low"], 100 * test["high"]
    said = f"{100 * test['difference']:+.1f} % [{low:+.1f}, {high:+.1f}], p {test['p']:.2g}"
    if "mcnemar" in test:
        said += (
            f"; right alone on {test['better']} and {test['worse']} clips, McNemar's exact p "
            f"{test['mcnemar']:.2g}"
        )
    return said
