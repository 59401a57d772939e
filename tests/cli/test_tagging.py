"""Every verb on the workdir of a tagging run: it works, or says in a line what does."""

import json

import jax
import numpy as np
import pytest
import soundfile
import torch

import clapjax
from benchmarks.kill_resume import SMALL
from clapjax.cli.main import VERBS, main
from clapjax.cli.train import load_model
from clapjax.data.records import read_examples
from clapjax.evaluation.benchmarks import load_benchmark
from clapjax.evaluation.result import read_results
from clapjax.evaluation.tagging import tagging
from clapjax.evaluation.text import line, summary
from clapjax.experiment import Experiment, save_experiment
from clapjax.inference.store import Table, write_table
from clapjax.interop.load import load_pretrained, load_tagger
from clapjax.starting import resolve
from clapjax.tasks.tagging import TaggingConfig, keep_labels
from tests.inference.tiny import RATE, make_tagging_workdir, make_workdir, noise
from tests.interop.tokenizers import write_roberta
from tests.interop.torch_models import PannTagger, extractor, transformers_clap

LABELS = ("animal", "dog", "rain")
TAGGER = "a tagger, which has labels of its own and no embeddings; `clapjax tag` tells how"
EXPORT = "a model for tagging, which cannot be exported; use the workdir itself (clapjax.load), or"
CASES = {  # verb: (arguments, what the line says)
    "embed": ("--model W clip.wav --out out.npz", TAGGER),
    "classify": ("--model W --labels dog,rain clip.wav", TAGGER),
    "caption": ("--model W clip.wav", "a tagger, which `clapjax tag` takes; --model needs a"),
    "app": ("--model W clip.wav", TAGGER),
    "search": ("--model W --index index.npz dog", "a tagger, which has no text tower"),
    "export": ("--workdir W out", EXPORT),
    "import": ("W out", "a workdir of clapjax, which needs no import; name it"),
}
# What takes a config, records, tables or words; `eval` and `tag`, which work, have own tests.
NO_MODEL = {
    "demo",
    "bootstrap",
    "finetune",
    "records",
    "captions",
    "train",
    "config",
    "plan",
    "report",
    "index",
    "completion",
}
NO_MODEL |= {"eval", "tag"}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return make_tagging_workdir(tmp_path_factory.mktemp("tagging"), LABELS)


@pytest.mark.parametrize("verb", sorted(CASES))
def test_verbs_that_want_another_model_say_so(verb, workdir, tmp_path, monkeypatch, capsys):
    assert CASES.keys() | NO_MODEL == VERBS.keys()  # a new verb belongs in one of them
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.wav").write_bytes(b"")
    one = {"vectors": np.eye(1, 8, dtype=np.float32), "names": ["dog"], "kinds": ["text"]}
    write_table("index.npz", Table(**one, model="m", fingerprints={"text": "0"}))
    before = sorted(tmp_path.iterdir())
    arguments, message = CASES[verb]
    assert main([verb, *arguments.replace("W", str(workdir)).split()]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"clapjax {verb}: {workdir}: {message}")
    assert captured.err.count("\n") == 1 and not captured.out
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for index, seconds in enumerate((1, 2)):
        soundfile.write(folder / f"{index}.wav", noise(seconds * RATE, index), RATE)
    return folder


def test_labels_of_files(workdir, clips, tmp_path, capsys):
    """Those of the model, the likeliest first; a broken file is told, and the others are heard."""
    files = [str(clips / f"{index}.wav") for index in range(2)]
    heard = clapjax.load(workdir).tag(files)
    rows = [dict(zip(LABELS, row.tolist(), strict=True)) for row in heard]
    ranked = [dict(sorted(row.items(), key=lambda item: -item[1])) for row in rows]
    (broken := tmp_path / "broken.wav").write_bytes(b"none")
    command = ["tag", "--model", str(workdir)]
    assert main([*command, *files, str(broken), "--top", "2"]) == 1
    found = capsys.readouterr()
    assert str(broken) in found.err
    shown = [[f"{name} {100 * row[name]:.1f} %" for name in row][:2] for row in ranked]
    assert found.out.splitlines() == [
        "  ".join(x) for x in zip(files, *zip(*shown, strict=True), strict=True)
    ]

    middle = float(np.median(heard))  # so that some labels are likely, and some are not
    there = [[name for name in row if row[name] >= middle] for row in ranked]
    assert main([*command, str(clips), "--threshold", str(middle), "--json"]) == 0
    assert [json.loads(text) for text in capsys.readouterr().out.splitlines()] == [
        {"file": file, "probabilities": row, "heard": names}
        for file, row, names in zip(files, ranked, there, strict=True)
    ]
    assert main([*command, files[0], "--threshold", "1"]) == 0
    assert capsys.readouterr().out == f"{files[0]}  none of the labels\n"


