"""The optimiser: AdamW or Muon, its schedule, and rates for layers, parts and patterns.

A path is the names of the parameter tree joined by "/": "encoder/layers/mlp/up/kernel". A part of
the model is one of its top-level parameters, as "encoder".
Layers that are scanned over share one parameter whose first axis counts them, so what differs
between layers is an array along that axis.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax

from clapjax.training.config import OptimizerConfig, split_freeze, split_rate

MUON_RMS = 0.2  # of the elements of a step over its rate, as AdamW's steps have it


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Linear warm-up from 0, then cosine decay to 0 at `steps`."""
    warmup = min(config.warmup_steps, max(1, steps - 1))
    end = max(steps, warmup + 1)  # a run of one step is its warm-up's first
    schedule = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, end)
    if not config.warmup_offset:
        return schedule
    return lambda step: schedule(jnp.where(step < warmup, step + config.warmup_offset, step))


def decay_mask(params: dict) -> dict:
    """True for the parameters under weight decay: kernels and embedding tables."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key in ("kernel", "embedding"), params
    )


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """AdamW or Muon behind a global-norm clip, and the factors of `rate_factors` behind it.

    Gradients of frozen parameters must come as zeros (`stop_frozen`), whole ones without a state.
    """
    base = optax.adamw(
        make_schedule(config, steps),
        b1=config.b1,
        b2=config.b2,
        eps=config.eps,
        weight_decay=config.weight_decay,
        mask=decay_mask,
    )
    if config.kind == "muon":
        base = optax.partition({"muon": _muon(config, steps), "adamw": base}, _by_kind)
    if config.freeze:
        base = optax.masked(base, lambda tree: jax.tree.map(np.any, trainable(config, tree)))
    parts = [base]
    if config.clip_norm > 0:
        parts.insert(0, optax.clip_by_global_norm(config.clip_norm))
    if config.rates or config.freeze or config.layer_decay != 1:

        def scale(updates, params):
            return jax.tree.map(jnp.multiply, updates, rate_factors(config, params))

        parts.append(optax.stateless(scale))
    return optax.chain(*parts)


def _muon(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Muon for kernels, each layer's and each convolution's a matrix of its own."""

    def matrix(path, leaf):
        names = [key.key for key in path]
        stacked = len(names) > 1 and re.fullmatch(STACKS, names[1]) is not None
        last = leaf.ndim - 1
        return optax.contrib.MuonDimensionNumbers(tuple(range(stacked, last)), last)

    return optax.contrib.muon(
        make_schedule(config, steps),
        weight_decay=config.weight_decay,
        consistent_rms=MUON_RMS,
        muon_weight_dimension_numbers=lambda tree: jax.tree_util.tree_map_with_path(matrix, tree),
    )


