"""One device mesh: axes "data" and "fsdp"; the batch is split over both."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from clapjax.training.config import MeshConfig

BATCH_AXES = ("data", "fsdp")
BATCH_SPEC = P(BATCH_AXES)


def make_mesh(config: MeshConfig) -> Mesh:
    """The mesh over all devices of all processes.

    Raises:
      ValueError: the axes do not multiply to the number of devices.
    """
    count = jax.device_count()
    data = count // config.fsdp if config.data == -1 else config.data
    if config.fsdp < 1 or data < 1 or data * config.fsdp != count:
        raise ValueError(
            f"mesh: data={config.data} x fsdp={config.fsdp} does not make {count} devices"
        )
    return jax.make_mesh((data, config.fsdp), BATCH_AXES, axis_types=(AxisType.Auto,) * 2)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over all devices."""
    return NamedSharding(mesh, BATCH_SPEC)


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, P())
