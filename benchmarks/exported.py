"""The audio graph of `clapjax export --to stablehlo`, without JAX, against `embed_audio`.

    python -m benchmarks.exported --model W --files FOLDER [--count 10] [--batches 1 10]

The same clips, cut and filled before, go through both, each side in a process of its own, in which
for the graph's importing JAX fails; on all cores that there are. Prints for each batch the largest
difference of any coordinate; clips a second, the best of some passes, in turn with the other
side's, and the CPU milliseconds of a clip, the median; the peak of memory; and the sizes of the
graphs and of the packages that it takes. The last line is JSON.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distribution
from pathlib import Path

import numpy as np

PASSES = 10
COMPILE = (
    "--iree-hal-target-device=local",
    "--iree-hal-local-target-device-backends=llvm-cpu",
    "--iree-llvmcpu-target-cpu=host",
)
PACKAGES = {"embed_audio": ("jax", "jaxlib", "flax"), "graph": ("iree-base-runtime",)}


def embed_by_graph(folder: str, batch: int):
    """A function of (N, S) samples, N a multiple of the batch."""
    sys.modules["jax"] = sys.modules["clapjax"] = None
    import iree.runtime

    graph = iree.runtime.load_vm_flatbuffer_file(f"{folder}/audio.vmfb", driver="local-task")
    about = json.loads(Path(folder, "graphs.json").read_text())
    uses_lengths = "lengths" in about["audio"]["inputs"]

    def embed(rows: np.ndarray) -> np.ndarray:
        lengths = [np.full(batch, rows.shape[1], np.int32)] * uses_lengths
        parts = [rows[i : i + batch] for i in range(0, len(rows), batch)]
        return np.concatenate([graph.main(part, *lengths).to_host() for part in parts])

    return embed


def embed_by_model(model: str, batch: int):
    """The same by `embed_audio`, which is given arrays."""
    import clapjax

    clap = clapjax.load(model, batch_size=batch, towers="audio")
    return lambda rows: clap.embed_audio(list(rows), clap.config.audio.sample_rate)


EMBED = {"embed_audio": embed_by_model, "graph": embed_by_graph}


def child(side: str, source: str, samples: str, batch: int) -> None:
    """Embeds once, and again for each line, a file to write to; says wall and CPU seconds."""
    rows = np.load(samples)
    embed = EMBED[side](source, batch)
    embed(rows[:batch])  # compiles
    for line in sys.stdin:
        began = _clocks()
        found = embed(rows)
        print(*_clocks() - began, flush=True)
        np.save(line.strip(), found)
    # Not of getrusage, which begins with what the parent had.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(int(peak) / 1024, flush=True)


def _clocks() -> np.ndarray:
    return np.array([time.monotonic(), time.process_time()])


def measure(sides: dict[str, list[str]], out: Path) -> dict[str, dict]:
    """Both sides in turn: what each found, and its figures."""
    command = [sys.executable, "-m", "benchmarks.exported", "--child"]
    told, pipes = {}, {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = {}
    for side, words in sides.items():
        processes[side] = subprocess.Popen([*command, side, *words], **pipes)
        told[side] = {"passes": []}
    for _ in range(PASSES):
        for side, process in processes.items():
            print(out / f"{side}.npy", file=process.stdin, flush=True)
            told[side]["passes"].append(tuple(map(float, process.stdout.readline().split())))
    for side, process in processes.items():
        (mib,) = process.communicate()[0].split()
        told[side] |= {"mib": float(mib), "found": np.load(out / f"{side}.npy")}
    return told


def installed(names: tuple[str, ...]) -> float:
    """MB of packages on disk."""
    files = [file.locate() for name in names for file in distribution(name).files or ()]
    return sum(Path(file).stat().st_size for file in files if Path(file).is_file()) / 1e6


def write(clap, folder: Path, batch: int) -> None:
    """The graphs, of which the audio's is compiled."""
    import jax

    from clapjax.interop.graphs import write_graphs
    from clapjax.interop.load import Pretrained

    variables = jax.device_get(clap.variables)
    write_graphs(folder, Pretrained(clap.config, variables, clap.tokenizer), batch)
    graph = folder / "audio.mlir"
    program = Path(sys.executable).parent / "iree-compile"
    words = [program if program.exists() else "iree-compile", graph, "-o", folder / "audio.vmfb"]
    subprocess.run([*words, *COMPILE], check=True)


def clips(clap, files: list[Path]) -> np.ndarray:
    """(N, S) float32 samples, one clip of each file."""
    from clapjax.inference.hear import make_cutter

    cut = make_cutter(clap.config, long="truncate")
    return np.stack([next(cut(number, file)).samples for number, file in enumerate(files)])


def compare(model: str, place: Path, batch: int) -> list[dict]:
    """A row of the table for each side."""
    graphs, tail = place / f"graphs{batch}", [str(place / "clips.npy"), str(batch)]
    told = measure({"embed_audio": [model, *tail], "graph": [str(graphs), *tail]}, place)
    apart = float(np.abs(told["graph"]["found"] - told["embed_audio"]["found"]).max())
    count, rows = len(told["graph"]["found"]), []
    for side, found in told.items():
        wall, cpu = zip(*found["passes"], strict=True)
        row = {"batch": batch, "side": side, "apart": apart, "mib": found["mib"]}
        row |= {"clips_per_second": count / min(wall)}
        row |= {"cpu_ms": 1000 * statistics.median(cpu) / count}
        rows.append(row | {"packages_mb": installed(PACKAGES[side])})
    for name in ("audio.mlir", "audio.vmfb", "text.mlir"):
        rows[-1][name] = (graphs / name).stat().st_size / 1e6  # MB
    return rows


def main() -> int:
    """Prints the table; status 1 where a coordinate differs by 1e-4 or more."""
    if sys.argv[1:2] == ["--child"]:
        *words, batch = sys.argv[2:]
        child(*words, int(batch))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a workdir, or what `export --model` takes")
    parser.add_argument("--files", required=True, type=Path, help="a folder of sounds")
    parser.add_argument("--count", type=int, default=10, help="so many of them")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 10], help="divide the count")
    args = parser.parse_args()
    files = sorted(file for file in args.files.rglob("*") if file.suffix in (".wav", ".ogg"))
    if len(files) < args.count or any(args.count % batch for batch in args.batches):
        parser.error(f"{len(files)} files in {args.files}; each batch must divide --count")
    import clapjax

    clap = clapjax.load(args.model)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        np.save(place / "clips.npy", clips(clap, files[: args.count]))
        for batch in args.batches:
            write(clap, place / f"graphs{batch}", batch)
        found = [compare(args.model, place, batch) for batch in args.batches]
    rows = [row for pair in found for row in pair]
    print("| batch | | clips/s | CPU ms a clip | peak MiB | packages MB | difference |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for row in rows:
        apart = f"{row['apart']:.1e}" if row["side"] == "graph" else ""
        print(
            f"| {row['batch']} | `{row['side']}` | {row['clips_per_second']:.0f} | "
            f"{row['cpu_ms']:.1f} | {row['mib']:.0f} | {row['packages_mb']:.0f} | {apart} |"
        )
    print(json.dumps(rows))
    return 0 if all(row["apart"] < 1e-4 for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
