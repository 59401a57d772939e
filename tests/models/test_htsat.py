"""Parts of HTSAT against torch and transformers, and what the whole guarantees."""

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from transformers.models.clap.modeling_clap import ClapAudioEncoder, ClapAudioModel

from clapjax.models.config import ClapConfig, HTSATConfig
from clapjax.models.htsat import HTSAT, bicubic_matrix, fold_mel
from clapjax.models.presets import htsat_preset
from clapjax.models.swin import DropPath

TINY = HTSATConfig(spec_size=64, embed_dim=8, depths=(2,), heads=(1,), time_width=1, freq_width=1)
MELS = 16  # 4 chunks of 64 frames


@pytest.mark.parametrize(
    ("size_in", "size_out"),
    [(1001, 1024), (251, 256), (2, 7), (3, 4), (5, 64), (64, 64), (1, 5), (100, 37), (4, 1)],
)
def test_bicubic_matrix_equals_torch(size_in, size_out):
    """In float64: in float32 torch misplaces the last of 1024 rows by 6e-5 of a frame."""
    values = np.random.default_rng(0).normal(size=(size_in, 3))
    expected = torch.nn.functional.interpolate(
        torch.tensor(values)[None, None], (size_out, 3), mode="bicubic", align_corners=True
    )[0, 0].numpy()
    matrix = bicubic_matrix(size_in, size_out)
    assert matrix.shape == (size_out, size_in) and matrix.dtype == np.float32
    np.testing.assert_allclose(matrix.sum(1), 1.0, atol=1e-6)
    np.testing.assert_allclose(matrix @ values, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("spec_size", "mels", "frames"),
    [(256, 64, 1001), (256, 64, 1024), (128, 64, 251), (64, 16, 100), (64, 64, 64)],
)
def test_fold_mel_equals_transformers(spec_size, mels, frames):
    mel = np.random.default_rng(0).normal(-30, 20, (2, frames, mels)).astype(np.float32)
    encoder = type("Encoder", (), {"spec_size": spec_size, "freq_ratio": spec_size // mels})
    expected = ClapAudioEncoder.reshape_mel2img(encoder, torch.tensor(mel).double()[:, None])
    got = fold_mel(jnp.asarray(mel), spec_size)
    assert got.shape == (2, spec_size, spec_size)
    np.testing.assert_allclose(got, expected[:, 0].numpy(), rtol=0, atol=5e-5)


def test_too_many_frames_are_refused():
    with pytest.raises(ValueError, match="257 frames do not fit 256"):
        fold_mel(jnp.zeros((1, 257, 16)), 64)
    with pytest.raises(ValueError, match="1001 frames do not fit HTSAT's 256"):
        ClapConfig(htsat=htsat_preset("small"))


def _drop_path(rate: float, x: jax.Array, key: int = 0, deterministic: bool = False) -> np.ndarray:
    rngs = {"dropout": jax.random.key(key)}
    return np.asarray(DropPath().apply({}, x, jnp.float32(rate), deterministic, rngs=rngs))


def test_drop_path_drops_whole_samples_and_keeps_the_expectation():
    x = np.random.default_rng(0).normal(size=(4000, 3, 2)).astype(np.float32)
    out = _drop_path(0.3, x)
    kept = (out != 0).all(axis=(1, 2))
    np.testing.assert_array_equal((out != 0).any(axis=(1, 2)), kept)
    assert kept.mean() == pytest.approx(0.7, abs=0.03)
    np.testing.assert_allclose(out[kept], x[kept] / 0.7, rtol=1e-6)
    assert abs(np.corrcoef(kept[:-1], kept[1:])[0, 1]) < 0.06
    np.testing.assert_array_equal(out, _drop_path(0.3, x))
    assert (out != _drop_path(0.3, x, key=1)).any()


def test_drop_path_is_the_identity_at_rate_0_and_in_evaluation():
    x = np.random.default_rng(0).normal(size=(100, 5)).astype(np.float32)
    np.testing.assert_array_equal(_drop_path(0.0, x), x)
    np.testing.assert_array_equal(_drop_path(0.9, x, deterministic=True), x)


def _mel(seed: int = 0, batch: int = 3, frames: int = 200) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (batch, frames, MELS)) * 20 - 30


@functools.partial(jax.jit, static_argnums=0)
def _variables(config: HTSATConfig) -> dict:
    return HTSAT(config, MELS).init(jax.random.key(0), _mel(batch=1), False)


@functools.partial(jax.jit, static_argnums=0)
def _evaluate(config: HTSATConfig, variables: dict, mel: jax.Array):
    """(pooled, tokens)."""
    return HTSAT(config, MELS).apply(variables, mel, False)


@functools.partial(jax.jit, static_argnums=0)
def _train(config: HTSATConfig, variables: dict, mel: jax.Array, key: int) -> jax.Array:
    """Pooled, as in a training step."""
    rngs = dict(zip(("augment", "dropout"), jax.random.split(jax.random.key(key)), strict=True))
    return HTSAT(config, MELS).apply(variables, mel, True, rngs=rngs, mutable=["batch_stats"])[0][0]


@pytest.mark.parametrize(("stem", "side"), [((), 16), ((6, 12), 16), ((6, 12, 12), 8)])
def test_token_grid(stem, side):
    """Each stride-2 convolution of the stem halves the image; so does the merge."""
    stride = 64 // side
    config = dataclasses.replace(
        TINY, depths=(2, 2), heads=(1, 2), conv_stem=stem, patch_size=stride, patch_stride=stride
    )
    variables = jax.eval_shape(lambda: _variables(config))
    pooled, tokens = jax.eval_shape(lambda v: _evaluate(config, v, _mel()), variables)
    assert tokens.shape == (3, side // 2, side // 2, 16) and pooled.shape == (3, config.width)
    kernel = variables["params"]["patch_embed"]["kernel"]
    assert kernel.shape == ((1, 1, stem[-1], 8) if stem else (4, 4, 1, 8))
    assert sum(name.startswith("stem") for name in variables["params"]) == 2 * len(stem)


@pytest.mark.parametrize("segments", [1, 4, 16])
def test_pooling_by_time_segments(segments):
    """Rows of tokens are (chunk of time, mel), columns time: segments follow (chunk, column)."""
    plain = dataclasses.replace(TINY, patch_size=8, patch_stride=8)
    config = dataclasses.replace(plain, time_segments=segments)
    pooled, tokens = _evaluate(config, _variables(plain), _mel())
    assert tokens.shape == (3, 8, 8, 8) and pooled.shape == (3, config.width) == (3, 8 * segments)
    steps = [tokens[:, 2 * c : 2 * c + 2, t].mean(1) for c in range(4) for t in range(8)]
    each = len(steps) // segments
    parts = [np.mean(steps[i * each : (i + 1) * each], axis=0) for i in range(segments)]
    np.testing.assert_allclose(pooled, np.concatenate(parts, axis=1), atol=1e-5)


def test_absolute_positions_are_added_to_the_patches():
    """Off by default; on, one parameter for each place of the grid, with the given spread."""
    config = dataclasses.replace(TINY, position_init_std=0.3)
    variables, mel = _variables(config), _mel()
    params = dict(variables["params"])
    table = params.pop("position")
    assert table.shape == (16, 16, 8)
    assert float(table.std()) == pytest.approx(0.3, rel=0.05)
    assert "position" not in _variables(TINY)["params"]
    without = _evaluate(TINY, {**variables, "params": params}, mel)[0]
    zero = {**params, "position": jnp.zeros_like(table)}
    at_zero = _evaluate(config, {**variables, "params": zero}, mel)[0]
    np.testing.assert_allclose(at_zero, without, atol=1e-6)
    assert np.abs(_evaluate(config, variables, mel)[0] - without).max() > 0.01


def test_training_moves_batch_statistics_toward_the_batch():
    """Ten per cent a step, for the front norm and for each norm of the stem."""
    config, mel = dataclasses.replace(TINY, conv_stem=(6, 12)), _mel()

    @jax.jit
    def train(variables, rng):
        return HTSAT(config, MELS).apply(
            variables,
            mel,
            True,
            rngs={"augment": rng, "dropout": rng},
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=lambda module, _: isinstance(module, nn.Conv),
        )[1]

    changed = train(_variables(config), jax.random.key(0))
    seen = {name: value["__call__"][0] for name, value in changed["intermediates"].items()}
    batches = {"batch_norm": mel, "stem0_norm": seen["stem0"], "stem1_norm": seen["stem1"]}
    assert set(changed["batch_stats"]) == set(batches)
    for name, batch in batches.items():
        batch = np.asarray(batch, np.float64)
        axes = tuple(range(batch.ndim - 1))
        got = changed["batch_stats"][name]
        np.testing.assert_allclose(got["mean"], 0.1 * batch.mean(axes), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(got["var"], 0.9 + 0.1 * batch.var(axes), rtol=1e-3)


def test_evaluation_uses_the_running_statistics():
    """One clip's embedding does not depend on the clips beside it, and statistics matter."""
    variables, mel = _variables(TINY), _mel()
    together = _evaluate(TINY, variables, mel)[0]
    others = _evaluate(TINY, variables, mel.at[1:].set(7.0))[0]
    np.testing.assert_allclose(others[:1], together[:1], atol=1e-5)
    stats = {"batch_norm": {"mean": jnp.full(MELS, -30.0), "var": jnp.full(MELS, 400.0)}}
    shifted = _evaluate(TINY, {**variables, "batch_stats": stats}, mel)[0]
    expected = _evaluate(TINY, variables, (mel + 30) / 20)[0]
    np.testing.assert_allclose(shifted, expected, atol=1e-3)
    assert np.abs(shifted - together).max() > 0.01


def test_drop_path_is_random_per_key_and_spares_the_first_block():
    """Rates rise from 0: of one pair only the second block is ever dropped."""
    config = dataclasses.replace(TINY, drop_path=0.5, init_std=0.5)
    variables, mel = _variables(config), _mel()
    runs = np.stack([_train(config, variables, mel, key) for key in (0, 0, 1, 2, 3)])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.abs(runs[1:] - runs[0]).max() > 0.01

    def without(*blocks):
        """Parameters under which these blocks add nothing."""
        stage = dict(variables["params"]["stage0"])
        stage |= {block: jax.tree.map(jnp.zeros_like, stage[block]) for block in blocks}
        return {**variables["params"], "stage0": stage}

    stats = {"batch_norm": {"mean": mel.mean((0, 1)), "var": mel.var((0, 1))}}
    expected = _evaluate(config, {"params": without("block1"), "batch_stats": stats}, mel)[0]
    for key in range(5):
        got = _train(config, {**variables, "params": without("block1")}, mel, key)
        np.testing.assert_allclose(got, expected, atol=1e-4)
    nothing = {"params": without("block0", "block1"), "batch_stats": stats}
    assert np.abs(_evaluate(config, nothing, mel)[0] - expected).max() > 0.01


def test_blocks_scanned_one_by_one_equal_pairs():
    config = dataclasses.replace(TINY, depths=(4, 2), heads=(1, 2), drop_path=0.0, init_std=0.2)
    variables, mel = _variables(config), _mel()

    @functools.partial(jax.jit, static_argnums=0)
    def run(single: bool):
        model = HTSAT(config, MELS, platform="tpu" if single else "")

        def loss(params):
            pooled, tokens = model.apply({**variables, "params": params}, mel, False)
            return jnp.sum(jnp.sin(tokens)), pooled

        return jax.grad(loss, has_aux=True)(variables["params"])

    for left, right in zip(
        *(jax.tree.leaves(run(single)) for single in (False, True)), strict=True
    ):
        scale = np.abs(left).max()
        np.testing.assert_allclose(right, left, atol=1e-5 * scale)


def test_single_blocks_are_dropped_each_on_its_own():
    config = dataclasses.replace(TINY, depths=(4,), drop_path=0.9, init_std=0.5)
    variables, mel = _variables(config), _mel()
    model = HTSAT(config, MELS, platform="tpu")

    @jax.jit
    def run(key):
        rngs = {"augment": key, "dropout": key}
        return model.apply(variables, mel, True, rngs=rngs, mutable=["batch_stats"])[0][0]

    runs = np.stack([run(jax.random.key(seed)) for seed in (0, 0, 1, 2, 3)])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert all(np.abs(a - b).max() > 0.01 for a, b in zip(runs[1:], runs[2:], strict=False))


def _count(tree) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", ["tiny", "base"])
def test_parameter_counts_equal_transformers(name):
    """Stacking under nn.scan neither loses nor doubles a layer (nothing is allocated)."""
    config = htsat_preset(name)
    shapes = jax.eval_shape(
        lambda: HTSAT(config, 64).init(jax.random.key(0), jnp.zeros((1, 1001, 64)), False)
    )
    with torch.device("meta"):
        theirs = ClapAudioModel(
            transformers.ClapAudioConfig(
                patch_embeds_hidden_size=config.embed_dim,
                hidden_size=config.width,
                depths=list(config.depths),
                num_attention_heads=list(config.heads),
            )
        )
    assert _count(shapes["params"]) == sum(p.numel() for p in theirs.parameters())
    assert _count(shapes["batch_stats"]) == 2 * 64


def test_stacked_layers_start_apart():
    """nn.scan splits the key: no two pairs of a stage share their initial values."""
    config = dataclasses.replace(TINY, depths=(4,))
    kernel = _variables(config)["params"]["stage0"]["block0"]["mlp"]["up"]["kernel"]
    assert kernel.shape == (2, 8, 32)
    assert np.abs(kernel[0] - kernel[1]).max() > 0.01


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"depths": (2, 2, 5, 2)}, "htsat.depths must be even"),
        ({"heads": (4, 8, 16)}, "differ in length"),
        ({"spec_size": 250}, "htsat.spec_size 250"),
        ({"spec_size": 240}, "htsat.spec_size 240"),
        ({"conv_stem": (8, 8, 8)}, "htsat.patch_stride must be 8"),
        ({"conv_stem": (8, 8), "stem_fold": 2}, "htsat.patch_stride must be 8"),
        ({"stem_fold": 0}, "htsat.stem_fold must be positive"),
    ],
)
def test_config_errors_name_the_setting(change, reason):
    with pytest.raises(ValueError, match=reason):
        dataclasses.replace(HTSATConfig(), **change)


def test_time_segments_must_divide_the_last_stage():
    """Four chunks of eight columns: 32 steps of time."""
    ClapConfig(htsat=dataclasses.replace(HTSATConfig(), time_segments=32))
    with pytest.raises(ValueError, match=r"htsat\.time_segments 3 does not divide the 32 steps"):
        ClapConfig(htsat=dataclasses.replace(HTSATConfig(), time_segments=3))


def test_unknown_preset_lists_the_known_ones():
    with pytest.raises(ValueError, match="'huge'.*tiny, base, large, small"):
        htsat_preset("huge")
