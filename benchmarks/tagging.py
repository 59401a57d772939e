"""What a linear model makes of the labels of records: the floor under a trained tagger.

    python -m benchmarks.tagging --data_dir data/demo [--workdir runs/tagging]

Logistic regression of scikit-learn, a label at a time, on the mean and the standard deviation over
time of each bin of the log-mel; with --workdir also the tagger that was trained there. Prints mAP,
mAUC, d' and accuracy on the test split with 95 % intervals, and what one answer for all clips
reaches.
"""

import argparse
from collections.abc import Sequence

import jax
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import clapjax
from clapjax.audio.fill import fill, truncate
from clapjax.audio.mel import log_mel
from clapjax.data.records import read_examples
from clapjax.evaluation.benchmarks import load_benchmark
from clapjax.evaluation.tagging import evaluate_tagging, tagging
from clapjax.evaluation.text import line
from clapjax.models.presets import small_clap

AUDIO = small_clap().audio  # as configs/tagging.py hears


def main(data_dir: str, workdir: str | None, split: str) -> None:
    """Trains the linear model and prints what both reach."""
    features, owned = pooled(data_dir, "train")
    labels = sorted(set().union(*owned))
    linear = make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression(max_iter=1000)))
    linear.fit(features, multi_hot(owned, labels))
    features, _ = pooled(data_dir, split)
    benchmark = load_benchmark("tagging", data_dir, split)
    scores, everything = linear.predict_proba(features), range(len(features))
    found = tagging(scores, labels, benchmark, everything, "linear", {})
    if workdir:
        found += evaluate_tagging(clapjax.load(workdir), workdir, benchmark)
    for result in found:
        print(f"{result.model}: {line(result)}")


def pooled(data_dir: str, split: str, rows: int = 64) -> tuple[np.ndarray, list[set[str]]]:
    """(N, 2 M) means and deviations over time of the log-mels of a split, and its labels."""
    mel = jax.jit(lambda clips: log_mel(clips, AUDIO))
    features, owned, clips = [], [], []

    def flush() -> None:
        batch = np.stack(clips + clips[-1:] * (rows - len(clips)))
        found = np.asarray(mel(batch))[: len(clips)]  # (B, F, M)
        features.append(np.concatenate([found.mean(axis=1), found.std(axis=1)], axis=1))
        clips.clear()

    for example in read_examples(data_dir, split):
        owned.append(set(example.labels))
        clip = truncate(example.audio, AUDIO.clip_samples)
        clips.append(fill(clip, AUDIO.clip_samples, AUDIO.fill))
        if len(clips) == rows:
            flush()
    if clips:
        flush()
    return np.concatenate(features), owned


def multi_hot(owned: list[set[str]], labels: Sequence[str]) -> np.ndarray:
    """(N, C) bool."""
    return np.array([[label in own for label in labels] for own in owned])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", required=True, help="records with labels")
    parser.add_argument("--workdir", help="of a tagging run")
    parser.add_argument("--split", default="test", help="judged on (default: test)")
    args = parser.parse_args()
    main(args.data_dir, args.workdir, args.split)
