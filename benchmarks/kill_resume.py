"""Kills a run of two processes again and again, and compares its end with an undisturbed one.

    python -m benchmarks.kill_resume --out DIR [--task tagging] [--kills 10] [--terms 10] [--seed 0]
                                     [--bucket gs|s3]

Trains the small demo with order pairs, a tagger or a captioner on two processes with two CPU
devices each. SIGKILL goes to both, as when a machine is lost; SIGTERM to one of them, as when it is
preempted: then both must save the same step and exit with 75. They come at random moments, start-up
and compilation included, and before, in and just after evaluations, and every time the same command
is started again. Now and then, and at last, the newest checkpoint is truncated, which must cost one
interval. With --bucket records and the killed run's workdir are in one of a server that is started
for it (benchmarks/bucket_server.py). Ends with status 0 if all exits are right and all parameters,
the steps that were evaluated and their scores are those of the undisturbed run, bit for bit. Takes
a quarter of an hour on two cores.
"""

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.bucket_server import BUCKET, bucket_server
from clapjax.data.paths import as_path, copy_folder, is_local, walk_files
from clapjax.training.checkpoint import latest_step, load_variables, scores, steps_in
from clapjax.training.log import is_scores
from clapjax.training.log_files import read_log
from clapjax.training.workdir import NONCE_FILE

PROCESSES, DEVICES = 2, 2
DEMO = "configs/demo.py:runlocal"
CONFIGS = {
    "contrastive": DEMO,
    "tagging": "configs/tagging.py:runlocal",
    "captioning": "configs/captioner.py:runlocal",
}
EVERY, LOGGED = 40, 20  # steps between evaluations, and between rows of the log
PLACES = ("before an evaluation", "in an evaluation", "after an evaluation")
QUICK = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"  # to compile
GRACE = 30  # seconds for the others to end by themselves where one has ended
SMALL = (
    "--config.evaluation.tasks=('zero_shot',)",
    f"--config.log_every={LOGGED}",
    f"--config.checkpoint_every={LOGGED}",
    f"--config.eval_every={EVERY}",
    "--config.model.audio.clip_samples=16000",
    "--config.model.audio.hop_length=320",
    "--config.model.htsat.spec_size=64",
    "--config.model.htsat.depths=(2,)",
    "--config.model.htsat.heads=(2,)",
)
# Of the contrastive task: each device has a group of four rows.
PAIRS = ("--config.loss.order_pairs=2", f"--config.batch_size={4 * PROCESSES * DEVICES}")


class Job:
    """`clapjax train` on several processes of this machine."""

    def __init__(
        self,
        data_dir: str | Path,
        workdir: str | Path,
        overrides: tuple[str, ...],
        config: str = DEMO,
        devices: int = DEVICES,
        logs: Path | None = None,
    ):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(devices),
            # Only process 0 would find its program in a cache, and Gloo waits 30 s for the other.
            "JAX_ENABLE_COMPILATION_CACHE": "false",
            "XLA_FLAGS": os.environ.get("XLA_FLAGS", QUICK),
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
            "JAX_NUM_PROCESSES": str(PROCESSES),
        }
        command = [sys.executable, "-m", "clapjax", "train", "--config", config]
        command += ["--data_dir", str(data_dir), "--workdir", str(workdir), *overrides]
        self._workdir, logs = as_path(workdir), logs or Path(workdir)
        logs.mkdir(parents=True, exist_ok=True)
        self._before = _nonce(self._workdir)
        self.logs = [logs / f"process{index}.txt" for index in range(PROCESSES)]
        self.processes = []
        for index, log in enumerate(self.logs):
            with log.open("a") as file:
                process = subprocess.Popen(
                    command,
                    env=environment | {"JAX_PROCESS_ID": str(index)},
                    stdout=file,
                    stderr=file,
                )
            self.processes.append(process)

    def running(self) -> bool:
        """Whether all processes are alive."""
        return all(process.poll() is None for process in self.processes)

    def wait_for(self, place: str, seconds: float) -> bool:
        """Whether the process that logs came to one of PLACES, within so many seconds."""
        until, known = time.monotonic() + seconds, None
        while self.running() and time.monotonic() < until:
            if _nonce(self._workdir) not in ("", self._before):  # it is this start's own
                rows = read_log(self._workdir)
                known = len(rows) if known is None else known
                if len(rows) > known and _place(rows[-1]) == place:
                    return True
            time.sleep(0.01)
        return False

    def send(self, number: signal.Signals, index: int | None = None) -> None:
        """A signal to one process, or to all."""
        for process in self.processes if index is None else [self.processes[index]]:
            process.send_signal(number)

    def wait(self, grace: float = GRACE) -> list[int]:
        """Exit codes. Where one has ended the others are stopped after `grace`, as launchers do."""
        while self.running():
            time.sleep(0.05)
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                self.send(number)
            until = time.monotonic() + grace
            while time.monotonic() < until and any(p.poll() is None for p in self.processes):
                time.sleep(0.05)
        return [process.wait() for process in self.processes]


def _nonce(workdir: Path) -> str:
    """Of the start that has a workdir; "" where there was none."""
    file = workdir / NONCE_FILE
    return file.read_text() if file.is_file() else ""


def _place(row: dict) -> str | None:
    """Where a run is that has just logged a row."""
    before, now, after = PLACES
    if is_scores(row):
        return after
    return {0: now, EVERY - LOGGED: before}.get(row["step"] % EVERY)


def newest(workdir: str | Path) -> int:
    """Step of the newest finished checkpoint; 0 where there is none."""
    return latest_step(workdir) or 0


