"""T-Classify and zero-shot on ESC-10's fold 4 against the temporal weight, over three seeds.

    python -m benchmarks.esc10_ablation --esc10 ESC10 --workdir W [--steps 1000] [--only 0.5]

ESC10 is a folder with meta.csv and audio/. Nine runs of configs/esc10_mixup.py (records are built
once; the seed is that of the training); a finished run is not run again. `--only` makes the runs of
one weight and prints its row, so that several machines or cores can share the work.
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from clapjax.evaluation.evaluate import scores as measured
from clapjax.evaluation.result import read_results

MEASURES = ("t_classify/text_to_audio", "t_classify/audio_to_text", "zero_shot/accuracy")
WEIGHTS, SEEDS = (0.0, 0.5, 1.0), (0, 1, 2)
CONFIG = "configs/esc10_mixup.py"


def run(verb: list[str], overrides: list[str]) -> None:
    """Runs one clapjax command."""
    subprocess.run([sys.executable, "-m", "clapjax", *verb, *overrides], check=True)


def main() -> None:
    """Trains what is missing and prints mean and standard deviation over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--esc10", required=True, help="folder with meta.csv and audio/")
    parser.add_argument("--workdir", required=True, type=Path)
    parser.add_argument("--steps", type=int, default=2400, help="of each run")
    parser.add_argument("--only", type=float, choices=WEIGHTS, help="this temporal weight alone")
    args = parser.parse_args()
    records = str(args.workdir / "records")
    source = f"--config.source.path={args.esc10}"
    run(["records", "build", "--config", CONFIG, "--data_dir", records], [source])
    print("lambda  T-Classify text-to-audio  T-Classify audio-to-text  zero-shot")
    for weight in WEIGHTS if args.only is None else (args.only,):
        scores: list[tuple[float, float, float]] = []
        for seed in SEEDS:
            workdir = args.workdir / f"lambda{weight:g}-seed{seed}"
            overrides = [
                source,
                f"--config.loss.temporal_weight={weight}",
                f"--config.seed={seed}",
                f"--config.steps={args.steps}",
            ]
            if not (workdir / "results.json").is_file():
                paths = ["--data_dir", records, "--workdir", str(workdir)]
                run(["train", "--config", CONFIG, *paths], overrides)
                run(["eval", *paths], [])
            found = measured(read_results(workdir))
            scores.append(tuple(found[name] for name in MEASURES))
        cells = [
            f"{100 * statistics.mean(column):.1f} +- {100 * statistics.stdev(column):.1f} %"
            for column in zip(*scores, strict=True)
        ]
        print(f"{weight:<8g}{cells[0]:<26}{cells[1]:<26}{cells[2]}", flush=True)


if __name__ == "__main__":
    main()
