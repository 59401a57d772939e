"""Configs on their way to a workdir and back, and values that are refused."""

import dataclasses
import json

import pytest

from clapjax.data.build.builder import SourceConfig
from clapjax.data.config import DataConfig
from clapjax.evaluation.config import EvaluationConfig
from clapjax.experiment import (
    Experiment,
    from_dict,
    load_experiment,
    save_experiment,
    to_dict,
)
from clapjax.synthesis.mixup import MixupConfig
from clapjax.training.config import MeshConfig


def test_another_config_is_refused_and_shown(tmp_path):
    experiment = Experiment()
    save_experiment(experiment, tmp_path)
    assert load_experiment(tmp_path) == experiment
    (tmp_path / "checkpoints" / "4").mkdir(parents=True)
    save_experiment(experiment, tmp_path)
    other = dataclasses.replace(
        experiment,
        seed=1,
        loss=dataclasses.replace(experiment.loss, temporal_weight=7.0),
    )
    with pytest.raises(ValueError, match="was begun with another config") as caught:
        save_experiment(other, tmp_path)
    weight = experiment.loss.temporal_weight
    changes = f"loss.temporal_weight was {weight}, is 7.0; seed was 0, is 1."
    assert changes in str(caught.value)
    assert load_experiment(tmp_path) == experiment


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ("config.json", "has a config.json that is no run's"),
        ("tokenizer/tokenizer.json", "has a tokenizer that is no run's"),
        ("clapjax_build.json", "has records in it"),
    ],
)
def test_what_is_no_run_is_not_written_over(tmp_path, there, why):
    """A model or records, of which a run would replace the config and the tokenizer."""
    file = tmp_path / there
    file.parent.mkdir(exist_ok=True)
    file.write_text("{}")
    with pytest.raises(ValueError, match=f"{tmp_path}: {why}; name another folder"):
        save_experiment(Experiment(), tmp_path)
    assert file.read_text() == "{}" and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(ValueError, match="is a file; name a folder"):
        save_experiment(Experiment(), file)


def test_what_a_run_may_go_on_with_differently(tmp_path):
    """Where it runs; and a config of an older version lacks what is new since then."""
    experiment = Experiment()
    save_experiment(experiment, tmp_path)
    (tmp_path / "checkpoints" / "4").mkdir(parents=True)
    file = tmp_path / "config.json"
    values = json.loads(file.read_text())
    for name in ("rows_per_device", "remat", "keep_best"):
        del values[name]
    file.write_text(json.dumps(values))
    save_experiment(experiment, tmp_path)
    elsewhere = dataclasses.replace(experiment, mesh=MeshConfig(2, 4), remat="full")
    save_experiment(elsewhere, tmp_path, write=False)
    assert load_experiment(tmp_path) == experiment
    save_experiment(elsewhere, tmp_path)
    assert load_experiment(tmp_path) == elsewhere


def test_what_is_still_to_come_may_change(tmp_path):
    """Steps, what is logged, kept and judged, and where the records came from; not their share."""
    mixed = DataConfig(mixture=("here/a=0.25", "here/b=16"))
    experiment = Experiment(data=mixed)
    save_experiment(experiment, tmp_path)
    (tmp_path / "checkpoints" / "4").mkdir(parents=True)
    moved = DataConfig(mixture=("there/a=0.25", "there/b=16"), workers=9)
    other = dataclasses.replace(
        experiment,
        steps=7,
        log_every=1,
        checkpoint_every=3,
        eval_every=5,
        rows_per_device=2,
        data=moved,
        evaluation=EvaluationConfig(tasks=("retrieval",)),
        source=SourceConfig(kind="esc50", path="there"),
        synthesis=MixupConfig(train_mixtures=3),
    )
    save_experiment(other, tmp_path)
    assert load_experiment(tmp_path) == other
    less = dataclasses.replace(moved, mixture=("there/a=0.5", "there/b=16"))
    with pytest.raises(ValueError, match="data.mixture was .*0.25.*, is .*0.5"):
        save_experiment(dataclasses.replace(other, data=less), tmp_path)
    with pytest.raises(ValueError, match="data.split was 'train', is 'test'"):
        data = dataclasses.replace(moved, split="test")
        save_experiment(dataclasses.replace(other, data=data), tmp_path)


def test_a_config_without_a_checkpoint_is_replaced(tmp_path):
    save_experiment(Experiment(), tmp_path)
    other = Experiment(batch_size=Experiment().batch_size * 2)
    save_experiment(other, tmp_path)
    assert load_experiment(tmp_path) == other


def test_config_to_dict_and_back():
    experiment = Experiment(seed=3)
    assert from_dict(Experiment, json.loads(json.dumps(to_dict(experiment)))) == experiment


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer": {"learning_rat": 1.0}}, "'optimizer.learning_rat'; did you mean"),
        ({"zzz": 1}, "no field 'zzz'; there are seed"),
        ({"steps": "many"}, "steps must be a whole number, not 'many'"),
        ({"steps": True}, "steps must be a whole number, not True"),
        ({"steps": 1.5}, "steps must be a whole number, not 1.5"),
        ({"optimizer": 3}, "config optimizer: expected a group of fields, not 3"),
        ({"source": {"train_folds": 1}}, "source.train_folds must be a list, not 1"),
        ({"source": {"train_folds": ["1"]}}, "source.train_folds must be a whole number, not '1'"),
        ({"steps": 0}, "steps must be positive, not 0"),
        ({"rows_per_device": -1}, "rows_per_device must be >= 0, not -1"),
        ({"eval_every": -1}, "eval_every must be >= 0, not -1"),
        ({"micro_batches": 2}, "no field 'micro_batches'"),  # what it was before
        ({"task": "chess"}, "task must be one of contrastive, tagging, captioning, not"),
        ({"tagging": {"loss": "mse"}}, "tagging.loss must be one of bce, ce, not 'mse'"),
        ({"seed": -1}, "seed must be in 0"),
        ({"evaluation": {"tasks": ["chess"]}}, r"no task \['chess'\]"),
    ],
)
def test_bad_config_values(values, message):
    with pytest.raises(ValueError, match=message):
        from_dict(Experiment, values)


def test_an_int_will_do_for_a_float():
    rate = from_dict(Experiment, {"optimizer": {"learning_rate": 1}}).optimizer.learning_rate
    assert rate == 1.0 and type(rate) is float


def test_folders_that_are_no_workdirs(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a clapjax workdir"):
        load_experiment(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json: damaged"):
        load_experiment(tmp_path)