def evaluations(workdir: str | Path) -> list[dict]:
    """What a workdir's log has of evaluations, each step once; that of checkpoints must agree."""
    logged = [row for row in read_log(workdir) if is_scores(row)]
    by_step = {row["step"]: row for row in logged}
    for step, found in scores(workdir).items():
        named = {f"eval/{name}": value for name, value in found.items()}
        assert by_step[step] == {"step": step, **named}, f"{workdir}: step {step}"
    assert len(by_step) == len(logged), f"{workdir}: a step was logged twice"
    return logged


def truncate(folder: Path) -> Path:
    """Cuts the largest file below `folder` to half of it, as a full disk would."""
    data, largest = max(((file.read_bytes(), file) for _, file in walk_files(folder)), key=_size)
    largest.write_bytes(data[: len(data) // 2])
    return largest


def _size(pair: tuple[bytes, Path]) -> int:
    return len(pair[0])


def same(left: str | Path, right: str | Path) -> bool:
    """Whether two workdirs end at the same step with the same parameters and statistics."""
    import jax

    (ours, step), (theirs, other) = load_variables(left), load_variables(right)
    equal = jax.tree.map(np.array_equal, ours, theirs)
    return step == other and all(jax.tree.leaves(equal))


def _truncate_newest(workdir: Path) -> int:
    at = newest(workdir)
    print(f"truncated {truncate(workdir / 'checkpoints' / str(at))}", flush=True)
    return at


def exits_are_right(name: str, index: int | None, codes: list[int]) -> bool:
    """Whether a run may end with these codes after a signal; 0: it had come to its end."""
    if codes == [0] * PROCESSES:
        return True
    if name == "SIGKILL":
        return codes == [-signal.SIGKILL] * PROCESSES
    early = [os.EX_TEMPFAIL] * PROCESSES
    early[index] = -signal.SIGTERM  # before Python had begun
    return codes in (early, [os.EX_TEMPFAIL] * PROCESSES)


def main() -> int:
    """Runs it and prints a line for each attempt."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path, help="an empty folder")
    parser.add_argument("--task", choices=CONFIGS, default="contrastive")
    parser.add_argument("--kills", type=int, default=10, help="times SIGKILL")
    parser.add_argument("--terms", type=int, default=10, help="times SIGTERM")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--bucket", choices=("gs", "s3"), help="where records and workdir are")
    args = parser.parse_args()
    if args.bucket is None:
        return compare(args, args.out / "killed")
    with bucket_server(args.bucket) as environment:
        os.environ |= environment
        return compare(args, as_path(f"{args.bucket}://{BUCKET}/killed"))


def compare(args: argparse.Namespace, killed: Path) -> int:
    """The whole of it, for one place; the exit status."""
    records = args.out / "records"
    build = ["records", "build", "--config", "configs/demo.py:runlocal", "--data_dir", str(records)]
    subprocess.run([sys.executable, "-m", "clapjax", *build], check=True)
    overrides, config = (*SMALL, f"--config.steps={args.steps}"), CONFIGS[args.task]
    overrides += PAIRS if args.task == "contrastive" else ()

    whole, logs = args.out / "undisturbed", args.out / "killed"
    if not is_local(killed):
        overrides += ("--config.data.order=blocks",)
        copy_folder(records, killed.parent / "records")
        records = killed.parent / "records"
    began = time.monotonic()
    codes = Job(records, whole, overrides, config).wait()
    cold = time.monotonic() - began
    if codes != [0] * PROCESSES:
        print(f"the undisturbed run ended with {codes}; see {whole}")
        return 1
    began = time.monotonic()
    Job(records, whole, overrides, config).wait()  # all done: what a start costs
    start_up = time.monotonic() - began
    print(f"undisturbed: {cold:.0f} s, of which a start takes {start_up:.0f} s", flush=True)

    signals = ["SIGKILL"] * args.kills + ["SIGTERM"] * args.terms
    generator, failures = random.Random(args.seed), 0
    generator.shuffle(signals)
    for number, name in enumerate(signals):
        job = Job(records, killed, overrides, config, logs=logs)
        moment = generator.uniform(0.2, 1.2 * start_up + 2 * (cold - start_up) / len(signals))
        place = generator.choice((*PLACES, *["at random"] * len(PLACES)))
        if place == "at random":
            time.sleep(moment)
            place = f"after {moment:.1f} s"
        elif not job.wait_for(place, 3 * cold):
            place = f"not {place}"
        alive, before = job.running(), newest(killed)
        index = generator.randrange(PROCESSES) if name == "SIGTERM" else None
        job.send(signal.Signals[name], index)
        codes, after = job.wait(), newest(killed)
        wrong = not exits_are_right(name, index, codes) and alive
        failures += wrong
        print(
            f"{number + 1}: {name} {place}: step {before} to {after}, exit {codes}"
            f"{' WRONG' if wrong else ''}",
            flush=True,
        )
        if number % 7 == 6 and len(steps_in(killed)) > 1:
            _truncate_newest(killed)
    at = _truncate_newest(killed)
    codes = Job(records, killed, overrides, config, logs=logs).wait()
    kept = (killed / "damaged_checkpoints" / str(at)).is_dir()
    print(f"last start: exit {codes}, damaged checkpoint set aside: {kept}")
    equal = same(whole, killed)
    judged = evaluations(whole)
    alike = judged == evaluations(killed)
    print(f"evaluated steps {[row['step'] for row in judged]} and their scores identical: {alike}")
    print(f"parameters bit-identical: {equal}; wrong exits: {failures}")
    good = equal and alike and kept and not failures
    return 0 if good and codes == [0] * PROCESSES else 1


if __name__ == "__main__":
    sys.exit(main())
