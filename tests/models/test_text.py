"""The text encoder: padding, order, sizes, errors, and what it can tell apart at initialisation."""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from transformers.models.clap.modeling_clap import ClapTextModel

from clapjax.models.config import TextConfig
from clapjax.models.presets import text_preset
from clapjax.models.text import TextEncoder
from tests.interop.torch_models import randomize
from tests.models.hf_layout import bert_params, clip_params

SMALL = dataclasses.replace(text_preset("small"), vocab_size=60)
CAPTIONS = np.array([[0, 10, 5, 6, 20, 2], [0, 11, 5, 2, 1, 1], [0, 2, 1, 1, 1, 1]])
MASK = (CAPTIONS != 1).astype(np.int32)


@functools.partial(jax.jit, static_argnums=0)
def _init(config: TextConfig, key: jax.Array) -> dict:
    ids = jnp.zeros((1, 6), jnp.int32)
    return TextEncoder(config).init(key, ids, jnp.ones_like(ids), False)


def _variables(config: TextConfig, seed: int = 0) -> dict:
    return _init(config, jax.random.key(seed))


@functools.partial(jax.jit, static_argnums=0)
def _pooled(config: TextConfig, variables: dict, ids: jax.Array, mask: jax.Array) -> jax.Array:
    return TextEncoder(config).apply(variables, ids, mask, False)[0]


def _embed(config: TextConfig, variables: dict, ids, mask) -> np.ndarray:
    """(B, D) pooled."""
    return np.asarray(_pooled(config, variables, ids, mask))


@pytest.fixture(scope="module")
def variables() -> dict:
    return _variables(SMALL)


def test_more_padding_changes_nothing(variables):
    expected = _embed(SMALL, variables, CAPTIONS, MASK)
    ids = np.pad(CAPTIONS, ((0, 0), (0, 20)), constant_values=1)
    got = _embed(SMALL, variables, ids, np.pad(MASK, ((0, 0), (0, 20))))
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [bool, np.int32])
def test_what_stands_under_the_mask_does_not_matter(variables, dtype):
    expected = _embed(SMALL, variables, CAPTIONS, MASK)
    other = np.where(MASK == 1, CAPTIONS, np.random.default_rng(0).integers(3, 60, CAPTIONS.shape))
    np.testing.assert_allclose(
        _embed(SMALL, variables, other, MASK.astype(dtype)), expected, atol=1e-5
    )
    unmasked = _embed(SMALL, variables, other, np.ones_like(MASK))
    assert np.abs(unmasked[1:] - expected[1:]).max() > 0.01


def test_captions_do_not_influence_each_other(variables):
    alone = _embed(SMALL, variables, CAPTIONS[1:2], MASK[1:2])
    np.testing.assert_allclose(alone, _embed(SMALL, variables, CAPTIONS, MASK)[1:2], atol=1e-5)


def test_order_of_words_matters(variables):
    swapped = CAPTIONS[:1, [0, 4, 2, 3, 1, 5]]
    before, after = (_embed(SMALL, variables, ids, MASK[:1]) for ids in (CAPTIONS[:1], swapped))
    assert np.linalg.norm(before - after) > 0.05 * np.linalg.norm(before)


def test_without_positions_order_is_lost(variables):
    """So that the test above measures positions and nothing else."""
    params = {**variables["params"]}
    params["position"] = jax.tree.map(jnp.zeros_like, params["position"])
    swapped = CAPTIONS[:1, [0, 4, 2, 3, 1, 5]]
    before, after = (
        _embed(SMALL, {"params": params}, ids, MASK[:1]) for ids in (CAPTIONS[:1], swapped)
    )
    np.testing.assert_allclose(before, after, atol=1e-5)


def test_positions_count_from_pad_id_plus_one(variables):
    """RoBERTa's numbering: rows 2, 3, ... for pad id 1; rows of later positions are not read."""
    table = variables["params"]["position"]["embedding"]
    other = np.random.default_rng(0).normal(size=table.shape[1])
    for row, read in ((1, False), (2, True), (7, True), (8, False)):
        changed = {"embedding": table.at[row].set(other)}
        params = {**variables["params"], "position": changed}
        moved = _embed(SMALL, {"params": params}, CAPTIONS[:1], MASK[:1])
        moved = np.abs(moved - _embed(SMALL, variables, CAPTIONS[:1], MASK[:1])).max()
        assert (moved > 1e-3) == read, row


# --- Published architectures ----------------------------------------------------------------

SIZES = dict(
    vocab_size=60, hidden_size=16, layers=2, heads=2, intermediate_size=24, max_positions=20
)
ARCHITECTURES = {
    "roberta": TextConfig(**SIZES, max_length=12),
    "bert": TextConfig(
        **SIZES, max_length=12, positions="absolute", type_vocab_size=2, layer_norm_eps=1e-12
    ),
    "clip": TextConfig(
        **SIZES, max_length=12, arch="clip", positions="absolute", pooling="eos", pad_id=0
    ),
}


