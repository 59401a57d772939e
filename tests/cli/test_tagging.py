"""Every verb on the workdir of a tagging run: it works, or says in a line what does."""

import jax
import numpy as np
import pytest

import clapjax
from benchmarks.kill_resume import SMALL
from clapjax.cli.main import VERBS, main
from clapjax.cli.train import load_model
from clapjax.data.records import read_examples
from clapjax.evaluation.benchmarks import load_benchmark
from clapjax.evaluation.result import read_results
from clapjax.evaluation.tagging import tagging
from clapjax.evaluation.text import line, summary
from clapjax.inference.store import Table, write_table
from clapjax.interop.load import load_pretrained
from tests.inference.tiny import make_tagging_workdir, make_workdir
from tests.interop.tokenizers import write_roberta
from tests.interop.torch_models import extractor, transformers_clap

LABELS = ("animal", "dog", "rain")
TAGGER = "a tagger, which has labels of its own and no embeddings; clapjax.load(...).tag(...) gives"
EXPORT = "a model for tagging, which cannot be exported; use the workdir itself (clapjax.load), or"
CASES = {  # verb: (arguments, what the line says)
    "embed": ("--model W clip.wav --out out.npz", TAGGER),
    "classify": ("--model W --labels dog,rain clip.wav", TAGGER),
    "caption": ("--model W clip.wav", "no captioner, which --model needs"),
    "search": ("--model W --index index.npz dog", "a tagger, which has no text tower"),
    "export": ("--workdir W out", EXPORT),
    "import": ("W out", "a workdir of clapjax, which needs no import; name it"),
}
# What takes a config, records or tables; and `eval`, which works and has a test of its own.
NO_MODEL = {"demo", "finetune", "records", "captions", "train", "config", "plan", "eval", "report"}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return make_tagging_workdir(tmp_path_factory.mktemp("tagging"), LABELS)


@pytest.mark.parametrize("verb", sorted(CASES))
def test_verbs_that_want_another_model_say_so(verb, workdir, tmp_path, monkeypatch, capsys):
    assert CASES.keys() | NO_MODEL == VERBS.keys()  # a new verb belongs in one of them
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.wav").write_bytes(b"")
    one = {"vectors": np.ones((1, 8), np.float32), "names": ["dog"], "kinds": ["text"]}
    write_table("index.npz", Table(**one, model="m", fingerprints={"text": "0"}))
    before = sorted(tmp_path.iterdir())
    arguments, message = CASES[verb]
    assert main([verb, *arguments.replace("W", str(workdir)).split()]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"clapjax {verb}: {workdir}: {message}")
    assert captured.err.count("\n") == 1 and not captured.out
    assert sorted(tmp_path.iterdir()) == before


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
