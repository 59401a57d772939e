"""`clapjax finetune`: no leak between folds, it goes on where it was killed, on any devices."""

import functools
import json
import shutil

import jax
import numpy as np
import pytest
import soundfile

import clapjax
from clapjax import finetuning
from clapjax.cli.main import main
from clapjax.data.records import read_examples
from clapjax.evaluation import probe
from clapjax.evaluation.result import read_results
from clapjax.experiment import load_experiment
from clapjax.tasks.tagging import TaggingConfig
from clapjax.training import loop
from clapjax.training.log import TrainLog
from clapjax.training.log_files import read_log
from clapjax.training.mesh import make_mesh
from tests.data.miniature import write_table
from tests.inference.tiny import RATE, make_tagging_workdir, make_workdir

QUICK = ("--config.steps=6", "--config.checkpoint_every=2", "--config.log_every=2")
NAMES = ("low", "middle", "high")


def tone(kind: int, seed: int) -> np.ndarray:
    """(T,) float64: a second of one of NAMES."""
    noise = np.random.default_rng(seed).normal(0, 0.05, RATE)
    return 0.3 * np.sin(2 * np.pi * 200 * 4**kind * np.arange(RATE) / RATE) + noise


def devices(count: int):
    """A `make_mesh` that takes so many."""
    return lambda config: make_mesh(config, jax.devices()[:count])


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Two devices, and a probe that has no strength to choose."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_mesh", devices(2))
        one = functools.partial(probe.ProbeConfig, strengths=(1.0,))
        patch.setattr(probe, "ProbeConfig", one)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """`model`; `esc`, two folds of tones, two of a recording; `own`, a folder with two splits."""
    place = tmp_path_factory.mktemp("finetune")
    make_workdir(place / "model")
    (place / "esc" / "audio").mkdir(parents=True)
    (place / "own").mkdir()
    rows, own = [], []
    for number in range(24):
        fold, kind, recording = 1 + number // 12, number % 3, number // 6 * 3 + number % 3
        name = f"{fold}-{recording}-{'AB'[number // 3 % 2]}-{kind}.wav"
        soundfile.write(place / "esc" / "audio" / name, tone(kind, number), RATE)
        rows.append((name, fold, kind, NAMES[kind], recording))
        soundfile.write(place / "own" / name, tone(kind, number), RATE)
        labels = f"{NAMES[kind]};noise" if number % 2 else NAMES[kind]
        own.append((name, labels, "train" if fold == 1 else "test", recording))
    write_table(place / "esc" / "meta.csv", rows, "filename,fold,target,category,src_file")
    write_table(place / "own" / "all.csv", own, "file,labels,split,group")
    return place


def run(place, data: str, out: str, *more: str) -> int:
    """`clapjax finetune` in this process."""
    name = {"esc": "esc50", "own": "mine"}[data]
    where = ["--benchmark", f"{name}={place / data}", "--out", str(place / out)]
    return main(["finetune", "--model", str(place / "model"), *where, *QUICK, *more])


@pytest.fixture(scope="module")
def whole(place):
    """The folder of an undisturbed run."""
    assert run(place, "esc", "whole") == 0
    return place / "whole"


def test_each_clip_is_judged_once_by_what_has_not_heard_its_recording(whole):
    """Of the records that each run names, and by the run's own model."""
    tuned, linear = read_results(whole)
    assert [tuned.model, linear.model] == ["model, fine-tuned", "model, linear probe"]
    ids = tuned.items["id"].tolist()
    assert len(set(ids)) == 24 == tuned.n and ids == linear.items["id"].tolist()
    judged = []
    for fold in (1, 2):
        workdir = whole / f"fold={fold}"
        trained = list(read_examples(whole / "records", load_experiment(workdir).data.split))
        held = list(read_examples(whole / "records", f"fold_{fold}"))
        assert len(trained) == len(held) == 12
        assert not {x.origin for x in trained} & {x.origin for x in held}
        tagger = clapjax.load(workdir)
        found = tagger.tag([x.audio for x in held])
        assert tagger.labels == tuple(sorted(NAMES))
        own = tuned.items["fold"] == fold
        predicted = np.array(tagger.labels)[found.argmax(axis=1)].tolist()
        assert tuned.items["predicted"][own].tolist() == predicted
        assert tuned.items["label"][own].tolist() == [x.labels[0] for x in held]
        assert tuned.items["id"][own].tolist() == [x.id for x in held]
        judged += [x.id for x in held]
    assert sorted(judged) == sorted(ids)


def test_what_it_writes(whole):
    tuned, linear = read_results(whole)
    right = tuned.items["right"]
    assert tuned.metrics["accuracy"].value == right.mean() and tuned.chance == pytest.approx(1 / 3)
    assert len(set(tuned.items["group"])) == 12
    told = tuned.provenance["compared"]["linear probe"]
    better = int(np.sum(right & ~linear.items["right"]))
    assert told["better"] == better and told["n"] == 24 and 0 <= told["mcnemar"] <= 1
    assert told["difference"] == pytest.approx(right.mean() - linear.items["right"].mean())
    assert tuned.provenance["fingerprint"] == linear.provenance["fingerprint"]
    page = (whole / "report.html").read_text()
    assert "model, fine-tuned" in page and "model, linear probe" in page
    settings = load_experiment(whole / "fold=1")
    assert settings.tagging == TaggingConfig(tuple(sorted(NAMES)), "ce", mixup=0.5, shift=True)
    assert settings.model.htsat.time_stripes == 2 and settings.optimizer.warmup_steps == 1


