"""A table of name pairs, and both directions of a conversion derived from it.

A row pairs one of our modules with the name that another project gives it. What follows from the
array itself is not in the table: kernels are (..., in, out) here and (out, in, ...) in torch,
scanned layers are stacked along the first axis here and numbered there, and a fused query-key-value
projection is cut along its last axis where the other project keeps three.
"""

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from clapjax.interop.errors import CheckpointError
from clapjax.models.clap import init_variables
from clapjax.models.config import ClapConfig

SUFFIXES = {
    "kernel": "weight",
    "bias": "bias",
    "scale": "weight",
    "embedding": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
SHOWN = 8  # names that an error lists of each kind


@dataclass(frozen=True)
class Row:
    """One of our modules (or bare arrays), and its names elsewhere.

    `theirs` is a format string: {layer} is filled with each of `layers`, whose arrays are stacked
    here, and {part} with each of `parts`, which are joined here. A name that ends with "_" takes
    its suffix (weight, bias) without a dot.
    """

    ours: str  # path under "params" and "batch_stats", as "text_encoder/layers/qkv"
    theirs: str
    layers: Sequence[int] | None = None
    parts: Sequence[str] = ("",)
    spatial: int = 0  # axes of size 1 that a kernel has there and not here (1 x 1 convolutions)


@dataclass(frozen=True)
class Pair:
    """One of our arrays and the tensors that it is elsewhere."""

    path: tuple[str, ...]  # in our variables, collection first
    shape: tuple[int, ...]
    names: tuple[tuple[str, ...], ...]  # [layer][part]
    stacked: bool = False
    kernel: bool = False
    spatial: int = 0

    def split(self, value: np.ndarray) -> dict[str, np.ndarray]:
        """Our array as their tensors, by name."""
        tensors = {}
        for names, layer in zip(self.names, value if self.stacked else [value], strict=True):
            parts = np.split(layer, len(names), axis=-1) if len(names) > 1 else [layer]
            for name, part in zip(names, parts, strict=True):
                tensors[name] = self._to_torch(part)
        return tensors

    def join(self, tensors: dict[str, np.ndarray]) -> np.ndarray:
        """Their tensors as our array, float32."""
        layers = []
        for names in self.names:
            parts = [self._from_torch(tensors[name]) for name in names]
            layers.append(np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0])
        joined = np.stack(layers) if self.stacked else layers[0]
        return np.array(joined, np.float32, order="C")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What shape each of their tensors must have."""
        empty = np.broadcast_to(np.float32(0), self.shape)
        return {name: tensor.shape for name, tensor in self.split(empty).items()}

    def _to_torch(self, array: np.ndarray) -> np.ndarray:
        if not self.kernel:
            return array
        last = array.ndim - 1
        array = array.transpose(last, last - 1, *range(last - 1))
        return array.reshape(array.shape + (1,) * self.spatial)

    def _from_torch(self, tensor: np.ndarray) -> np.ndarray:
        if not self.kernel:
            return tensor
        tensor = tensor.reshape(tensor.shape[: tensor.ndim - self.spatial])
        return tensor.transpose(*range(2, tensor.ndim), 1, 0)


def pair_up(rows: Iterable[Row], config: ClapConfig, tower: str | None = None) -> list[Pair]:
    """The pairs of every array that a model of this config has (or one of its towers).

    Raises:
      CheckpointError: the layout has no name for some of them.
    """
    return pairs_of(rows, _shapes(config, tower))


def pairs_of(rows: Iterable[Row], shapes: Mapping[tuple[str, ...], tuple[int, ...]]) -> list[Pair]:
    """As `pair_up`, of the arrays of `shapes_of`."""
    by_path = {tuple(row.ours.split("/")): row for row in rows}
    pairs, homeless = [], []
    for path, shape in shapes.items():
        row = by_path.get(path[1:]) or by_path.get(path[1:-1])
        if row is None:
            homeless.append("/".join(path[1:]))
            continue
        suffix = "" if path[1:] in by_path else SUFFIXES[path[-1]]
        names = tuple(
            tuple(_name(row.theirs.format(layer=layer, part=part), suffix) for part in row.parts)
            for layer in (row.layers if row.layers is not None else ("",))
        )
        stacked, kernel = row.layers is not None, path[-1] == "kernel"
        pairs.append(Pair(path, shape, names, stacked, kernel, row.spatial))
    if homeless:
        raise CheckpointError(f"the layout has no place for {_some(homeless)}")
    return pairs


def own_pairs(config: ClapConfig, tower: str | None = None) -> list[Pair]:
    """The layout of clapjax's own folders: every array under its path."""
    return [
        Pair(path, shape, (("/".join(path),),)) for path, shape in _shapes(config, tower).items()
    ]


