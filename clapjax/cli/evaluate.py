"""`clapjax eval`."""

import argparse
import os
from pathlib import Path

from clapjax.cli.config import add_config_argument, load_config
from clapjax.cli.inputs import add_long_arguments, load_kind
from clapjax.cli.show import complain, progress

EXAMPLE = r"""clapjax eval --workdir runs/demo --data_dir data/demo
         clapjax eval --model runs/demo laion/clap-htsat-unfused \
             --benchmark esc50=data/ESC-50 clotho=data/clotho --out results"""
EMBEDDINGS = "embeddings"  # folder beside the results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--workdir W --data_dir D, or --model M [M ...] --benchmark NAME=PATH [...] --out R."""
    parser.add_argument(
        "--workdir", metavar="W", help="a run; its own config says what is evaluated, and how"
    )
    parser.add_argument("--data_dir", metavar="D", help="folder of records to evaluate it on")
    parser.add_argument(
        "--model",
        nargs="+",
        default=[],
        metavar="[NAME=]M",
        help="models: workdirs, exports, Hugging Face folders or hub ids, LAION .pt files, BLAT "
        "folders",
    )
    parser.add_argument(
        "--benchmark",
        nargs="+",
        default=[],
        metavar="NAME=PATH",
        help="records, a published layout (NAME is that of its source), or a folder of your own",
    )
    parser.add_argument("--out", metavar="R", help="folder of the results; default: the workdir")
    parser.add_argument("--cache", metavar="C", help=f"of embeddings; default: R/{EMBEDDINGS}")
    add_config_argument(parser, required=False)
    parser.add_argument("--tokenizer", metavar="NAME", help="hub id or folder, not a model's own")
    parser.add_argument("--batch_size", type=int, default=16, help="clips at once (default: 16)")
    add_long_arguments(parser)


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Writes results.json and report.html, and prints every number of them."""
    settings = find_settings(args, overrides)
    models, benchmarks = find_models(args), find_benchmarks(args, settings)
    out = find_out(args)
    results = evaluate_models(
        models,
        benchmarks,
        out,
        command=args.command,
        cache=args.cache,
        tokenizer=args.tokenizer,
        batch_size=args.batch_size,
        long=args.long,
        hop=args.hop,
    )
    if not results:
        raise ValueError("there is nothing to evaluate: every task was left out")
    print(f"wrote {out / 'results.json'} and {out / 'report.html'}")
    return 0


def find_settings(args: argparse.Namespace, overrides: list[str]):
    """The EvaluationConfig of --config, or else of the workdir, with the overrides.

    Raises:
      FileNotFoundError: `workdir` is none.
    """
    from clapjax.experiment import Experiment, load_experiment

    own = load_experiment(args.workdir) if args.workdir else Experiment()
    return load_config(args.config or own, overrides).evaluation


def find_models(args: argparse.Namespace) -> dict[str, str]:
    """Name to what `clapjax.load` takes.

    Raises:
      ValueError: no model, or two of one name.
    """
    from clapjax.data.paths import last_name

    named = [_named(item, required=False) for item in args.model]
    if args.workdir:
        named.insert(0, (last_name(args.workdir), args.workdir))
    if not named:
        raise ValueError("nothing to evaluate; name --workdir W or --model M")
    models = dict(named)
    if len(models) < len(named):
        raise ValueError("two models have the same name; call one --model NAME=M")
    return models


def find_benchmarks(args: argparse.Namespace, settings) -> list[tuple[str, str, object]]:
    """(name, path, settings) of what the models are evaluated on.

    Raises:
      ValueError: nothing, something without a name, two of one name, or no such folder.
    """
    from clapjax.data.paths import as_path, last_name
    from clapjax.evaluation.benchmarks import settings_for

    found = []
    for name, path in map(_named, args.benchmark):
        if not as_path(path).is_dir():  # before a model is loaded
            raise ValueError(f"{path}: no such folder (benchmark {name!r})")
        found.append((name, path, settings_for(name, settings)))
    if args.data_dir:
        found.insert(0, (last_name(args.data_dir), args.data_dir, settings))
    if len({name for name, *_ in found}) < len(found):
        raise ValueError("two benchmarks have the same name; call one --benchmark NAME=PATH")
    if not found:
        raise ValueError("nothing to evaluate on; name --data_dir D or --benchmark NAME=PATH")
    return found


def _named(item: str, required: bool = True) -> tuple[str, str]:
    name, equals, path = item.partition("=")
    if name and equals and path and not os.path.exists(item):
        return name, path
    if required:
        raise ValueError(f"{item}: write NAME=PATH")
    return Path(item).name or item, item


def find_out(args: argparse.Namespace) -> Path:
    """The folder of the results, which is made: the workdir's own is for its own results alone.

    Raises:
      ValueError: it is to be named.
      OSError: it cannot be made.
    """
    from clapjax.data.paths import as_path

    if args.out:
        as_path(args.out).mkdir(parents=True, exist_ok=True)  # before a model is loaded
        return as_path(args.out)
    if args.workdir and not args.model:
        return as_path(args.workdir)
    raise ValueError("name a folder for the results of several models: --out R")


def evaluate_models(
    models: dict[str, str],
    benchmarks: list[tuple[str, str, object]],
    out: Path,
    *,
    command: str,
    cache: str | None = None,
    tokenizer: str | None = None,
    batch_size: int = 16,
    **way,
) -> list:
    """Evaluates each model on each benchmark; writes results.json and report.html to `out`.

    Args:
      models: name to what `clapjax.load` takes.
      benchmarks: name, path and EvaluationConfig of each.
      out: folder of the results.
      command: what was called, for the reader.
      cache: folder of embeddings; None: in `out`.
      tokenizer, batch_size: as for `clapjax.load`.
      way: of `embed_dataset`.

    Returns:
      The results.
    """
    from clapjax import __version__
    from clapjax.api import load
    from clapjax.cli.report import write_page
    from clapjax.data.paths import as_path
    from clapjax.evaluation import captioning
    from clapjax.evaluation.benchmarks import load_benchmark
    from clapjax.evaluation.captioner import evaluate_captioner
    from clapjax.evaluation.evaluate import evaluate
    from clapjax.evaluation.generated import judge_by_tags
    from clapjax.evaluation.result import write_results
    from clapjax.evaluation.sounds import keep_sounds
    from clapjax.evaluation.tagging import evaluate_tagging, unknown
    from clapjax.evaluation.text import line
    from clapjax.inference import Captioner, Tagger
    from clapjax.inference.store import model_fingerprint
    from clapjax.training.checkpoint import latest_step

    results, known = [], {}
    for name, source in models.items():
        step = latest_step(source)
        model = load(source, batch_size=batch_size, tokenizer=tokenizer)
        told = {
            "source": source,
            "fingerprint": model_fingerprint(model.config, model.variables),
            "step": step,
            "version": __version__,
            "command": command,
        }
        folder = as_path(cache) if cache else out / EMBEDDINGS
        for benchmark, path, settings in benchmarks:
            if isinstance(model, Tagger):
                judged = load_benchmark(benchmark, path, settings.split)
                used, found = [judged], []
                if settings.tasks != ("generation",):
                    if doubt := unknown(judged, model.labels):
                        complain("eval", f"{benchmark}: {doubt}")
                    say_if_none_held_out(judged)
                    found += evaluate_tagging(model, name, judged, provenance=told, **way)
                if "generation" in settings.tasks:
                    found += judge_by_tags(model, name, judged, settings, provenance=told, **way)
            elif isinstance(model, Captioner):
                judged = load_benchmark(benchmark, path, settings.split)
                if why := captioning.lacks(judged):
                    raise ValueError(f"{path}: {why}")
                say_if_none_held_out(judged)
                others = {
                    kind: load_kind(kind, named, batch_size, f"evaluation.{kind}")
                    for kind in ("tagger", "clap")
                    if (named := getattr(settings, kind))
                }
                used, others["long"] = [judged], way.get("long")
                found = evaluate_captioner(model, name, judged, settings, provenance=told, **others)
            else:
                if (benchmark, path) not in known:
                    known[benchmark, path] = _tasks(benchmark, path, settings)
                tasks = known[benchmark, path]
                used, kept = tasks.values(), embedding_cache(model, source, folder)
                found = evaluate(
                    model,
                    name,
                    tasks,
                    settings,
                    cache=kept,
                    provenance=told,
                    progress=progress,
                    **way,
                )
            for result in found:
                print(f"{name} on {result.benchmark}: {line(result)}", flush=True)
            results += keep_sounds(out, used, found)
        if results:  # what a next model that fails does not lose
            write_results(out, results)
    if results:
        write_page([out], out / "report.html")
    return results


def _tasks(name: str, path: str, settings) -> dict:
    """`load_tasks`; says what is left out."""
    from clapjax.evaluation.benchmarks import load_tasks
    from clapjax.evaluation.evaluate import LACKS

    tasks, left_out = load_tasks(name, path, settings, LACKS)
    for why in left_out:
        complain("eval", f"{name} leaves out {why}")
    for benchmark in {one.key: one for one in tasks.values()}.values():
        say_if_none_held_out(benchmark)
    for rejected in {benchmark.rejected for benchmark in tasks.values()} - {()}:
        count = f"{len(rejected)} clips that cannot be used"
        complain("eval", f"{name} is without {count}; the first: {rejected[0]}")
    return tasks


def say_if_none_held_out(benchmark) -> None:
    """Says of one's own sounds that none are held out: a model may have been trained on them."""
    from clapjax.data.sources import source_names
    from clapjax.evaluation.benchmarks import ALL, PROTOCOLS

    if benchmark.split == ALL and benchmark.name not in {*source_names(), *PROTOCOLS}:
        complain(
            "eval",
            f"{benchmark.name}: {benchmark.path} has no split 'test', so all of it is judged; of "
            "what a model was trained on, name the records instead (the --data_dir of the "
            "training), which hold some out",
        )


def embedding_cache(model, source: str, folder: Path):
    """Where embeddings of a `Clap` are kept, and how they are told from others'."""
    import hashlib

    from clapjax.evaluation.embed import Cache
    from clapjax.inference.store import fingerprint

    words = sorted(model.tokenizer.get_vocab().items())
    return Cache(
        folder,
        source,
        {tower: fingerprint(model.config, model.variables, tower) for tower in ("audio", "text")},
        hashlib.sha256(repr(words).encode()).hexdigest()[:32],
    )
