"""The towers against `transformers.ClapModel`; heads, frames, and the sizes of published models."""

import dataclasses
import functools
import math

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from clapjax.audio.config import AudioConfig
from clapjax.models.clap import Clap, cast_kernels, embed_waveform, init_variables, normalize
from clapjax.models.config import ClapConfig, FusionConfig, HTSATConfig, TextConfig
from clapjax.models.presets import audio_preset, blat_clap, laion_clap, small_clap
from clapjax.models.text import TextEncoder
from tests.interop.torch_models import extractor, transformers_audio, transformers_clap, waves
from tests.models.hf_layout import variables_from_transformers


def _transformers_model(config: ClapConfig) -> transformers.ClapModel:
    """A randomly initialised ClapModel of the same shape, with non-trivial BatchNorm statistics."""
    htsat, text = config.htsat, config.text
    torch.manual_seed(0)
    model = transformers.ClapModel(
        transformers.ClapConfig(
            text_config=dict(
                vocab_size=text.vocab_size,
                hidden_size=text.hidden_size,
                num_hidden_layers=text.layers,
                num_attention_heads=text.heads,
                intermediate_size=text.intermediate_size,
                max_position_embeddings=text.max_positions,
                layer_norm_eps=text.layer_norm_eps,
                projection_dim=config.projection_size,
            ),
            audio_config=dict(
                spec_size=htsat.spec_size,
                patch_size=htsat.patch_size,
                patch_stride=[htsat.patch_stride] * 2,
                num_mel_bins=config.audio.mel_bins,
                patch_embeds_hidden_size=htsat.embed_dim,
                hidden_size=htsat.width,
                depths=list(htsat.depths),
                num_attention_heads=list(htsat.heads),
                window_size=htsat.window_size,
                projection_dim=config.projection_size,
            ),
            projection_dim=config.projection_size,
        )
    ).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim >= 1:  # biases and tables too, so that none can be forgotten unseen
                value.add_(0.05 * torch.randn(value.shape, generator=generator))
        norm = model.audio_model.audio_encoder.batch_norm
        norm.running_mean.copy_(-30 + 10 * torch.rand(norm.running_mean.shape))
        norm.running_var.copy_(100 + 300 * torch.rand(norm.running_var.shape))
    return model


SIZES = {
    # 4 stages and the 1001 -> 1024 stretch of the published sizes, at a fraction of the width
    "four-stages": ClapConfig(
        audio=AudioConfig(),
        htsat=HTSATConfig(embed_dim=16, depths=(2, 2, 4, 2), heads=(1, 2, 4, 8)),
        text=TextConfig(
            vocab_size=99,
            hidden_size=32,
            layers=3,
            heads=4,
            intermediate_size=64,
            max_positions=80,
        ),
        projection_size=24,
    ),
    # two time chunks, one stage no larger than a window, 251 -> 256 frames
    "one-stage": dataclasses.replace(
        small_clap(),
        htsat=HTSATConfig(
            spec_size=128, patch_size=16, patch_stride=16, embed_dim=32, depths=(2,), heads=(4,)
        ),
    ),
}


@pytest.mark.parametrize("size", SIZES)
def test_towers_equal_transformers(size):
    config = SIZES[size]
    theirs = _transformers_model(config)
    variables = variables_from_transformers(theirs)
    ours = Clap(config)
    shapes = jax.eval_shape(lambda: init_variables(config, jax.random.key(0)))
    flat = flax.traverse_util.flatten_dict
    assert {k: v.shape for k, v in flat(shapes).items()} == {
        k: v.shape for k, v in flat(variables).items()
    }

    generator = np.random.default_rng(0)
    mel = generator.normal(-30, 20, (3, config.audio.frames, config.audio.mel_bins))
    mel = mel.astype(np.float32)
    ids = generator.integers(3, config.text.vocab_size, (4, 12))
    mask = np.arange(12)[None] < np.array([12, 7, 3, 1])[:, None]
    ids = np.where(mask, ids, config.text.pad_id)
    with torch.no_grad():
        audio = theirs.get_audio_features(
            input_features=torch.tensor(mel)[:, None], is_longer=torch.zeros(3, 1)
        ).pooler_output.numpy()
        text = theirs.get_text_features(
            input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask.astype(int))
        ).pooler_output.numpy()
    np.testing.assert_allclose(ours.apply(variables, mel, method="audio"), audio, atol=1e-5)
    np.testing.assert_allclose(ours.apply(variables, ids, mask, method="text"), text, atol=1e-5)


