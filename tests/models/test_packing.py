"""Packed texts against the same texts padded, and where they lie against plain Python."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clapjax.models.packing import encoded, next_fit, pack, packed_sizes
from clapjax.models.text import TextEncoder
from tests.models.test_text import ARCHITECTURES

LONGEST = 12
LENGTHS = np.array([12, 3, 2, 7, 12, 12, 1, 9, 4, 12, 2, 5, 8])
THERE = np.arange(len(LENGTHS)) % 4 != 2


def rows_of(sizes, room: int) -> list[tuple[int, int]]:
    """Next fit, one by one: (row, how much of it lies before)."""
    found, row, taken = [], 0, 0
    for size in sizes:
        if taken + size > room:
            row, taken = row + 1, 0
        found.append((row, taken))
        taken += size
    return found


def test_texts_go_where_there_is_room():
    generator, find = np.random.default_rng(0), jax.jit(next_fit, static_argnums=1)
    for longest in (1, 5, 9, 16):
        for _ in range(20):
            sizes = generator.integers(0, longest + 1, 37) * generator.integers(0, 2, 37)
            row, offset = find(jnp.asarray(sizes), 16)
            assert list(zip(row.tolist(), offset.tolist(), strict=True)) == rows_of(sizes, 16)


@pytest.mark.parametrize(("length", "rows"), [(0, 0), (12, 1), (31, 2), (24, 100)])
def test_all_texts_as_long_as_they_may_be_have_room(length, rows):
    """And so has any mixture of lengths; every text is in one row, at a place of its own."""
    sizes = packed_sizes(37, LONGEST, length, rows)
    generator = np.random.default_rng(1)
    for low in (0, 1, 7, LONGEST):
        lengths = generator.integers(low, LONGEST + 1, 37)
        mask, there = np.arange(LONGEST) < lengths[:, None], lengths % 3 != 1
        texts = pack(mask.astype(int), mask, there, sizes)
        members = np.asarray(texts.members)
        assert len(members) == sizes.rows * sizes.chunks and texts.used <= len(members)
        assert (np.bincount(members.ravel(), minlength=38)[:37] == there).all()
        assert set(members[int(texts.used) :].ravel()) <= {37}
    assert (rows or sizes.rows) >= sizes.rows


def _variables(config) -> dict:
    ids = jnp.zeros((1, 4), jnp.int32)
    fresh = jax.jit(functools.partial(TextEncoder(config).init, train=False))
    return fresh(jax.random.key(0), ids, jnp.ones_like(ids))["params"]


FORMS = {
    "roberta, pooler": ("roberta", {}),
    "roberta, mean": ("roberta", {"pooling": "mean"}),
    "bert, pooler": ("bert", {}),
    "bert, cls": ("bert", {"pooling": "cls", "layers": 1}),
    "bert, eos": ("bert", {"pooling": "eos"}),
    "clip, eos": ("clip", {}),
    "clip, mean": ("clip", {"pooling": "mean"}),
}


@pytest.mark.parametrize("form", FORMS)
def test_packed_is_padded(form):
    """Embeddings within 1e-6, and gradients; of texts that are not there neither."""
    name, changes = FORMS[form]
    config = dataclasses.replace(ARCHITECTURES[name], **changes)
    generator = np.random.default_rng(0)
    mask = (np.arange(LONGEST) < LENGTHS[:, None]).astype(np.int32)
    ids = np.where(mask == 1, generator.integers(3, 60, mask.shape), config.pad_id)
    weights = generator.normal(size=(len(ids), config.hidden_size)) * THERE[:, None]
    sizes = packed_sizes(len(ids), LONGEST, 27, 2)
    assert sizes.chunks > 3  # of which the last are empty
    model = TextEncoder(config)

    def encode(params, ids, packing, key):
        return model.apply({"params": params}, ids, None, False, packing)[0]

    def packed(params):
        texts = pack(ids, mask, THERE, sizes)
        settings = config.hidden_size, sizes, config.pooling
        return encoded(encode, params, {}, texts, jax.random.key(0), *settings)

    def padded(params):
        return model.apply({"params": params}, ids, mask, False)[0]

    @functools.partial(jax.jit, static_argnums=0)
    def both(function, params):
        found, pull_back = jax.vjp(function, params)
        return found, pull_back(weights.astype(np.float32))[0]

    params = _variables(config)
    (ours, our_gradient), (theirs, their_gradient) = (both(f, params) for f in (packed, padded))
    np.testing.assert_allclose(ours[THERE], theirs[THERE], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(ours[~THERE], np.broadcast_to(ours[0], ours[~THERE].shape))
    largest = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(their_gradient))
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * largest),
        our_gradient,
        their_gradient,
    )


def test_dropout_is_the_same_when_computed_again():
    """The gradient is the function's own: against a difference along itself."""
    config = dataclasses.replace(ARCHITECTURES["roberta"], dropout=0.3, attention_dropout=0.3)
    mask = (np.arange(LONGEST) < LENGTHS[:, None]).astype(np.int32)
    ids = np.random.default_rng(0).integers(3, 60, mask.shape)
    sizes, model = packed_sizes(len(ids), LONGEST, 24, 1), TextEncoder(config)

    def encode(params, ids, packing, key):
        rngs = {"dropout": key}
        return model.apply({"params": params}, ids, None, True, packing, rngs=rngs)[0]

    @jax.jit
    def value(params):
        texts = pack(ids, mask, np.ones(len(ids), bool), sizes)
        settings = config.hidden_size, sizes, config.pooling
        return jnp.sum(
            jnp.sin(3 * encoded(encode, params, {}, texts, jax.random.key(3), *settings))
        )

    params = _variables(config)
    gradient = jax.jit(jax.grad(value))(params)
    size = float(jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(gradient))))
    ends = [
        value(jax.tree.map(lambda p, g: p + sign * 1e-3 / size * g, params, gradient))  # noqa: B023
        for sign in (1, -1)
    ]
    assert float(ends[0] - ends[1]) / 2e-3 == pytest.approx(size, rel=2e-2)


def test_a_row_shorter_than_a_text_may_be_is_refused():
    with pytest.raises(ValueError, match="packed_length 76: a text may have 77 tokens; set it"):
        packed_sizes(4, 77, 76)
