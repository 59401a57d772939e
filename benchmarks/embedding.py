"""Kills `clapjax embed` again and again, and compares what it leaves with an undisturbed run.

    python -m benchmarks.embedding --out DIR [--files 5000] [--kills 10] [--more 50000] [--seed 0]

Embeds so many short made files with a tiny model of random weights, first undisturbed; then SIGKILL
comes at random moments, and every time the same command is started again. Last it embeds --more
names of the same files (0: none), which shows whether memory grows with their number. Ends with
status 0 if all parts are those of the undisturbed run, byte for byte; if what was embedded twice is
of the part in flight at a kill alone; and if the peak of memory for more files is within 10 %.
The last line is JSON.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import soundfile

from tests.inference.tiny import RATE, make_workdir, noise

SECONDS = 0.25  # of a file
PARTS = 20  # that the files make
MORE_MEMORY = 1.1  # at most, for more files


def child(log: str, words: list[str]) -> int:
    """`clapjax embed`, which writes to a file what it has embedded, path by path."""
    from clapjax.cli import embed
    from clapjax.cli.main import main

    heard = embed.each_heard

    def each_heard(work, files: list[str]):
        with open(log, "a", buffering=1) as lines:
            for index, result in heard(work, files):
                print(files[index], file=lines)
                yield index, result

    embed.each_heard = each_heard
    return main(["embed", *words])


def start(log: Path, *words: str | Path) -> subprocess.Popen:
    """A process with `child`."""
    log.touch()
    command = [sys.executable, "-m", "benchmarks.embedding", "--child", log, *words]
    with log.with_suffix(".txt").open("a") as said:
        return subprocess.Popen(list(map(str, command)), stdout=said, stderr=said)


def finish(process: subprocess.Popen, log: Path) -> float:
    """MiB that it had at most; ends all where it has failed."""
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"the command failed; see {log.with_suffix('.txt')}")
    return used.ru_maxrss / 1024


def make_files(folder: Path, count: int) -> None:
    """Short sounds, of which no two are the same, in folders of a hundred."""
    for number in range(count):
        file = folder / f"{number // 100:04}" / f"{number:06}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, noise(int(SECONDS * RATE), number), RATE, "PCM_16")


def make_more(folder: Path, files: list[Path], count: int) -> None:
    """Another folder, of so many names of the same files."""
    for number in range(count):
        name = folder / f"{number // 1000:04}" / f"{number:06}.wav"
        name.parent.mkdir(parents=True, exist_ok=True)
        os.link(files[number % len(files)], name)


def content(folder: Path) -> dict[str, bytes]:
    """The parts in a folder."""
    return {file.name: file.read_bytes() for file in folder.glob("*.parquet")}


def kill_often(args: argparse.Namespace, files: list[str], size: int, words: list) -> int:
    """Kills it; how many files were embedded twice that were of no part in flight."""
    generator, log, out = random.Random(args.seed), args.out / "killed.log", args.out / "killed"
    moments = sorted(generator.randrange(1, len(files)) for _ in range(args.kills))
    wrong, seen = 0, 0
    for moment in [*moments, None]:
        finished = len(list(out.glob("*.parquet")))
        process = start(log, *words, "--out", out)
        if moment is None:
            finish(process, log)
        else:  # counted from what is done; before all files of the part before it are heard again
            while len(_lines(log)) - seen + finished * size < moment and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
        embedded = _lines(log)[seen:]
        seen += len(embedded)
        wrong += len(set(embedded) & set(files[: finished * size]))
        print(f"{finished} parts done, {len(embedded)} files embedded, then", end=" ")
        print("the end" if moment is None else f"killed (exit {process.returncode})", flush=True)
    return wrong


def _lines(log: Path) -> list[str]:
    """Those that are whole."""
    return log.read_text().rpartition("\n")[0].splitlines()


def main() -> int:
    """Runs it and prints a line for each start."""
    if sys.argv[1:2] == ["--child"]:
        return child(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path, help="an empty folder")
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--more", type=int, default=50_000, help="names of files, for the memory")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    size = max(1, args.files // PARTS)
    model = make_workdir(args.out / "model")
    make_files(args.out / "sounds", args.files)
    words = ["--model", model, "--part_size", size, args.out / "sounds"]

    log, began = args.out / "undisturbed.log", time.monotonic()
    memory = finish(start(log, *words, "--out", args.out / "undisturbed"), log)
    seconds, files = time.monotonic() - began, sorted(_lines(log))
    print(
        f"undisturbed: {len(files)} files in {seconds:.0f} s, at most {memory:.0f} MiB", flush=True
    )
    twice = kill_often(args, files, size, words)
    found = {
        "files": len(files),
        "kills": args.kills,
        "identical": content(args.out / "undisturbed") == content(args.out / "killed"),
        "embedded_twice_wrongly": twice,
        "mib": round(memory),
    }
    good = found["identical"] and not twice and len(files) == args.files
    if args.more:
        make_more(args.out / "more", [Path(file) for file in files], args.more)
        log = args.out / "more.log"
        many = [*words[:-1], args.out / "more", "--out", args.out / "of_more"]
        found[f"mib_of_{args.more}"] = round(finish(start(log, *many), log))
        good = good and found[f"mib_of_{args.more}"] <= MORE_MEMORY * found["mib"]
    print(json.dumps(found))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
