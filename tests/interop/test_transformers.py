"""Hugging Face folders in and out, against transformers and diffusers."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import clapjax
from clapjax.interop.errors import CheckpointError
from clapjax.interop.export import write_model
from clapjax.interop.load import load_pretrained
from tests.interop.tokenizers import TEXTS
from tests.interop.torch_models import (
    extractor,
    randomize,
    transformers_audio,
    transformers_clap,
    transformers_text,
    waves,
)

CLIPS = waves(16_000, 0.3, 1.02, 2.6)  # repeated, a few frames too long, long


def _folder(path, tokenizer, fused: bool = False, **model):
    """A Hugging Face folder and the model in it."""
    model = transformers_clap(fused, **model)
    model.save_pretrained(path)
    extractor(fused).save_pretrained(path)
    transformers.AutoTokenizer.from_pretrained(tokenizer).save_pretrained(path)
    return model


@pytest.fixture(scope="module")
def unfused(tmp_path_factory, roberta):
    folder = tmp_path_factory.mktemp("unfused")
    return folder, _folder(folder, roberta)


@pytest.fixture(scope="module")
def fused(tmp_path_factory, roberta):
    folder = tmp_path_factory.mktemp("fused")
    return folder, _folder(folder, roberta, fused=True)


def _copy(source, target):
    shutil.copytree(source, target)
    return target


def _edit(file, **values):
    """Sets keys of a JSON file; "a.b" is key b of group a."""
    content = json.loads(file.read_text())
    for path, value in values.items():
        *groups, key = path.split("__")
        inside = content
        for group in groups:
            inside = inside[group]
        inside[key] = value
    file.write_text(json.dumps(content))


def _same(one: dict, other: dict) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


@pytest.mark.parametrize("kind", ["unfused", "fused"])
def test_import_and_export_give_transformers_embeddings(kind, request, tmp_path):
    folder, theirs = request.getfixturevalue(kind)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    features = extractor(kind == "fused")
    audio = transformers_audio(theirs, features, CLIPS)
    text = transformers_text(theirs, tokenizer, TEXTS)

    ours = clapjax.load(folder, batch_size=4)
    np.testing.assert_allclose(ours.embed_audio(CLIPS), audio, rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours.embed_text(TEXTS), text, rtol=0, atol=1e-5)
    assert float(ours.params["logit_scale_a"]) == 2.5
    assert float(ours.params["logit_scale_t"]) == 2.75

    exported = tmp_path / "exported"
    model = load_pretrained(folder)
    write_model(exported, model)
    assert (
        len({file.stat().st_mode for file in exported.iterdir()}) == 1
    )  # all can read the weights
    again, report = transformers.ClapModel.from_pretrained(exported, output_loading_info=True)
    assert not any(report.values()), report
    for name, value in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    processor = transformers.AutoProcessor.from_pretrained(exported)
    assert processor.feature_extractor.to_dict() == features.to_dict()
    np.testing.assert_array_equal(processor.feature_extractor.mel_filters, features.mel_filters)
    assert processor.tokenizer(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]

    back = load_pretrained(exported)
    assert back.config == model.config
    assert _same(back.variables, model.variables)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exported"]


def test_text_longer_than_the_limit_is_cut_as_transformers_cuts_it(unfused):
    folder, theirs = unfused
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    long = [" ".join(TEXTS * 8)]
    with pytest.warns(UserWarning, match="32 tokens and were cut"):
        got = clapjax.load(folder).embed_text(long)
    np.testing.assert_allclose(got, transformers_text(theirs, tokenizer, long), rtol=0, atol=1e-5)


def test_text_layer_norm_epsilon_is_the_files_own(unfused, tmp_path):
    """1e-12 where config.json leaves it out, which the published ones do; LAION-CLAP has 1e-5."""
    folder = _copy(unfused[0], tmp_path / "copy")
    assert load_pretrained(folder).config.text.layer_norm_eps == 1e-12
    _edit(folder / "config.json", text_config__layer_norm_eps=1e-5)
    assert load_pretrained(folder).config.text.layer_norm_eps == 1e-5
    content = json.loads((folder / "config.json").read_text())
    del content["text_config"]["layer_norm_eps"]
    (folder / "config.json").write_text(json.dumps(content))
    assert load_pretrained(folder).config.text.layer_norm_eps == 1e-12


def test_mel_filters_go_with_the_kind_of_checkpoint(unfused, fused):
    for folder, bank in ((unfused[0], ("slaney", "slaney")), (fused[0], ("htk", "none"))):
        audio = load_pretrained(folder).config.audio
        assert (audio.mel_scale, audio.mel_norm) == bank
        assert (audio.sample_rate, audio.clip_samples, audio.fmin) == (16_000, 16_000, 50.0)


# --- where weights and settings may lie -----------------------------------------------------


def _as_bin(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _as_shards(folder):
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    shards = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    weight_map = {name: file for file, part in shards.items() for name in part}
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()


def _without_buffers(folder):
    tensors = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if value.is_floating_point()}
    assert len(kept) < len(tensors)
    save_file(kept, folder / "model.safetensors")


def _with_processor_config(folder):
    features = transformers.ClapFeatureExtractor.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    (folder / "preprocessor_config.json").unlink()
    transformers.ClapProcessor(features, tokenizer).save_pretrained(folder)
    assert not (folder / "preprocessor_config.json").exists()


@pytest.mark.parametrize("change", [_as_bin, _as_shards, _without_buffers, _with_processor_config])
def test_the_same_model_from_other_files(change, unfused, tmp_path):
    expected = load_pretrained(unfused[0])
    folder = _copy(unfused[0], tmp_path / "copy")
    change(folder)
    got = load_pretrained(folder)
    assert got.config == expected.config and _same(got.variables, expected.variables)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_become_float32(dtype, unfused, tmp_path):
    folder = _copy(unfused[0], tmp_path / "copy")
    tensors = load_file(folder / "model.safetensors")
    half = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in tensors.items()
    }
    save_file(half, folder / "model.safetensors")
    got = load_pretrained(folder).variables["params"]["text_projection"]["linear1"]["kernel"]
    assert got.dtype == np.float32
    expected = half["text_projection.linear1.weight"].float().numpy().T
    np.testing.assert_array_equal(got, expected)


def test_hub_id_from_the_local_cache(unfused, tmp_path, monkeypatch):
    from huggingface_hub import constants

    commit = "0" * 40
    repository = tmp_path / "models--someone--clap-tiny"
    _copy(unfused[0], repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    got = load_pretrained("someone/clap-tiny")
    assert _same(got.variables, load_pretrained(unfused[0]).variables)
    with pytest.raises(CheckpointError, match="^someone/other: no such file or folder, nor a mod"):
        load_pretrained("someone/other")
    for name in ("nowhere/at/all", "./nowhere", "nowhere.pt"):
        with pytest.raises(CheckpointError, match=f"^{name}: no such file or folder$"):
            load_pretrained(name)


def test_one_tower(unfused, tmp_path):
    whole = load_pretrained(unfused[0]).variables
    for tower, other in (("text", "audio"), ("audio", "text")):
        part = load_pretrained(unfused[0], tower=tower)
        names = {f"{tower}_encoder", f"{tower}_projection", "logit_scale_a", "logit_scale_t"}
        assert part.variables["params"].keys() == names
        assert set(part.variables["batch_stats"]) == ({"audio_encoder"} - {f"{other}_encoder"})
        assert _same(part.variables["params"], {n: whole["params"][n] for n in names})
    with pytest.raises(ValueError, match="tower must be 'audio' or 'text', not 'both'"):
        load_pretrained(unfused[0], tower="both")


def test_text_tower_alone_as_audioldm_has_it(unfused, tmp_path):
    folder, theirs = unfused
    text = transformers.ClapTextModelWithProjection.from_pretrained(folder)
    text.save_pretrained(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(tmp_path)
    got = clapjax.load(tmp_path, towers="text").embed_text(TEXTS)
    np.testing.assert_allclose(got, transformers_text(theirs, tokenizer, TEXTS), atol=1e-5)
    with pytest.raises(CheckpointError, match="of a text tower alone; load it with towers"):
        load_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="the model lacks batch_stats/audio_encoder/"):
        write_model(tmp_path / "out", load_pretrained(tmp_path, tower="text"), to="clapjax")


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("config.json", {"model_type": "bert"}, "model_type is 'bert', not 'clap'"),
        ("config.json", {"audio_config__hidden_act": "relu"}, "clapjax has only 'gelu'"),
        ("config.json", {"audio_config__layer_norm_eps": 1e-6}, "clapjax has only 1e-05"),
        ("config.json", {"audio_config__qkv_bias": False}, "audio_config.qkv_bias is False"),
        ("config.json", {"audio_config__patch_size": [4, 8]}, "clapjax has only squares"),
        ("config.json", {"audio_config__depths": [2, 3]}, "htsat.depths must be even"),
        ("config.json", {"audio_config__hidden_size": 32}, "and depths make 16"),
        ("config.json", {"text_config__hidden_size": 15}, "does not divide into 2 heads"),
        ("config.json", {"text_config__hidden_size": "16"}, "expected int, got str"),
        ("config.json", {"text_config__pad_token_id": 2}, "pads with token 1, the model expects"),
        ("config.json", {"text_config__pad_token_id": None}, "pad_token_id is missing"),
        ("config.json", {"text_config__vocab_size": 99}, "tokens, the model 99"),
        ("config.json", {"projection_hidden_act": "silu"}, "projection_act must be one of"),
        ("config.json", {"logit_scale_init_value": 0.0}, "logit_scale_init_value must be positive"),
        ("preprocessor_config.json", {"truncation": "fusion"}, "must be 'rand_trunc'"),
        ("preprocessor_config.json", {"truncation": "cut"}, "truncation 'cut' is none of"),
        ("preprocessor_config.json", {"padding": "longest"}, "audio.fill must be one of"),
        ("preprocessor_config.json", {"frequency_max": 9_000}, "fmax <= sample_rate / 2"),
        ("preprocessor_config.json", {"hop_length": 0}, "audio.hop_length must be positive"),
        ("preprocessor_config.json", {"sampling_rate": "16k"}, "sampling_rate must be a num"),
        ("preprocessor_config.json", {"truncation": []}, "truncation .. is none of"),
        ("preprocessor_config.json", {"max_length_s": 3}, "frames do not fit HTSAT's"),
    ],
)
def test_settings_that_clapjax_has_not(file, values, message, unfused, tmp_path):
    folder = _copy(unfused[0], tmp_path / "copy")
    _edit(folder / file, **values)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_pretrained(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "no model here; expected clapjax.json or config.json"),
        ("preprocessor_config.json", "without it neither the sample rate nor the mel filters"),
        ("model.safetensors", "no model.safetensors and no pytorch_model.bin here"),
        ("tokenizer.json", "no usable tokenizer"),
    ],
)
def test_a_missing_file_is_named(missing, message, unfused, tmp_path):
    folder = _copy(unfused[0], tmp_path / "copy")
    (folder / missing).unlink()
    with pytest.raises(CheckpointError, match=message):
        load_pretrained(folder)


def test_one_error_lists_all_weights_that_do_not_fit(unfused, tmp_path):
    folder = _copy(unfused[0], tmp_path / "copy")
    tensors = load_file(folder / "model.safetensors")
    tensors["extra.weight"] = torch.zeros(2)
    tensors["more.extra"] = tensors.pop("logit_scale_t")
    tensors["text_projection.linear1.bias"] = torch.zeros(5)
    tensors["text_projection.linear2.bias"] = torch.full((12,), torch.nan)
    tensors["audio_projection.linear1.bias"] = torch.zeros(12, dtype=torch.int32)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(folder)
    assert str(caught.value) == (
        f"{folder / 'model.safetensors'}: the weights do not fit the model; "
        "1 missing: logit_scale_t; "
        "2 unexpected: extra.weight, more.extra; "
        "1 of the wrong shape: text_projection.linear1.bias (5,) instead of (12,); "
        "1 not floating-point numbers: audio_projection.linear1.bias; "
        "1 not finite: text_projection.linear2.bias"
    )


def test_fusion_that_transformers_cannot_run(fused, tmp_path):
    folder = _copy(fused[0], tmp_path / "copy")
    _edit(folder / "config.json", audio_config__fusion_type="channel_map")
    with pytest.raises(CheckpointError, match="fusion_type is 'channel_map'"):
        load_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"htsat": {"time_segments": 2}}, "pools 2 stretches of time"),
        ({"htsat": {"position_init_std": 0.02}}, "absolute positions"),
        ({"htsat": {"patch_stride": 4, "conv_stem": (4, 8)}}, "convolutional stem"),
        ({"htsat": {"layer_norm_eps": 1e-6}}, "htsat.layer_norm_eps is 1e-06, not 1e-05"),
        ({"fusion": {"type": "daf_1d"}}, "its fusion is"),
        ({"audio": {"mel_scale": "htk"}}, "its mel filters are htk/slaney"),
        ({"audio": {"clip_samples": 15_000}}, "15000 samples are no whole seconds"),
        ({"text": {"pooling": "mean"}}, "none of RoBERTa's .bert, roberta positions, mean, gelu"),
        ({"audio_encoder": "cnn14"}, "its audio encoder is cnn14, not htsat"),
        ({"projection": "linear"}, "its projections are linear, not mlp"),
        ({"mlp_transforms": True}, "heads of mlp_loss"),
        ({"normalize_eps": 1e-7}, "normalize_eps 1e-07"),
        (
            {"htsat": {"time_segments": 2}, "text": {"pooling": "mean"}, "projection": "linear"},
            "2 stretches of time .*; its text encoder is .*; its projections are linear, not mlp. ",
        ),
    ],
)
def test_what_transformers_cannot_represent_is_refused(changes, reason, unfused, tmp_path):
    model = load_pretrained(unfused[0])
    parts = {
        name: dataclasses.replace(getattr(model.config, name), **value)
        if isinstance(value, dict)
        else value
        for name, value in changes.items()
    }
    config = dataclasses.replace(model.config, **parts)
    with pytest.raises(CheckpointError, match=f"cannot represent this model: .*{reason}"):
        write_model(tmp_path / "out", model._replace(config=config))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_written_into(unfused, tmp_path):
    model = load_pretrained(unfused[0])
    (tmp_path / "out").mkdir()
    write_model(tmp_path / "out", model)  # an empty one may be
    before = (tmp_path / "out" / "README.md").stat()
    with pytest.raises(CheckpointError, match="exists already; name a new folder"):
        write_model(tmp_path / "out", model)
    assert (tmp_path / "out" / "README.md").stat() == before


def test_an_export_that_fails_leaves_nothing(unfused, tmp_path, monkeypatch):
    import safetensors.numpy

    model = load_pretrained(unfused[0])

    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        write_model(tmp_path / "out", model)
    assert list(tmp_path.iterdir()) == []


# --- diffusers ------------------------------------------------------------------------------


def test_an_export_conditions_audioldm(unfused, tmp_path):
    """Another caption must give another waveform, so the embedding reaches the diffusion model."""
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    write_model(tmp_path / "out", load_pretrained(unfused[0]))
    text = transformers.ClapTextModelWithProjection.from_pretrained(tmp_path / "out")
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        cross_attention_dim=(8, 16),
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=12,
        class_embeddings_concat=True,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=[8, 16],
        in_channels=1,
        out_channels=1,
        norm_num_groups=4,
        down_block_types=["DownEncoderBlock2D", "DownEncoderBlock2D"],
        up_block_types=["UpDecoderBlock2D", "UpDecoderBlock2D"],
        latent_channels=4,
    )
    vocoder = transformers.SpeechT5HifiGan(
        transformers.SpeechT5HifiGanConfig(
            model_in_dim=8,
            sampling_rate=16_000,
            upsample_initial_channel=16,
            upsample_rates=[2, 2],
            upsample_kernel_sizes=[4, 4],
            resblock_kernel_sizes=[3, 7],
            resblock_dilation_sizes=[[1, 3, 5], [1, 3, 5]],
            normalize_before=False,
        )
    )
    pipeline = diffusers.AudioLDMPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=transformers.AutoTokenizer.from_pretrained(tmp_path / "out"),
        unet=randomize(unet),
        scheduler=diffusers.DDIMScheduler(clip_sample=False),
        vocoder=randomize(vocoder),
    )
    pipeline.set_progress_bar_config(disable=True)

    def generate(caption: str) -> np.ndarray:
        generator = torch.Generator().manual_seed(0)
        made = pipeline(
            caption, num_inference_steps=2, audio_length_in_s=0.016, generator=generator
        )
        return made.audios[0]

    first = generate(TEXTS[0])
    assert first.ndim == 1 and first.size == 256 and np.isfinite(first).all()
    np.testing.assert_array_equal(first, generate(TEXTS[0]))
    assert np.abs(first - generate(TEXTS[1])).max() > 0
