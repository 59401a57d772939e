"""PANN encoders against torch, rows of different lengths, and training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from clapjax.audio.config import AudioConfig
from clapjax.models.clap import Clap, embed_waveform, init_variables
from clapjax.models.config import ClapConfig, FusionConfig, PANNConfig, TextConfig
from clapjax.models.layers import augment
from clapjax.models.pann import PANN
from tests.interop.torch_models import randomize
from tests.models.torch_models import Pann, flax_variables

MELS, FRAMES, WIDTH = 32, 101, 4
LONGER = np.array([True, False, True])


def _mel(seed: int = 0, *shape: int) -> np.ndarray:
    shape = shape or (3, FRAMES, MELS)
    return np.random.default_rng(seed).normal(-30, 20, shape).astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)
def _apply(model: PANN, variables, mel, longer=None, lengths=None):
    return model.apply(variables, mel, False, longer, lengths)


def _unit(x) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@functools.cache
def _torch(arch: str, fusion: str = "none") -> Pann:
    torch.manual_seed(0)
    return randomize(Pann(arch, WIDTH, MELS, fusion))


def _model(arch: str, fusion: str = "none", pooling: str = "all") -> PANN:
    return PANN(PANNConfig(base_width=WIDTH, pooling=pooling), arch, FusionConfig(fusion))


@pytest.mark.parametrize("arch", ["cnn6", "cnn10", "cnn14"])
def test_equals_torch(arch):
    """Odd numbers of frames, too, which pooling cuts."""
    theirs = _torch(arch)
    variables = flax_variables(theirs)
    init = functools.partial(_model(arch).init, jax.random.key(0), _mel(), False)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, jax.eval_shape(init))
    pooled, steps = _apply(_model(arch), variables, _mel())
    with torch.no_grad():
        expected, expected_steps = theirs(torch.tensor(_mel()))
    assert expected.std() > 0.01 and (expected > 0).float().mean() > 0.2
    np.testing.assert_allclose(_unit(pooled), _unit(expected), rtol=0, atol=1e-5)
    np.testing.assert_allclose(steps, expected_steps, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", ["aff_1d", "iaff_2d", "daf_2d", "channel_map"])
def test_fusion_equals_torch(fusion):
    theirs, mels = _torch("cnn14", fusion), _mel(0, 3, 4, FRAMES, MELS)
    with torch.no_grad():
        expected, _ = theirs(torch.tensor(mels), torch.tensor(LONGER))
    variables = flax_variables(theirs)
    pooled, _ = _apply(_model("cnn14", fusion), variables, mels, LONGER)
    np.testing.assert_allclose(_unit(pooled), _unit(expected), rtol=0, atol=1e-5)


LENGTHS = [101, 96, 64, 50, 33]


def test_rows_in_a_padded_batch_are_what_they_are_alone():
    """BLAT embeds clips one by one; whatever lies behind a row here must not be heard."""
    theirs, model = _torch("cnn14"), _model("cnn14", pooling="length")
    variables = flax_variables(theirs)
    mel = _mel(0, len(LENGTHS), 130, MELS)
    pooled, steps = _apply(model, variables, mel, None, np.array(LENGTHS))
    for index, length in enumerate(LENGTHS):
        with torch.no_grad():
            expected, expected_steps = theirs(torch.tensor(mel[index : index + 1, :length]))
        np.testing.assert_allclose(_unit(pooled[index]), _unit(expected[0]), rtol=0, atol=1e-5)
        own = steps[index, : length // 32]
        np.testing.assert_allclose(own, expected_steps[0], rtol=1e-4, atol=1e-5)
    other = np.array(mel)
    for index, length in enumerate(LENGTHS):
        other[index, length:] = 55.0
    np.testing.assert_array_equal(
        _apply(model, variables, other, None, np.array(LENGTHS))[0], pooled
    )


def test_a_row_too_short_is_heard_with_what_is_behind_it():
    """Instead of the NaN that a pooling over no step would give."""
    model, variables, mel = (
        _model("cnn14", pooling="length"),
        flax_variables(_torch("cnn14")),
        _mel(),
    )
    short, _ = _apply(model, variables, mel, None, np.array([32, 3, 1]))
    full, _ = _apply(model, variables, mel, None, np.array([32, 32, 32]))
    np.testing.assert_array_equal(short, full)
    assert np.isfinite(short).all()


def _clap(**changes) -> ClapConfig:
    return ClapConfig(
        audio=AudioConfig(
            sample_rate=8000, clip_samples=8000, hop_length=80, fmax=4000.0, mel_bins=MELS
        ),
        audio_encoder="cnn6",
        pann=PANNConfig(base_width=WIDTH, pooling=changes.pop("pooling", "all")),
        text=TextConfig(
            vocab_size=20, hidden_size=8, layers=1, heads=1, intermediate_size=8, max_length=6
        ),
        projection_size=5,
        **changes,
    )


def _random_variables(config: ClapConfig) -> dict:
    """Norms at their start, all else random."""
    shapes = jax.eval_shape(lambda: init_variables(config, jax.random.key(0)))
    generator = np.random.default_rng(0)

    def fill(path, leaf):
        start = {"scale": 1.0, "var": 1.0, "bias": 0.0, "mean": 0.0}.get(path[-1].key)
        if start is None:
            return generator.normal(0, 0.3, leaf.shape).astype(np.float32)
        return np.full(leaf.shape, start, np.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def test_waveforms_of_any_length_together_and_alone():
    """Mel, encoder and head: the padding of the batch is heard nowhere."""
    config = _clap(pooling="length", projection="linear", normalize_eps=1e-7)
    variables = _random_variables(config)
    assert set(variables["params"]["audio_projection"]) == {"linear1"}
    lengths = np.array([9000, 4321, 1500])
    waves = np.random.default_rng(0).normal(0, 0.1, (3, 9000)).astype(np.float32)
    embed = jax.jit(functools.partial(embed_waveform, Clap(config)))
    together = embed(variables, waves, lengths=lengths)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    alone = embed(variables, waves[1:2, : lengths[1]])
    np.testing.assert_allclose(alone[0], together[1], rtol=0, atol=1e-5)
    assert np.abs(np.diff(together, axis=0)).max() > 1e-3


@pytest.fixture(scope="module")
def train_step():
    """(variables, mels, longer) to (gradient, new statistics) of a fused Cnn6 in training."""
    model = Clap(_clap(fusion=FusionConfig("aff_2d")))

    @jax.jit
    def step(variables, mels, longer):
        def objective(params):
            rngs = {"augment": jax.random.key(1), "dropout": jax.random.key(2)}
            audio, updates = model.apply(
                {**variables, "params": params},
                mels,
                train=True,
                longer=longer,
                method="audio",
                rngs=rngs,
                mutable=["batch_stats"],
            )
            return jnp.sum(audio * jnp.arange(5)), updates["batch_stats"]

        return jax.grad(objective, has_aux=True)(variables["params"])

    variables = _random_variables(model.config)
    return lambda mels, longer: (variables, *step(variables, mels, jnp.asarray(longer)))


def test_training_without_a_longer_row_leaves_fusion_alone(train_step):
    """LAION-CLAP marks a random row; here statistics stay and gradients are zero, not NaN."""
    variables, gradient, stats = train_step(_mel(0, 3, 4, FRAMES, MELS), np.zeros(3, bool))
    before, after = (tree["audio_encoder"] for tree in (variables["batch_stats"], stats))
    jax.tree.map(np.testing.assert_array_equal, after["fusion"], before["fusion"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    fusion = gradient["audio_encoder"]["fusion"]
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(fusion))
    assert np.any(gradient["audio_encoder"]["block1"]["conv1"]["kernel"])


def test_training_with_longer_rows_moves_fusion(train_step):
    variables, gradient, stats = train_step(_mel(0, 3, 4, FRAMES, MELS), LONGER)
    before, after = (tree["audio_encoder"]["fusion"] for tree in (variables["batch_stats"], stats))
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max() > 0, after, before)
    assert all(jax.tree.leaves(moved))
    fusion = gradient["audio_encoder"]["fusion"]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fusion))
    assert np.any(fusion["mel_conv2d"]["kernel"])


def test_four_mels_share_their_stripes():
    """SpecAugment drops the same time and bins of a row's whole and chunks."""
    mels = jnp.ones((2, 4, 60, MELS))
    config = PANNConfig(time_width=20)
    dropped = np.asarray(augment(jax.random.key(0), mels, config))
    for channel in range(1, 4):
        np.testing.assert_array_equal(dropped[:, channel], dropped[:, 0])
    assert 0 < (dropped == 0).mean() < 1 and (dropped[0] != dropped[1]).any()
    alone = augment(jax.random.key(0), mels[:, 0], config)
    np.testing.assert_array_equal(alone, dropped[:, 0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"base_width": 0}, "pann.base_width must be positive"),
        ({"pooling": "max"}, "pann.pooling must be one of all, length, not 'max'"),
        ({"dropout": 1.0}, "pann.dropout must be in 0 .. 1"),
    ],
)
def test_config_errors_name_the_setting(change, reason):
    with pytest.raises(ValueError, match=reason):
        PANNConfig(**change)


