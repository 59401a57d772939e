"""What the contrastive loss and its gradient cost: plain, gathered, and as a ring.

    python -m benchmarks.loss_memory memory   # temporaries on TPU v5e, from the compiler
    python -m benchmarks.loss_memory time     # a step on the devices at hand

`memory` needs no TPU, only its compiler, libtpu. Install it into a virtual environment of its own,
for a JAX that finds libtpu takes the machine for a TPU:

    python -m venv tpu && tpu/bin/pip install "jax[tpu]>=0.10.2,<0.11"
    JAX_PLATFORMS=cpu tpu/bin/python -m benchmarks.loss_memory memory

Where a form does not fit, the table says how much it would take in all.
"""

import argparse
import os
import re
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from clapjax.losses.config import LossConfig
from clapjax.losses.contrastive import make_contrastive

AXES = ("data", "fsdp")
SIZE = 512  # of an embedding
FORMS = ("plain", "gathered", "ring")
# name: (kind, negatives, groups)
LOSSES = {
    "softmax": ("softmax", "none", False),
    "softmax, all negatives, groups": ("softmax", "all", True),
    "sigmoid": ("sigmoid", "none", False),
}
SETTINGS = (("v5e:2x4", 32_768), ("v5e:2x4", 131_072), ("v5e:16x16", 1_048_576))


def gathered_softmax(mesh: Mesh):
    """The usual form: gather all captions, then every device has the logits of its own rows."""

    def local(audio, text, scale):
        everyone = jax.lax.all_gather(text, AXES, tiled=True)  # (N, D)
        logits = scale * jnp.dot(audio, everyone.T, preferred_element_type=jnp.float32)  # (b, N)
        first = jax.lax.axis_index(AXES) * len(audio)
        here = first + jnp.arange(len(audio))
        positive = jnp.take_along_axis(logits, here[:, None], axis=1)[:, 0]
        rows = jax.nn.logsumexp(logits, axis=1) - positive
        highest = jax.lax.pmax(jax.lax.stop_gradient(logits.max(0)), AXES)
        sums = jax.lax.psum(jnp.exp(logits - highest).sum(0), AXES)  # (N,)
        columns = (highest + jnp.log(sums))[here] - positive
        return jax.lax.pmean(0.5 * (rows + columns).mean(), AXES)

    return jax.shard_map(local, mesh=mesh, in_specs=(P(AXES), P(AXES), P()), out_specs=P())


def value_and_gradient(form: str, name: str, mesh: Mesh, tile: int, dtype=jnp.bfloat16):
    """A jitted function of (audio, text, scale, bias, negative, groups)."""
    kind, negatives, grouped = LOSSES[name]

    def objective(audio, text, scale, bias, negative, groups):
        if form == "gathered":
            return gathered_softmax(mesh)(audio, text, scale)
        config = LossConfig(kind=kind, negatives=negatives, implementation=form, tile=tile)
        options = {"bias": bias} if kind == "sigmoid" else {}
        options |= {"negative": negative} if negatives != "none" else {}
        loss = make_contrastive(config, mesh, AXES, dtype)
        return loss(audio, text, scale, groups=groups if grouped else None, **options)

    rows, same = NamedSharding(mesh, P(AXES)), NamedSharding(mesh, P())
    gradients = (rows, rows, same, same, rows)
    return jax.jit(
        jax.value_and_grad(objective, argnums=(0, 1, 2, 3, 4)), out_shardings=(same, gradients)
    )


def arguments(mesh: Mesh, batch: int, dtype=jnp.bfloat16) -> tuple:
    """Shapes of the function's arguments, and where they live."""
    rows, same = NamedSharding(mesh, P(AXES)), NamedSharding(mesh, P())
    embeddings = jax.ShapeDtypeStruct((batch, SIZE), dtype, sharding=rows)
    scalar = jax.ShapeDtypeStruct((), jnp.float32, sharding=same)
    groups = jax.ShapeDtypeStruct((batch,), jnp.int32, sharding=rows)
    return embeddings, embeddings, scalar, scalar, embeddings, groups


