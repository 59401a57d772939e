"""Schedules, factors of the rate, freezing and the moving average."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from clapjax.models.clap import init_variables
from clapjax.models.presets import blat_clap, laion_clap
from clapjax.training.config import OptimizerConfig
from clapjax.training.optimizer import (
    layer_depths,
    make_optimizer,
    make_schedule,
    rate_factors,
    stop_frozen,
    trainable,
)
from tests.training.tiny import init_state, run_steps, some_batch, some_mesh


def _shapes(model) -> dict:
    return jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))["params"]


@pytest.fixture(scope="module")
def laion():
    """Shapes of LAION-CLAP's parameters, HTSAT-tiny and RoBERTa-base, with fusion."""
    return _shapes(laion_clap("htsat-tiny", fusion="aff_2d"))


@pytest.fixture(scope="module")
def ones():
    """Parameters of a small tree, all one: two text layers and two pairs of Swin blocks."""
    stacked = {"up": {"kernel": jnp.ones((2, 3, 3)), "bias": jnp.ones((2, 3))}}
    return {
        "text_encoder": {"word": {"embedding": jnp.ones((4, 3))}, "layers": stacked},
        "audio_encoder": {
            "stage0": {"block0": stacked["up"], "block1": stacked["up"]},
            "norm": {"scale": jnp.ones(3)},
        },
        "text_projection": {"kernel": jnp.ones((3, 3))},
        "logit_scale_a": jnp.ones(()),
    }


