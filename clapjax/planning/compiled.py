"""A step compiled for a TPU slice that is not here, by XLA's own compiler.

`compile_step` does it in this process, which the compiler may abort; `compiled` in another one:

    python -m clapjax.planning.compiled <REQUEST >REPORT
"""

import importlib.util
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
from jax.experimental import topologies
from jax.sharding import Mesh

from clapjax.planning.chips import Chip, Hardware, datasheet
from clapjax.planning.flops import matrix_flops
from clapjax.planning.hlo import collectives, memory_traffic
from clapjax.planning.shapes import batch_shapes, held_bytes, model_flops, text_turns
from clapjax.tasks.task import Task
from clapjax.training.config import TrainConfig
from clapjax.training.mesh import make_mesh
from clapjax.training.state import abstract_state
from clapjax.training.step import make_train_step

# The compiler is to look for no TPU, and not to mind another process that compiles.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


class DoesNotCompile(RuntimeError):
    """The compiler gave up, or died; the message says how, `.log` is what it wrote."""

    def __init__(self, reason: str, log: str):
        super().__init__(reason)
        self.log = log


def compiled(
    config: TrainConfig,
    make_task: Callable,
    devices: Hardware,
    debug: bool = False,
    turns: float | None = None,
) -> dict:
    """`compile_step` in a process of its own.

    Args:
      config: the run.
      make_task: a module's function of the config to the task.
      devices: a slice.
      debug: the compiler's messages go to stderr as they come.
      turns: as `compile_step`.

    Raises:
      DoesNotCompile: by whatever end of that process.
      ValueError: as `compile_step`.
      ModuleNotFoundError: libtpu, the compiler, is not installed.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ModuleNotFoundError(
            "planning for a TPU needs libtpu, XLA's compiler for it: pip install libtpu (into an "
            "environment of its own, or set JAX_PLATFORMS=cpu), or count the memory with --count",
            name="libtpu",
        )
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryFile() as log:
        done = subprocess.run(
            [sys.executable, "-m", "clapjax.planning.compiled"],
            input=pickle.dumps((config, make_task, devices, turns)),
            stdout=subprocess.PIPE,
            stderr=None if debug else log,
            env=os.environ | ENVIRONMENT | {"PYTHONPATH": path},
            check=False,
        )
        log.seek(0)
        text = log.read().decode(errors="replace")
    if done.returncode:
        raise DoesNotCompile(reason_of(done.returncode, text), text)
    answer = json.loads(done.stdout.splitlines()[-1])
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer


def reason_of(status: int, log: str) -> str:
    """One line for how a process ended, by its return code and what it wrote to stderr."""
    lines = [line for line in log.splitlines() if line.strip()]
    fatal = [match[1] for line in lines if (match := re.match(r"F\d{4} .*?\] (.*)", line))]
    said = f": {(fatal or lines)[-1].strip()[:200]}" if fatal or (lines and status > 0) else ""
    if status == -signal.SIGKILL:
        return "the compiler was killed (SIGKILL), as where this machine's memory runs out"
    if status < 0:
        return f"the compiler died of {signal.Signals(-status).name}{said}"
    return f"the compiler ended with status {status}{said or ' and no word'}"


def topology_mesh(config: TrainConfig, devices: Hardware) -> Mesh:
    """The config's mesh over a slice, none of which needs to exist.

    Raises:
      ValueError: no such slice, or one that the mesh's axes do not multiply to.
    """
    try:
        found = topologies.get_topology_desc(devices.topology, platform="tpu", **devices.options)
    except (jax.errors.JaxRuntimeError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"no topology {devices.topology!r} ({reason})") from error
    return make_mesh(config.mesh, found.devices)


def compile_step(
    config: TrainConfig, task: Task, devices: Hardware, turns: float | None = None
) -> dict:
    """Compiles a config's step for a slice; the report is that of `plan.plan`.

    Args:
      config: the run.
      task: what is learned.
      devices: a slice.
      turns: of the loop over its texts; None: as texts of TOKENS fill.

    Raises:
      ValueError: no such slice, or the batch does not divide among its devices.
      jax.errors.JaxRuntimeError: the compiler fails for another reason than the memory.
    """
    mesh = topology_mesh(config, devices)
    turns = text_turns(config, task, mesh) if turns is None else turns
    start = time.monotonic()
    state, batch = abstract_state(config, task, mesh), batch_shapes(config, task, mesh)
    traced = make_train_step(config, task, mesh).trace(state, batch)
    memory = held_bytes(state, batch)
    report = {"how": "compiled", "mesh": dict(mesh.shape), "memory": memory}
    held, text = sum(memory.values()), None
    try:
        program = traced.lower().compile()
        used = program.memory_analysis()
        memory["temporaries"] = used.temp_size_in_bytes
        report["bytes"] = (
            used.argument_size_in_bytes
            + used.output_size_in_bytes
            - used.alias_size_in_bytes
            + used.temp_size_in_bytes
            + used.generated_code_size_in_bytes
        )
        text = program.as_text()
    except jax.errors.JaxRuntimeError as error:
        report["bytes"] = max(out_of_memory(error)[0], held)
        memory["temporaries"] = report["bytes"] - held
    report["fits"] = text is not None and report["bytes"] <= devices.bytes
    report["flops"] = matrix_flops(traced.jaxpr, mesh.size, turns)
    report["model_flops"] = model_flops(config, task, mesh)
    if text is not None:
        report["collectives"] = exchanges(text)
        traffic = memory_traffic(text, 1 if turns is None else turns)
        report["roofline"] = _engines(report, traffic, datasheet(devices.kind))
    return report | {"seconds": round(time.monotonic() - start, 1)}


def out_of_memory(error: Exception) -> tuple[int, int]:
    """(bytes taken, bytes there are) of the compiler's complaint; another error goes on."""
    size = r"([\d.]+)([KMGTP]?)"
    match = re.search(rf"Used {size} of {size} hbm", str(error)) or re.search(
        rf"temporaries \({size}\) exceeds available HBM \({size}\)", str(error)
    )
    if match is None:
        raise error
    unit = {"": 1} | {letter: 2 ** (10 * power) for power, letter in enumerate("KMGTP", 1)}
    taken, taken_unit, limit, limit_unit = match.groups()
    return int(float(taken) * unit[taken_unit]), int(float(limit) * unit[limit_unit])


def exchanges(text: str) -> dict[str, dict[str, int]]:
    """Collectives of a compiled module's `as_text()`: {kind: {"count", "bytes"} of a run}."""
    kinds: dict[str, dict[str, int]] = {}
    for x in collectives(text):
        row = kinds.setdefault(x.kind, {"count": 0, "bytes": 0})
        row["count"] += x.times
        row["bytes"] += x.times * x.bytes
    return kinds


def _engines(report: dict, traffic: int, peaks: Chip) -> dict[str, float]:
    """Seconds that each of the chip's three engines needs for a step, if nothing waited."""
    # An all-reduce sends its bytes twice around; a reduce-scatter n times its result.
    factor = {"all-reduce": 2, "reduce-scatter": report["mesh"]["fsdp"]}
    sent = sum(factor.get(kind, 1) * x["bytes"] for kind, x in report["collectives"].items())
    return {
        "compute_seconds": report["flops"] / peaks.flops,
        "memory_seconds": traffic / peaks.memory,
        "exchange_seconds": sent / peaks.links,
    }


def main() -> None:
    """Answers one request on stdin with one line on stdout."""
    config, make_task, devices, turns = pickle.load(sys.stdin.buffer)
    try:
        answer = compile_step(config, make_task(config), devices, turns)
    except ValueError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
