"""The notebooks in an environment like Colab's: what the first cell installs; how long cells take.

    python -m benchmarks.colab --python python3.13                     # notebooks 1 and 2, in small
    python -m benchmarks.colab --python python3.13 --full --notebooks 1 2 3 4 5
    python -m benchmarks.colab --full --notebooks 1                    # in this environment

With --python it makes an environment in --place (gigabytes) with the versions of Colab's TPU
runtime of August 2026, which has neither TensorFlow nor ml_collections, and runs the first cell in
it: for a CPU and a GPU as `pip install --dry-run` (which looks up a GPU's packages and needs none),
for the TPU in earnest. Then the notebooks are executed there, on the CPU.

Needs what requirements-test.txt has: nbclient runs the notebooks from here.
"""

import argparse
import ast
import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

import nbformat
import psutil
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

REPO = Path(__file__).resolve().parents[1]
NOTEBOOKS = REPO / "notebooks"
# googlecolab/backend-info, 2026-08; with what its notebooks run on.
COLAB = (
    "pip==24.1.2",
    "jax==0.7.2",
    "jaxlib==0.7.2",
    "flax==0.11.2",
    "optax==0.2.8",
    "orbax-checkpoint==0.12.4",
    "numpy==2.1.3",
    "transformers==5.15.0",
    "soundfile",
    "ipykernel",
)
TPU = "libtpu==0.0.21.1"  # that runtime alone has it
SHOWN = (
    *("jax", "libtpu", "flax", "numpy", "transformers"),
    *("tensorflow-cpu", "ml-collections", "clapjax"),
)
# Settings for a run of a minute, of every notebook that has a cell `parameters` with that name.
SMALL = {
    "CONFIG": "configs/demo.py:runlocal",
    "RECORDS": "configs/demo.py:runlocal",
    "STEPS": 4,
    "MODEL_STEPS": 4,
    "TAKES": 1,
    "BATCHES": (64,),
    "TILE": 16,
    "SIZE": 32,
    "POD": "v5e-8",
    "POD_CONFIG": "configs/demo.py:runlocal",
    "BATCH": 16,
    "ROWS": (4,),
}
OWN = {"5_captions": {"CONFIG": "configs/captioner.py:runlocal"}}  # of single notebooks
LEAST = 0.05  # seconds of a cell that is printed
# Before the first cell: pip says in REPORT what it would do. (PIP_DRY_RUN would reach those
# environments, too, in which pip builds packages.)
DRY = """
import subprocess
really = subprocess.run
def run(command, **how):
    if "uninstall" in command:
        return
    if "install" in command:
        command = [*command, "--dry-run", "--report", REPORT]
    return really(command, **how)
subprocess.run = run
"""
# A GPU of Colab, as nvidia-smi tells of it.
GPU = "570.86.15, 7.5"


def find(numbers: list[int]) -> list[Path]:
    """The notebooks of these numbers."""
    return [next(NOTEBOOKS.glob(f"{number}_*.ipynb")) for number in numbers]


def parameters(notebook: nbformat.NotebookNode) -> tuple[int, set[str]]:
    """(the number of the cell tagged `parameters`, the names that it sets)."""
    for number, cell in enumerate(notebook.cells):
        if "parameters" in cell.metadata.get("tags", []):
            nodes = [x for x in ast.walk(ast.parse(cell.source)) if isinstance(x, ast.Name)]
            return number, {node.id for node in nodes if isinstance(node.ctx, ast.Store)}
    raise ValueError("no cell is tagged `parameters`")


def small(notebook: Path) -> dict:
    """Those of SMALL and OWN that this notebook has."""
    _, names = parameters(nbformat.read(notebook, 4))
    wanted = SMALL | OWN.get(notebook.stem, {})
    return {name: value for name, value in wanted.items() if name in names}


