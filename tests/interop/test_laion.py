"""LAION-CLAP checkpoints, against torch models that save under its names."""

import dataclasses
import sys

import jax
import numpy as np
import pytest
import torch
import transformers

import clapjax
from clapjax.cli.main import main
from clapjax.interop.errors import CheckpointError
from clapjax.interop.layout import pair_up, split_all
from clapjax.interop.load import load_pretrained
from clapjax.interop.tables import laion_rows
from clapjax.models.clap import init_variables
from clapjax.models.config import FUSION_TYPES, PANN_BLOCKS
from clapjax.models.presets import audio_preset, laion_clap
from tests.interop.tokenizers import TEXTS
from tests.interop.torch_models import (
    LaionPann,
    clip_of_10_s,
    extractor,
    laion_state,
    log_mel,
    randomize,
    transformers_audio,
    transformers_clap,
    transformers_text,
    waves,
)

CLIPS = waves(48_000, 4.0, 23.0)
SWIN = {"spec_size": 256, "window_size": 8}
TEXT = {"hidden_size": 128, "layer_norm_eps": 1e-5}  # two heads of 64
FRONT = {"sampling_rate": 48_000, "hop_length": 480, "max_length_s": 10}
FRONT |= {"fft_window_size": 1024, "frequency_max": 14_000}


@pytest.mark.parametrize("fused", [False, True])
def test_htsat_and_roberta(fused, roberta, tmp_path):
    theirs = transformers_clap(fused, audio=SWIN, text=TEXT)
    state = laion_state(theirs)
    # As training saves it: behind DistributedDataParallel, with numpy numbers beside the weights.
    file = tmp_path / "630k-tiny.pt"
    wrapped = {f"module.{name}": value for name, value in state.items()}
    extra = {"epoch": np.int64(45), "best": np.float64(0.36), "loss": np.float32(1.5)}
    torch.save({"name": "630k", "state_dict": wrapped, **extra}, file)

    ours = clapjax.load(file, tokenizer=roberta, batch_size=2)
    features = extractor(fused, **FRONT)
    audio = transformers_audio(theirs, features, CLIPS)
    np.testing.assert_allclose(ours.embed_audio(CLIPS), audio, rtol=0, atol=1e-5)
    tokenizer = transformers.AutoTokenizer.from_pretrained(roberta)
    text = transformers_text(theirs, tokenizer, TEXTS)
    np.testing.assert_allclose(ours.embed_text(TEXTS), text, rtol=0, atol=1e-5)

    # The other direction: every weight that reaches the embedding, bit for bit.
    config, variables, _ = load_pretrained(file, tokenizer=roberta)
    back = split_all(pair_up(laion_rows(config), config), variables)
    unused = ("num_batches", "_index", "_ids", "mask", "extractor", "tscam", ".head.", "transform")
    kept = {name for name in state if not any(part in name for part in unused)}
    assert back.keys() == kept
    for name in kept:
        np.testing.assert_array_equal(back[name], state[name].numpy(), name)


@pytest.mark.parametrize("text", ["bert", "clip"])
def test_cnn14_with_bert_or_clip(text, request, tmp_path):
    folder = request.getfixturevalue("bert" if text == "bert" else "roberta")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    theirs = randomize(LaionPann(len(tokenizer), text))
    file = tmp_path / "pann.pt"
    torch.save(theirs.saved(), file)

    ours = clapjax.load(file, tokenizer=folder, batch_size=2)
    assert ours.config.audio_encoder == "cnn14" and ours.config.audio == audio_preset("laion")
    mel = torch.stack([log_mel(clip_of_10_s(clip), 48_000, 1024, 480, 14_000) for clip in CLIPS])
    encoded = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        audio = theirs.audio(mel).numpy()
        written = theirs.text(encoded["input_ids"], encoded["attention_mask"]).numpy()
    np.testing.assert_allclose(ours.embed_audio(CLIPS), audio, rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours.embed_text(TEXTS), written, rtol=0, atol=1e-5)


def _small(audio: str, fusion: str):
    """A LAION-CLAP model of few channels, and its random variables."""
    config = laion_clap(audio, fusion=fusion)
    if config.audio_encoder == "htsat":
        tiny = {"embed_dim": 8, "depths": (2, 2), "heads": (1, 2)}
        config = dataclasses.replace(config, htsat=dataclasses.replace(config.htsat, **tiny))
    else:
        pann = dataclasses.replace(config.pann, base_width=8)
        config = dataclasses.replace(config, pann=pann)
    tiny = {"vocab_size": 300, "hidden_size": 64, "heads": 1, "layers": 1, "intermediate_size": 8}
    text = dataclasses.replace(config.text, **tiny)
    config = dataclasses.replace(config, text=text, projection_size=6)
    shapes = jax.eval_shape(lambda: init_variables(config, jax.random.key(0)))
    rng = np.random.default_rng(0)
    return config, jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("fusion", FUSION_TYPES)
@pytest.mark.parametrize("audio", ["htsat-tiny", "cnn14"])
def test_every_fusion_is_found_from_the_weights(audio, fusion, roberta, tmp_path):
    _round_trip(audio, fusion, roberta, tmp_path / "model.pt")


@pytest.mark.parametrize("audio", [name for name in PANN_BLOCKS if name != "cnn14"])
def test_every_pann_is_found_from_the_weights(audio, roberta, tmp_path):
    _round_trip(audio, "none", roberta, tmp_path / "model.pt")