@functools.cache
def _transformers(name: str, activation: str = "gelu"):
    """(transformers' model with random weights, our parameters with its values)."""
    config = ARCHITECTURES[name]
    common = dict(
        vocab_size=60,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=20,
        layer_norm_eps=config.layer_norm_eps,
        hidden_act=activation,
    )
    torch.manual_seed(0)
    if name == "clip":
        settings = transformers.CLIPTextConfig(**common, eos_token_id=59, bos_token_id=58)
        model = randomize(transformers.CLIPTextModel(settings))
        return model, clip_params(model.state_dict(), 2)
    if name == "bert":
        model = transformers.BertModel(transformers.BertConfig(**common, type_vocab_size=2))
    else:
        settings = transformers.RobertaConfig(**common, type_vocab_size=1, pad_token_id=1)
        model = transformers.RobertaModel(settings)
    model = randomize(model)
    return model, bert_params(model.state_dict(), 2)


@functools.partial(jax.jit, static_argnums=0)
def _states(config: TextConfig, params: dict, ids, mask) -> tuple[jax.Array, jax.Array]:
    """(B, D) pooled and (B, L, D) last hidden states."""
    return TextEncoder(config).apply({"params": params}, ids, mask, False, states=True)


def _batch(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Captions of 12, 7, 3 and 2 tokens; CLIP's end in their end-of-text token."""
    config = ARCHITECTURES[name]
    ids = np.random.default_rng(0).integers(3, 58, (4, 12))
    mask = np.arange(12)[None] < np.array([12, 7, 3, 2])[:, None]
    if name == "clip":
        ids[np.arange(4), mask.sum(1) - 1] = 59
    return np.where(mask, ids, config.pad_id), mask.astype(np.int64)


@pytest.mark.parametrize(
    ("name", "activation"),
    [("roberta", "gelu"), ("bert", "gelu"), ("clip", "gelu"), ("clip", "quick_gelu")],
)
def test_architectures_equal_transformers(name, activation):
    """Hidden states of all real tokens, and the pooled vector that each publishes."""
    theirs, params = _transformers(name, activation)
    config = dataclasses.replace(ARCHITECTURES[name], activation=activation)
    shapes = jax.eval_shape(lambda: _variables(config))["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    ids, mask = _batch(name)
    with torch.no_grad():
        expected = theirs(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask))
    pooled, hidden = _states(config, params, ids, mask)
    alone = _embed(config, {"params": params}, ids, mask)
    for found in (pooled, alone):
        np.testing.assert_allclose(found, expected.pooler_output, rtol=0, atol=1e-5)
    real = mask == 1
    last = expected.last_hidden_state.numpy()
    np.testing.assert_allclose(hidden[real], last[real], rtol=0, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean", "eos"])
def test_other_poolings_of_bert(pooling):
    theirs, params = _transformers("bert")
    config = dataclasses.replace(ARCHITECTURES["bert"], pooling=pooling)
    ids, mask = _batch("bert")
    with torch.no_grad():
        hidden = theirs(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask))
    hidden = hidden.last_hidden_state.numpy()
    expected = {
        "cls": hidden[:, 0],
        "mean": np.stack([row[m == 1].mean(0) for row, m in zip(hidden, mask, strict=True)]),
        "eos": np.stack([row[m == 1][-1] for row, m in zip(hidden, mask, strict=True)]),
    }[pooling]
    params = {name: part for name, part in params.items() if name != "pooler"}
    np.testing.assert_allclose(_embed(config, {"params": params}, ids, mask), expected, atol=1e-5)


def test_clip_does_not_see_what_follows():
    _, params = _transformers("clip")
    ids, mask = _batch("clip")
    _, hidden = _states(ARCHITECTURES["clip"], params, ids, mask)
    other = ids.copy()
    other[0, 6:] = 5
    _, changed = _states(ARCHITECTURES["clip"], params, other, mask)
    np.testing.assert_allclose(changed[0, :6], hidden[0, :6], atol=1e-6)
    assert np.abs(changed[0, 6:] - hidden[0, 6:]).max() > 0.01


def _published(name: str):
    """The published model in torch, nothing allocated, and what of it we leave out."""
    bert = dict(vocab_size=30_522, hidden_size=512, num_attention_heads=8, intermediate_size=2048)
    with torch.device("meta"):
        if name == "clip":
            settings = transformers.CLIPTextConfig(num_hidden_layers=12, hidden_size=512)
            return transformers.CLIPTextModel(settings), 0
        if name == "bert-medium":
            config = transformers.BertConfig(num_hidden_layers=8, **bert)
            return transformers.BertModel(config), 512 * 512 + 512
        return transformers.BertModel(transformers.BertConfig()), 0


@pytest.mark.parametrize("name", ["bert-base", "bert-medium", "clip"])
def test_presets_have_the_published_number_of_parameters(name):
    theirs, without = _published(name)
    shapes = jax.eval_shape(lambda: _variables(text_preset(name)))
    ours = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes["params"]))
    assert ours == sum(p.numel() for p in theirs.parameters()) - without


