"""Feature fusion against torch and transformers, and what it leaves alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from clapjax.models.config import ClapConfig, FusionConfig, HTSATConfig
from clapjax.models.feature_fusion import Fusion, MelFusion
from clapjax.models.htsat import HTSAT
from clapjax.models.layers import BatchNorm
from clapjax.models.presets import htsat_preset
from tests.interop.torch_models import randomize, transformers_clap
from tests.models import torch_models
from tests.models.hf_layout import audio_variables_from_transformers
from tests.models.torch_models import flax_variables

KINDS = ["daf", "aff", "iaff"]
LONGER = np.array([True, False, True])


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)
def _apply(model, variables, *arrays):
    return model.apply(variables, *arrays, False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimensions", [1, 2])
def test_fusion_equals_torch(kind, dimensions):
    """Also the quirks: the factor 2 of aff, and iaff's second use of global_att."""
    torch.manual_seed(0)
    theirs = randomize(torch_models.Fusion(kind, 8, dimensions))
    shape = (3, 8, 5) if dimensions == 1 else (3, 8, 5, 7)
    x, y = _normal(0, *shape), _normal(1, *shape)
    expected = x.copy()
    with torch.no_grad():
        expected[LONGER] = theirs(torch.tensor(x[LONGER]), torch.tensor(y[LONGER])).numpy()
    last = (np.moveaxis(array, 1, -1) for array in (x, y))
    got = _apply(Fusion(kind, jnp.float32), flax_variables(theirs), *last, LONGER)
    np.testing.assert_allclose(np.moveaxis(got, -1, 1), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(np.moveaxis(got, -1, 1)[1], x[1])


@pytest.mark.parametrize("frames", [30, 31, 32])
def test_mel_fusion_equals_torch_at_any_remainder(frames):
    """The chunks' thirds are cut, fit or padded behind."""
    theirs = randomize(torch_models.MelFusion("aff", 16))
    mels = _normal(0, 3, 4, frames, 16)
    with torch.no_grad():
        expected = theirs(torch.tensor(mels)).numpy()
    got = _apply(MelFusion("aff", jnp.float32), flax_variables(theirs), mels, LONGER)
    np.testing.assert_allclose(got[LONGER], expected[LONGER], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(got[1], mels[1, 0])


# --- HTSAT ----------------------------------------------------------------------------------

HTSAT_SIZE = HTSATConfig(spec_size=128, embed_dim=8, depths=(2,), heads=(1,), window_size=4)
MELS, FRAMES = 64, 201
ONE_STAGE = {"depths": [2], "num_attention_heads": [1], "hidden_size": 8}


def _htsat(fusion: str) -> HTSAT:
    return HTSAT(HTSAT_SIZE, MELS, fusion=FusionConfig(fusion))


@functools.cache
def _transformers(fusion: str):
    """(its audio model, our variables, function of mels and `longer` to its pooled output).

    transformers has aff_2d; the others are put into its encoder.
    """
    kind, _, place = fusion.partition("_")
    channels = {"patch_embed_input_channels": 4} if fusion == "channel_map" else {}
    model = transformers_clap(fused=place == "2d", audio=ONE_STAGE | channels)
    audio = model.audio_model.audio_encoder
    torch.manual_seed(0)
    extra = None
    if place == "2d" and kind != "aff":
        audio.patch_embed.fusion_model = randomize(torch_models.Fusion(kind, 8, 2))
    elif place == "1d":
        extra = randomize(torch_models.MelFusion(kind, MELS))
    variables = audio_variables_from_transformers(model, extra)
    norm = audio.batch_norm
    if place == "1d":
        audio.batch_norm = nn.Identity()

    def pooled(mels, longer):
        mels, longer = torch.tensor(mels), torch.tensor(longer)
        with torch.no_grad():
            if place == "1d":
                mels = norm(mels.transpose(1, 3)).transpose(1, 3)
                whole = mels[:, 0].clone()
                whole[longer] = extra(mels[longer])
                mels = whole[:, None]
            return audio(mels, is_longer=longer[:, None]).pooler_output.numpy()

    return variables, pooled


def _unit(x) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _mels() -> np.ndarray:
    return _normal(0, 3, 4, FRAMES, MELS) * 20 - 30


@functools.cache
def _pool(fusion: str):
    variables, _ = _transformers(fusion)
    model = _htsat(fusion)
    embed = jax.jit(lambda mels, longer: model.apply(variables, mels, False, longer)[0])
    return lambda mels, longer: _unit(embed(mels, longer))


@pytest.mark.parametrize("fusion", ["aff_2d", "iaff_2d", "aff_1d", "channel_map"])
def test_htsat_equals_transformers(fusion):
    variables, pooled = _transformers(fusion)
    init = functools.partial(_htsat(fusion).init, jax.random.key(0), _mels(), False, LONGER)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, jax.eval_shape(init))
    expected = _unit(pooled(_mels(), LONGER))
    np.testing.assert_allclose(_pool(fusion)(_mels(), LONGER), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fusion", ["aff_2d", "aff_1d"])
def test_rows_no_longer_than_a_clip_skip_fusion_always(fusion):
    """Neither their own chunks nor the rows beside them matter, nor that no row is longer."""
    mels = _mels()
    expected = _pool(fusion)(mels, LONGER)[1]
    other = mels.copy()
    other[1, 1:] = 99.0
    np.testing.assert_array_equal(_pool(fusion)(other, LONGER)[1], expected)
    other[[0, 2]] = 7.0
    np.testing.assert_allclose(_pool(fusion)(other, LONGER)[1], expected, rtol=0, atol=1e-6)
    none = _pool(fusion)(mels, np.zeros(3, bool))
    np.testing.assert_allclose(none[1], expected, rtol=0, atol=1e-6)
    assert np.abs(none[0] - _pool(fusion)(mels, LONGER)[0]).max() > 1e-3
    # A model with fusion hears a clip's one mel as a row that is not longer.
    variables, _ = _transformers(fusion)
    alone, _ = jax.jit(_htsat(fusion).apply, static_argnums=2)(variables, mels[:, 0], False)
    np.testing.assert_allclose(_unit(alone), none, rtol=0, atol=1e-6)


def test_daf_adds_the_chunks_of_longer_rows_alone():
    mels = _normal(0, 3, 4, 30, 16)
    model = MelFusion("daf", jnp.float32)
    variables = flax_variables(randomize(torch_models.MelFusion("daf", 16)))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), mels, LONGER, False))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)
    assert set(variables["params"]) == {"mel_conv1d", "mel_conv1d_norm"}
    added = _apply(model, variables, mels, LONGER) - mels[:, 0]
    swapped = _apply(model, variables, mels[:, [0, 3, 2, 1]], LONGER) - mels[:, 0]
    np.testing.assert_array_equal(added[1], 0.0)
    assert np.abs(added[0] - swapped[0]).max() > 0.1  # the chunks stand in order of time
    np.testing.assert_allclose(added[0, :10], swapped[0, 20:], atol=1e-6)


