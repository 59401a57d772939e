"""Floating-point operations of a traced function: its matrix products and convolutions.

The compiler's own count takes the body of a loop once, and layers are scanned over.
"""

import math
from typing import NamedTuple

from jax.extend import core

from clapjax.models.packing import computed_again


class _How(NamedTuple):
    devices: int
    turns: float | None
    again: bool


def matrix_flops(
    jaxpr: core.ClosedJaxpr, devices: int = 1, turns: float | None = None, again: bool = True
) -> int:
    """What one device computes, two operations for each multiply-add.

    Args:
      jaxpr: of a traced function (`jax.jit(f).trace(...).jaxpr`).
      devices: that share what stands outside of `jax.shard_map`.
      turns: of a loop that ends when its data does, on average.
      again: also what is marked as computed a second time (`clapjax.models.packing`).

    Raises:
      NotImplementedError: a product inside of a loop whose number of turns is not known.
    """
    return int(_count(jaxpr.jaxpr, _How(devices, turns, again))) // devices


def _count(jaxpr, how: _How) -> float:
    return sum(_one(equation, how) for equation in jaxpr.eqns)


def _one(equation, how: _How) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        return 2 * depth * math.prod(equation.outvars[0].aval.shape)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        depth = math.prod(kernel) // kernel[params["dimension_numbers"].rhs_spec[0]]
        dilation = math.prod(params["lhs_dilation"])  # zeros between the inputs cost nothing
        return 2 * depth * math.prod(equation.outvars[0].aval.shape) // dilation
    if name == "pallas_call":  # a kernel pads, and says what it computes
        return params["cost_estimate"].flops
    if params.get("name") == computed_again.__name__ and not how.again:
        return 0
    inner = [_count(sub, how) for sub in inner_jaxprs(params)]
    if not any(inner):
        return 0
    if name == "while" and how.turns is None:
        raise NotImplementedError("a matrix product in a while loop: its turns are not known")
    if name == "cond":
        return max(inner)
    times = {"scan": params.get("length"), "while": how.turns, "shard_map": how.devices}.get(
        name, 1
    )
    return times * sum(inner)


def inner_jaxprs(params: dict):
    """The jaxprs among a primitive's parameters."""
    for value in params.values():
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item
