"""`clapjax import` and `clapjax export`."""

import dataclasses
import shutil

import numpy as np
import pytest
import scipy.special
import torch
import transformers

import clapjax
from clapjax.cli.config import load_config
from clapjax.cli.main import main
from clapjax.data.records import TOKENIZER_FOLDER
from clapjax.data.tokenizer import load_tokenizer
from clapjax.evaluation.result import Metric, Result, write_results
from clapjax.experiment import make_task, save_experiment
from clapjax.inference.store import model_fingerprint
from clapjax.interop.load import load_pretrained
from clapjax.tasks.texts import adapt_to_tokenizer
from clapjax.training.checkpoint import open_manager, save
from clapjax.training.mesh import make_mesh
from clapjax.training.state import init_state
from tests.interop.tokenizers import write_bert, write_roberta
from tests.interop.torch_models import (
    LaionPann,
    extractor,
    laion_state,
    randomize,
    transformers_clap,
)


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    return write_roberta(tmp_path_factory.mktemp("roberta"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"))


def _main(*arguments) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, roberta):
    """A run of configs/demo.py:runlocal that has a checkpoint, of weights as they are drawn."""
    folder = tmp_path_factory.mktemp("run")
    experiment = load_config("configs/demo.py:runlocal", [])
    save_experiment(experiment, folder)
    shutil.copytree(roberta, folder / TOKENIZER_FOLDER)
    model = adapt_to_tokenizer(experiment.model, load_tokenizer(roberta))
    config = dataclasses.replace(experiment, model=model)
    manager = open_manager(folder)
    save(manager, 4, init_state(config, make_task(config), make_mesh(config.mesh)), {})
    manager.wait_until_finished()
    manager.close()
    return folder


def test_laion_file_to_a_folder_that_transformers_reads(roberta, tmp_path, capsys, monkeypatch):
    audio = {"spec_size": 256, "window_size": 8}
    theirs = transformers_clap(audio=audio, text={"hidden_size": 128, "layer_norm_eps": 1e-5})
    torch.save({"state_dict": laion_state(theirs)}, tmp_path / "model.pt")
    out = tmp_path / "folder"
    assert _main("import", tmp_path / "model.pt", out, "--tokenizer", roberta) == 0
    assert capsys.readouterr().out == f"{out}: written; transformers and clapjax read it\n"
    again = transformers.ClapModel.from_pretrained(out)
    for name, value in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    assert transformers.AutoTokenizer.from_pretrained(out).model_max_length == 32
    card = (out / "README.md").read_text()
    assert "library_name: transformers" in card and "- audio: 10 s at 48000 Hz, 64 mels" in card
    assert 'ClapModel.from_pretrained("folder")' in card and "## Results" not in card

    waveform = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    monkeypatch.chdir(tmp_path)
    used = {"waveform": waveform}
    code = card.split("```python\n")[1].split("```")[0].replace("\nmodel(", "\nfound = model(")
    exec(code, used)  # what the card tells to do
    clap = clapjax.load(out)
    audio = clap.embed_audio([waveform], sampling_rate=48_000)
    cosines = clap.similarity(audio, clap.embed_text(["a dog barks", "rain falls"]))
    scale = theirs.state_dict()["logit_scale_a"].exp().item()
    expected = scipy.special.softmax(scale * cosines, axis=1)
    np.testing.assert_allclose(used["found"].detach().numpy(), expected, atol=1e-4)


def test_what_transformers_cannot_represent_becomes_clapjaxs_own(bert, tmp_path, capsys):
    size = len(transformers.AutoTokenizer.from_pretrained(bert))
    torch.save(randomize(LaionPann(size, "bert")).saved(), tmp_path / "model.pt")
    out = tmp_path / "folder"
    assert _main("import", tmp_path / "model.pt", out, "--tokenizer", bert) == 0
    assert capsys.readouterr().out == f"{out}: written; clapjax reads it\n"
    expected = load_pretrained(tmp_path / "model.pt", tokenizer=bert)
    assert load_pretrained(out).config == expected.config
    assert "library_name: clapjax" in (out / "README.md").read_text()


def test_workdir_to_a_folder(workdir, tmp_path, capsys):
    """A demo model has time segments and a convolutional stem, which ClapModel has not."""
    arguments = ("export", "--workdir", workdir, "--to")
    assert _main(*arguments, "hf", tmp_path / "hf") == 2
    err = capsys.readouterr().err
    assert "transformers.ClapModel cannot represent this model: its patches come from" in err
    assert err.endswith("Export with --to clapjax\n") and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []

    assert _main(*arguments, "clapjax", tmp_path / "own") == 0
    expected = f"{tmp_path / 'own'}: step 4 of {workdir} written for clapjax\n"
    assert capsys.readouterr().out == expected
    trained, exported = clapjax.load(workdir), clapjax.load(tmp_path / "own")
    assert exported.config == trained.config
    texts = ["a dog barks, then a man speaks", "rain"]
    np.testing.assert_array_equal(exported.embed_text(texts), trained.embed_text(texts))
    clip = np.sin(np.arange(40_000) / 20).astype(np.float32)
    np.testing.assert_array_equal(exported.embed_audio(clip), trained.embed_audio(clip))


def test_results_stand_on_the_model_card_but_no_others(workdir, tmp_path, capsys):
    workdir = shutil.copytree(workdir, tmp_path / "run")
    model = clapjax.load(workdir)
    told = {"fingerprint": model_fingerprint(model.config, model.variables), "step": 4}
    metrics = {"text_to_audio": Metric(0.948, 0.912, 0.97)}
    result = Result("run", "demo", "t_classify", 240, 0.5, metrics, told)
    write_results(workdir, [result])
    export = ("export", "--workdir", workdir, "--to", "clapjax")
    assert _main(*export, tmp_path / "out") == 0
    card = (tmp_path / "out" / "README.md").read_text()
    row = "| demo | T-Classify | text-to-audio | 240 | 50 % | 94.8 % [91.2, 97.0] |\n"
    assert card.endswith(row)

    # Of another model, and of this one before it was trained on.
    for other in ({"step": 4, "fingerprint": "0" * 32}, {"step": 2}):
        write_results(workdir, [result, dataclasses.replace(result, provenance=other)])
        capsys.readouterr()
        assert _main(*export, tmp_path / "other") == 2
        err = capsys.readouterr().err
        assert f"{workdir / 'results.json'}: measured with another model (run, step " in err
        assert f"than step 4, which is to be exported; run `clapjax eval --workdir {workdir}" in err
        assert err.count("\n") == 1

    (workdir / "results.json").write_text("{")
    assert _main(*export, tmp_path / "other") == 2
    assert f"{workdir / 'results.json'}: damaged" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_bad_input_is_one_line_and_status_2(roberta, tmp_path, capsys):
    transformers_clap().save_pretrained(tmp_path / "hf")
    extractor().save_pretrained(tmp_path / "hf")
    transformers.AutoTokenizer.from_pretrained(roberta).save_pretrained(tmp_path / "hf")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("")
    (tmp_path / "broken.pt").write_bytes(b"nothing that torch wrote")
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()  # transformers shows its progress
    for arguments, message in (
        (("import", tmp_path / "no.pt", "out"), "no.pt: no such file or folder"),
        (("import", tmp_path / "broken.pt", "out"), "broken.pt: damaged, or not by torch ("),
        (("import", tmp_path / "taken", "out"), "taken: no model here; expected clapjax.json or"),
        (("import", tmp_path / "hf", tmp_path / "taken"), "taken: exists already; name a new fol"),
        (("export", "--workdir", tmp_path / "hf", "out"), "config: no field"),
        (("export", "--workdir", tmp_path / "no", "out"), "no config.json here; not a clapjax wor"),
        (("export", "--workdir", __file__, "out"), "a file, no folder of a run; `clapjax import`"),
    ):
        assert _main(*arguments) == 2
        captured = capsys.readouterr()
        lines = captured.err.strip().splitlines()
        assert lines[0].startswith(f"clapjax {arguments[0]}: ") and message in lines[0]
        assert len(lines) == 1 and captured.out == ""
    assert sorted(tmp_path.rglob("*")) == before
