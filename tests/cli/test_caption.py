"""`clapjax caption`, and the other verbs on the workdir of a captioning run."""

import json
import shutil

import jax
import numpy as np
import pytest
import soundfile

import clapjax
from benchmarks.kill_resume import SMALL
from clapjax.cli.main import main
from clapjax.cli.train import load_model
from clapjax.data.records import read_examples
from clapjax.data.sources.common import texts_of
from clapjax.evaluation.result import read_results
from clapjax.evaluation.text import line, summary
from clapjax.experiment import Experiment
from clapjax.starting import resolve
from tests.inference.tiny import (
    RATE,
    make_captioning_workdir,
    make_tagging_workdir,
    make_workdir,
    noise,
)

SHORT = (  # beside SMALL: captions of few words, which take little time
    "--config.model.audio.mel_bins=16",
    "--config.model.htsat.spec_size=32",
    "--config.captioning.decoder.guidance_length=12",
    "--config.captioning.decoder.max_length=6",
    "--config.captioning.decoding.beams=1",
)
WRONG = {
    "embed": ("clip.wav --out out.npz", "a captioner, which has no embeddings; `clapjax caption`"),
    "classify": ("--labels dog,rain clip.wav", "a captioner, which has no embeddings"),
}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return make_captioning_workdir(tmp_path_factory.mktemp("captioning"), beams=2)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for index in range(2):
        soundfile.write(folder / f"{index}.wav", noise(RATE, index), RATE)
    (folder / "broken.wav").write_bytes(b"none")
    return folder


def test_captions_of_files(workdir, clips, tmp_path, capsys):
    """Those of the model; a broken file is told, and the others are written of."""
    model = clapjax.load(workdir)
    files = [str(clips / f"{index}.wav") for index in range(2)]
    assert main(["caption", "--model", str(workdir), str(clips), "--tags", "dog, rain"]) == 1
    found = capsys.readouterr()
    assert "broken.wav" in found.err
    expected = model.caption(files, tags=["dog", "rain"])
    texts = [f"{file}  {text}" for file, text in zip(files, expected, strict=True)]
    assert found.out.splitlines() == texts

    tagger = make_tagging_workdir(tmp_path / "tagger", ("dog", "rain"))
    heard = clapjax.load(tagger).tag(files)
    middle = float(np.median(heard))  # so that some tags are likely, and some are not
    command = ["caption", "--model", str(workdir), *files, "--tagger", str(tagger)]
    assert main([*command, "--threshold", str(middle)]) == 0
    rows = [dict(zip(("dog", "rain"), row.tolist(), strict=True)) for row in heard]
    tags = [sorted((x for x in row if row[x] >= middle), key=row.get)[::-1] for row in rows]
    expected = model.caption(files, tags=tags)
    found = capsys.readouterr().out.splitlines()
    assert found == [f"{file}  {text}" for file, text in zip(files, expected, strict=True)]

    run = make_workdir(tmp_path / "clap")
    command = ["caption", "--model", str(workdir), *files, "--n", "3", "--json"]
    assert main([*command, "--rerank", str(run), "--beam", "4", "--order", "one"]) == 0
    rows = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [row["file"] for row in rows] == files
    for row in rows:
        cosines = row["similarity"]
        assert 1 <= len(cosines) <= 3 and cosines == sorted(cosines, reverse=True)
        assert len(row["captions"]) == len(row["log_probability"]) == len(cosines)
        read = texts_of(row)  # as `records build` of a table does
        assert read["captions"] == row["captions"]
        assert set(read["provenance"]) == {f"captioner:{workdir.name}"}
    assert main([*command, "--nucleus", "0.9", "--seed", "3"]) == 0
    first = capsys.readouterr().out
    assert main([*command, "--nucleus", "0.9", "--seed", "4"]) == 0
    assert first != capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--beam 2 --groups 3", "--beam 2 do not divide into 3 groups"),
        ("--beam 2 --n 3", "--n: 2 beams do not give 3 captions"),
        ("--tags dog,_", "--tags: '_' is no name of what sounds"),
        ("--order twice", "order must be one of one, simultaneous, sequential, complex"),
        ("--rerank W", "a captioner, which `clapjax caption` takes; --rerank needs a CLAP model"),
        ("--threshold 0.3", "--threshold is of the tags that --tagger hears"),
        ("--tagger W", "a run of the captioning task, which is no tagger"),
    ],
)
def test_what_is_refused(arguments, message, workdir, clips, capsys):
    command = f"caption --model W {clips}/0.wav {arguments}".replace("W", str(workdir))
    assert main(command.split()) == 2
    assert message in (err := capsys.readouterr().err) and err.count("\n") == 1


