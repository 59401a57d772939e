"""`clapjax eval`."""

import argparse
from pathlib import Path

from clapjax.cli.config import add_config_argument, load_config

EXAMPLE = "clapjax eval --data_dir data/demo --workdir runs/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """[--config F] --data_dir D --workdir W [--model M] [--out R]."""
    add_config_argument(parser, required=False)
    parser.add_argument("--data_dir", required=True, help="folder of the records")
    parser.add_argument("--workdir", required=True, help="folder of the run")
    parser.add_argument("--out", metavar="R", help="folder of the reports; default: the workdir")
    parser.add_argument("--model", help="evaluate this instead: whatever clapjax.load takes")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Evaluates the newest checkpoint, or --model, and writes results.json and report.html."""
    from clapjax.experiment import load_experiment

    experiment = load_config(args.config or load_experiment(args.workdir), overrides)
    out = Path(args.out or args.workdir)
    results = evaluate_workdir(
        experiment, args.data_dir, args.workdir, model_name=args.model, out=out
    )
    print(summary_line(results))
    print(f"wrote {out / 'results.json'} and {out / 'report.html'}")
    return 0


def evaluate_workdir(
    experiment,
    data_dir: str,
    workdir: str,
    *,
    model_name: str | None = None,
    out: Path | None = None,
    comparison=None,
) -> dict:
    """Evaluates a workdir's newest checkpoint, or `model_name`.

    Writes results.json and report.html to `out`, or else to the workdir.

    Raises:
      FileNotFoundError: `workdir` is none, and no other model is named.
    """
    import numpy as np

    from clapjax.api import load
    from clapjax.audio.mel import log_mel
    from clapjax.evaluation.report import write_report, write_results
    from clapjax.evaluation.tagging import evaluate_tagging
    from clapjax.evaluation.tasks import Evaluation, evaluate
    from clapjax.experiment import load_experiment, to_dict
    from clapjax.inference import Tagger
    from clapjax.training.log import read_log

    trained = load_experiment(workdir) if model_name is None else None
    model = load(workdir if model_name is None else model_name)
    if isinstance(model, Tagger):
        found = evaluate_tagging(model, data_dir, experiment.evaluation.split)
        evaluation = Evaluation({"tagging": found})
    else:
        evaluation = evaluate(model, data_dir, experiment.evaluation)
    examples = []
    for shown in evaluation.examples:
        samples = shown["samples"]
        mel = np.asarray(log_mel(samples[None], model.config.audio)[0])  # (F, M)
        seconds = samples.size / shown["sample_rate"]
        kept = {key: shown[key] for key in ("title", "caption", "score", "right_order")}
        examples.append({**kept, "log_mel": mel, "seconds": seconds})
    out = Path(workdir) if out is None else out
    out.mkdir(parents=True, exist_ok=True)
    write_results(out / "results.json", evaluation.results)
    write_report(
        out / "report.html",
        title=f"clapjax: {model_name or Path(workdir).name}",
        results=evaluation.results,
        curves=read_log(workdir) if trained else [],
        margins=evaluation.margins,
        similarity=evaluation.similarity,
        confusion=evaluation.results.get("zero_shot", {}).get("confusion"),
        class_names=evaluation.class_names,
        examples=examples,
        config=to_dict(trained or model.config),
        comparison=comparison,
    )
    return evaluation.results


def summary_line(results: dict) -> str:
    """The headline numbers on one line, in per cent."""
    from clapjax.evaluation.tagging import headline

    parts = [headline(results["tagging"])] if "tagging" in results else []
    if scores := results.get("t_classify"):
        for key, name in (("text_to_audio", "text-to-audio"), ("audio_to_text", "audio-to-text")):
            if scores[key] is not None:
                low, high = (100 * bound for bound in scores["intervals"][key])
                count = scores["n" if key == "text_to_audio" else "n_audio"]
                found = f"{100 * scores[key]:.1f} % [{low:.1f}, {high:.1f}] (n={count})"
                parts.append(f"T-Classify {name} {found}")
    if scores := results.get("zero_shot"):
        parts.append(f"zero-shot {100 * scores['accuracy']:.1f} % (n={scores['n']})")
    if scores := results.get("retrieval"):
        recall = scores["text_to_audio"]["R@1"]
        parts.append(f"retrieval text-to-audio R@1 {100 * recall:.1f} %")
    return ", ".join(parts)