def test_laions_schedule_and_adam():
    """LAION-CLAP's training/scheduler.py, and torch's Adam on the same gradients."""
    torch = pytest.importorskip("torch")
    config = OptimizerConfig(
        learning_rate=1e-3, warmup_steps=4, warmup_offset=1, b2=0.999, weight_decay=0, clip_norm=0
    )
    steps, rates = 20, []
    for step in range(steps):
        if step < 4:
            rates.append(1e-3 * (step + 1) / 4)
        else:
            rates.append(0.5 * (1 + math.cos(math.pi * (step - 4) / (steps - 4))) * 1e-3)
    schedule = make_schedule(config, steps)
    np.testing.assert_allclose([schedule(step) for step in range(steps)], rates, rtol=1e-5)

    gradients = np.random.default_rng(0).normal(size=(steps, 5)).astype(np.float32)
    theirs = torch.nn.Parameter(torch.ones(5))
    adam = torch.optim.Adam([theirs], lr=1.0, betas=(0.9, 0.999), eps=1e-8)
    optimizer, params = make_optimizer(config, steps), {"kernel": jnp.ones(5)}
    state = optimizer.init(params)
    for rate, gradient in zip(rates, gradients, strict=True):
        adam.param_groups[0]["lr"] = rate
        theirs.grad = torch.tensor(gradient)
        adam.step()
        updates, state = optimizer.update({"kernel": jnp.asarray(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["kernel"], theirs.detach().numpy(), rtol=1e-6)


def _moved(config, params, gradients, steps=3):
    """How far the same gradients, given at each of the steps, move parameters."""
    optimizer = make_optimizer(config, 10)
    state, now = optimizer.init(params), params
    for _ in range(steps):
        updates, state = optimizer.update(gradients, state, now)
        now = optax.apply_updates(now, updates)
    return jax.tree.map(jnp.subtract, now, params)


@pytest.mark.parametrize("freeze", [(), ("text_encoder:1",)])
def test_muon_moves_kernels_as_torchs_and_the_rest_as_adamw(freeze):
    torch = pytest.importorskip("torch")
    random, draw = np.random.default_rng(0), lambda *shape: random.normal(size=shape)
    shapes = {
        "text_encoder": {
            "word": {"embedding": (4, 3)},
            "layers": {"up": {"kernel": (2, 6, 9), "bias": (2, 9)}},
        },
        "audio_encoder": {"stem0": {"kernel": (3, 3, 2, 8)}, "block1": {"kernel": (2, 2, 4, 4)}},
        "text_projection": {"kernel": (9, 5)},
    }
    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    params, gradients = (
        jax.tree.map(lambda shape: jnp.float32(draw(*shape)), shapes, is_leaf=is_shape)
        for _ in range(2)
    )
    plain = OptimizerConfig(learning_rate=0.1, warmup_steps=1, weight_decay=0.2, freeze=freeze)
    config = dataclasses.replace(plain, kind="muon")
    found, adamw = (_moved(c, params, gradients) for c in (config, plain))

    def by_torch(start, gradient):
        """One matrix: what torch's Muon makes of it, at the rates of the schedule."""
        shape = start.shape
        theirs = torch.nn.Parameter(torch.tensor(np.reshape(start, (-1, shape[-1]))))
        muon = torch.optim.Muon([theirs], lr=1.0, weight_decay=0.2, adjust_lr_fn="match_rms_adamw")
        for step in range(3):
            muon.param_groups[0]["lr"] = float(make_schedule(config, 10)(step))
            theirs.grad = torch.tensor(np.reshape(gradient, (-1, shape[-1])))
            muon.step()
        return theirs.detach().numpy().reshape(shape) - start

    def near(ours, start, gradient):  # torch multiplies in bfloat16
        theirs = by_torch(start, gradient)
        assert np.linalg.norm(ours - theirs) < 0.02 * np.linalg.norm(theirs)

    jax.tree.map(near, *(x["audio_encoder"] for x in (found, params, gradients)))
    jax.tree.map(near, *(x["text_projection"] for x in (found, params, gradients)))
    kernels = [x["text_encoder"]["layers"]["up"]["kernel"] for x in (found, params, gradients)]
    for ours, start, gradient in list(zip(*kernels, strict=True))[1 if freeze else 0 :]:
        near(ours, start, gradient)
    if freeze:
        assert not kernels[0][0].any()
    for part, name in (("word", "embedding"), ("layers", "up")):
        a, b = (x["text_encoder"][part][name] for x in (found, adamw))
        a, b = (x["bias"] if part == "layers" else x for x in (a, b))
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_layers_are_counted_from_the_input(laion):
    depths, tops = layer_depths(laion)
    assert tops == {"audio_encoder": 13, "text_encoder": 13}
    audio, text = depths["audio_encoder"], depths["text_encoder"]
    for part in ("batch_norm", "patch_embed", "patch_norm", "fusion"):
        assert set(map(int, jax.tree.leaves(audio[part]))) == {0}
    first = audio["stage2"]["block0"]["mlp"]["up"]["kernel"]
    second = audio["stage2"]["block1"]["mlp"]["up"]["kernel"]
    assert first.shape == (3, 1, 1) and first.ravel().tolist() == [5, 7, 9]
    assert second.ravel().tolist() == [6, 8, 10]
    assert [int(audio[f"merge{i}"]["reduction"]["kernel"]) for i in range(3)] == [2, 4, 10]
    assert int(audio["norm"]["scale"]) == int(text["pooler"]["kernel"]) == 13
    assert {int(x) for x in jax.tree.leaves({k: text[k] for k in ("word", "position")})} == {0}
    assert text["layers"]["qkv"]["bias"].ravel().tolist() == list(range(1, 13))
    assert int(depths["audio_projection"]["linear1"]["kernel"]) == -1


def test_pann_and_bert_layers():
    depths, tops = layer_depths(_shapes(blat_clap()))
    assert tops == {"audio_encoder": 7, "text_encoder": 9}
    assert int(depths["audio_encoder"]["block6"]["conv1"]["kernel"]) == 6
    assert int(depths["audio_encoder"]["fc"]["kernel"]) == 7


def test_layer_decay_and_patterns(laion):
    config = OptimizerConfig(layer_decay=0.5, rates=("^text_encoder/=0.1", "encoder/=9", "bias$=3"))
    factors = rate_factors(config, laion)
    rows = factors["text_encoder"]["layers"]["mlp"]["down"]["bias"]
    assert rows.dtype == np.float32 and rows.shape == (12, 1)
    np.testing.assert_allclose(rows.ravel(), 0.1 * 0.5 ** np.arange(12, 0, -1.0), rtol=1e-6)
    np.testing.assert_allclose(factors["text_encoder"]["word"]["embedding"], 0.1 * 0.5**13)
    np.testing.assert_allclose(factors["text_encoder"]["pooler"]["bias"], 0.1)
    np.testing.assert_allclose(factors["audio_encoder"]["norm"]["bias"], 9)
    assert factors["text_projection"]["linear1"]["bias"] == 3
    assert factors["text_projection"]["linear1"]["kernel"] == factors["logit_scale_a"] == 1
    with pytest.raises(ValueError, match="optimizer.rates: 'fusoin' fits no parameter"):
        rate_factors(OptimizerConfig(rates=("fusoin=2",)), laion)


def test_the_factors_reach_the_update(ones):
    """Without a gradient what moves is what decays: towards zero, by rate, factor and decay."""
    config = OptimizerConfig(
        learning_rate=0.5,
        warmup_steps=0,
        weight_decay=0.1,
        clip_norm=0,
        layer_decay=0.5,
        rates=("^audio_encoder/=2",),
        freeze=("text_encoder:1",),
    )
    optimizer = make_optimizer(config, 100)
    zeros = jax.tree.map(jnp.zeros_like, ones)
    updates, _ = optimizer.update(zeros, optimizer.init(ones), ones)
    moved = jax.tree.map(lambda x: -20 * x, updates)  # in units of rate times decay
    text, audio = moved["text_encoder"], moved["audio_encoder"]["stage0"]
    np.testing.assert_allclose(text["word"]["embedding"], 0)
    np.testing.assert_allclose(text["layers"]["up"]["kernel"][:, 0, 0], [0, 0.5], rtol=1e-6)
    np.testing.assert_allclose(audio["block0"]["kernel"][:, 0, 0], [2 / 16, 2 / 4], rtol=1e-6)
    np.testing.assert_allclose(audio["block1"]["kernel"][:, 0, 0], [2 / 8, 2 / 2], rtol=1e-6)
    np.testing.assert_allclose(moved["text_projection"]["kernel"], 1, rtol=1e-6)
    np.testing.assert_allclose(audio["block0"]["bias"], 0)


def test_whole_frozen_parameters_have_no_moments(ones):
    config = OptimizerConfig(freeze=("text_encoder", "audio_encoder:1"))
    state = make_optimizer(config, 10).init(ones)
    shapes = [x.shape for x in jax.tree.leaves(state)]
    # Two moments each: of the second to fourth block, audio norm, projection and scale.
    assert shapes.count((4, 3)) == 0 and shapes.count((3, 3)) == 2
    assert shapes.count((2, 3, 3)) == 4  # block 1 is frozen, but shares its parameter with block 3


def test_frozen_parts_have_no_gradient(ones):
    config = OptimizerConfig(freeze=("text_encoder:1", "audio_encoder"))
    moves = trainable(config, ones)
    assert moves["text_encoder"]["layers"]["up"]["bias"].ravel().tolist() == [False, True]
    assert not moves["text_encoder"]["word"]["embedding"]
    assert not moves["audio_encoder"]["norm"]["scale"] and moves["logit_scale_a"]

    def total(params):
        return sum(x.sum() for x in jax.tree.leaves(stop_frozen(config, params)))

    gradient = jax.grad(total)(ones)
    expected = jax.tree.map(lambda x, move: np.broadcast_to(move, x.shape) * 1.0, ones, moves)
    jax.tree.map(np.testing.assert_array_equal, gradient, expected)
    assert not trainable(OptimizerConfig(freeze=("logit_scale_a",)), ones)["logit_scale_a"]
    for item, message in (
        ("audio_encoder:5", "audio_encoder has 4 layers, not 5"),
        ("text_projection:1", "text_projection has 0 layers, not 1"),
        (
            "text",
            "no 'text'; there are text_encoder, audio_encoder, text_projection, logit_scale_a",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            trainable(OptimizerConfig(freeze=(item,)), ones)


def test_a_step_leaves_the_frozen_tower_alone_and_averages(tiny):
    optimizer = dataclasses.replace(tiny.optimizer, freeze=("text_encoder",), ema=0.5)
    config, mesh = dataclasses.replace(tiny, optimizer=optimizer), some_mesh(1)
    start, means = jax.device_get(init_state(config, mesh)), []
    state, ema = init_state(config, mesh), start.params
    for step in range(3):
        state, _ = run_steps(config, mesh, [some_batch(step)], state)
        now = jax.device_get(state)
        decay = min(0.5, (1 + step) / (10 + step))
        ema = jax.tree.map(lambda old, new, d=decay: d * old + (1 - d) * new, ema, now.params)
        means.append(now.ema)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), now.ema, ema)
    assert now.variables()["params"] is now.ema
    jax.tree.map(
        np.testing.assert_array_equal, now.params["text_encoder"], start.params["text_encoder"]
    )
    still = jax.tree.map(np.array_equal, now.params, start.params)
    assert not any(jax.tree.leaves(still["audio_encoder"]["stage0"]))
    assert not still["text_projection"]["linear1"]["kernel"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"freeze": ("text_encoder:x",)}, "'text_encoder:x' is not NAME or NAME:COUNT"),
        ({"rates": ("text_encoder",)}, "'text_encoder' is not REGEX=FACTOR"),
        ({"rates": ("(=2",)}, "is not REGEX=FACTOR"),
        ({"rates": ("a=-1",)}, "is not REGEX=FACTOR"),
        ({"rates": ("a=nan",)}, "is not REGEX=FACTOR"),
        ({"rates": ("a=inf",)}, "is not REGEX=FACTOR"),
        ({"kind": "adam"}, "optimizer.kind must be one of adamw, muon, not 'adam'"),
        ({"ema": 1.0}, "ema must be in 0 .. 1, not 1.0"),
        ({"clip_norm": -1.0}, "clip_norm must be >= 0, not -1.0"),
        ({"layer_decay": 0.0}, "layer_decay must be above 0 and at most 1"),
        ({"layer_decay": 1.5}, "layer_decay must be above 0 and at most 1"),
    ],
)
def test_bad_settings(values, message):
    with pytest.raises(ValueError) as caught:
        OptimizerConfig(**values)
    assert message in str(caught.value)