@contextlib.contextmanager
def kernel(python: str, env: Mapping[str, str]) -> Iterator[AsyncKernelManager]:
    """A kernel of this Python, which needs ipykernel, with these variables of the environment."""
    manager = AsyncKernelManager()
    command = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    manager._kernel_spec = KernelSpec(argv=command, language="python", env=dict(env))
    try:
        yield manager
    finally:
        if manager.has_kernel:
            asyncio.run(manager.shutdown_kernel(now=True))


def execute(
    notebook: Path, given: Mapping[str, object], folder: Path, manager: AsyncKernelManager
) -> nbformat.NotebookNode:
    """Runs a notebook in a kernel that has run nothing yet.

    Args:
      notebook: the .ipynb.
      given: values of the cell `parameters`, in place of its own.
      folder: where it runs, where the kernel is new.
      manager: of `kernel`.

    Returns:
      The notebook with its outputs, in each cell's metadata when it ran, and in its own the
      "cpu_seconds" that it took.

    Raises:
      CellExecutionError: a cell failed.
      ValueError: no such parameter.
    """
    found = nbformat.read(notebook, 4)
    number, names = parameters(found)
    if unknown := given.keys() - names:
        raise ValueError(f"{notebook.name} has no parameter {sorted(unknown)}")
    lines = [f"{name} = {value!r}" for name, value in given.items()]
    found.cells.insert(number + 1, nbformat.v4.new_code_cell("\n".join(lines)))
    before = cpu_seconds(manager)
    where = {"metadata": {"path": str(folder)}}
    patience = {"timeout": 7200, "startup_timeout": 600}
    client = NotebookClient(found, km=manager, resources=where, **patience)
    client.execute(cleanup_kc=False)
    found.metadata["cpu_seconds"] = cpu_seconds(manager) - before
    return found


def cpu_seconds(manager: AsyncKernelManager) -> float:
    """What a kernel and its processes have taken until now."""
    if not manager.has_kernel:
        return 0.0
    return sum(psutil.Process(manager.provisioner.pid).cpu_times()[:4])


def seconds(cell: nbformat.NotebookNode) -> float:
    """How long a cell ran; 0 for one that did not."""
    times = cell.metadata.get("execution", {})
    if "shell.execute_reply" not in times:
        return 0.0
    start, end = (
        datetime.fromisoformat(times[name].replace("Z", "+00:00"))
        for name in ("iopub.status.busy", "shell.execute_reply")
    )
    return (end - start).total_seconds()


def times(name: str, notebook: nbformat.NotebookNode) -> str:
    """A line for each cell that took a while, and their sum."""
    ran = [(seconds(cell), cell.source.partition("\n")[0]) for cell in notebook.cells]
    lines = [f"{took:8.1f} s  {line}" for took, line in ran if took >= LEAST]
    whole = sum(took for took, _ in ran)
    cpu = notebook.metadata["cpu_seconds"]
    return "\n".join([name, *lines, f"{whole:8.1f} s  in all; {cpu:.1f} s of CPU time"])


