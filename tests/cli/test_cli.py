"""The command line: the whole way by hand, and every config."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import clapjax
from clapjax.cli.config import load_config
from clapjax.cli.evaluate import say_if_none_held_out
from clapjax.cli.main import VERBS
from clapjax.data.records import build_id
from clapjax.evaluation.benchmarks import load_benchmark
from clapjax.evaluation.evaluate import scores
from clapjax.evaluation.result import read_results
from clapjax.evaluation.text import chance, interval, spoken
from clapjax.experiment import Experiment
from clapjax.synthesis.sounds import render
from clapjax.training.checkpoint import load_variables
from clapjax.training.log_files import read_log
from clapjax.training.mesh import micro_batches
from tests.apart import run_apart
from tests.cli.status import main_status as _main

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.py"))
DEMO = "configs/demo.py:runlocal"


# --- help -----------------------------------------------------------------------------------


def test_help_lists_every_verb(command):
    done = command("--help")
    assert done.returncode == 0 and done.stderr == ""
    for verb, (_, text) in VERBS.items():
        assert verb in done.stdout.split() and text in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_shows_an_example(verb, capsys):
    assert _main(verb, "--help") == 0
    out = capsys.readouterr().out
    assert f"usage: clapjax {verb}" in out
    assert f"example: clapjax {verb} " in out


@pytest.mark.parametrize("action", ["build", "info", "check"])
def test_help_of_a_records_action_shows_an_example(action, capsys):
    assert _main("records", action, "--help") == 0
    assert f"example: clapjax records {action} " in capsys.readouterr().out.replace("\n", " ")


# --- the whole way --------------------------------------------------------------------------


def test_records_info(demo_records, capsys):
    assert _main("records", "info", demo_records) == 0
    found = json.loads(capsys.readouterr().out)
    sizes = {name: split["examples"] for name, split in found["splits"].items()}
    assert sizes == {"train": 160, "test": 8, "test_clips": 48}
    assert found["splits"]["test"]["with_negative_audio"] == 8
    assert len(found["splits"]["test_clips"]["labels"]) == 24


def test_records_check(demo_records, tmp_path, capsys):
    assert _main("records", "check", demo_records) == 0
    assert capsys.readouterr().out == f"{demo_records}: sound\n"
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in demo_records.iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    (shard,) = copy.glob("*-test.array_record-*")
    os.truncate(shard, shard.stat().st_size // 2)
    assert _main("records", "check", copy) == 1
    out = capsys.readouterr().out
    assert str(shard) in out and "test: 0 records readable, 8 announced" in out


def test_a_split_that_lacks_is_named_with_a_way_out(demo_records, tmp_path, capsys):
    train = ("train", "--config", DEMO, "--data_dir", demo_records, "--workdir", tmp_path / "run")
    assert _main(*train, "--config.data.split=dev") == 2
    told = "no split 'dev'; there are train, test, test_clips: name one of them (in training "
    assert told in capsys.readouterr().err


def test_records_build_again_reuses(demo_records, capsys):
    assert _main("records", "build", "--config", DEMO, "--data_dir", demo_records) == 0
    expected = f"{demo_records}: already built: 160 train, 8 test, 48 test_clips\n"
    assert capsys.readouterr().out == expected
    build = ("records", "build", "--config", DEMO, "--data_dir", demo_records)
    assert _main(*build, "--config.seed=9") == 2
    assert "made with other settings: seed was 0, is 9" in capsys.readouterr().err


@pytest.fixture(scope="module")
def judged(demo_records, demo_workdir, command):
    """What `eval` of the demo's workdir says, its results written."""
    return command("eval", "--data_dir", demo_records, "--workdir", demo_workdir)


