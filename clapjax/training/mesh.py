"""One device mesh: axes "data" and "fsdp"; the batch is split over both, the state over "fsdp"."""

import math
import re
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental.mesh_utils import create_device_mesh
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from clapjax.training.config import MeshConfig, TrainConfig

BATCH_AXES = ("data", "fsdp")
BATCH_SPEC = P(BATCH_AXES)

# How a parameter is split, by its path (names joined by "/"); the first rule that fits counts. A
# number stands for the largest axis from there on that divides evenly. The optimiser's moments and
# the moving average have the parameter's path at the end of theirs, and so are split alike.
RULES: tuple[tuple[str, P | int], ...] = (
    (r"(bias|scale|mean|var|count)$", P()),
    (r"/(layers|stage\d+)/", 1),  # the first axis counts the layers, and is scanned over
    (r"", 0),
)


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh over all devices of all processes, or over the given ones.

    "fsdp", which sends the most, takes neighbours inside of a slice, which is what XLA numbers as
    one: a slice of TPUs, or the GPUs of a node. "data" spans the slices.

    Raises:
      ValueError: the axes do not multiply to the number of devices, or a slice does not divide by
        fsdp.
    """
    devices = jax.devices() if devices is None else devices
    count, asked = len(devices), f"mesh.data={config.data} x mesh.fsdp={config.fsdp}"
    data = count // config.fsdp if config.data == -1 and config.fsdp > 0 else config.data
    if config.fsdp < 1 or data < 1 or data * config.fsdp != count:
        raise ValueError(f"{asked} does not make {count} devices")
    slices: dict[int, list[jax.Device]] = {}
    for device in devices:
        slices.setdefault(getattr(device, "slice_index", 0), []).append(device)
    sizes = sorted({len(members) for members in slices.values()})
    if any(size % config.fsdp for size in sizes):
        shown = " or ".join(map(str, sizes))
        raise ValueError(
            f"{asked}: fsdp has to divide a slice; the {count} devices are in slices of {shown}"
        )
    placed = np.concatenate([_arrange(slices[index], config.fsdp) for index in sorted(slices)])
    return Mesh(placed, BATCH_AXES, axis_types=(AxisType.Auto,) * 2)


def _arrange(devices: Sequence[jax.Device], fsdp: int) -> np.ndarray:
    """The devices of a slice, (data, fsdp), by where they lie in its torus."""
    shape = len(devices) // fsdp, fsdp
    try:
        return create_device_mesh(shape, devices, allow_split_physical_axes=True)
    except (AssertionError, TypeError):
        # JAX places no cores that are devices of their own, as a v4 may have, and no parts of a
        # torus with holes; nor does it find all factors of an axis of 28. Their order will do.
        return np.asarray(devices).reshape(shape)


def check_batch(config: TrainConfig, devices: int, group: int = 1) -> None:
    """Raises ValueError where a batch does not divide among devices, in whole groups of rows."""
    together = f"{group} rows each have to stay together (order pairs)"
    if config.batch_size % (group * devices):
        raise ValueError(
            f"batch_size {config.batch_size} does not divide among {devices} devices; take a "
            f"multiple of {group * devices}{f': {together}' if group > 1 else ''}"
        )
    if 0 < config.rows_per_device < group:
        raise ValueError(
            f"rows_per_device must be 0 or at least {group}, not {config.rows_per_device}: "
            f"{together}"
        )


def micro_batches(config: TrainConfig, devices: int, group: int = 1) -> int:
    """In how many equal parts a device encodes its rows: the fewest that rows_per_device allows.

    Args:
      config: batch_size and rows_per_device.
      devices: among which the batch is split.
      group: rows that stay together.

    Raises:
      ValueError: the batch does not divide among the devices.
    """
    check_batch(config, devices, group)
    rows = config.batch_size // devices
    most, groups = config.rows_per_device or rows, rows // group
    return next(n for n in range(1, groups + 1) if groups % n == 0 and rows <= n * most)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over all devices."""
    return NamedSharding(mesh, BATCH_SPEC)


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, P())


def state_specs(tree, mesh: Mesh, config: MeshConfig):
    """How a state, or a part of it, is split over the mesh.

    Args:
      tree: arrays or their shapes, with dicts, dataclasses and optax states in it.

    Returns:
      The same tree of PartitionSpecs.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: _spec(_name(path), leaf.shape, mesh.shape["fsdp"], config.split_above),
        tree,
    )


def state_shardings(tree, mesh: Mesh, config: MeshConfig):
    """`state_specs` as NamedShardings."""
    specs = state_specs(tree, mesh, config)
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)


def split_axis(spec: P) -> int | None:
    """The axis that a PartitionSpec splits over "fsdp"; None: the array is whole."""
    return spec.index("fsdp") if "fsdp" in spec else None


def _spec(name: str, shape: tuple[int, ...], parts: int, split_above: int) -> P:
    rule = next(rule for pattern, rule in RULES if re.search(pattern, name))
    if isinstance(rule, P):
        return rule
    axes = [axis for axis in range(rule, len(shape)) if shape[axis] % parts == 0]
    if parts == 1 or math.prod(shape) <= split_above or not axes:
        return P()
    largest = max(axes, key=lambda axis: shape[axis])
    return P(*[None] * largest, "fsdp")


def _name(path) -> str:
    """ "opt_state/1/0/mu/encoder/..." of a path of any tree."""
    return jax.tree_util.keystr(path, simple=True, separator="/")