@pytest.mark.parametrize("verb", sorted(WRONG))
def test_verbs_that_want_another_model_say_so(verb, workdir, capsys):
    arguments, message = WRONG[verb]
    assert main([verb, "--model", str(workdir), *arguments.split()]) == 2
    assert capsys.readouterr().err.startswith(f"clapjax {verb}: {workdir}: {message}")


def test_train_then_eval(demo_records, tmp_path, capsys):
    """`eval` says what the run's last evaluation said, and so does the model by hand."""
    folders = ["--data_dir", str(demo_records), "--workdir", str(tmp_path / "run")]
    command = ["--config", "configs/captioner.py:runlocal", *folders]
    assert main(["train", *command, *SMALL, *SHORT, "--config.steps=2"]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("step 0: captioning BLEU-1 ")
    assert main(["eval", *folders]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = read_results(tmp_path / "run")
    assert last == f"step 2: {summary(found)}"
    assert [f"run on records: {line(result)}" for result in found] == lines[:2]
    model, examples = clapjax.load(tmp_path / "run"), list(read_examples(demo_records, "test"))
    tags = [example.labels for example in examples]
    for result, own in zip(found, ((), tags), strict=True):
        heard = model.caption([example.audio for example in examples], tags=own)
        assert result.items["caption"].tolist() == heard
    assert "captioning with tags" in (tmp_path / "run" / "report.html").read_text()


def test_a_captioner_starts_from_other_models(workdir, tmp_path):
    """From another captioner with all it has; from other models, and to them, with the ears."""
    variables = clapjax.load(workdir).variables
    experiment = Experiment(task="captioning", init_from=str(workdir))
    found, tokenizer = resolve(experiment)
    assert found.captioning.decoder.hidden_size == 16 and found.data.tokenizer == "model"
    assert found.captioning.unguided == experiment.captioning.unguided
    assert tokenizer.get_vocab() == clapjax.load(workdir).tokenizer.get_vocab()
    own = load_model("captioning", workdir, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, own, variables)
    with pytest.raises(ValueError, match="captioning.decoder.layers is 1 in .*; leave the field"):
        resolve(experiment, {"captioning.decoder.layers"})
    runs = {
        "contrastive": make_workdir(tmp_path / "clap"),
        "tagging": make_tagging_workdir(tmp_path / "tagger", ("dog", "rain")),
    }
    for task, run in runs.items():
        here, none = resolve(Experiment(task="captioning", init_from=str(run)))
        assert none is None and here.model.htsat == found.model.htsat
        assert here.captioning == Experiment().captioning and here.data == Experiment().data
        for one, source in (("captioning", run), (task, workdir)):
            assert load_model(one, source, tmp_path)["params"].keys() == {"audio_encoder"}
        there, none = resolve(Experiment(task=task, init_from=str(workdir)))
        assert none is None and there.model.htsat == found.model.htsat
    shutil.copytree(workdir, tmp_path / "copy")
    again, none = resolve(experiment, workdir=tmp_path / "copy")
    assert none is None and again.captioning.decoder.hidden_size == 16