def test_train_then_eval(demo_records, demo_workdir, judged):
    rows = read_log(demo_workdir)
    assert [row["step"] for row in rows if "loss" in row] == [2, 4]
    logged = rows[-1]
    assert judged.returncode == 0, judged.stderr
    results = read_results(demo_workdir)
    found = {f"eval/{name}": value for name, value in scores(results).items()}
    assert logged == {"step": 4, **found}  # the same as the loop's own
    assert "eval/t_classify/text_to_audio" in logged and "eval/zero_shot/accuracy" in logged
    assert "eval/retrieval/text_to_audio/R@1" in logged

    for result in results:
        assert (result.model, result.benchmark) == ("run", "records")
        told = result.provenance
        assert told["step"] == 4 and told["path"] == str(demo_records)
        assert told["data"] == build_id(demo_records)
        assert told["version"] == clapjax.__version__ and len(told["fingerprint"]) == 32
        assert told["command"] == f"clapjax eval --data_dir {demo_records} --workdir {demo_workdir}"
        for name, metric in result.metrics.items():
            assert metric.low <= metric.value <= metric.high
            shown = f"{spoken(name)} {interval(name, metric)}"
            (line,) = [line for line in judged.stdout.splitlines() if f"{shown}" in line]
            assert f"(n={result.n}, chance {chance(result)})" in line
    assert {r.provenance["split"] for r in results} == {"test", "test_clips"}
    assert f"wrote {demo_workdir / 'results.json'}" in judged.stdout

    report = (demo_workdir / "report.html").read_text()
    assert report.lstrip().lower().startswith("<!doctype html>")
    assert "dog bark" in report and "<audio" in report


def test_eval_of_two_models_on_a_folder_and_on_records(
    demo_records, demo_workdir, judged, command, tmp_path, capsys
):
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    rows = ["file,caption,label"]
    for number, label in enumerate(("dog bark", "rain", "siren")):
        soundfile.write(sounds / f"{number}.wav", render(label, number, 2.0, 16_000), 16_000)
        rows.append(f"{number}.wav,the sound of a {label},{label}")
    (sounds / "captions.csv").write_text("\n".join(rows))
    before = (demo_workdir / "results.json").read_bytes()
    out = tmp_path / "out"
    evaluation = (
        *("eval", "--model", f"one={demo_workdir}", demo_workdir, "--out", out),
        *("--benchmark", f"mine={sounds}", f"demo={demo_records}"),
        "--config.evaluation.template=t_clap|laion",
    )
    done = command(*evaluation)
    assert done.returncode == 0, done.stderr
    assert "mine leaves out t_classify: no example of the split 'all' has a negat" in done.stderr
    results = read_results(out)
    own = {name: [r for r in results if r.model == name] for name in ("one", "run")}
    assert len(own["one"]) == len(own["run"])
    for left, right in zip(*own.values(), strict=True):
        assert left.metrics == right.metrics and left.benchmark == right.benchmark
    sizes = {(r.benchmark, r.task): r.n for r in own["one"] if r.task != "t_classify"}
    assert sizes["mine", "retrieval"] == sizes["mine", "zero_shot"] == 3
    assert sizes["demo", "zero_shot"] == 48
    (mine,) = [r for r in own["run"] if (r.benchmark, r.task) == ("mine", "zero_shot")]
    assert mine.provenance["template"] == "A sound of {} | This is a sound of {}."
    assert mine.chance == pytest.approx(1 / 3)
    assert (demo_workdir / "results.json").read_bytes() == before

    broken, other = tmp_path / "broken", tmp_path / "other"
    shutil.copytree(demo_workdir, broken, ignore=shutil.ignore_patterns("checkpoints"))
    evaluation = ("eval", "--model", f"one={demo_workdir}", broken, "--out", other)
    assert _main(*evaluation, "--benchmark", f"mine={sounds}") == 2
    assert {r.model for r in read_results(other)} == {"one"}  # what was done is kept

    capsys.readouterr()
    assert _main("report", out, demo_workdir, "--markdown") == 0
    assert "| mine | zero-shot | accuracy | 3 | 33.3 % |" in capsys.readouterr().out
    assert _main("report", out, demo_workdir, "--out", tmp_path / "both.html") == 0
    assert "clapjax: one, run" in (tmp_path / "both.html").read_text()


