"""Where a loaded model computes, in which type, and how many threads feed it."""

import dataclasses
import numbers

import jax
import jax.numpy as jnp

from clapjax.inference.pieces import THREADS
from clapjax.models.clap import compute_dtype
from clapjax.models.config import ClapConfig

DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Place:
    """As `find_place` makes it."""

    device: jax.Device
    dtype: str = ""  # of DTYPES; "": what the model's config says
    workers: int = THREADS

    @property
    def exact(self) -> bool:
        """Whether float32 was asked for where matrix products have fewer bits by default."""
        return self.dtype == "float32" and self.device.platform != "cpu"

    def at_work(self, config: ClapConfig) -> ClapConfig:
        """The config of a model that computes here."""
        return dataclasses.replace(config, compute_dtype=self.dtype) if self.dtype else config


def find_place(device=None, dtype=None, workers: int = THREADS) -> Place:
    """Checks what a caller asks for.

    Args:
      device: a `jax.Device`, or its name: "cpu", "gpu" (or "cuda"), "tpu", "gpu:1"; None: the first
        of this process.
      dtype: "float32" or "bfloat16", or such a type of numpy, JAX or torch; None: what the model's
        config says, by default bfloat16 on GPUs and TPUs and float32 on CPUs.
      workers: threads that decode.

    Raises:
      ValueError: no such device; another type; no workers.
    """
    if isinstance(workers, bool) or not isinstance(workers, numbers.Integral) or workers < 1:
        raise ValueError(f"workers must be a number of threads, at least 1, not {workers!r}")
    return Place(_find_device(device), "" if dtype is None else _find_dtype(dtype), int(workers))


def _find_device(device) -> jax.Device:
    if device is None:
        return jax.local_devices()[0]
    if isinstance(device, jax.Device):
        return device
    kind, _, number = str(device).partition(":")  # torch.device("cuda:1") reads like that as well
    try:
        return jax.local_devices(backend=kind.replace("cuda", "gpu"))[int(number or 0)]
    except (RuntimeError, ValueError, IndexError):
        there = [describe(one) for one in jax.local_devices()]
        if "cpu:0" not in there:
            there.append("cpu:0")
        raise ValueError(f"no device {str(device)!r}; there is {', '.join(there)}") from None


def _find_dtype(dtype) -> str:
    try:
        name = jnp.dtype(dtype).name
    except TypeError:  # torch.float32, and what is no type
        name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {name!r}")
    return name


def describe(device: jax.Device) -> str:
    """As `find_place` takes it: "gpu:0"."""
    return f"{device.platform}:{jax.local_devices(backend=device.platform).index(device)}"


def describe_model(model, place: Place, *parts: str) -> str:
    """What a model shows of itself: its encoder, `parts`, and how and where it computes."""
    config, kind = model.config, type(model).__name__
    devices = jax.tree.leaves(model.variables)[0].sharding.device_set
    dtype = compute_dtype(place.at_work(config), place.device.platform).name
    where = describe(place.device) if len(devices) == 1 else f"{len(devices)} devices"
    audio = config.audio
    hears = f"{config.audio_encoder} at {audio.sample_rate} Hz"
    parts = hears, f"clips of {audio.clip_samples / audio.sample_rate:g} s", *parts
    return f"{kind}({', '.join(parts)}, {dtype} on {where}, batch_size={model.batch_size})"
