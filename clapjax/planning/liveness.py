"""The most memory that a traced program holds at once, counted value by value.

For devices whose compiler is not here. Values live from where they are made to their last use, in
the order of the trace; what a compiler fuses into its only user is never in memory.
"""

import math
from collections.abc import Iterable

import jax
from jax.extend import core

from clapjax.planning.flops import inner_jaxprs

# Made where they are used, out of almost nothing.
GENERATED = {"iota", "broadcast_in_dim"}
# The same bytes under another shape.
VIEWS = {"reshape", "squeeze", "expand_dims", "copy", "pvary", "pcast", "sharding_constraint"}
# Element for element: may be fused into its user, and may write over what it read.
ELEMENTWISE = {
    *("abs", "add", "add_any", "and", "clamp", "convert_element_type", "copy_p", "cos", "div"),
    *("eq", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow"),
    *("is_finite", "le", "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "not"),
    *("or", "pow", "rem", "round", "rsqrt", "select_n", "shift_left", "shift_right_logical"),
    *("sign", "sin", "sqrt", "square", "stop_gradient", "sub", "tan", "tanh", "xor"),
}
# Take in what is fused into them.
REDUCTIONS = {"reduce_sum", "reduce_max", "reduce_min", "reduce_and", "reduce_or", "argmax"}


def peak_bytes(jaxpr: core.ClosedJaxpr, donated: int = 0, devices: int = 1) -> int:
    """The most bytes that one device holds at once, arguments and results among them.

    Args:
      jaxpr: of a traced function (`jax.jit(f).trace(...).jaxpr`).
      donated: how many of its first arguments may be freed after their last use.
      devices: that share evenly what stands outside of `jax.shard_map`.
    """
    while len(jaxpr.jaxpr.eqns) == 1 and jaxpr.jaxpr.eqns[0].primitive.name in ("jit", "pjit"):
        jaxpr = jaxpr.jaxpr.eqns[0].params["jaxpr"]
    inputs = sum(_bytes(x.aval) for x in jaxpr.jaxpr.invars) // devices
    return inputs + _Program(jaxpr.jaxpr, devices, donated).extra()


class _Program:
    """One jaxpr: what each of its variables stands for, and when that is used last."""

    def __init__(self, jaxpr, devices: int = 1, donated: int = 0):
        self.jaxpr, self.devices = jaxpr, devices
        self.kept = set(jaxpr.invars[donated:]) | set(jaxpr.constvars)
        self.held = {}  # a variable that is never in memory -> those that it is made of
        uses = self._uses()
        for equation in jaxpr.eqns:
            name = equation.primitive.name
            if name in GENERATED or name in VIEWS or self._fused(equation, uses):
                parts = set() if name in GENERATED else set(self._variables(equation.invars))
                self.held |= dict.fromkeys(equation.outvars, parts)
        self.last = {}
        for index, equation in enumerate(jaxpr.eqns):
            self.last |= dict.fromkeys(self._variables(equation.invars), index)
        self.last |= dict.fromkeys(self._variables(jaxpr.outvars), len(jaxpr.eqns))

    def extra(self) -> int:
        """The most bytes beside the arguments, results among them; negative: they shrink."""
        live, most = 0, 0
        ends = {}
        for variable, index in self.last.items():
            if variable not in self.kept:
                ends.setdefault(index, []).append(variable)
        for index, equation in enumerate(self.jaxpr.eqns):
            if equation.outvars[0] in self.held if equation.outvars else True:
                continue
            made = sum(self._size(x) for x in equation.outvars)
            freed = sum(self._size(x) for x in ends.get(index, ()))
            if equation.primitive.name in ELEMENTWISE:
                most = max(most, live + max(0, made - freed))
            else:
                most = max(most, live + max(made, self._inner(equation, made)))
            live += made - freed
            live -= sum(self._size(x) for x in equation.outvars if x not in self.last)
        return most

    def _inner(self, equation, made: int) -> int:
        """Bytes that an equation takes while it runs, its results among them."""
        name, params = equation.primitive.name, equation.params
        if name == "scan":
            body = params["jaxpr"].jaxpr
            count = params["num_consts"] + params["num_carry"]
            slices = sum(_bytes(x.aval) for x in body.invars[count:]) // self.devices
            return made + slices + _Program(body, self.devices).extra()
        devices = 1 if name == "shard_map" else self.devices
        return max((_Program(x, devices).extra() for x in inner_jaxprs(params)), default=0)

    def _uses(self) -> dict:
        users: dict = {}
        for equation in self.jaxpr.eqns:
            for variable in {x for x in equation.invars if isinstance(x, core.Var)}:
                users.setdefault(variable, []).append(equation.primitive.name)
        for variable in self.jaxpr.outvars:
            if isinstance(variable, core.Var):
                users.setdefault(variable, []).append("return")
        return users

    def _fused(self, equation, uses: dict) -> bool:
        if equation.primitive.name not in ELEMENTWISE:
            return False
        users = uses.get(equation.outvars[0], [])
        return len(users) == 1 and users[0] in ELEMENTWISE | REDUCTIONS

    def _variables(self, atoms: Iterable) -> Iterable:
        """What is in memory of what is used."""
        for x in atoms:
            if isinstance(x, core.Var):
                yield from self.held.get(x, (x,))

    def _size(self, variable) -> int:
        return _bytes(variable.aval) // self.devices


def _bytes(aval) -> int:
    if not hasattr(aval, "dtype"):
        return 0
    itemsize = 4 if jax.dtypes.issubdtype(aval.dtype, jax.dtypes.prng_key) else aval.dtype.itemsize
    return math.prod(aval.shape) * itemsize
