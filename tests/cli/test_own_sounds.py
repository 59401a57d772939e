"""A folder of own sounds with one table: built, trained on, gone on with, tuned from, exported."""

import json
import shutil

import jax
import numpy as np
import pytest
import torch
import transformers

import clapjax
from clapjax.cli.main import main
from clapjax.cli.train import _same_head, load_model
from clapjax.data import records
from clapjax.data.tokenizer import load_tokenizer
from clapjax.evaluation.benchmarks import load_tasks
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.evaluate import LACKS, evaluate
from clapjax.evaluation.evaluate import scores as measured
from clapjax.evaluation.result import read_results
from clapjax.experiment import Experiment, load_experiment, save_experiment
from clapjax.interop.export import write_model
from clapjax.interop.load import Pretrained, load_pretrained
from clapjax.models.config import with_vocabulary
from clapjax.tasks.tagging import LABELS_FILE, TaggingConfig
from clapjax.training.checkpoint import load_variables, scores
from tests.data.miniature import sound, write_audio, write_table
from tests.inference.tiny import SMALL, make_tokenizer, make_variables

CONFIG = ("--config", "configs/folder.py", "--config.batch_size=8", "--config.checkpoint_every=2")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """`sounds`, a folder with a table of captions; `hf`, a model for transformers."""
    place = tmp_path_factory.mktemp("own")
    rows = [(write_audio(place / "sounds" / f"{n}.wav", n).name, f"Sound {n}") for n in range(20)]
    write_table(place / "sounds" / "all.csv", [(*row, f"Noise {row[1]}") for row in rows],
                "file,caption_1,caption_2")  # fmt: skip
    tokenizer = make_tokenizer(place / "tokenizer")
    config = with_vocabulary(SMALL, len(tokenizer), tokenizer.pad_token_id)
    write_model(place / "hf", Pretrained(config, make_variables(config, 1), tokenizer), "hf")
    return place


@pytest.fixture(scope="module")
def train(place, command):
    """train("run", "model", ...): `clapjax train` of these sounds from a model, all by its name."""

    def run(workdir: str, model: str, *more: str):
        where = ("--data_dir", place / "records", "--workdir", place / workdir)
        source = f"--config.source.path={place / 'sounds'}"
        return command("train", *CONFIG, source, *where, "--model", place / model, *more)

    return run


@pytest.fixture(scope="module")
def tuned(place, train):
    """The workdir of two steps from the Hugging Face folder."""
    done = train("tuned", "hf", "--config.steps=2")
    assert done.returncode == 0, done.stderr
    return place / "tuned"


def test_a_batch_that_cannot_be_split_is_refused_before_records_are_built(place, train):
    done = train("refused", "hf", "--config.batch_size=6", "--config.loss.order_pairs=1")
    assert done.returncode == 2
    assert (
        "batch_size 6 does not divide among 1 devices; take a multiple of 4: 4 rows each"
        in done.stderr
    )
    assert not (place / "records").exists()


def test_one_command_builds_and_tunes_a_hugging_face_folder(place, tuned):
    counts = records.read_build(place / "records")["counts"]
    assert counts["train"] + counts["test"] == 20 and counts["test"] >= 4
    assert records.read_build(place / "records")["sample_rate"] == SMALL.audio.sample_rate
    expected = load_pretrained(place / "hf")
    experiment = load_experiment(tuned)
    assert experiment.model == expected.config and experiment.data.tokenizer == "model"
    words = load_tokenizer(tuned / "tokenizer").get_vocab()
    assert words == expected.tokenizer.get_vocab()
    assert words != load_tokenizer(place / "records" / "tokenizer").get_vocab()
    # What it began with is the model itself.
    settings = EvaluationConfig(tasks=("retrieval",))
    tasks, _ = load_tasks("own", place / "records", settings, LACKS)
    found = measured(evaluate(clapjax.load(place / "hf"), "hf", tasks, settings))
    logged = [json.loads(line) for line in (tuned / "log.jsonl").read_text().splitlines()]
    assert {f"eval/{name}": value for name, value in found.items()}.items() <= logged[0].items()
    moved, before = load_variables(tuned)[0]["params"], expected.variables["params"]
    for name in ("audio_encoder", "text_encoder"):
        assert not jax.tree.all(jax.tree.map(np.array_equal, moved[name], before[name]))


def test_it_goes_on_when_the_model_has_vanished(place, tuned, train):
    """And says that the folder has changed; a finished run of two steps goes on to four."""
    run = shutil.copytree(tuned, place / "again")
    (place / "hf").rename(place / "gone")
    new = write_table(place / "sounds" / "new.csv", [("0.wav", "More")], "file,caption")
    try:
        done = train(run.name, "hf", "--config.steps=4")
    finally:
        (place / "gone").rename(place / "hf")
        new.unlink()
    assert done.returncode == 0, done.stderr
    assert "has changed (0 new, 0 gone, 1 changed)" in done.stderr
    assert "evaluation leaves out t_classify: no example of the split 'test'" in done.stderr
    assert "step 4: retrieval" in done.stdout and "step 2:" not in done.stdout
    assert load_variables(run)[1] == 4


def test_a_workdir_is_tuned_evaluated_and_exported_for_transformers(place, tuned, train):
    done = train("further", "tuned", "--config.steps=1")
    assert done.returncode == 0, done.stderr
    assert f"starts from {tuned}\n" in done.stderr and "are new" not in done.stderr
    found, before = scores(place / "further"), scores(tuned)
    assert found[0] == before[2]  # it began where the other had ended
    arguments = ["--data_dir", place / "records", "--workdir", place / "further"]
    settings = "--config.evaluation.tasks=('retrieval',)"
    assert main([str(x) for x in ("eval", *arguments, settings)]) == 0
    assert measured(read_results(place / "further")) == found[1]

    out = place / "exported"
    assert main(["export", "--workdir", str(place / "further"), str(out)]) == 0
    theirs, report = transformers.ClapModel.from_pretrained(out, output_loading_info=True)
    assert not any(report.values()), report
    ours, processor = (
        clapjax.load(place / "further"),
        transformers.AutoProcessor.from_pretrained(out),
    )
    texts = ["Sound 3", "noise and rain"]
    clip = np.resize(sound(3), SMALL.audio.clip_samples) / 32768
    tokens = processor.tokenizer(texts, padding=True, return_tensors="pt")
    mel = processor.feature_extractor(
        clip, sampling_rate=SMALL.audio.sample_rate, return_tensors="pt"
    )
    with torch.no_grad():
        output = theirs.eval()(**tokens, **mel)
    np.testing.assert_allclose(ours.embed_text(texts), output.text_embeds, atol=1e-5)
    np.testing.assert_allclose(
        ours.embed_audio(clip.astype(np.float32)), output.audio_embeds, atol=1e-5
    )


def test_a_head_of_other_labels_is_not_taken(place, tuned, tmp_path):
    """Fails where as many labels are taken for the same ones."""
    variables = load_model("tagging", str(tuned), str(tmp_path))
    assert set(variables["params"]) == {"audio_encoder"}  # of both towers and their heads
    save_experiment(Experiment(task="tagging"), tmp_path)
    (tmp_path / LABELS_FILE).write_text('["dog", "rain"]')
    for head in ("linear", "token_semantic"):
        for labels in (("dog", "rain"), ("rain", "dog")):
            same = _same_head(TaggingConfig(labels, head=head), str(tmp_path))
            assert same == (head == "linear" and labels == ("dog", "rain"))