def test_killed_in_a_fold_it_goes_on_bit_for_bit(place, whole, monkeypatch, capsys):
    """What is done is not done again."""
    write, begun = TrainLog.write, []

    def dies(log, step, *rest):
        if len(begun) == 2 and step == 4:
            raise KeyboardInterrupt
        write(log, step, *rest)

    train = finetuning.train
    monkeypatch.setattr(finetuning, "train", lambda *a, **k: begun.append(1) or train(*a, **k))
    with monkeypatch.context() as patch:
        patch.setattr(TrainLog, "write", dies)
        assert run(place, "esc", "killed") == 130
    assert len(begun) == 2 and not (place / "killed" / "results.json").exists()
    assert run(place, "esc", "killed") == 0 and len(begun) == 3
    assert [row["step"] for row in read_log(place / "killed" / "fold=2")] == [2, 4, 6]
    for fold in (1, 2):
        found, expected = (
            np.load(folder / f"fold={fold}" / finetuning.SCORES)
            for folder in (place / "killed", whole)
        )
        assert {name: x.tolist() for name, x in found.items()} == {
            name: x.tolist() for name, x in expected.items()
        }
    numbers = [
        [{**row, "provenance": None} for row in json.loads((f / "results.json").read_text())]
        for f in (place / "killed", whole)
    ]
    assert numbers[0] == numbers[1]
    # What is there is of these clips and these settings.
    capsys.readouterr()
    assert run(place, "esc", "killed", "--config.steps=8") == 2
    assert "fold=1: was begun for 6 steps, not 8; use another --out" in capsys.readouterr().err
    assert run(place, "own", "killed") == 2
    assert "records: was made of other clips; use another --out\n" in capsys.readouterr().err
    assert run(place, "esc", "killed", "--config.tagging.mixup=1.0") == 2
    assert "tagging.mixup was 0.5, is 1.0" in capsys.readouterr().err
    shutil.move(place / "model", place / "before")
    make_workdir(place / "model", seed=1)
    assert run(place, "esc", "killed") == 2
    assert "records: was made for another model; use another --out\n" in capsys.readouterr().err
    shutil.rmtree(place / "model")
    shutil.move(place / "before", place / "model")


def test_one_device_finds_what_two_do(place, monkeypatch):
    """And a folder of own sounds with splits and several labels a clip; nothing random but mix-up.

    Epsilon keeps Adam from blowing up rounding noise.
    """
    still = ("drop_path=0.0", "time_stripes=0", "freq_stripes=0")
    still = [f"--config.model.htsat.{one}" for one in still] + ["--config.optimizer.eps=1e-3"]
    assert run(place, "own", "two", *still, "--hidden", "4") == 0
    monkeypatch.setattr(loop, "make_mesh", devices(1))
    assert run(place, "own", "one", *still) == 0
    two, one = (
        np.load(place / name / "fold=0" / finetuning.SCORES)["scores"] for name in ("two", "one")
    )
    np.testing.assert_allclose(two, one, atol=1e-4)
    assert np.ptp(one, axis=0).min() > 1e-3  # it tells clips apart
    tuned, linear, wide = read_results(place / "two")
    assert (tuned.n, linear.n) == (12, 12) and list(tuned.metrics) == ["mAP", "mAUC", "d'"]
    assert wide.model == "model, probe of 4 units"
    assert load_experiment(place / "two" / "fold=0").tagging.loss == "bce"
    assert load_experiment(place / "two" / "fold=0").data.split == "train"


def test_bad_input_is_one_line(place, tmp_path, capsys):
    make_tagging_workdir(tmp_path / "tagger", NAMES)
    good = {"--model": place / "model", "--benchmark": f"esc50={place / 'esc'}", "--out": tmp_path}
    for changes, message in (
        ({"--model": tmp_path / "tagger"}, f"{tmp_path / 'tagger'}: a tagger, which has labels of"),
        ({"--benchmark": f"esc50={tmp_path / 'none'}"}, "no such folder (benchmark 'esc50')"),
        ({"--benchmark": place / "esc"}, "write NAME=PATH"),
        ({"--epochs": "0"}, "--epochs must be positive"),
        ({"--epochs": "inf"}, "--epochs must be positive"),
        ({"--config.steps": "six"}, "steps"),
        ({"--config.data.split": "train"}, "data.split: follows from the clips here"),
    ):
        arguments = [f"{name}={value}" for name, value in (good | changes).items()]
        assert main(["finetune", *arguments]) == 2
        captured = capsys.readouterr()
        assert message in captured.err and captured.err.count("\n") == 1, captured.err