def printed(notebook: nbformat.NotebookNode) -> str:
    """All that its cells printed."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def first_cell() -> str:
    """Its code, as any notebook has it."""
    cells = nbformat.read(find([1])[0], 4).cells
    return next(cell.source for cell in cells if "install" in cell.metadata.get("tags", []))


def make_wheel(place: Path) -> str:
    """The address of a wheel of this checkout."""
    build = ["wheel", "--quiet", "--no-deps", "--wheel-dir", place, REPO]
    subprocess.run([sys.executable, "-m", "pip", *build], check=True)
    return next(place.glob("clapjax-*.whl")).as_uri()


def dry_run(python: Path, place: Path, source: str, gpu: bool) -> list[str]:
    """What the first cell would install, as NAME==VERSION, where there is a GPU or no chip."""
    report, programs = place / "report.json", place / "programs"
    programs.mkdir(exist_ok=True)
    told = programs / "nvidia-smi"
    told.write_text(f"#!/bin/sh\necho {GPU}\n" if gpu else "#!/bin/sh\nexit 9\n")
    told.chmod(0o755)
    env = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "CLAPJAX_SOURCE": source,
        "PIP_USE_FEATURE": "fast-deps",  # of wheels the index of their files, and not all of them
    }
    code = f"REPORT = {str(report)!r}\n{DRY}\n{first_cell()}"
    done = subprocess.run([python, "-c", code], env=env, cwd=place, capture_output=True, text=True)
    if "No module named 'clapjax'" not in done.stderr:  # as it must end, for nothing is installed
        raise SystemExit(f"first cell:\n{done.stdout}{done.stderr}")
    items = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    report.unlink()
    return sorted(f"{plain(item['name'])}=={item['version']}" for item in items)


def plain(name: str) -> str:
    """The name of a distribution as packages ask for it, however its metadata write it."""
    return name.lower().replace("_", "-")


def make_environment(python: str, place: Path, source: str) -> Path:
    """An environment as Colab's TPU runtime has it, where the first cell was tried; its Python."""
    own = place / "colab" / "bin" / "python"
    if not own.exists():
        subprocess.run([python, "-m", "venv", place / "colab"], check=True)
    pip = [own, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    if "libtpu -" in versions(own):
        subprocess.run([*pip, *COLAB], check=True)
        check_first_cell(own, place, source)
        subprocess.run([*pip, TPU], check=True)
    return own


def versions(python: Path) -> str:
    """Of what matters, in the environment of `python`; "-" is not there."""
    code = (
        "import importlib.metadata as m, json\n"
        "print(json.dumps({d.name: d.version for d in m.distributions()}))"
    )
    # Elsewhere than here, where building a wheel leaves clapjax.egg-info.
    done = subprocess.run(
        [python, "-c", code], cwd=python.parent, capture_output=True, text=True, check=True
    )
    have = {plain(name): version for name, version in json.loads(done.stdout).items()}
    return ", ".join(f"{name} {have.get(name, '-')}" for name in SHOWN)


def check_first_cell(own: Path, place: Path, source: str) -> None:
    """Prints what the first cell installs for each kind of runtime."""
    print(f"before: {versions(own)}", flush=True)
    for kind, gpu in (("CPU", False), ("GPU", True)):
        start = time.perf_counter()
        found = dry_run(own, place, source, gpu)
        cuda = [item for item in found if item.startswith("jax-cuda")]
        if bool(cuda) != gpu or not any(item.startswith("clapjax==") for item in found):
            raise SystemExit(f"{kind}: the first cell would install {found}")
        shown = [item for item in found if item.startswith(("jax", "flax=", "tensorflow"))]
        print(
            f"{kind}: would install {len(found)} packages, {', '.join(shown)} "
            f"({time.perf_counter() - start:.0f} s)",
            flush=True,
        )


def main() -> None:
    """Prints installs, cells and their times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", help="Python 3.13, as Colab has it; default: this environment")
    parser.add_argument("--place", type=Path, help="folder of the environment, which is kept")
    parser.add_argument("--notebooks", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--full", action="store_true", help="with the notebooks' own settings")
    args = parser.parse_args()
    place = args.place or Path(tempfile.mkdtemp(prefix="clapjax-colab-"))
    place.mkdir(parents=True, exist_ok=True)
    python, env = sys.executable, {"PYTHONPATH": str(REPO)}
    if args.python:
        source = make_wheel(place)
        python = str(make_environment(args.python, place, source))
        print(f"a TPU's runtime: {versions(Path(python))}", flush=True)
        # libtpu would look for a TPU.
        env = {"PYTHONPATH": "", "CLAPJAX_SOURCE": source, "JAX_PLATFORMS": "cpu"}
    for notebook in find(args.notebooks):
        given = {} if args.full else small(notebook)
        with kernel(python, env) as manager:
            found = execute(notebook, given, place, manager)
        print(printed(found))
        print(times(notebook.name, found), flush=True)
        if args.python:
            print(f"after: {versions(Path(python))}", flush=True)
    if args.place is None:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
