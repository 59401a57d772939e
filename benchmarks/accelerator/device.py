"""The device: what it is, what it should reach, what it reaches."""

import os
import subprocess
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import jaxlib

import clapjax
from benchmarks.accelerator.common import Clock, Setup, median_seconds, memory_stats
from clapjax.planning.chips import datasheet
from clapjax.planning.measure import matrix_rate

SMI = ("driver_version", "memory.total", "power.limit", "clocks.max.sm")


def rows(setup: Setup, clock: Clock, results: dict) -> Iterator[dict]:
    """{"figure", "value", "shown"} of one figure at a time."""
    device = setup.devices[0]
    for figure, value in _identity(setup, device).items():
        yield _row(figure, value, str(value))
    sheet = datasheet(device.device_kind)
    yield _row("datasheet_dtype", sheet and sheet.dtype, sheet and sheet.dtype)
    yield _rate("datasheet_flops", sheet and sheet.flops, "TFLOP/s")
    yield _rate("datasheet_memory", sheet and sheet.memory, "GB/s")
    # JAX's default for float32 is TF32 on GPUs that have it, bfloat16 passes on TPUs.
    for name, dtype, precision in (
        ("bfloat16", "bfloat16", None),
        ("float32", "float32", None),
        ("float32_highest", "float32", "highest"),
    ):
        with jax.default_matmul_precision(precision):
            rate = matrix_rate(jnp.dtype(dtype), device)
        yield _rate(f"matrix_flops_{name}", rate, "TFLOP/s", sheet and sheet.flops)
    yield _rate("copy_rate", copy_rate(setup, device), "GB/s", sheet and sheet.memory)


def _row(figure: str, value, shown: str | None) -> dict:
    return {"figure": figure, "value": value, "shown": None if value is None else shown}


def _rate(figure: str, value: float | None, unit: str, peak: float | None = None) -> dict:
    if value is None:
        return {"figure": figure, "value": None, "shown": "unknown"}
    scale = {"TFLOP/s": 1e12, "GB/s": 1e9}[unit]
    share = f" ({100 * value / peak:.0f} % of the data sheet)" if peak else ""
    return _row(figure, value, f"{value / scale:,.2f} {unit}{share}")


def copy_rate(setup: Setup, device: jax.Device) -> float:
    """Bytes per second that a device reads and writes, together, of a large buffer."""
    x = jax.device_put(jnp.zeros(setup.copy_bytes // 4, jnp.float32), device)
    add = jax.jit(lambda x: x + 1, donate_argnums=0)

    def work():
        nonlocal x
        x = add(x)
        return x

    return 2 * x.nbytes / median_seconds(work, setup.repeats)


def _identity(setup: Setup, device: jax.Device) -> dict:
    smi = nvidia_smi() if device.platform == "gpu" else {}
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "devices": len(setup.devices),
        "compute_capability": getattr(device, "compute_capability", None),
        "memory_limit_bytes": memory_stats(device).get("bytes_limit"),
        **{f"smi_{name.replace('.', '_')}": smi.get(name) for name in SMI},
        "backend": " ".join(device.client.platform_version.split()),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "clapjax": clapjax.__version__,
        "preallocation": preallocation(device.platform),
        "xla_flags": os.environ.get("XLA_FLAGS"),
        "compilation_cache": jax.config.jax_compilation_cache_dir,
    }


def preallocation(platform: str) -> str | None:
    """What JAX takes of a GPU's memory at its start, by the environment; None elsewhere."""
    if platform != "gpu":
        return None
    allocator = os.environ.get("XLA_PYTHON_CLIENT_ALLOCATOR", "default")
    on = os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE", "true").lower() not in ("false", "0")
    share = os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION", "JAX's default")
    return f"{'on' if on else 'off'}, fraction {share}, allocator {allocator}"


def nvidia_smi() -> dict[str, str]:
    """What nvidia-smi says of the first GPU; empty where there is no nvidia-smi, or it fails."""
    command = ["nvidia-smi", f"--query-gpu={','.join(SMI)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    first = done.stdout.partition("\n")[0]
    return dict(zip(SMI, (value.strip() for value in first.split(",")), strict=False))