def test_another_config_is_refused(demo_records, demo_workdir, capsys):
    where = ("--config", DEMO, "--data_dir", demo_records, "--workdir", demo_workdir)
    assert _main("train", *where, "--config.optimizer.learning_rate=0.5") == 2
    err = capsys.readouterr().err
    assert "was begun with another config: optimizer.learning_rate was " in err
    assert ", is 0.5." in err and len(err.splitlines()) == 1
    assert _main("train", *where) == 0
    assert "already trained" in capsys.readouterr().out


TINY = [
    "--config.loss.temporal_weight=0.5",
    "--config.steps=2",
    "--config.model.audio.clip_samples=16000",
    "--config.synthesis.clip_seconds=1",
    "--config.model.audio.hop_length=320",
    "--config.model.htsat.spec_size=64",
    "--config.model.htsat.depths=(2,)",
    "--config.model.htsat.heads=(2,)",
]


def _tiny_demo(workdir: str) -> int:
    from clapjax.cli import demo, main

    config = demo.load_config(DEMO, TINY)
    demo.load_config = lambda name, overrides: config
    return main.main(["demo", "--workdir", workdir])


def test_demo_compares_two_models(tmp_path, quick_env):
    done = run_apart(_tiny_demo, (str(tmp_path),), quick_env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("built: 160 train") == 1
    assert done.stdout.count("step 2: T-Classify") == 2
    results = read_results(tmp_path)
    assert {result.benchmark for result in results} == {"demo"}
    for name, weight in (("temporal", 0.5), ("control", 0.0)):
        saved = json.loads((tmp_path / name / "config.json").read_text())
        assert saved["loss"]["temporal_weight"] == weight
        rows = read_log(tmp_path / name)
        assert any("temporal_loss" in row for row in rows) == (weight > 0)
        own = {f"eval/{n}": v for n, v in scores([r for r in results if r.model == name]).items()}
        assert rows[-1] == {"step": 2, **own}
    assert "| benchmark | task | metric | n | chance | temporal | control |" in done.stdout
    (row,) = [line for line in done.stdout.splitlines() if "| zero-shot |" in line]
    assert "| accuracy | 48 | 4.17 % |" in row
    assert "temporal, control" in (tmp_path / "report.html").read_text()


def test_records_of_another_rate_end_a_run_before_it_is_said_to_start(
    demo_records, tmp_path, capsys
):
    """Fails before: after its doubts, with the model loaded, as what the model starts from."""
    rate = "--config.model.audio.sample_rate=48000"
    train = ("train", "--config", DEMO, "--data_dir", demo_records, "--workdir", tmp_path / "run")
    assert _main(*train, rate) == 2
    line = "records are at 16000 Hz, the model wants 48000; make records for it in another folder"
    assert capsys.readouterr().err == f"clapjax train: {demo_records}: {line}\n"
    assert not (tmp_path / "run").exists()


def test_eval_says_that_no_clip_of_a_folder_is_held_out(tmp_path, capsys):
    """Its numbers are else those of the training, of a model that was trained on it."""
    soundfile.write(tmp_path / "a.wav", np.full(8000, 0.1), 8000)
    table = tmp_path / "table.csv"
    table.write_text("file,caption\na.wav,A bell\n")
    told = f"clapjax eval: mine: {tmp_path} has no split 'test', so all of it is judged; "
    for name, expected in (("mine", True), ("compa_order", False), ("clotho", False)):
        benchmark = load_benchmark("mine", tmp_path)
        say_if_none_held_out(dataclasses.replace(benchmark, name=name))
        assert capsys.readouterr().err.startswith(told) == expected
    table.write_text("file,caption,split\na.wav,A bell,test\n")
    say_if_none_held_out(load_benchmark("mine", tmp_path))
    assert capsys.readouterr().err == ""


NO_TORCH = """
import sys
from clapjax.cli.entry import entry
entry()
sys.modules["torch"] = None  # as where it is not installed
import transformers
"""


def test_no_verb_complains_that_there_is_no_pytorch(quick_env):
    """Fails before: "PyTorch was not found. Models won't be available" at each start."""
    program = [sys.executable, "-c", NO_TORCH, "config", "seed"]
    done = subprocess.run(program, env=quick_env, stderr=subprocess.PIPE, text=True, check=True)
    assert done.stderr == ""


# --- configs --------------------------------------------------------------------------------


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_config_builds_an_experiment(file):
    whole, small = (load_config(f"{file}{argument}", []) for argument in ("", ":runlocal"))
    assert type(whole) is type(small) is Experiment
    assert small.steps <= 10 < whole.steps
    assert small.batch_size <= 8 and small.synthesis.train_mixtures <= 16
    assert small.source.kind == "sounds"
    assert small.loss.kind == whole.loss.kind
    assert file.read_text().count(f"configs/{file.name}") >= 1  # its docstring says how to run it


@pytest.mark.parametrize("name", ["laion_clap", "large_batch"])  # t_clap: tests/test_t_clap.py
def test_every_config_trains_when_it_is_shrunk(name, demo_records, tmp_path, command):
    config = f"configs/{name}.py:runlocal"
    done = command("train", "--config", config, "--data_dir", demo_records, "--workdir", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "T-Classify" in done.stdout
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [row["contrastive_loss"] for row in rows if "contrastive_loss" in row]
    assert rows[-1]["step"] == 4 and losses and min(losses) > 0


def test_a_small_audio_tower_learns_beside_a_large_models_texts(
    demo_records, demo_workdir, tmp_path, capsys
):
    """Fails where the model's own audio tower is taken, or its text tower learns."""
    train = (
        *("train", "--config", "configs/distilled.py:runlocal", "--data_dir", demo_records),
        *("--workdir", tmp_path, "--config.evaluation.tasks=()"),
        *("--config.model.audio_encoder=cnn6", "--config.model.pann.base_width=4"),
    )
    assert _main(*train, "--config.init_tower=text") == 2
    assert "init_tower is a part of init_from: name that model" in capsys.readouterr().err
    assert _main(*train, "--config.init_tower=text", "--model", demo_workdir) == 0
    capsys.readouterr()
    small, large = clapjax.load(tmp_path), clapjax.load(demo_workdir)
    assert (small.config.audio_encoder, large.config.audio_encoder) == ("cnn6", "htsat")
    assert small.config.text == large.config.text
    texts = ["a dog barks and then a siren", "rain"]
    np.testing.assert_array_equal(small.embed_text(texts), large.embed_text(texts))
    steps = (load_variables(tmp_path, step=step)[0]["params"] for step in (2, 4))
    first, last = (params["audio_encoder"]["fc"]["kernel"] for params in steps)
    assert np.abs(first - last).max() > 0


def test_large_batches_grow_in_parts():
    """The number of micro-batches follows from the batch and the rows of a device."""

    def parts(*overrides):
        return micro_batches(load_config("configs/large_batch.py", list(overrides)), 256)

    assert parts() == 8
    assert parts("--config.batch_size=1048576") == 128
    assert parts("--config.batch_size=256") == 1
    assert parts("--config.batch_size=1048576", "--config.rows_per_device=64") == 64
    sigmoid = load_config("configs/large_batch.py:sigmoid", [])
    assert sigmoid.loss.kind == "sigmoid" and sigmoid.model.logit_bias


def test_overrides_reach_the_experiment():
    experiment = load_config(
        DEMO,
        [
            "--config.steps=7",
            "--config.optimizer.learning_rate=1",
            "--config.source.train_folds=(1,)",
            "--config.evaluation.tasks=()",
            "--config.model.audio.fill=pad",
            "--config.synthesis.train_negative_audio=true",
        ],
    )
    assert experiment.steps == 7 and experiment.optimizer.learning_rate == 1.0
    assert experiment.source.train_folds == (1,) and experiment.evaluation.tasks == ()
    assert experiment.model.audio.fill == "pad" and experiment.synthesis.train_negative_audio