# --- Fusion, from the waveform on -----------------------------------------------------------

FUSED = ClapConfig(
    audio=AudioConfig(
        sample_rate=16_000,
        clip_samples=16_000,
        window_length=512,
        hop_length=80,
        fmax=7_000.0,
        mel_scale="htk",
        mel_norm="none",
    ),
    htsat=HTSATConfig(spec_size=128, embed_dim=8, depths=(2, 4), heads=(1, 2), window_size=4),
    text=TextConfig(
        vocab_size=300,
        hidden_size=16,
        layers=2,
        heads=2,
        intermediate_size=24,
        max_positions=34,
        max_length=16,
    ),
    fusion=FusionConfig("aff_2d"),
    projection_size=12,
)


def test_waveforms_of_any_length_equal_transformers_with_fusion():
    """Feature extractor and model of transformers, at the middle of each third."""
    theirs = transformers_clap(fused=True)
    variables = variables_from_transformers(theirs)
    clips = waves(16_000, 1.0, 1.003, 1.7, 3.1)
    expected = transformers_audio(theirs, extractor(fused=True), clips)
    lengths = np.array([len(clip) for clip in clips])
    batch = np.stack([np.pad(clip, (0, lengths.max() - len(clip))) for clip in clips])
    embed = jax.jit(functools.partial(embed_waveform, Clap(FUSED)))
    got = embed(variables, batch, lengths=lengths)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    assert np.abs(np.diff(got, axis=0)).max() > 0.01


# --- Heads ----------------------------------------------------------------------------------

SMALL = dataclasses.replace(
    small_clap(),
    htsat=dataclasses.replace(small_clap().htsat, conv_stem=(4, 4, 8), embed_dim=8, heads=(2,)),
    text=TextConfig(
        vocab_size=50, hidden_size=8, layers=1, heads=2, intermediate_size=8, max_length=8
    ),
    projection_size=6,
)
IDS = np.array([[0, 5, 6, 2], [0, 9, 2, 1]])
MASK = (IDS != 1).astype(np.int32)


@functools.cache
def _variables(config: ClapConfig) -> dict:
    """Random values everywhere, biases too."""
    shapes = jax.eval_shape(lambda: init_variables(config, jax.random.key(0)))
    generator = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: generator.normal(0, 0.3, x.shape).astype(np.float32), shapes["params"]
    )
    stats = jax.tree.map(lambda x: np.ones(x.shape, np.float32), shapes["batch_stats"])
    return {"params": params, "batch_stats": stats}


@functools.cache
def _text(config: ClapConfig, method: str) -> np.ndarray:
    apply = jax.jit(functools.partial(Clap(config).apply, method=method))
    return np.asarray(apply(_variables(config), IDS, MASK))


@jax.jit
def _encoded(variables: dict) -> jax.Array:
    """The text encoder's pooled output, in front of the head."""
    params = {"params": variables["params"]["text_encoder"]}
    return TextEncoder(SMALL.text).apply(params, IDS, MASK, False)[0]


@pytest.mark.parametrize(
    ("kind", "activation"), [("mlp", "relu"), ("mlp", "gelu"), ("linear", "relu")]
)
def test_projections_are_their_formula(kind, activation):
    config = dataclasses.replace(SMALL, projection=kind, projection_act=activation)
    params = jax.tree.map(np.float64, _variables(config)["params"])
    x = np.float64(_encoded(_variables(config)))
    head = params["text_projection"]
    assert set(head) == ({"linear1", "linear2"} if kind == "mlp" else {"linear1"})
    x = x @ head["linear1"]["kernel"] + head["linear1"]["bias"]
    if kind == "mlp":
        gelu = np.vectorize(lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2))))
        x = gelu(x) if activation == "gelu" else np.maximum(x, 0)
        x = x @ head["linear2"]["kernel"] + head["linear2"]["bias"]
    np.testing.assert_allclose(_text(config, "project_text"), x, rtol=1e-4, atol=1e-5)