def write_panns(folder) -> str:
    torch.save({"model": PannTagger().saved(32_000)}, folder / "Cnn14.pth")
    (folder / "names.txt").write_text("dog\nrain\ncat\ncow\nowl\n")
    return str(folder / "Cnn14.pth")


def test_what_tag_refuses(workdir, tmp_path, capsys):
    panns, run = write_panns(tmp_path), make_workdir(tmp_path / "run")
    (tmp_path / "clip.wav").write_bytes(b"")
    (tmp_path / "two.txt").write_text("dog\nrain\n")
    for arguments, message in (
        ((workdir, "--top=0"), "--top must be positive, not 0"),
        ((workdir, "--threshold=50"), "--threshold: a probability is in 0 .. 1, not 50"),
        ((workdir, "--labels=names.txt"), "a run of clapjax, which knows its labels"),
        ((workdir, "--long=fusion"), "this model has no feature fusion"),
        ((panns, f"--labels={tmp_path}/two.txt"), "two.txt: 2 names; "),
        ((run,), "a run of the contrastive task, which is no tagger"),
    ):
        model, *further = map(str, arguments)
        assert main(["tag", "--model", model, str(tmp_path / "clip.wav"), *further]) == 2
        captured = capsys.readouterr()
        assert message in captured.err and captured.err.count("\n") == 1 and not captured.out


def test_train_then_eval(demo_records, tmp_path, capsys):
    """`eval` says what the run's last evaluation said, and so does the model by hand."""
    folders = ["--data_dir", str(demo_records), "--workdir", str(tmp_path)]
    command = ["--config", "configs/tagging.py:runlocal", *folders]
    assert main(["train", *command, *SMALL, "--config.steps=2"]) == 0
    (first, last) = capsys.readouterr().out.splitlines()
    assert first.startswith("step 0: tagging mAP ")
    assert main(["eval", *folders]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = read_results(tmp_path)
    assert last == f"step 2: {summary(found)}"
    assert [f"{tmp_path.name} on records: {line(result)}" for result in found] == lines[:2]

    tagger, examples = clapjax.load(tmp_path), list(read_examples(demo_records, "test"))
    heard = tagger.tag([e.audio for e in examples])
    benchmark = load_benchmark("records", demo_records, "test")
    expected = tagging(heard, tagger.labels, benchmark, range(len(examples)), "", {})
    assert [result.metrics for result in found] == [result.metrics for result in expected]
    assert found[0].provenance["step"] == 2
    assert "tagging" in (tmp_path / "report.html").read_text()


def test_runs_start_from_panns(tmp_path):
    """The encoder for any task; a tagger of the same labels has its head as well."""
    panns = write_panns(tmp_path)
    theirs = load_tagger(panns, tmp_path / "names.txt")
    for task in ("contrastive", "tagging", "captioning"):
        own = Experiment(task=task, init_from=panns)
        found, tokenizer = resolve(own)
        assert tokenizer is None and found.data == own.data
        assert (found.model.audio, found.model.pann) == (theirs.config.audio, theirs.config.pann)
        assert found.model.audio_encoder == "cnn14" and found.model.text == own.model.text
        if task == "tagging":
            for labels, whole in ((tuple("01234"), True), (tuple("43210"), False)):
                run = tmp_path / "".join(labels)
                save_experiment(found, run)
                keep_labels(TaggingConfig(labels), "train", "", run)
                variables = load_model(task, panns, run)
                assert ("head" in variables["params"]) == whole
        else:
            variables = load_model(task, panns, tmp_path)
            assert variables["params"].keys() == {"audio_encoder"}
        jax.tree.map(
            np.testing.assert_array_equal,
            variables["params"]["audio_encoder"],
            theirs.variables["params"]["audio_encoder"],
        )


def test_encoders_go_from_task_to_task(workdir, tmp_path):
    """init_from: of a run of the other task, and of a Hugging Face folder, the audio encoder."""
    tagger = clapjax.load(workdir).variables["params"]
    theirs = load_model("tagging", workdir, workdir)["params"]
    assert theirs.keys() == {"audio_encoder", "head"}
    run, folder = make_workdir(tmp_path / "run"), tmp_path / "hf"
    transformers_clap().save_pretrained(folder)
    extractor().save_pretrained(folder)
    write_roberta(folder)
    for task, source, expected in (
        ("contrastive", workdir, tagger),
        ("tagging", run, clapjax.load(run).params),
        ("tagging", folder, load_pretrained(folder).variables["params"]),
    ):
        found = load_model(task, source, tmp_path)
        assert found["params"].keys() == found["batch_stats"].keys() == {"audio_encoder"}
        jax.tree.map(
            np.testing.assert_array_equal,
            found["params"]["audio_encoder"],
            expected["audio_encoder"],
        )
