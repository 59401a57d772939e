"""What the backward pass computes again, counted in its trace."""

import jax
import jax.numpy as jnp
import pytest

from clapjax.models.config import HTSATConfig, PANNConfig, TextConfig
from clapjax.models.htsat import HTSAT
from clapjax.models.pann import PANN
from clapjax.models.text import TextEncoder
from clapjax.planning.flops import matrix_flops
from clapjax.planning.liveness import peak_bytes

HTSAT_TINY = HTSATConfig(
    spec_size=64, embed_dim=8, depths=(6,), heads=(2,), time_width=1, freq_width=1
)
TEXT = TextConfig(vocab_size=50, hidden_size=32, layers=6, heads=2, intermediate_size=128)
ROWS, TOKENS, WINDOW = 4, 24, 64


def _traced(encoder: str, remat: str):
    """The trace of an encoder's gradient."""
    key = jax.random.key(0)
    if encoder == "text":
        model = TextEncoder(TEXT, jnp.float32, remat)
        arguments = (jnp.ones((ROWS, TOKENS), jnp.int32), jnp.ones((ROWS, TOKENS), jnp.int32))
    else:
        model = (
            HTSAT(HTSAT_TINY, 16, jnp.float32, remat=remat)
            if encoder == "htsat"
            else PANN(PANNConfig(base_width=8), "cnn10", dtype=jnp.float32, remat=remat)
        )
        arguments = (jnp.ones((ROWS, 256, 16)),)
    rngs = {name: key for name in ("params", "dropout", "augment")}
    variables = jax.eval_shape(lambda: model.init(rngs, *arguments, False))

    def loss(variables):
        found, _ = model.apply(variables, *arguments, True, rngs=rngs, mutable=["batch_stats"])
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(found))

    return jax.jit(jax.grad(loss, allow_int=True)).trace(variables).jaxpr


@pytest.mark.parametrize(
    ("encoder", "products"),
    [
        # Scores and values of attention, of six layers: the products that have no name. Text's last
        # layer asks for the one token that is pooled.
        ("text", (5 * TOKENS + 1) * 2 * 2 * ROWS * TOKENS * 32),
        ("htsat", 6 * 2 * 2 * ROWS * 256 * WINDOW * 8),
        ("pann", 0),
    ],
)
def test_dots_are_kept_and_the_rest_is_computed_again(encoder, products):
    """Fails where a policy sees no product, for they stand behind a custom_vjp."""
    found = {remat: _traced(encoder, remat) for remat in ("none", "dots", "full")}
    flops = {remat: matrix_flops(jaxpr) for remat, jaxpr in found.items()}
    assert flops["dots"] - flops["none"] == products
    assert flops["full"] > flops["dots"]
    memory = {remat: peak_bytes(jaxpr) for remat, jaxpr in found.items()}
    assert memory["full"] < memory["dots"] < memory["none"]
