"""What each objective makes of order, on ESC-10: T-CLAP's ablation, and order pairs.

    python -m benchmarks.order_ablation --esc10 ESC10 --out W [--seeds 0 1 2] [--jobs 2]
    python -m benchmarks.order_ablation --esc10 ESC10 --out W --only lambda-0.5 pairs-3

ESC10 is a folder with meta.csv and audio/. Every arm is configs/esc10_mixup.py with another
objective, trained on the records of folds 1 to 3 and judged on fold 4 by one `clapjax eval` over
all of them; all that is random in training is the seed's. What is trained is not trained again.
Prints a table of means over the seeds with the 95 % interval of the mean by Student's t, and writes
it to W/table.md beside the results of each run.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from clapjax.evaluation.result import Result, read_results
from clapjax.evaluation.statistics import seeds

CONFIG = "configs/esc10_mixup.py"
# The config's weight decay and crops serve its own 1,500 steps; all arms have what is usual.
CROPS = "--config.synthesis.crops_per_recording=10"
DECAY = {"optimizer.weight_decay": 0.05}
ONE_ORDER = {"loss.order_pairs": 0}  # the sounds in the wrong order are left out
ARMS: dict[str, Mapping[str, object]] = {
    "contrastive": ONE_ORDER | {"loss.temporal_weight": 0},
    **{
        f"lambda-{weight:g}": ONE_ORDER | {"loss.temporal_weight": weight}
        for weight in (0.1, 0.5, 1, 3)
    },
    # Wrong captions in the denominator of the contrastive loss instead of a loss of their own.
    **{
        f"negatives-{which}": ONE_ORDER | {"loss.temporal_weight": 0, "loss.negatives": which}
        for which in ("own", "all")
    },
    **{f"pairs-{weight}": {"loss.temporal_weight": weight} for weight in (0, 1, 3)},
    "pairs-3-adamw": {"loss.temporal_weight": 3, "optimizer.kind": "adamw"},
}
MEASURES = {
    "T-Classify text": ("t_classify", "text_to_audio"),
    "T-Classify audio": ("t_classify", "audio_to_text"),
    "R@1 text": ("retrieval", "text_to_audio/R@1"),
    "R@1 audio": ("retrieval", "audio_to_text/R@1"),
    "zero-shot": ("zero_shot", "accuracy"),
    "unseen pairs": ("t_classify", "text_to_audio/probe=pair"),
    "connectives forwards": ("t_classify", "text_to_audio/probe=connective:forwards"),
    "backwards": ("t_classify", "text_to_audio/probe=connective:backwards"),
    "three events": ("t_classify", "text_to_audio/probe=events=3"),
}


def run(*words: str) -> None:
    """Runs one clapjax command."""
    subprocess.run([sys.executable, "-m", "clapjax", *words], check=True)


def train(arm: str, seed: int, args: argparse.Namespace) -> None:
    """One run, or what is left of it."""
    changes = {"seed": seed, "evaluation.tasks": "()"} | DECAY | ARMS[arm]
    if args.steps:
        changes |= {"steps": args.steps}
    overrides = [f"--config.{name}={value}" for name, value in changes.items()]
    paths = ["--data_dir", str(args.out / "records"), "--workdir", str(folder(arm, seed, args))]
    run("train", "--config", CONFIG, *paths, *overrides)


def folder(arm: str, seed: int, args: argparse.Namespace) -> Path:
    """The workdir of a run."""
    return args.out / f"{arm}-seed{seed}"


def table(results: Sequence[Result], arms: Sequence[str], numbers: Sequence[int]) -> str:
    """A Markdown table with a row for each arm, of models named ARM-seedN."""
    by = {
        (result.model, result.task, metric): (100 * found.value, result.n)
        for result in results
        for metric, found in result.metrics.items()
    }
    counts = [by[f"{arms[0]}-seed{numbers[0]}", *measure][1] for measure in MEASURES.values()]
    lines = [
        "| | " + " | ".join(MEASURES) + " |",
        "|---" * (1 + len(MEASURES)) + "|",
        "| n | " + " | ".join(map(str, counts)) + " |",
    ]
    for arm in arms:
        cells = []
        for measure in MEASURES.values():
            found = seeds([by[f"{arm}-seed{number}", *measure][0] for number in numbers])
            cell = f"{found['mean']:.1f}"
            if found["n"] > 1:
                low, high = max(0.0, found["low"]), min(100.0, found["high"])
                cell += f" [{low:.1f}, {high:.1f}]"
            cells.append(cell)
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Trains what is missing, judges, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--esc10", required=True, help="folder with meta.csv and audio/")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--steps", type=int, help="of each run, instead of the config's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    args = parser.parse_args()
    records = str(args.out / "records")
    build = ["--config", CONFIG, "--data_dir", records, "--config.synthesis.probe_mixtures=200"]
    run("records", "build", *build, CROPS, f"--config.source.path={args.esc10}")
    runs = [(arm, seed, args) for seed in args.seeds for arm in args.only]
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(train, *zip(*runs, strict=True)))
    models = [str(folder(*one)) for one in runs]
    run("eval", "--model", *models, "--benchmark", f"mixtures={records}", "--out", str(args.out))
    found = table(read_results(args.out), args.only, args.seeds)
    (args.out / "table.md").write_text(found)
    print(found, end="")


if __name__ == "__main__":
    main()
