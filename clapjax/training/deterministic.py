"""The same bits from the same program on GPUs."""

import os

import jax

# Excludes what adds up in no fixed order (atomics), and the search for the fastest kernels, which
# may choose others at the next start. XLA's other platforms are deterministic without.
OPTION = "xla_gpu_deterministic_ops"


def make_deterministic() -> None:
    """Lets XLA compile, in this process, only what gives the same bits each time on a GPU.

    Raises:
      ValueError: JAX has already started its devices.
    """
    if jax._src.xla_bridge.backends_are_initialized():
        raise ValueError("deterministic: JAX has already started; ask for it before its first use")
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --{OPTION}=true".strip()