def test_parameter_count_equals_transformers():
    """roberta-base as LAION-CLAP has it; nothing is allocated on either side."""
    config = text_preset("roberta-base")
    shapes = jax.eval_shape(lambda: _variables(config))
    with torch.device("meta"):
        theirs = ClapTextModel(
            transformers.ClapTextConfig(
                vocab_size=config.vocab_size,
                hidden_size=config.hidden_size,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=config.intermediate_size,
                max_position_embeddings=config.max_positions,
                type_vocab_size=config.type_vocab_size,
            )
        )
    ours = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes["params"]))
    assert ours == sum(p.numel() for p in theirs.parameters()) == 124_645_632


def test_same_key_same_values(variables):
    again, other = _variables(SMALL), _variables(SMALL, seed=1)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    kernel = variables["params"]["layers"]["qkv"]["kernel"]
    assert (kernel != other["params"]["layers"]["qkv"]["kernel"]).mean() > 0.99
    assert np.abs(kernel[0] - kernel[1]).max() > 0.01  # layers of the stack start apart


@pytest.mark.parametrize("init_std", [0.0, 0.02])
def test_initial_spread_of_parameters(init_std):
    """A fan-in spread where `init_std` is 0, else `init_std`; tables keep their own."""
    config = dataclasses.replace(
        SMALL, init_std=init_std, position_init_std=0.3, embedding_std=0.1, vocab_size=200
    )
    params = _variables(config)["params"]
    down = params["layers"]["mlp"]["down"]["kernel"]  # (layers, 512, 128)
    assert np.std(down) == pytest.approx(init_std or 512**-0.5, rel=0.03)
    assert np.std(params["pooler"]["kernel"]) == pytest.approx(init_std or 128**-0.5, rel=0.03)
    assert np.std(params["position"]["embedding"]) == pytest.approx(0.3, rel=0.05)
    assert np.std(params["word"]["embedding"]) == pytest.approx(0.1, rel=0.05)


def _order_sensitivity(config: TextConfig, seed: int) -> float:
    """Distance of a caption to itself with its events swapped, over that to other captions."""
    pairs = list(itertools.permutations(range(10, 18), 2))
    ids = np.array([[0, 7, a, 5, 6, 7, b, 2] for a, b in pairs])
    pooled = _embed(config, _variables(config, seed), ids, np.ones_like(ids))
    unit = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    row = {pair: unit[i] for i, pair in enumerate(pairs)}
    swapped = [np.linalg.norm(row[a, b] - row[b, a]) for a, b in pairs]
    other = [np.linalg.norm(row[p] - row[q]) for p in pairs for q in pairs if not {*p} & {*q}]
    return np.mean(swapped) / np.mean(other)


def test_the_small_preset_hears_order_before_training():
    """What lets it learn order at all: RoBERTa's 0.02 at this width is nearly a bag of words."""
    seeds = (0, 1)
    assert np.mean([_order_sensitivity(SMALL, seed) for seed in seeds]) > 0.5
    roberta = dataclasses.replace(SMALL, init_std=0.02)
    assert np.mean([_order_sensitivity(roberta, seed) for seed in seeds]) < 0.25


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"heads": 5}, "128 does not divide into 5 heads"),
        ({"max_length": 65}, "max_length 65 needs 67 positions, there are 66"),
        ({"max_length": 32, "pad_id": 34}, "max_length 32 needs 67 positions"),
        ({"positions": "absolute", "max_length": 67}, "max_length 67 needs 67 positions, there"),
        ({"arch": "t5"}, "text.arch must be one of bert, clip, not 't5'"),
        ({"pooling": "max"}, "text.pooling must be one of pooler, cls, mean, eos"),
        ({"positions": "rotary"}, "text.positions must be one of roberta, absolute"),
        ({"activation": "silu"}, "text.activation must be one of gelu, quick_gelu"),
    ],
)
def test_config_errors_name_the_setting(change, reason):
    with pytest.raises(ValueError, match=reason):
        dataclasses.replace(SMALL, **change)


def test_longest_caption_fits_and_unknown_preset_lists_the_known_ones():
    config = dataclasses.replace(SMALL, max_length=64)
    ids = np.full((1, config.max_length), 9)
    pooled = _embed(config, _variables(config), ids, np.ones_like(ids))
    assert np.isfinite(pooled).all()
    with pytest.raises(
        ValueError, match="'bert'.*roberta-base, bert-base, bert-medium, clip, small"
    ):
        text_preset("bert")
