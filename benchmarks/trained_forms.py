"""What models learn of records as PCM, FLAC and log-mels: T-Classify and zero-shot.

    python -m benchmarks.trained_forms --esc10 ESC10 --out W [--steps 300] [--seeds 0 1] [--jobs 2]

Builds the embedded sounds (configs/demo.py) and ESC-10 (configs/esc10_mixup.py) in the three forms,
trains each with every seed, and judges it on the held-out records of its own form. A batch of FLAC
is one of PCM, so FLAC is trained with the first seed alone, and must end with the same parameters,
bit for bit; else the exit status is 1. What is trained is not trained again.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from clapjax.cli.side_by_side import run_all
from clapjax.evaluation.result import read_results
from clapjax.training.checkpoint import load_variables

CONFIGS = {"embedded": "configs/demo.py", "ESC-10": "configs/esc10_mixup.py"}
FORMS = ("pcm", "flac", "mel")
LESS = ("--config.synthesis.train_mixtures=1500",)
MEASURES = {
    "T-Classify text": ("t_classify", "text_to_audio"),
    "T-Classify audio": ("t_classify", "audio_to_text"),
    "zero-shot": ("zero_shot", "accuracy"),
}


def run(*words: str) -> None:
    """Runs one clapjax command."""
    subprocess.run([sys.executable, "-m", "clapjax", *words], check=True)


def seeds_of(form: str, seeds: list[int]) -> list[int]:
    """FLAC has the first one alone."""
    return seeds[:1] if form == "flac" else seeds


def compare(name: str, source: tuple[str, ...], args: argparse.Namespace) -> bool:
    """Builds, trains, judges and prints the rows of a set; whether FLAC's bits are PCM's."""
    root = args.out / name
    config = ("--config", CONFIGS[name], *source)
    records, trainings = {form: str(root / "records" / form) for form in FORMS}, {}
    for form in FORMS:
        run("records", "build", *config, *LESS, f"--config.data.audio={form}",
            "--data_dir", records[form])  # fmt: skip
        for seed in seeds_of(form, args.seeds):
            changes = {"seed": seed, "steps": args.steps, "evaluation.tasks": "()"}
            trainings[f"{form}-{seed}"] = [
                *("train", *config, *LESS, "--data_dir", records[form]),
                *("--workdir", str(root / f"{form}-{seed}")),
                *(f"--config.{field}={value}" for field, value in changes.items()),
            ]
    if run_all(trainings, args.jobs):
        raise SystemExit("a training failed")
    for form in FORMS:
        models = [str(root / f"{form}-{seed}") for seed in seeds_of(form, args.seeds)]
        run("eval", "--model", *models, "--benchmark", f"{name}={records[form]}",
            "--out", str(root / f"eval-{form}"),
            "--config.evaluation.tasks=('t_classify', 'zero_shot')")  # fmt: skip
        cells = []
        for task, metric in MEASURES.values():
            found = read_results(root / f"eval-{form}")
            found = [one for one in found if one.task == task and metric in one.metrics]
            values = ", ".join(_cell(result.metrics[metric]) for result in found)
            cells.append(f"{values} (n {found[0].n})")
        print(f"| {name} | {form} | " + " | ".join(cells) + " |", flush=True)
    pcm, flac = (
        jax.tree.leaves(load_variables(root / f"{form}-{args.seeds[0]}")[0])
        for form in ("pcm", "flac")
    )
    same = all(np.array_equal(*pair) for pair in zip(pcm, flac, strict=True))
    print(f"{name}: parameters of FLAC and PCM are {'the same' if same else 'NOT the same'}")
    return same


def _cell(metric) -> str:
    low, high = 100 * metric.low, 100 * metric.high
    return f"{100 * metric.value:.1f} [{low:.1f}, {high:.1f}]"


def main() -> int:
    """Trains, prints, and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--esc10", help="its folder, in the layout of ESC-50")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once")
    args = parser.parse_args()
    sets = {"embedded": ()}
    if args.esc10:
        sets["ESC-10"] = (f"--config.source.path={args.esc10}",)
    print("| sounds | form | " + " | ".join(MEASURES) + " |")
    print("|---" * (2 + len(MEASURES)) + "|", flush=True)
    return 0 if all([compare(*one, args) for one in sets.items()]) else 1


if __name__ == "__main__":
    sys.exit(main())