def join_all(
    pairs: Sequence[Pair], tensors: dict[str, np.ndarray], ignored: str, source: object
) -> dict:
    """Our variables from another project's tensors.

    Args:
      pairs: from `pair_up`.
      tensors: all that the checkpoint holds, by name.
      ignored: regular expression of names that may be there and are not used.
      source: named in the error.

    Returns:
      {"params", "batch_stats"} of float32 arrays.

    Raises:
      CheckpointError: weights that are missing, unexpected, of the wrong shape or type, or not
        finite; one message lists them all.
    """
    expected = {}
    for pair in pairs:
        expected |= pair.shapes()
    known = re.compile(ignored)
    present = {name: tensors[name] for name in expected if name in tensors}
    numbers = {n: t for n, t in present.items() if jnp.issubdtype(t.dtype, jnp.floating)}
    problems = {
        "missing": [name for name in expected if name not in present],
        "unexpected": [n for n in tensors if n not in expected and not known.fullmatch(n)],
        "of the wrong shape": [
            f"{name} {tensor.shape} instead of {expected[name]}"
            for name, tensor in present.items()
            if tensor.shape != expected[name]
        ],
        "not floating-point numbers": [name for name in present if name not in numbers],
        "not finite": [
            n for n, t in numbers.items() if not np.isfinite(t.astype(np.float32)).all()
        ],
    }
    told = [f"{len(names)} {kind}: {_some(names)}" for kind, names in problems.items() if names]
    if told:
        raise CheckpointError(f"{source}: the weights do not fit the model; {'; '.join(told)}")
    flat = {pair.path: pair.join(tensors) for pair in pairs}
    return {"params": {}, "batch_stats": {}} | flax.traverse_util.unflatten_dict(flat)


def split_all(pairs: Sequence[Pair], variables: dict) -> dict[str, np.ndarray]:
    """Another project's tensors from our variables: the other direction of `join_all`.

    Raises:
      CheckpointError: the variables are those of one tower.
    """
    flat = flax.traverse_util.flatten_dict(variables)
    missing = ["/".join(pair.path) for pair in pairs if pair.path not in flat]
    if missing:
        raise CheckpointError(f"the model lacks {_some(missing)}")
    tensors = {}
    for pair in pairs:
        tensors |= pair.split(np.asarray(flat[pair.path], np.float32))
    return {name: np.array(tensor, order="C") for name, tensor in tensors.items()}


@functools.lru_cache(maxsize=8)
def _shapes(config: ClapConfig, tower: str | None) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Shape of every array of a model (or of one tower and the scales), by path."""
    other = {"audio": "text_", "text": "audio_", None: "/"}[tower]
    found = shapes_of(functools.partial(init_variables, config))
    return {path: shape for path, shape in found.items() if not path[1].startswith(other)}


def shapes_of(init: Callable[[jax.Array], dict]) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Shape of every array that a function of a key would draw, by path.

    Raises:
      CheckpointError: it cannot draw any.
    """
    try:
        variables = jax.eval_shape(init, jax.random.key(0))
    except (TypeError, ValueError, ArithmeticError) as error:  # sizes that do not go together
        reason = " ".join(str(error).split())
        raise CheckpointError(f"no such model can be made ({reason})") from error
    flat = flax.traverse_util.flatten_dict(variables)
    return {path: leaf.shape for path, leaf in flat.items()}


def _name(theirs: str, suffix: str) -> str:
    return theirs + suffix if not suffix or theirs.endswith("_") else f"{theirs}.{suffix}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
