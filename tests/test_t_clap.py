"""configs/t_clap_mini.sh: T-CLAP from published layouts to T-Classify, as docs/t_clap.md has it."""

import csv
import subprocess
from pathlib import Path

import pytest
import soundfile

from clapjax.evaluation.result import read_results
from clapjax.synthesis.sounds import render
from tests.conftest import REPO, SHARED

LABELS = ("dog bark", "rain", "siren")


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> Path:
    """ESC-10's real recordings, or where they are absent a folder like it of generated ones."""
    if (SHARED / "esc10" / "meta.csv").is_file():
        return SHARED / "esc10"
    folder = tmp_path_factory.mktemp("sounds")
    (folder / "audio").mkdir()
    rows = [("filename", "fold", "category", "src_file")]
    for number in range(2 * 4 * len(LABELS)):
        label, fold = LABELS[number % len(LABELS)], 1 + number // len(LABELS) % 4
        name = f"{fold}-{number}-A.wav"
        samples = render(label, number, 5.0, 16_000)
        soundfile.write(folder / "audio" / name, samples, 16_000)
        rows.append((name, fold, label.replace(" ", "_"), number))
    with (folder / "meta.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return folder


@pytest.fixture(scope="module")
def out(sounds, quick_env, tmp_path_factory) -> Path:
    """What the script leaves behind."""
    folder = tmp_path_factory.mktemp("t_clap")
    env = quick_env | {"CLIPS": "16", "CONFIG": "configs/t_clap.py:runlocal"}
    script = REPO / "configs" / "t_clap_mini.sh"
    done = subprocess.run(
        ["bash", script, sounds, folder], env=env, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def test_negatives_reach_the_records_with_their_provenance(out):
    from clapjax.data.records import read_examples

    for name in ("audiocaps", "clotho"):
        examples = list(read_examples(out / name, "train"))
        assert examples and all(example.negative_captions for example in examples)
        for example in examples:
            kinds = example.provenance.split(";")
            assert kinds[: len(example.captions)] == ["human"] * len(example.captions)
            assert kinds[len(example.captions) :] == ["rules"] * len(example.negative_captions)
            words = [sorted(text.lower().split()) for text in example.negative_captions]
            assert len(words) == len(example.captions)
    assert not any(e.negative_captions for e in read_examples(out / "autoacd.published", "train"))


def test_t_classify_on_every_set(out):
    found = {}
    for result in read_results(out / "results"):
        if result.task == "t_classify":
            found[result.benchmark] = found.get(result.benchmark, {}) | {
                name: (result.n, metric) for name, metric in result.metrics.items()
            }
    assert list(found) == ["audiocaps", "clotho", "esc50_mixup"]
    assert ["audio_to_text" in metrics for metrics in found.values()] == [False, False, True]
    for metrics in found.values():
        n, metric = metrics["text_to_audio"]
        assert n >= 4 and 0 <= metric.low <= metric.value <= metric.high <= 1
