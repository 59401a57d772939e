"""BLAT's folders, against a torch model that saves under its names."""

import json

import numpy as np
import pytest
import torch
import transformers

import clapjax
from clapjax.interop.errors import CheckpointError
from clapjax.interop.export import best_layout, write_model
from clapjax.interop.layout import pair_up, split_all
from clapjax.interop.load import load_pretrained
from clapjax.interop.tables import blat_rows
from tests.interop.tokenizers import TEXTS
from tests.interop.torch_models import Blat, log_mel, randomize, waves

FMAX = {32_000: 14_000, 16_000: 8_000}


def write_blat(path, tokenizer, rate: int = 32_000, model: Blat | None = None) -> Blat:
    """A folder as BLAT's repository lays it out, and the model in it (a small one if none)."""
    torch.manual_seed(0)
    if model is None:
        model = randomize(Blat(len(transformers.AutoTokenizer.from_pretrained(tokenizer))))
    settings = {
        "model": {
            "audio_encoder": {
                "type": "models.audio_encoder.Cnn14",
                "args": {"sample_rate": rate},
            },
            "text_encoder": {
                "type": "models.text_encoder.Bert",
                "args": {"model_type": "prajjwal1/bert-medium"},
            },
            "type": "models.audio_text_model.AudioTextClip",
            "args": {"audio_dim": 64, "text_dim": 128, "shared_dim": 12},
        },
        "text_tokenizer": {"type": str(tokenizer), "max_length": 30},
    }
    (path / "config.json").write_text(json.dumps(settings))
    buffers = {
        "audio_encoder.melspec_extractor.spectrogram.window": torch.zeros(8),
        "audio_encoder.melspec_extractor.mel_scale.fb": torch.zeros(8, 64),
    }
    torch.save({"state_dict": model.saved() | buffers}, path / "model.pth")
    return model


@pytest.mark.parametrize("rate", [32_000, 16_000])
def test_blat(rate, bert, tmp_path):
    theirs = write_blat(tmp_path, bert, rate)
    clips = waves(rate, 0.7, 11.0)  # any length, nothing cut or filled
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert)
    encoded = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        mels = [log_mel(clip, rate, 32 * rate // 1000, rate // 100, FMAX[rate]) for clip in clips]
        audio = torch.cat([theirs.audio(mel[None]) for mel in mels]).numpy()
        text = theirs.text(encoded["input_ids"], encoded["attention_mask"]).numpy()

    ours = clapjax.load(tmp_path, batch_size=4)
    np.testing.assert_allclose(ours.embed_audio(clips), audio, rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours.embed_text(TEXTS), text, rtol=0, atol=1e-5)
    assert float(ours.params["logit_scale_a"]) == float(ours.params["logit_scale_t"]) == 2.5

    model = load_pretrained(tmp_path)
    back = split_all(pair_up(blat_rows(model.config), model.config), model.variables)
    unused = ("num_batches", "melspec", "_ids", "pooler")
    kept = {name for name in theirs.saved() if not any(part in name for part in unused)}
    assert back.keys() == kept
    for name in kept:
        np.testing.assert_array_equal(back[name], theirs.saved()[name].numpy(), name)


def test_one_tower(bert, tmp_path):
    write_blat(tmp_path, bert)
    whole = load_pretrained(tmp_path).variables["params"]
    for tower in ("audio", "text"):
        part = load_pretrained(tmp_path, tower=tower).variables["params"]
        names = {f"{tower}_encoder", f"{tower}_projection", "logit_scale_a", "logit_scale_t"}
        assert part.keys() == names
        kernel = f"{tower}_projection"
        np.testing.assert_array_equal(
            part[kernel]["linear1"]["kernel"], whole[kernel]["linear1"]["kernel"]
        )


def test_it_is_exported_as_clapjaxs_own(bert, tmp_path):
    (tmp_path / "blat").mkdir()
    write_blat(tmp_path / "blat", bert)
    model = load_pretrained(tmp_path / "blat")
    assert best_layout(model.config) == "clapjax"
    with pytest.raises(CheckpointError, match="its audio encoder is cnn14, not htsat"):
        write_model(tmp_path / "out", model)
    write_model(tmp_path / "out", model, to="clapjax")
    back = load_pretrained(tmp_path / "out")
    assert back.config == model.config
    clip = waves(32_000, 1.3)
    np.testing.assert_array_equal(
        clapjax.load(tmp_path / "out").embed_audio(clip),
        clapjax.load(tmp_path / "blat").embed_audio(clip),
    )


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("model", "audio_encoder", "type"), "models.audio_encoder.ResNet38", "'.*ResNet38'; clap"),
        (("model", "text_encoder", "type"), None, "text_encoder is None; clapjax reads"),
        (("model", "audio_encoder", "args", "sample_rate"), 44_100, "sample_rate is 44100, none"),
        (("model", "audio_encoder", "args", "sample_rate"), [1], "sample_rate is .1., none of"),
        (("model", "audio_encoder", "args"), {}, "no model.audio_encoder.args.sample_rate in it"),
        (("model",), 3, "no model.audio_encoder.type in it"),
        (("text_tokenizer", "max_length"), 99, "text.max_length 99 needs 99 positions"),
        (("text_tokenizer", "max_length"), "30", "no BLAT model that is known"),
        (("text_tokenizer", "type"), 5, "text_tokenizer.type must be a name, not 5"),
    ],
)
def test_settings_that_clapjax_has_not(path, value, message, bert, tmp_path):
    write_blat(tmp_path, bert)
    settings = json.loads((tmp_path / "config.json").read_text())
    inside = settings
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=message) as caught:
        load_pretrained(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_there_must_be_one_file_of_weights(bert, tmp_path):
    write_blat(tmp_path, bert)
    (tmp_path / "model.pth").rename(tmp_path / "a.pth")
    assert load_pretrained(tmp_path).config.projection_size == 12
    (tmp_path / "b.pth").write_bytes(b"")
    with pytest.raises(CheckpointError, match="expected one .pth file"):
        load_pretrained(tmp_path)
