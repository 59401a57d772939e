"""The most expensive kernels of the training step, from a trace of JAX's profiler."""

import dataclasses
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
from jax.profiler import ProfileData, ProfileOptions

from benchmarks.accelerator.common import Clock, Setup, Skipped, task_of
from benchmarks.accelerator.training import compiled_step, first_rows
from clapjax.planning.measure import random_batch
from clapjax.training.mesh import make_mesh
from clapjax.training.state import init_state

STEPS, SHOWN = 3, 5
ALL = "all kernels"
HIDDEN = ("while", "body", "closed_call", "eval_jaxpr")  # parts of a name that say nothing


def rows(setup: Setup, clock: Clock, results: dict) -> Iterator[dict | Skipped]:
    """The kernels with the most time, then all of them together."""
    mesh = make_mesh(setup.config.mesh, setup.devices)
    fitted = [
        row["rows"]
        for row in results.get("training") or []
        if row["fits"] and row["micro_batches"] == 1
    ]
    size = max(fitted) if fitted else max(1, first_rows(setup, mesh) // 2)
    config = dataclasses.replace(setup.config, batch_size=size * mesh.size, rows_per_device=size)
    program = compiled_step(config, mesh)
    task = task_of(config)
    batch, state = random_batch(config, task, mesh), init_state(config, task, mesh)
    state, _ = program.compiled(state, batch)
    jax.block_until_ready(state)
    options = ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            for _ in range(STEPS):
                state, _ = program.compiled(state, batch)
            jax.block_until_ready(state)
        files = sorted(Path(folder).rglob("*.xplane.pb"))
        times = kernel_times(ProfileData.from_file(str(files[0]))) if files else {}
    if not times:
        yield Skipped("all of it", "the profiler wrote nothing of the device")
        return
    total = sum(sum(ops.values()) for ops in times.values())
    sources = op_names(program.compiled.as_text())
    most = sorted(times.items(), key=lambda item: -sum(item[1].values()))[:SHOWN]
    for name, ops in most:
        op = ops.most_common(1)[0][0]
        source = sources.get(op) or sources.get(name, "")
        yield _row(size, name, source, sum(ops.values()), total)
    yield _row(size, ALL, f"{len(times)} of them", total, total)


def _row(size: int, name: str, source: str, nanoseconds: float, total: float) -> dict:
    return {
        "kernel": name[:200],
        "of": source,
        "share": nanoseconds / total,
        "step_milliseconds": nanoseconds / STEPS / 1e6,
        "rows": size,
    }


def kernel_times(data: ProfileData) -> dict[str, Counter]:
    """Nanoseconds of each kernel of one device, without those of what runs inside of it.

    Args:
      data: a trace. Of a GPU's planes the streams count, of a TPU's the line "XLA Ops", and of a
        CPU all threads, which may work on one program at once.

    Returns:
      {name of a kernel: {HLO instruction: nanoseconds}}; empty where no device was traced.
    """
    planes = {plane.name: plane for plane in data.planes}
    devices = sorted(name for name in planes if re.match(r"/device:(GPU|TPU):\d+$", name))
    times: dict[str, Counter] = defaultdict(Counter)
    if devices:
        lines = list(planes[devices[0]].lines)
        streams = [line for line in lines if line.name.startswith("Stream")]
        for line in streams or [line for line in lines if line.name == "XLA Ops"]:
            events = [(e.start_ns, e.end_ns, _name(e), _op(e) or _name(e)) for e in line.events]
            _add(times, events)
    elif "/host:CPU" in planes:
        for line in planes["/host:CPU"].lines:
            found = ((e, _op(e)) for e in line.events if e.duration_ns)
            _add(times, [(e.start_ns, e.end_ns, op, op) for e, op in found if op])
    return dict(times)


def _name(event) -> str:
    """A kernel's name; on TPUs the event has the whole instruction."""
    return event.name.partition(" = ")[0].removeprefix("%")


def _op(event) -> str | None:
    return next((str(value) for name, value in event.stats if name == "hlo_op"), None)


def _add(times: dict[str, Counter], events: Iterable[tuple[float, float, str, str]]) -> None:
    """Adds (start, end, kernel, instruction) of one line, on which events nest."""
    inside: list[tuple[float, str, str]] = []  # (end, kernel, instruction) of those that run
    for start, end, name, op in sorted(events, key=lambda event: (event[0], -event[1])):
        while inside and inside[-1][0] <= start:
            inside.pop()
        if inside:
            _, outer, outer_op = inside[-1]
            times[outer][outer_op] -= min(end, inside[-1][0]) - start
        times[name][op] += end - start
        inside.append((end, name, op))


def op_names(text: str) -> dict[str, str]:
    """{HLO instruction or kernel: where in the model it comes from} of a program's `as_text()`."""
    pattern = r"^\s*(?:ROOT )?%?([\w.\-]+) = .*?metadata=\{[^}]*?op_name=\"([^\"]*)\""
    found = re.findall(pattern, text, flags=re.MULTILINE)
    # Of what runs in a CUDA graph a trace has the kernel's name alone, which has no dots.
    kernels = {name.replace(".", "_"): _short(source) for name, source in found}
    return kernels | {name: _short(source) for name, source in found}


def _short(source: str) -> str:
    """ "jit(step)/transpose(jvp(Clap))/Clap.text/while/body/mlp/dot" to "backward/mlp/dot"."""
    way = re.compile(r"(transpose\()?jvp\(Clap(\.\w+)?\)+$")
    parts = []
    for part in source.split("/")[1:]:
        if found := way.match(part):
            parts.append("backward" if found[1] else "forward")
        elif part not in HIDDEN and not part.startswith("Clap."):
            parts.append(part)
    return "/".join(parts)
