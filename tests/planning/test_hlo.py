"""Reading compiled programs: exchanges and memory traffic that are known beforehand."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from clapjax.planning.hlo import collectives, memory_traffic
from tests.training.tiny import some_mesh


def _text(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().as_text()


def test_an_exchange_in_a_loop_counts_each_turn():
    mesh = some_mesh(4)

    def local(x):
        turn = lambda y, _: (jax.lax.psum(y * 2, "data") * 0.1, None)  # noqa: E731
        y = jax.lax.scan(turn, jax.lax.psum(x, "data"), None, length=7)[0]
        return jax.lax.all_gather(y.astype(jnp.bfloat16), "data")

    f = jax.shard_map(local, mesh=mesh, in_specs=P("data"), out_specs=P("data"), check_vma=False)
    found = collectives(_text(f, jnp.ones((32, 16))))
    reduced = [x for x in found if x.kind == "all-reduce"]
    assert sorted((x.times, x.looped) for x in reduced) == [(1, False), (7, True)]
    assert {(x.elements, x.bytes, x.types) for x in reduced} == {(128, 512, ("f32",))}
    (gathered,) = [x for x in found if x.kind == "all-gather"]
    assert (gathered.elements, gathered.times) == (512, 1)


def test_memory_traffic_of_a_sum():
    size = 2**20
    text = _text(lambda x, y: x + y, jnp.ones(size), jnp.ones(size))
    assert memory_traffic(text) == 3 * 4 * size


def test_a_scan_reads_its_slice_and_not_the_stack():
    layers, size = 64, 2**12

    def f(stack, x):
        return jax.lax.scan(lambda x, w: (jnp.sin(x * w), x + w), x, stack)

    moved = memory_traffic(_text(f, jnp.ones((layers, size)), jnp.ones(size)))
    once = layers * size * 4  # bytes of the stack
    # Each turn reads a slice and the carry and writes both; the stack would be 64 times that.
    assert 3 * once < moved < 12 * once


def test_other_text_is_refused():
    with pytest.raises(ValueError, match="compiled module"):
        collectives("nothing of the kind")