def temporaries(form: str, name: str, topology: str, batch: int, tile: int) -> str:
    """Temporaries per chip in MiB, or what the compiler says where it cannot fit the program."""
    devices = np.array(topologies.get_topology_desc(topology, platform="tpu").devices)
    mesh = Mesh(devices.reshape(-1, 1), AXES)
    lowered = value_and_gradient(form, name, mesh, tile).lower(*arguments(mesh, batch))
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        used = re.search(r"(?:Used |HLO temporaries \()([\d.]+[KMGT])", str(error))
        if used is None:
            raise
        return f"no: {used[1]}iB"
    return f"{compiled.memory_analysis().temp_size_in_bytes / 2**20:.1f}"


def print_memory(tile: int) -> None:
    """The table of temporaries."""
    print(f"Temporaries of loss and gradient, MiB per chip; D = {SIZE}, bfloat16, tile {tile}")
    print(f"{'loss':<32}{'topology':<11}{'batch':>10}", *(f"{form:>14}" for form in FORMS))
    for name in LOSSES:
        for topology, batch in SETTINGS:
            cells = [
                "-"
                if form == "gathered" and name != "softmax"
                else temporaries(form, name, topology, batch, tile)
                for form in FORMS
            ]
            line = f"{name:<32}{topology:<11}{batch:>10,}"
            print(line, *(f"{cell:>14}" for cell in cells), flush=True)


def print_times(batches: list[int], tile: int, repeats: int) -> None:
    """Median seconds of a step, the forms in turn so that a busy machine disturbs all alike."""
    devices = jax.devices()
    mesh = jax.make_mesh((len(devices), 1), AXES, axis_types=(AxisType.Auto,) * 2)
    dtype = jnp.dtype("float32" if devices[0].platform == "cpu" else "bfloat16")
    where = f"{len(devices)} x {devices[0].device_kind}; D = {SIZE}, {dtype}, tile {tile}"
    print(f"Seconds of loss and gradient on {where}")
    print(f"{'loss':<32}{'batch':>10}{'plain':>10}{'ring':>10}{'ring / plain':>14}")
    for name in LOSSES:
        for batch in batches:
            inputs = random_arguments(mesh, batch, dtype)
            forms = {
                form: value_and_gradient(form, name, mesh, tile, dtype).lower(*inputs).compile()
                for form in ("plain", "ring")
            }
            seconds: dict[str, list[float]] = {form: [] for form in forms}
            for repeat in range(repeats + 1):  # the first is a warm-up
                for form, step in forms.items():
                    start = time.perf_counter()
                    jax.block_until_ready(step(*inputs))
                    if repeat:
                        seconds[form].append(time.perf_counter() - start)
            plain, ring = (statistics.median(seconds[form]) for form in ("plain", "ring"))
            line = f"{name:<32}{batch:>10,}{plain:>10.4f}{ring:>10.4f}{ring / plain:>14.2f}"
            print(line, flush=True)


def random_arguments(mesh: Mesh, batch: int, dtype: jnp.dtype) -> tuple:
    """Values for `arguments`."""
    generator = np.random.default_rng(0)

    def draw(like: jax.ShapeDtypeStruct, value) -> jax.Array:
        return jax.device_put(np.asarray(value).astype(like.dtype), like.sharding)

    def unit() -> np.ndarray:
        x = generator.normal(size=(batch, SIZE))
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    values = unit(), unit(), 14.3, -10.0, unit(), generator.integers(0, batch // 4, batch)
    return tuple(map(draw, arguments(mesh, batch, dtype), values))


def main() -> None:
    """Prints one of the two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=("memory", "time"))
    parser.add_argument("--tile", type=int, default=LossConfig().tile)
    parser.add_argument("--batch", type=int, nargs="+", default=[2048, 8192], help="of `time`")
    parser.add_argument("--repeats", type=int, default=5, help="of `time`")
    args = parser.parse_args()
    if args.table == "time":
        return print_times(args.batch, args.tile, args.repeats)
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # else libtpu looks for a TPU's metadata
    jax.config.update("jax_platforms", "cpu")
    try:
        import libtpu  # noqa: F401
    except ModuleNotFoundError:
        parser.error("memory needs libtpu; how to install it: head of benchmarks/loss_memory.py")
    print_memory(args.tile)


if __name__ == "__main__":
    main()
