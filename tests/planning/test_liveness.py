"""Memory counted in a trace: small programs, by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from clapjax.planning.liveness import peak_bytes

N = 1000
ROW = jax.ShapeDtypeStruct((N,), jnp.float32)
SQUARE = jax.ShapeDtypeStruct((N, N), jnp.float32)


def peak(function, *arguments, **options) -> float:
    """In rows of N float32."""
    return peak_bytes(jax.jit(function).trace(*arguments).jaxpr, **options) / (4 * N)


def mixed(x):
    """A value that reads all of x: nothing fuses into what follows, and x is not written over."""
    return jnp.sort(x)


@pytest.mark.parametrize(
    ("function", "rows"),
    [
        (lambda x: x, 1),
        (lambda x: mixed(x), 2),
        # The argument stays; of what is made two are there at once, however long the chain.
        (lambda x: mixed(mixed(mixed(mixed(x)))), 3),
        # All that is used again later is kept.
        (lambda x: (a := mixed(x), b := mixed(a), c := mixed(b)) and mixed(a) + b * c, 5),
        # Element for element: one result, in place of what it was made of.
        (lambda x: jnp.tanh(jnp.exp(x) + 1) * 3, 2),
        (lambda x: jnp.exp(mixed(x)), 2),
        # Neither constants nor broadcasts are in memory.
        (lambda x: x + jnp.arange(N, dtype=jnp.float32) + jnp.ones((50, N)).sum(0), 2),
        # A sum takes in what is added up.
        (lambda x: jnp.sum(jnp.exp(x[:, None] * x[None, :]), axis=0), 2),
        # Another shape is the same memory.
        (lambda x: mixed(mixed(x).reshape(10, -1)).reshape(-1), 3),
    ],
)
def test_rows(function, rows):
    assert peak(function, ROW) == pytest.approx(rows, abs=0.02)


def test_products_are_not_fused():
    """a b has its place, and so has (a b) c; a result that nobody reads has one for a moment."""
    assert peak(lambda a, b, c: a @ b @ c, SQUARE, SQUARE, SQUARE) == 5 * N
    assert peak(lambda a, b: (a @ b) * 2, SQUARE, SQUARE) == 3 * N


def test_donated_arguments_make_room():
    def chain(x):
        return mixed(mixed(mixed(x)))

    assert peak(chain, ROW) == 3
    assert peak(chain, ROW, donated=1) == 2
    # Not by what comes behind them.
    assert peak(lambda x, y: (mixed(mixed(y)), x), ROW, ROW, donated=1) == 4


def test_a_scan_stacks_what_its_gradient_reads():
    def loss(weights, x, remat):
        def layer(x, weight):
            return jnp.sin(x @ weight), None

        layer = jax.checkpoint(layer) if remat else layer
        return jax.lax.scan(layer, x, weights)[0].sum()

    layers, weights = 20, jax.ShapeDtypeStruct((20, 10, 10), jnp.float32)
    x = jax.ShapeDtypeStruct((N, 10), jnp.float32)  # ten rows

    def rows(remat):
        gradient = jax.grad(lambda w, x: loss(w, x, remat))
        return peak(gradient, weights, x) / 10

    # Of each layer its input and its cosine, or its input alone; a few more where they are made.
    assert 2 * layers < rows(False) < 2 * layers + 8
    assert layers < rows(True) < layers + 9


def test_a_branch_takes_what_the_larger_one_does():
    def function(x, flag):
        return jax.lax.cond(flag, lambda x: x, lambda x: jnp.sort(x @ x).T @ x, x)

    flag = jax.ShapeDtypeStruct((), bool)
    assert peak(function, SQUARE, flag) == pytest.approx(3 * N, rel=0.01)


def test_devices_share_what_is_outside_of_shard_map():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])

    def function(x):
        inside = jax.shard_map(
            lambda x: mixed(mixed(x)), mesh=mesh, in_specs=P("data"), out_specs=P("data")
        )
        return mixed(inside(x))

    alone = jax.ShapeDtypeStruct((N // 4,), jnp.float32)
    whole = peak(lambda x: mixed(mixed(mixed(x))), alone)
    assert peak(function, ROW, devices=4) == pytest.approx(whole)
