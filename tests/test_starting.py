"""What a run takes from the model that it starts from."""

import dataclasses
import shutil

import numpy as np
import pytest

from clapjax.data.config import DataConfig
from clapjax.data.tokenizer import load_tokenizer, train_tokenizer
from clapjax.experiment import Experiment, load_experiment, make_task, save_experiment
from clapjax.interop.export import write_model
from clapjax.interop.load import Pretrained, load_pretrained
from clapjax.models.config import with_vocabulary
from clapjax.starting import resolve
from clapjax.training import checkpoint
from clapjax.training.state import TrainState
from tests.inference.tiny import SMALL, make_tokenizer, make_variables, make_workdir


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model for transformers with three rows of its vocabulary that no word has."""
    folder = tmp_path_factory.mktemp("models") / "hf"
    tokenizer = make_tokenizer(folder.parent / "tokenizer")
    config = with_vocabulary(SMALL, len(tokenizer) + 3, tokenizer.pad_token_id)
    write_model(folder, Pretrained(config, make_variables(config, 1), tokenizer), "hf")
    return folder


def _from(source, **fields) -> Experiment:
    return Experiment(init_from=str(source), **fields)


def _begin(workdir, experiment: Experiment, tokenizer) -> None:
    """Leaves what a run leaves that began with what `resolve` gave."""
    save_experiment(experiment, workdir)
    if experiment.task == "contrastive":
        make_task(experiment, tokenizer).keep("no records", workdir)
    zero = np.zeros((), np.int32)
    state = TrainState(step=zero + 1, opt_state=(), params={"x": zero}, batch_stats={})
    with checkpoint.open_manager(workdir) as manager:
        checkpoint.save(manager, 1, state, {})


@pytest.mark.parametrize("kind", ["folder", "workdir"])
def test_configuration_and_tokenizer_are_the_models(kind, exported, tmp_path):
    """Fails where the config's own sizes, or the records' tokenizer, are taken."""
    source = exported if kind == "folder" else make_workdir(tmp_path / "model")
    experiment, tokenizer = resolve(_from(source))
    if kind == "folder":
        expected = load_pretrained(source).config
    else:
        own = load_tokenizer(source / "tokenizer")
        expected = with_vocabulary(SMALL, len(own), own.pad_token_id)
    assert experiment.model == expected != Experiment().model
    assert experiment.data == dataclasses.replace(DataConfig(), tokenizer="model")
    _begin(tmp_path / "run", experiment, tokenizer)
    kept = load_tokenizer(tmp_path / "run" / "tokenizer")
    given = load_tokenizer(exported if kind == "folder" else source / "tokenizer")
    assert kept.get_vocab() == given.get_vocab()
    assert load_experiment(tmp_path / "run") == experiment


def test_it_goes_on_without_the_model(exported, tmp_path):
    source = shutil.copytree(exported, tmp_path / "hf")
    asked = _from(source)
    given = {"model.text.dropout"}
    model = dataclasses.replace(asked.model.text, dropout=0.25)
    asked = dataclasses.replace(asked, model=dataclasses.replace(asked.model, text=model))
    first, tokenizer = resolve(asked, given, tmp_path / "run")
    assert first.model.text.dropout == 0.25
    _begin(tmp_path / "run", first, tokenizer)
    shutil.rmtree(source)
    again, tokenizer = resolve(dataclasses.replace(asked, steps=9), given, tmp_path / "run")
    assert again == dataclasses.replace(first, steps=9) and tokenizer is None
    save_experiment(again, tmp_path / "run")
    other, _ = resolve(dataclasses.replace(asked, init_from="another"), given, tmp_path / "run")
    for wrong in (other, Experiment(steps=9)):  # another model, and none
        with pytest.raises(ValueError) as error:
            save_experiment(wrong, tmp_path / "run")
        expected = (
            f"another config: init_from was {str(source)!r}, is {wrong.init_from!r}. Use a new"
        )
        assert expected in str(error.value)


def test_a_start_that_left_no_checkpoint_leaves_no_words(exported, tmp_path):
    """Fails where the tokenizer of an earlier start is taken for that of this one."""
    experiment, tokenizer = resolve(_from(exported))
    save_experiment(experiment, tmp_path)
    train_tokenizer(["other words", "in it"], tmp_path / "tokenizer", 264)
    save_experiment(experiment, tmp_path)
    make_task(experiment, tokenizer).keep("no records", tmp_path)
    kept = load_tokenizer(tmp_path / "tokenizer").get_vocab()
    assert kept == load_tokenizer(exported).get_vocab()
    shutil.rmtree(tmp_path / "tokenizer")
    with pytest.raises(ValueError, match="no tokenizer in .*; it comes with --model"):
        make_task(experiment).keep("no records", tmp_path)


def test_another_vocabulary_of_the_same_size_is_refused(exported, tmp_path):
    own = load_tokenizer(exported)
    train_tokenizer(["zebras quietly munch grass beside xylophones"] * 3, tmp_path, len(own))
    assert len(load_tokenizer(tmp_path)) == len(own)
    given = {"data.tokenizer"}
    for source in (exported, make_workdir(tmp_path / "model")):
        with pytest.raises(ValueError, match="has other words than the tokenizer of"):
            resolve(_from(source, data=DataConfig(tokenizer=str(tmp_path))), given)
    own.save_pretrained(tmp_path / "same")
    same = DataConfig(tokenizer=str(tmp_path / "same"))
    assert resolve(_from(exported, data=same), given)[0] == resolve(_from(exported))[0]


def test_taggers_and_clap_models_take_each_others_ears(exported, tmp_path):
    """Fails where the records' tokenizer is taken for that of a model that has none."""
    tagging, none = resolve(_from(exported, task="tagging"))
    assert tagging.model == load_pretrained(exported).config and none is None
    assert tagging.data == DataConfig()
    _begin(tmp_path / "run", dataclasses.replace(tagging, data=DataConfig()), None)
    back, none = resolve(_from(tmp_path / "run"))
    own = Experiment().model
    assert none is None and back.data == DataConfig()
    assert (back.model.audio, back.model.htsat) == (tagging.model.audio, tagging.model.htsat)
    assert (back.model.text, back.model.projection_size) == (own.text, own.projection_size)