def test_normalize_with_and_without_blats_epsilon():
    x = np.array([[3.0, 4.0], [3e-7, 4e-7], [0.0, 0.0]])
    expected = x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-7)
    np.testing.assert_allclose(normalize(jnp.asarray(x), 1e-7), expected, rtol=1e-5)
    np.testing.assert_allclose(normalize(jnp.asarray(x[:2])), [[0.6, 0.8]] * 2, rtol=1e-5)
    config = dataclasses.replace(SMALL, normalize_eps=0.5)
    projected = _text(SMALL, "project_text")
    unit = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    np.testing.assert_allclose(_text(SMALL, "text"), unit, rtol=0, atol=1e-5)
    expected = projected / (np.linalg.norm(projected, axis=1, keepdims=True) + 0.5)
    np.testing.assert_allclose(_text(config, "text"), expected, rtol=1e-5)


def test_transforms_are_two_layers_behind_the_unit_vectors():
    """LAION-CLAP's MLPLayers; dropout of a tenth between them in training."""
    config = dataclasses.replace(SMALL, mlp_transforms=True)
    variables = _variables(config)
    mel = jax.random.normal(jax.random.key(0), (2, config.audio.frames, config.audio.mel_bins))
    apply = jax.jit(Clap(config).apply, static_argnames="train")
    audio, text, scale_a, scale_t, audio_mlp, text_mlp = apply(variables, mel, IDS, MASK)
    for name, x, y in (("audio", audio, audio_mlp), ("text", text, text_mlp)):
        np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1.0, atol=1e-5)
        first, second = (variables["params"][f"{name}_transform"][f"linear{i}"] for i in (1, 2))
        hidden = np.maximum(np.float64(x) @ first["kernel"] + first["bias"], 0)
        expected = hidden @ second["kernel"] + second["bias"]
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    scales = [
        np.exp(np.clip(variables["params"][f"logit_scale_{s}"], 0, math.log(100))) for s in "at"
    ]
    np.testing.assert_allclose([scale_a, scale_t], scales, rtol=1e-6)
    assert "audio_transform" not in _variables(SMALL)["params"]

    transform = Clap(config).bind(variables, rngs={"dropout": jax.random.key(1)}).text_transform
    many = jnp.broadcast_to(text[:1], (4000, text.shape[1]))
    dropped = np.asarray(transform(many, deterministic=False))
    np.testing.assert_allclose(dropped.mean(0), text_mlp[0], atol=5 * dropped.std() / 4000**0.5)
    assert dropped.std(0).max() > 0


def test_one_tower_needs_no_parameters_of_the_other():
    variables = _variables(SMALL)

    def of(tower):
        return {
            group: {k: v for k, v in tree.items() if k.startswith((tower, "logit_scale"))}
            for group, tree in variables.items()
        }

    text = jax.jit(functools.partial(Clap(SMALL).apply, method="text"))(of("text"), IDS, MASK)
    np.testing.assert_array_equal(text, _text(SMALL, "text"))
    mel = jnp.zeros((1, SMALL.audio.frames, SMALL.audio.mel_bins))
    audio = jax.eval_shape(lambda v: Clap(SMALL).apply(v, mel, method="audio"), of("audio"))
    assert audio.shape == (1, 6)


@pytest.mark.parametrize("audio_encoder", ["htsat", "cnn6"])
def test_kernels_cast_once_change_no_bit(audio_encoder):
    """Neither of the embeddings nor, in float32 at last, of the gradient.

    In the forms for CPUs, whose sums are float32; of others XLA may keep more digits than asked.
    """
    config = dataclasses.replace(SMALL, audio_encoder=audio_encoder)
    variables = _variables(config)
    mel = jax.random.normal(jax.random.key(0), (2, config.audio.frames, config.audio.mel_bins))

    @functools.partial(jax.jit, static_argnums=1)
    def gradient(params, cast):
        def loss(params):
            used = cast_kernels(params, jnp.bfloat16) if cast else params
            audio, text, *_ = Clap(config, jnp.bfloat16, platform="cpu").apply(
                variables | {"params": used}, mel, IDS, MASK
            )
            return jnp.sum(audio * text), (audio, text)

        return jax.grad(loss, has_aux=True)(params)

    found, expected = (gradient(variables["params"], cast) for cast in (True, False))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    kernels = flax.traverse_util.flatten_dict(cast_kernels(variables["params"], jnp.bfloat16))
    for path, leaf in kernels.items():
        assert leaf.dtype == (jnp.bfloat16 if path[-1] == "kernel" else jnp.float32)


# --- Frames ---------------------------------------------------------------------------------


