"""FLOPs of traced functions against what XLA counts, and by hand where XLA cannot."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from clapjax.planning.flops import matrix_flops
from tests.training.tiny import some_mesh


def _flops(function, *arguments, devices=1):
    return matrix_flops(jax.jit(function).trace(*arguments).jaxpr, devices)


def test_products_and_convolutions_as_xla_counts_them():
    def f(x, w, image, kernel):
        y = jnp.einsum("bij,jk->bik", x, w)
        z = jax.lax.conv_general_dilated(
            image, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y, z

    shapes = ((3, 5, 7), (7, 11), (2, 9, 9, 4), (3, 3, 4, 8))
    arguments = [jnp.ones(shape) for shape in shapes]
    counted = jax.jit(f).lower(*arguments).compile().cost_analysis()["flops"]
    assert _flops(f, *arguments) == counted


def test_a_scanned_layer_counts_as_often_as_it_runs_with_its_gradient():
    w, x = jnp.ones((6, 16, 16)), jnp.ones((4, 16))

    def loss(w, remat):
        layer = lambda x, w: (jnp.tanh(x @ w), None)  # noqa: E731
        layer = jax.checkpoint(layer, prevent_cse=False) if remat else layer
        return jax.lax.scan(layer, x, w)[0].sum()

    one = 2 * 4 * 16 * 16
    assert _flops(lambda w: loss(w, False), w) == 6 * one
    assert _flops(jax.grad(lambda w: loss(w, False)), w) == 6 * 3 * one
    assert _flops(jax.grad(lambda w: loss(w, True)), w) == 6 * 4 * one


def test_devices_share_what_is_outside_of_shard_map():
    mesh = some_mesh(4)
    x, w = jnp.ones((8, 16)), jnp.ones((16, 32))
    inside = jax.shard_map(
        lambda x, w: x @ w, mesh=mesh, in_specs=(P("data"), P()), out_specs=P("data")
    )
    whole = 2 * 8 * 16 * 32
    assert _flops(lambda x, w: x @ w, x, w, devices=4) == whole // 4
    assert _flops(inside, x, w, devices=4) == whole // 4
    repeated = jax.shard_map(lambda x, w: x @ w, mesh=mesh, in_specs=(P(), P()), out_specs=P())
    assert _flops(repeated, x, w, devices=4) == whole  # every device computes all of it


def test_a_product_in_an_endless_loop_is_refused():
    def f(x):
        return jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ x, x)

    with pytest.raises(NotImplementedError, match="turns are not known"):
        _flops(f, jnp.ones((2, 2)))