def _by_kind(params: dict) -> dict:
    """Which parameters are whose, where kernels are Muon's."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "muon" if path[-1].key == "kernel" else "adamw", params
    )


def stop_frozen(config: OptimizerConfig, params: dict) -> dict:
    """`params`, through whose frozen parts no gradient flows; none is computed for whole ones."""

    def stop(x, moves):
        if np.all(moves):
            return x
        still = jax.lax.stop_gradient(x)
        return jnp.where(moves, x, still) if np.any(moves) else still

    return jax.tree.map(stop, params, trainable(config, params)) if config.freeze else params


def frozen_parts(config: OptimizerConfig) -> dict[str, int | None]:
    """What is frozen: {top-level parameter: how many of its layers, None: all of it}."""
    found: dict[str, int | None] = {}
    for part, count in map(split_freeze, config.freeze):
        known = found.get(part, 0)
        found[part] = None if count is None or known is None else max(count, known)
    return found


def trainable(config: OptimizerConfig, params: dict) -> dict:
    """For each parameter, bool () or (layers, 1, ...): whether it moves.

    Raises:
      ValueError: there is no such part, or it has not so many layers.
    """
    depths, tops = layer_depths(params)
    frozen = frozen_parts(config)
    for part, count in frozen.items():
        if part not in params:
            raise ValueError(
                f"optimizer.freeze: the model has no {part!r}; there are {', '.join(params)}"
            )
        layers = tops.get(part, 1) - 1
        if count is not None and count > layers:
            raise ValueError(f"optimizer.freeze: {part} has {layers} layers, not {count}")

    def moves(path, depth):
        part = path.split("/")[0]
        if part not in frozen:
            return np.ones_like(depth, bool)
        count = frozen[part]
        return np.zeros_like(depth, bool) if count is None else depth > count

    return _map_with_path(moves, depths)


def rate_factors(config: OptimizerConfig, params: dict) -> dict:
    """For each parameter, float32 () or (layers, 1, ...): its part of the learning rate.

    Raises:
      ValueError: a pattern of config.rates that fits no parameter.
    """
    depths, tops = layer_depths(params)
    rates = [split_rate(item) for item in config.rates]
    paths = []
    _map_with_path(lambda path, _: paths.append(path), depths)
    for pattern, _ in rates:
        if not any(pattern.search(path) for path in paths):
            raise ValueError(
                f"optimizer.rates: {pattern.pattern!r} fits no parameter; they begin with "
                f"{', '.join(params)}"
            )

    def factor(path, depth, moves):
        top = tops.get(path.split("/")[0], 0)
        rate = next((rate for pattern, rate in rates if pattern.search(path)), 1.0)
        decay = np.float64(config.layer_decay) ** np.where(depth < 0, 0, top - depth)
        return np.float32(np.where(moves, rate * decay, 0.0))

    return _map_with_path(factor, depths, trainable(config, params))


# Parts that stand below a first layer and above a last one.
BELOW = (
    r"batch_norm|stem\d+(_norm)?|patch_embed|patch_norm|fusion|"
    r"word|position|token_type|embedding_norm|bridge(_norm)?"
)
ABOVE = r"norm|fc|final_norm|pooler"
STACKS = r"layers|stage\d+"  # whose parameters' first axis counts layers
LAYERS = STACKS + r"|block\d+"


def layer_depths(params: dict) -> tuple[dict, dict[str, int]]:
    """Where among the layers of its part of the model each parameter stands.

    Returns:
      (int array () or (layers, 1, ...) for each parameter: 0 below the first layer, i in layer i,
      the part's top above the last layer, -1 in a part without layers; {part with layers: its
      top}).
    """
    starts, tops = {}, {}  # of each layer or stack of layers: the number of the first one
    for part, tree in params.items():
        names = [n for n in (tree if isinstance(tree, dict) else ()) if re.fullmatch(LAYERS, n)]
        top = 1
        for name in sorted(names, key=_number):
            starts[part, name] = top
            leaf = jax.tree.leaves(tree[name])[0]
            top += {"l": leaf.shape[0], "s": 2 * leaf.shape[0], "b": 1}[name[0]]
        if names:
            tops[part] = top

    def depth(path, leaf):
        part, name, *rest = path.split("/") + [""]
        if part not in tops:
            return np.array(-1)
        if re.fullmatch(BELOW, name):
            return np.array(0)
        if re.fullmatch(ABOVE, name):
            return np.array(tops[part])
        if name.startswith("merge"):  # belongs to the last layer below it
            return np.array(starts[part, f"stage{int(name[5:]) + 1}"] - 1)
        first = starts[part, name]
        if name.startswith("block"):
            return np.array(first)
        numbers = np.arange(leaf.shape[0]).reshape(-1, *[1] * (leaf.ndim - 1))
        # Swin blocks come in pairs, "block0" and "block1" of each.
        return first + numbers if name == "layers" else first + 2 * numbers + _number(rest[0])

    return _map_with_path(depth, params), tops


def _number(name: str) -> int:
    digits = re.search(r"\d+$", name)
    return int(digits[0]) if digits else 0


def _map_with_path(function, tree: dict, *others: dict):
    """jax.tree.map with the path as the function's first argument."""
    return jax.tree_util.tree_map_with_path(
        lambda path, *leaves: function(
            jax.tree_util.keystr(path, simple=True, separator="/"), *leaves
        ),
        tree,
        *others,
    )