def test_configs_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="audio_encoder must be one of htsat, cnn6"):
        ClapConfig(audio_encoder="resnet38")
    with pytest.raises(ValueError, match="'length' hears audio of any length"):
        _clap(pooling="length", fusion=FusionConfig("aff_2d"))
    with pytest.raises(ValueError, match="cnn6 halves the mel 4 times; 11 frames of 64"):
        ClapConfig(audio=AudioConfig(clip_samples=4800), audio_encoder="cnn6")
    assert ClapConfig(audio_encoder="cnn10").audio_width == 1024


def test_inputs_that_do_not_go_with_the_config_are_refused():
    variables = flax_variables(_torch("cnn14"))
    with pytest.raises(ValueError, match="need pann.pooling 'length'"):
        _apply(_model("cnn14"), variables, _mel(), None, np.array([3, 3, 3]))
    with pytest.raises(ValueError, match="cnn14 needs 32 frames, got 31"):
        _apply(_model("cnn14"), variables, _mel(0, 1, 31, MELS))
    with pytest.raises(ValueError, match="fusion.type is 'none'"):
        _apply(_model("cnn14"), variables, _mel(0, 1, 4, 32, MELS), np.ones(1, bool))
    with pytest.raises(ValueError, match="four mels need `longer`"):
        _apply(_model("cnn14", "daf_1d"), variables, _mel(0, 1, 4, 32, MELS))