def test_frames_equal_transformers_in_order_of_time():
    """transformers keeps the last hidden states as (B, C, frequency, time), chunks unfolded."""
    theirs = transformers_clap()
    config = dataclasses.replace(FUSED, fusion=FusionConfig())
    mel = np.random.default_rng(0).normal(-30, 20, (2, 201, 64)).astype(np.float32)
    with torch.no_grad():
        out = theirs.audio_model(input_features=torch.tensor(mel)[:, None], is_longer=None)
        steps = out.last_hidden_state.mean(dim=2).mT  # (B, T, C)
        expected = torch.nn.functional.normalize(theirs.audio_projection(steps), dim=-1)
    variables = variables_from_transformers(theirs)
    frames = jax.jit(functools.partial(Clap(config).apply, method="frames"))(variables, mel)
    assert frames.shape == (2, 32, 12)  # two chunks of 256 frames, of patches of 4, halved
    np.testing.assert_allclose(frames, expected, rtol=0, atol=1e-5)


def test_a_frame_of_a_model_with_time_segments_lasts_throughout():
    variables = _variables(SMALL)
    mel = jax.random.normal(jax.random.key(0), (2, SMALL.audio.frames, SMALL.audio.mel_bins))

    def look(model, mel):
        return model.frames(mel), model.audio_encoder(mel, False)[1]

    frames, tokens = jax.jit(functools.partial(Clap(SMALL).apply, method=look))(variables, mel)
    # Two chunks of time, one on top of the other, of 4 x 8 tokens each; frame 9 is in the second.
    step = np.asarray(tokens)[:, 4:, 1].mean(1)
    throughout = jnp.asarray(np.concatenate([step] * SMALL.htsat.time_segments, axis=1))
    expected = normalize(Clap(SMALL).bind(variables).audio_projection(throughout))
    np.testing.assert_allclose(frames[:, 9], expected, rtol=0, atol=1e-5)


# --- Presets --------------------------------------------------------------------------------

# Kong et al. (2020); with AudioSet's classifier, which a CLAP has not.
PANN_PARAMETERS = {"cnn6": (4_837_455, 512), "cnn14": (80_753_615, 2048)}


@pytest.mark.parametrize("arch", PANN_PARAMETERS)
def test_panns_have_the_published_number_of_parameters(arch):
    published, width = PANN_PARAMETERS[arch]
    config = laion_clap(arch)
    shapes = jax.eval_shape(lambda: init_variables(config, jax.random.key(0)))
    encoder = shapes["params"]["audio_encoder"]
    classifier = 527 * width + 527
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(encoder)) == published - classifier
    head = shapes["params"]["audio_projection"]["linear1"]["kernel"]
    assert head.shape == (config.audio_width, 512) == (width, 512)


def test_models_of_the_presets():
    fused = laion_clap("htsat-base", fusion="aff_2d")
    assert (fused.audio.mel_scale, fused.audio.mel_norm) == ("htk", "none")
    assert fused.audio_width == fused.htsat.width == 1024 and fused.audio.frames == 1001
    assert laion_clap("htsat-large").audio_width == 2048
    blat = blat_clap(16_000)
    assert blat.audio.window_length == 512 and blat.audio.hop_length == 160
    shapes = jax.eval_shape(lambda: init_variables(blat_clap(), jax.random.key(0)))["params"]
    assert jax.tree.map(jnp.shape, shapes["text_projection"]) == {
        "linear1": {"kernel": (512, 1024), "bias": (1024,)}
    }
    assert audio_preset("laion-fmax-8k-20s").frames == 960_000 // 360 + 1
    with pytest.raises(ValueError, match="no front end 'blat-44k'; there are laion, laion-fusion"):
        blat_clap(44_100)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"projection": "none"}, "projection must be one of mlp, linear"),
        ({"projection_act": "tanh"}, "projection_act must be one of relu, gelu"),
        ({"normalize_eps": -1.0}, "normalize_eps must be >= 0"),
    ],
)
def test_config_errors_name_the_setting(change, reason):
    with pytest.raises(ValueError, match=reason):
        dataclasses.replace(SMALL, **change)


def test_lengths_are_not_for_htsat():
    mel = jnp.zeros((1, SMALL.audio.frames, SMALL.audio.mel_bins))
    with pytest.raises(ValueError, match="lengths are for a PANN"):
        Clap(SMALL).apply(_variables(SMALL), mel, lengths=jnp.array([3]), method="audio")