# --- BatchNorm under a mask -----------------------------------------------------------------


def _train(x, mask=None, variables=None):
    norm = BatchNorm()
    variables = variables or norm.init(jax.random.key(0), x, False)
    y, updates = norm.apply(variables, x, True, mask, mutable=["batch_stats"])
    return np.asarray(y), updates["batch_stats"]


def test_batch_norm_equals_torch_in_training_and_evaluation():
    x = _normal(0, 4, 6, 3) * 5 + 2
    theirs = randomize(nn.BatchNorm1d(3)).train()
    variables = flax_variables(theirs)
    y, stats = _train(x, variables=variables)
    with torch.no_grad():
        expected = theirs(torch.tensor(x).mT).mT
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(stats["mean"], theirs.running_mean, rtol=1e-5)
    # torch's running variance is the unbiased one of 24 places, ours the biased one.
    biased = variables["batch_stats"]["var"] * 0.9 + 0.1 * x.var((0, 1))
    np.testing.assert_allclose(stats["var"], biased, rtol=1e-5)
    still = BatchNorm().apply(variables, x, False)
    running = flax_variables(theirs)["params"], variables["batch_stats"]
    scaled = (x - running[1]["mean"]) / np.sqrt(running[1]["var"] + 1e-5)
    np.testing.assert_allclose(still, scaled * running[0]["scale"] + running[0]["bias"], rtol=1e-4)


def test_batch_norm_is_exact_far_from_zero():
    """Where the mean of squares minus the square of the mean would lose the variance."""
    x = _normal(0, 50, 40, 3) - 3000
    variables = BatchNorm().init(jax.random.key(0), x, False)
    known = {"mean": jnp.full(3, -2999.0), "var": jnp.ones(3)}
    for mask in (None, np.ones((50, 1, 1), bool)):
        y, stats = _train(x, mask, variables | {"batch_stats": known})
        expected = x.astype(np.float64)
        var = (stats["var"] - 0.9) / 0.1
        np.testing.assert_allclose(var, expected.var((0, 1)), rtol=1e-3)
        expected = (expected - expected.mean((0, 1))) / np.sqrt(expected.var((0, 1)) + 1e-5)
        np.testing.assert_allclose(y, expected, atol=1e-3)


def test_batch_norm_counts_what_is_under_the_mask():
    """The statistics of the rows under it alone, whatever the others hold."""
    x = _normal(0, 5, 6, 3)
    mask = np.array([True, False, True, True, False])
    y, stats = _train(x, mask[:, None, None])
    expected, expected_stats = _train(x[mask])
    np.testing.assert_allclose(y[mask], expected, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), stats, expected_stats)
    x[~mask] = 1e4
    again, _ = _train(x, mask[:, None, None])
    np.testing.assert_allclose(again[mask], y[mask], rtol=1e-5, atol=1e-6)


def test_batch_norm_under_an_empty_mask_is_the_running_one():
    x = _normal(0, 2, 6, 3)
    running = {"mean": jnp.array([1.0, 2, 3]), "var": jnp.array([4.0, 5, 6])}
    params = BatchNorm().init(jax.random.key(0), x, False)["params"]
    variables = {"params": params, "batch_stats": running}
    y, stats = _train(x, np.zeros((2, 1, 1), bool), variables)
    jax.tree.map(np.testing.assert_allclose, stats, running)
    np.testing.assert_allclose(y, BatchNorm().apply(variables, x, False), rtol=1e-6)


def test_configs_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="fusion.type must be one of none, daf_1d"):
        FusionConfig("add")
    stem = htsat_preset("small")
    small = ClapConfig(htsat=HTSATConfig()).audio
    with pytest.raises(ValueError, match="htsat.conv_stem replaces"):
        ClapConfig(
            audio=type(small)(sample_rate=16_000, clip_samples=160_000, hop_length=640, fmax=7e3),
            htsat=stem,
            fusion=FusionConfig("aff_2d"),
        )
