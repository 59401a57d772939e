"""What a training step takes on the devices at hand: time, memory, utilisation."""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from clapjax.planning.compiled import exchanges
from clapjax.planning.shapes import TOKENS, batch_shapes, model_flops, step_flops
from clapjax.tasks.task import Task
from clapjax.training.config import TrainConfig
from clapjax.training.mesh import make_mesh, micro_batches
from clapjax.training.state import abstract_state, init_state
from clapjax.training.step import make_train_step

DIFFERENT_ROWS = 64  # of a random batch; drawing more would cost the host time and memory


def measure(config: TrainConfig, task: Task, steps: int = 10) -> dict:
    """Runs a config's step on the devices at hand, on noise.

    Args:
      config: the run.
      task: what is learned.
      steps: how many are timed, after two that are not.

    Returns:
      A dict for JSON: "step_seconds" (median), "clips_per_second", "peak_bytes_per_device",
      "hbm_limit_bytes" where the device tells, "flops", "model_flops" per device, "matrix_flops"
      (what a device reaches on a large matrix product of the compute type, per second) and
      "model_flops_utilization", the model FLOPs per second over that.
    """
    mesh = make_mesh(config.mesh)
    parts = micro_batches(config, mesh.size, task.group)
    batch = random_batch(config, task, mesh)
    step = make_train_step(config, task, mesh)
    traced = step.trace(abstract_state(config, task, mesh), batch_shapes(config, task, mesh))
    compiled = traced.lower().compile()
    state = init_state(config, task, mesh)
    seconds = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        state, _ = compiled(state, batch)
        jax.block_until_ready(state)
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds[2:])
    device = mesh.local_devices[0]
    stats, analysis = device.memory_stats() or {}, compiled.memory_analysis()
    peak = stats.get("peak_bytes_in_use") or (
        analysis.argument_size_in_bytes + analysis.temp_size_in_bytes
    )
    del state
    reached, needed = (
        matrix_rate(task.dtype(device.platform), device),
        model_flops(config, task, mesh),
    )
    return {
        "device": device.device_kind,
        "devices": mesh.size,
        "batch_size": config.batch_size,
        "micro_batches": parts,
        "remat": config.remat,
        "mesh": dict(mesh.shape),
        "step_seconds": median,
        "clips_per_second": config.batch_size / median,
        "peak_bytes_per_device": peak,
        "hbm_limit_bytes": stats.get("bytes_limit"),
        "flops": step_flops(config, task, mesh, traced),
        "model_flops": needed,
        "matrix_flops": reached,
        "model_flops_utilization": needed / median / reached,
        "collectives": exchanges(compiled.as_text()),
    }


def random_batch(config: TrainConfig, task: Task, mesh: Mesh) -> dict[str, jax.Array]:
    """A batch on the mesh: noise, a few rows of it repeated; whatever else it has is all ones.

    Texts have TOKENS.
    """
    generator = np.random.default_rng(0)

    def fill(name: str, like: jax.ShapeDtypeStruct) -> jax.Array:
        values = np.ones(like.shape, like.dtype)
        if name in ("audio", "reverse_audio"):
            few = (min(like.shape[0], DIFFERENT_ROWS), *like.shape[1:])
            noise = generator.integers(-30_000, 30_000, few).astype(like.dtype)
            values = np.resize(noise, like.shape)
        if name.endswith("mask"):
            values[:, TOKENS:] = 0
        return jax.make_array_from_callback(like.shape, like.sharding, lambda index: values[index])

    return {name: fill(name, like) for name, like in batch_shapes(config, task, mesh).items()}


def matrix_rate(dtype: jnp.dtype, device: jax.Device, repeats: int = 20) -> float:
    """FLOPs per second that a device reaches on a large matrix product of a type."""
    size = 1024 if device.platform == "cpu" else 8192
    # Not ones: a GPU draws less power on them, and is faster than it ever is on real values.
    x = jax.random.normal(jax.random.key(0), (size, size))
    x = jax.device_put(x.astype(dtype), device)
    product = jax.jit(lambda x: x @ x)
    product(x).block_until_ready()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        product(x).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)
