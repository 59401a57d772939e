"""What installing takes, and whether it works, in fresh environments on several Pythons.

    python -m benchmarks.install [--pythons python3.11 python3.13] [--extras "" index train]

Builds the wheel of this checkout, then for each Python and each set of extras: downloads, installs
without a network into a new environment, and there, in a folder elsewhere, embeds ten sounds with a
small exported model and searches in them. Times `import clapjax` and the slowest `--help` of all
verbs, each the best of three. Prints a Markdown table. For Pythons that are not here, --wheels 3.14
says whether all that is needed has wheels. Needs a package registry, and requirements-test.txt.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

REPO = Path(__file__).resolve().parents[1]
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")
WORDS = ["rain", "a dog barks", "thunder", "a man speaks", "a siren"]


def make_model(folder: Path) -> None:
    """An export of random weights, and ten sounds beside it."""
    import jax

    from clapjax.data.tokenizer import load_tokenizer, train_tokenizer
    from clapjax.interop.export import write_model
    from clapjax.interop.load import Pretrained
    from clapjax.models.clap import init_variables
    from clapjax.models.presets import small_clap
    from clapjax.tasks.texts import adapt_to_tokenizer

    train_tokenizer(WORDS * 20, folder / "tokenizer", 280)
    tokenizer = load_tokenizer(folder / "tokenizer")
    config = adapt_to_tokenizer(small_clap(), tokenizer)
    variables = jax.device_get(init_variables(config, jax.random.key(0)))
    write_model(folder / "model", Pretrained(config, variables, tokenizer), "clapjax")
    (folder / "sounds").mkdir()
    rate, generator = config.audio.sample_rate, np.random.default_rng(0)
    for number in range(10):
        samples = generator.normal(0, 0.1, 2 * rate) * np.sin(
            np.arange(2 * rate) * (number + 1) / 9
        )
        soundfile.write(folder / "sounds" / f"{number}.wav", samples, rate)


def best(command: list[str], folder: Path, times: int = 3) -> float:
    """Seconds of the quickest of some runs."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def size(folder: Path) -> float:
    """MB of the files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def verbs_of(python: Path, folder: Path) -> list[str]:
    """The verbs of the `clapjax` that is installed there."""
    code = "from clapjax.cli.main import VERBS; print(*VERBS)"
    done = subprocess.run(
        [python, "-c", code], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.split()


def try_out(python: str, extra: str, wheel: Path, place: Path) -> dict:
    """One environment, from nothing to a search; what it took."""
    place.mkdir()
    wanted = f"{wheel}[{extra}]" if extra else str(wheel)
    start = time.perf_counter()
    subprocess.run([python, *PIP, "download", "--dest", place / "wheels", wanted], check=True)
    found = {"download": time.perf_counter() - start, "MB": size(place / "wheels")}
    start = time.perf_counter()
    subprocess.run([python, "-m", "venv", place / "venv"], check=True)
    own = place / "venv" / "bin" / "python"
    before = size(place / "venv")
    local = ("--no-index", "--find-links", place / "wheels")
    subprocess.run([own, *PIP, "install", *local, wanted], check=True)
    found |= {"install": time.perf_counter() - start, "disk": size(place / "venv") - before}
    command, data = str(place / "venv" / "bin" / "clapjax"), wheel.parent
    start = time.perf_counter()
    model, vectors = ("--model", data / "model"), place / "vectors.parquet"
    embed = [command, "embed", *model, data / "sounds", "--out", vectors]
    subprocess.run(embed, cwd=place, check=True, stdout=subprocess.DEVNULL)
    search = [command, "search", *model, "--index", vectors, "rain", "--top", "10"]
    done = subprocess.run(search, cwd=place, check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    if len(lines) != 10 or not all(line.endswith(".wav") for line in lines):
        raise SystemExit(f"{python} [{extra}]: search found {lines}")
    found["first"] = time.perf_counter() - start
    found["import"] = best([str(own), "-c", "import clapjax"], place)
    found["bare"] = best([str(own), "-c", ""], place)
    help_of = {}
    for verb in verbs_of(own, place):
        try:
            help_of[verb] = best([command, verb, "--help"], place)
        except subprocess.CalledProcessError:  # it needs the extra `train`
            help_of.setdefault("", 0.0)
    slowest = max(help_of, key=help_of.get)
    return found | {"help": help_of[slowest], "slowest": slowest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pythons", nargs="+", default=["python3.11", "python3.13"])
    parser.add_argument("--extras", nargs="+", default=["", "index", "train"])
    parser.add_argument("--wheels", nargs="*", default=["3.14"], help="Pythons that are not here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make_model(place)
        build = ["wheel", "--no-deps", "--wheel-dir", place, REPO]
        subprocess.run([sys.executable, *PIP, *build], check=True)
        (wheel,) = place.glob("*.whl")
        print("| Python | extra | MB to download | MB on disk | s to install | s to embed, search "
              "| s to import (Python alone) | s of the slowest --help |")  # fmt: skip
        print("| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |")
        for python in args.pythons:
            for extra in args.extras:
                own = place / f"{Path(python).name}-{extra}"
                x = try_out(python, extra, wheel, own)
                version = subprocess.run(
                    [python, "-V"], capture_output=True, text=True
                ).stdout.split()
                print(
                    f"| {version[1]} | {extra or 'none'} | {x['MB']:.0f} | {x['disk']:.0f} | "
                    f"{x['install']:.0f} | {x['first']:.1f} | {x['import']:.3f} ({x['bare']:.3f}) "
                    f"| {x['help']:.2f} ({x['slowest']}) |",
                    flush=True,
                )
                shutil.rmtree(own)
        for version in args.wheels:
            for extra in [extra for extra in args.extras if extra != "train"]:
                wanted = f"{wheel}[{extra}]" if extra else str(wheel)
                only = ("--only-binary=:all:", "--python-version", version)
                own = place / f"wheels-{version}-{extra}"
                subprocess.run([sys.executable, *PIP, "download", *only, "--dest", own, wanted],
                               check=True)  # fmt: skip
                print(
                    f"| {version}, wheels alone | {extra or 'none'} | {size(own):.0f} | | | | | |"
                )


if __name__ == "__main__":
    main()