@pytest.mark.parametrize(
    ("group", "field", "value"),
    [
        ("text", "hidden_size", 64),
        ("text", "positions", "absolute"),
        ("audio", "sample_rate", 16_000),
        ("htsat", "depths", (4,)),
    ],
)
def test_what_the_parameters_were_learnt_with_cannot_be_set(exported, group, field, value):
    part = dataclasses.replace(getattr(SMALL, group), **{field: value})
    asked = dataclasses.replace(SMALL, **{group: part})
    path = f"model.{group}.{field}"
    assert resolve(_from(exported, model=asked))[0].model != asked  # a file's model does not count
    with pytest.raises(ValueError, match=f"{path} is .* in {exported}, .*; leave the field out"):
        resolve(_from(exported, model=asked), {path})


def test_what_is_random_in_training_can_be_set(exported):
    fields = {
        "htsat": {"drop_path": 0.3, "time_stripes": 5, "freq_width": 3},
        "text": {"attention_dropout": 0.2, "max_length": 12},
        "audio": {"clip_samples": 4000, "fill": "pad"},
    }
    given = {f"model.{name}.{field}" for name, x in fields.items() for field in x}

    def changed(config):
        parts = {
            name: dataclasses.replace(getattr(config, name), **fields[name]) for name in fields
        }
        return dataclasses.replace(config, compute_dtype="float32", **parts)

    found, _ = resolve(_from(exported, model=changed(SMALL)), given | {"model.compute_dtype"})
    assert found.model == changed(load_pretrained(exported).config)


def test_a_models_text_is_no_longer_than_77_tokens(exported, tmp_path):
    """512 positions are no reason to read 512 tokens."""
    tokenizer = load_tokenizer(exported)
    text = dataclasses.replace(SMALL.text, max_positions=514, max_length=512)
    config = dataclasses.replace(SMALL, text=text)
    config = with_vocabulary(config, len(tokenizer), tokenizer.pad_token_id)
    model = Pretrained(config, make_variables(config, 0), tokenizer)
    write_model(tmp_path / "long", model, "clapjax")
    assert resolve(_from(tmp_path / "long"))[0].model.text.max_length == 77
    asked = _from(tmp_path / "long", model=dataclasses.replace(SMALL, text=text))
    assert resolve(asked, {"model.text.max_length"})[0].model.text.max_length == 512