def _round_trip(audio, fusion, roberta, file):
    config, variables = _small(audio, fusion)
    tensors = split_all(pair_up(laion_rows(config), config), variables)
    # LAION-CLAP's iaff has a second global attention that it never calls.
    dead = {f"{n.replace('global_att', 'global_att2')}": v for n, v in tensors.items()}
    tensors |= {name: value for name, value in dead.items() if "iaff" in fusion}
    torch.save({name: torch.tensor(value) for name, value in tensors.items()}, file)
    model = load_pretrained(file, tokenizer=roberta)
    assert model.config == config
    assert jax.tree.all(jax.tree.map(np.array_equal, model.variables, variables))


@pytest.mark.parametrize("name", ["laion-win-1536", "laion-fmax-18k", "laion-fmax-8k-20s"])
def test_the_front_end_is_found_from_its_filters(name, roberta, tmp_path):
    import librosa

    front = audio_preset(name)
    config, variables = _small("cnn14", "none")
    tensors = split_all(pair_up(laion_rows(config), config), variables)
    filters = librosa.filters.mel(
        sr=48_000, n_fft=front.window_length, n_mels=64, fmin=50, fmax=front.fmax
    ).T
    state = {key: torch.tensor(value) for key, value in tensors.items()}
    state["audio_branch.logmel_extractor.melW"] = torch.tensor(filters)
    torch.save(state, tmp_path / "model.pt")
    assert load_pretrained(tmp_path / "model.pt", tokenizer=roberta).config.audio == front

    state["audio_branch.logmel_extractor.melW"] = torch.tensor(filters * 1.1)
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="the filters of no front end that is known"):
        load_pretrained(tmp_path / "model.pt", tokenizer=roberta)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model."])
@pytest.mark.parametrize("nested", ["", "state_dict", "model"])
def test_names_under_any_prefix(prefix, nested, roberta, tmp_path):
    config, variables = _small("cnn6", "none")
    tensors = split_all(pair_up(laion_rows(config), config), variables)
    state = {f"{prefix}{name}": torch.tensor(value) for name, value in tensors.items()}
    torch.save({nested: state} if nested else state, tmp_path / "model.pt")
    got = load_pretrained(tmp_path / "model.pt", tokenizer=roberta)
    assert jax.tree.all(jax.tree.map(np.array_equal, got.variables, variables))


def test_numbers_that_numpy_1_pickled(roberta, tmp_path):
    """As in the published files: numpy 2 has another name for the function that makes them."""
    config, variables = _small("cnn6", "none")
    tensors = split_all(pair_up(laion_rows(config), config), variables)
    state = {name: torch.tensor(value) for name, value in tensors.items()}
    file = tmp_path / "model.pt"
    content = {"epoch": np.int64(45), "best": np.float64(0.36), "state_dict": state}
    torch.save(content, file, _use_new_zipfile_serialization=False)
    saved = file.read_bytes()
    assert b"numpy._core.multiarray" in saved
    file.write_bytes(saved.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    got = load_pretrained(file, tokenizer=roberta)
    assert jax.tree.all(jax.tree.map(np.array_equal, got.variables, variables))


def test_one_tower(bert, tmp_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert)
    theirs = randomize(LaionPann(len(tokenizer), "clip"))
    torch.save(theirs.saved(), tmp_path / "model.pt")
    whole = load_pretrained(tmp_path / "model.pt", tokenizer=bert).variables
    for tower in ("audio", "text"):
        part = load_pretrained(tmp_path / "model.pt", tokenizer=bert, tower=tower).variables
        names = {f"{tower}_encoder", f"{tower}_projection", "logit_scale_a", "logit_scale_t"}
        expected = {name: whole["params"][name] for name in names}
        assert part["params"].keys() == names
        assert jax.tree.all(jax.tree.map(np.array_equal, part["params"], expected))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("logit_scale_a"), "no logit_scale_a in it; not a LAION-CLAP"),
        (lambda s: s.update({"text_branch.shared.weight": torch.zeros(2, 2)}), "is BART, which"),
        (
            lambda s: s.pop("text_branch.embeddings.word_embeddings.weight"),
            "no text_branch.embeddings.word_embeddings.weight, which would tell what model",
        ),
        (lambda s: s.pop("audio_branch.conv_block4.conv1.weight"), "a PANN of 3 blocks is none"),
        (lambda s: s.pop("audio_branch.fc1.bias"), "1 missing: audio_branch.fc1.bias$"),
        (lambda s: s.update({"visual.conv1": torch.zeros(2)}), "1 unexpected: visual.conv1$"),
    ],
)
def test_another_model_is_refused(change, message, roberta, tmp_path):
    config, variables = _small("cnn6", "none")
    tensors = split_all(pair_up(laion_rows(config), config), variables)
    state = {name: torch.tensor(value) for name, value in tensors.items()}
    change(state)
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=message) as caught:
        load_pretrained(tmp_path / "model.pt", tokenizer=roberta)
    assert str(caught.value).startswith(f"{tmp_path / 'model.pt'}: ")


def test_without_a_tokenizer_one_is_asked_for(roberta, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    config, variables = _small("cnn6", "none")
    tensors = split_all(pair_up(laion_rows(config), config), variables)
    state = {name: torch.tensor(value) for name, value in tensors.items()}
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="roberta-base: no usable tokenizer; .* name one"):
        load_pretrained(tmp_path / "model.pt")


def test_without_pytorch_its_extra_is_named(tmp_path, monkeypatch, capsys):
    torch.save({}, tmp_path / "model.pt")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["import", str(tmp_path / "model.pt"), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == (
        "clapjax import: PyTorch is needed to read .pt, .pth and .bin files: "
        "pip install clapjax[torch]\n"
    )
