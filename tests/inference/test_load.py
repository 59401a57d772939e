"""`clapjax.load`, and what a loaded model tells of itself."""

import dataclasses
import logging
import shutil

import huggingface_hub
import jax
import numpy as np
import pytest
import torch

import clapjax
from clapjax.inference import Clap
from clapjax.inference.place import find_place
from clapjax.training import checkpoint
from clapjax.training.state import TrainState
from tests.inference.tiny import make_tagging_workdir, make_variables


def _same(left, right) -> None:
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_a_step_is_a_checkpoint_of_a_run(workdir, clap, tmp_path):
    shutil.copytree(workdir, tmp_path / "run")
    last = make_variables(clap.config, 7)
    with checkpoint.open_manager(tmp_path / "run") as manager:
        checkpoint.save(manager, 2, TrainState(step=np.int32(2), opt_state=(), **last), {})
    first = clapjax.load(tmp_path / "run", step=1)
    _same(first.params, clapjax.load(workdir).params)
    for found in (clapjax.load(tmp_path / "run"), clapjax.load(tmp_path / "run", step=2)):
        _same(found.params, last["params"])
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 3; there are \[2, 1\]"):
        clapjax.load(tmp_path / "run", step=3)


def test_a_model_saves_itself(claps, tmp_path):
    """As transformers read it where they can, else as it is."""
    clap, other = claps["plain"], claps["any_length"]
    clap.save(tmp_path / "hf")
    clap.save(tmp_path / "own", layout="clapjax")
    other.save(tmp_path / "other")
    for name, model in (("hf", clap), ("own", clap), ("other", other)):
        found = clapjax.load(tmp_path / name)
        _same(found.variables, model.variables)
        assert found.tokenizer.get_vocab() == clap.tokenizer.get_vocab()
        assert name == "hf" or found.config == model.config
    assert (tmp_path / "hf" / "preprocessor_config.json").is_file()
    with pytest.raises(clapjax.CheckpointError, match="exists already; name a new folder"):
        clap.save(tmp_path / "hf")
    with pytest.raises(clapjax.CheckpointError, match="its audio encoder is cnn6, not htsat"):
        other.save(tmp_path / "more", layout="hf")
    with pytest.raises(ValueError, match="layout must be one of hf, clapjax, not 'onnx'"):
        clap.save(tmp_path / "more", layout="onnx")
    with pytest.raises(ValueError, match="loaded without its text tower"):
        clapjax.load(tmp_path / "own", towers="audio").save(tmp_path / "more")
    for settings, message in (
        ({"step": 4}, "no run of clapjax, which step=4 is of"),
        ({"revision": "main"}, "is here already; revision='main' is of a hub id"),
    ):
        with pytest.raises(ValueError, match=message):
            clapjax.load(tmp_path / "own", **settings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf", "other", "own"]


def test_a_revision_is_of_a_hub_id(workdir, monkeypatch):
    asked = []

    def offline(source, **settings):
        asked.append((source, settings["revision"]))
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    for settings in ({}, {"revision": "v2"}, {"revision": "v3", "task": "tagging"}):
        with pytest.raises(clapjax.CheckpointError, match="could be reached .no network."):
            clapjax.load("someone/clap", **settings)
    assert asked == [("someone/clap", None), ("someone/clap", "v2"), ("someone/clap", "v3")]
    with pytest.raises(ValueError, match="which has steps and no revision"):
        clapjax.load(workdir, revision="v2")


@pytest.mark.parametrize("device", [None, "cpu", "cpu:0", torch.device("cpu"), "first"])
def test_a_device_by_its_names(device):
    device = jax.devices()[0] if device == "first" else device
    assert find_place(device).device == jax.local_devices()[0]
    assert find_place("cpu:3").device == jax.local_devices()[3]


@pytest.mark.parametrize("dtype", ["bfloat16", jax.numpy.bfloat16, torch.bfloat16])
def test_a_type_by_its_names(dtype):
    assert find_place(dtype=dtype).dtype == "bfloat16"
    assert find_place(dtype=np.float32).dtype == "float32" and find_place().dtype == ""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "tpu"}, "no device 'tpu'; there is cpu:0, cpu:1"),
        ({"device": "cuda:1"}, "no device 'cuda:1'; there is cpu:0"),
        ({"device": "cpu:99"}, "no device 'cpu:99'"),
        ({"device": "cpu:x"}, "no device 'cpu:x'"),
        ({"dtype": "float16"}, "dtype must be one of float32, bfloat16, not 'float16'"),
        ({"dtype": torch.float64}, "dtype must be one of float32, bfloat16, not 'float64'"),
        ({"workers": 0}, "workers must be a number of threads, at least 1, not 0"),
        ({"workers": 1.5}, "workers must be a number of threads, at least 1, not 1.5"),
    ],
)
def test_places_that_there_are_not(settings, message, workdir):
    with pytest.raises(ValueError, match=message):
        clapjax.load(workdir, **settings)


def test_a_model_says_what_it_is(workdir, clap, tmp_path):
    parts = "htsat at 8000 Hz, clips of 1 s, 8 dimensions"
    assert repr(clapjax.load(workdir)) == f"Clap({parts}, float32 on cpu:0, batch_size=16)"
    half = clapjax.load(workdir, towers="text", device="cpu:1", dtype="bfloat16", batch_size=2)
    assert repr(half) == f"Clap({parts}, no audio tower, bfloat16 on cpu:1, batch_size=2)"
    assert half.config == clapjax.load(workdir).config
    tagger = clapjax.load(make_tagging_workdir(tmp_path, ("a", "b")), dtype="bfloat16")
    with pytest.raises(ValueError, match="has no layout but the workdir of its run"):
        clapjax.save(tagger, tmp_path / "out")
    expected = "Tagger(htsat at 8000 Hz, clips of 1 s, 2 labels, bfloat16 on cpu:0, batch_size=16)"
    assert repr(tagger) == expected


def test_two_models_of_a_configuration_compile_once(clap, caplog):
    """Of other weights, too."""
    config = dataclasses.replace(clap.config, projection_size=6)  # that no other test has

    def compiled(model: Clap) -> tuple[np.ndarray, int]:
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            found = model.embed_text(["a dog barks", "rain"])
        return found, sum("Finished XLA compilation" in line for line in caplog.messages)

    models = [Clap(config, make_variables(config, seed), clap.tokenizer) for seed in (1, 2)]
    (first, count), (second, again) = map(compiled, models)
    assert count > 0 and again == 0
    assert np.abs(first - second).max() > 1e-2


def test_what_there_is_at_the_top():
    names = {"load", "save", "Clap", "Tagger", "Captioner", "AudioError", "CheckpointError"}
    assert names <= set(dir(clapjax)) and names <= set(clapjax.__all__)
    for name in clapjax.__all__:
        assert getattr(clapjax, name) is not None
    assert issubclass(clapjax.AudioError, ValueError) and clapjax.Clap is Clap
