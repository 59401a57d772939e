"""clapjax against `transformers`' ClapModel in torch: embedding, training step and front end.

    python -m benchmarks.against_transformers --batches 8 16

HTSAT-tiny and RoBERTa-base at their published sizes, random weights, 10-s clips at 48 kHz, captions
of 77 tokens. Each row starts one process a side, compiles and warms up both, and then asks them in
turn, so that a busy moment hits both. Both sides keep freed memory and have large pages (what
`clapjax` sets at its start); torch trains with its fused AdamW. Both training steps have dropout
on; ours computes its log-mels and SpecAugment in the step, torch's is given the features. Wall and
CPU seconds are medians; memory is the process' peak. bfloat16 is autocast in torch, and products of
bfloat16 that return float32 in clapjax.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from clapjax.memory import TUNABLE

WORKLOADS = ("mel", "audio", "text", "train")
LENGTH, VOCABULARY = 77, 50_265
WARM_UP = 5.0  # seconds after compiling: a heap grows for a while


def inputs(batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(B, 480000) int16 noise, (B, 77) token ids and mask."""
    generator = np.random.default_rng(0)
    audio = generator.integers(-8000, 8000, (batch, 480_000)).astype(np.int16)
    ids = generator.integers(5, VOCABULARY, (batch, LENGTH)).astype(np.int32)
    return audio, ids, np.ones_like(ids)


def clapjax_work(workload: str, batch: int, dtype: str) -> Callable[[], None]:
    """One iteration of the workload with clapjax."""
    import dataclasses

    import jax

    from clapjax.audio.mel import log_mel
    from clapjax.experiment import Experiment, make_task
    from clapjax.losses.config import LossConfig
    from clapjax.models.clap import Clap, cast_kernels, compute_dtype, init_variables
    from clapjax.models.config import ClapConfig
    from clapjax.training.mesh import batch_sharding, make_mesh
    from clapjax.training.state import init_state
    from clapjax.training.step import make_train_step

    audio, ids, mask = inputs(batch)
    config = dataclasses.replace(ClapConfig(), compute_dtype=dtype)
    if workload == "mel":
        mel = jax.jit(lambda audio: log_mel(audio, config.audio, double=False))
        return lambda: jax.block_until_ready(mel(audio))
    if workload == "train":
        loss = LossConfig(temporal_weight=0.0)
        train = Experiment(model=config, batch_size=batch, loss=loss)
        mesh = make_mesh(train.mesh)
        state = [init_state(train, make_task(train), mesh)]
        step = make_train_step(train, make_task(train), mesh)
        names = ("input_ids", "mask", "negative_ids", "negative_mask")
        rows = dict(zip(names, (ids, mask, ids, mask), strict=True))
        rows |= {"audio": audio, "has_negative": np.zeros(batch, bool)}
        rows |= {"events": np.arange(batch, dtype=np.int32)}
        rows = jax.device_put(rows, batch_sharding(mesh))

        def run():
            state[0], metrics = step(state[0], rows)
            jax.block_until_ready(metrics)

        return run
    model = Clap(config, compute_dtype(config, "cpu"), platform="cpu")
    variables = jax.jit(lambda key: init_variables(config, key))(jax.random.key(0))
    variables["params"] = cast_kernels(variables["params"], model.dtype)  # as clapjax.load does
    if workload == "audio":
        features = np.asarray(log_mel(audio, config.audio, double=False))
        embed = jax.jit(lambda v, x: model.apply(v, x, method="audio"))
        return lambda: jax.block_until_ready(embed(variables, features))
    embed = jax.jit(lambda v, i, m: model.apply(v, i, m, method="text"))
    return lambda: jax.block_until_ready(embed(variables, ids, mask))


def torch_work(workload: str, batch: int, dtype: str) -> Callable[[], None]:
    """One iteration of the workload with transformers and torch."""
    import torch
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    audio, ids, mask = inputs(batch)
    extractor = ClapFeatureExtractor(truncation="rand_trunc")
    clips = [row.astype(np.float32) / 32767 for row in audio]

    def extract():
        return extractor(clips, sampling_rate=48_000, return_tensors="pt")

    if workload == "mel":
        return extract
    torch.manual_seed(0)
    model = ClapModel(ClapConfig())
    ids, mask = torch.from_numpy(ids).long(), torch.from_numpy(mask).long()
    features = extract()["input_features"]
    cast = torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16")
    if workload == "train":
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
        labels = torch.arange(batch)

        def run():
            optimizer.zero_grad(set_to_none=True)
            with cast:
                out = model(input_ids=ids, attention_mask=mask, input_features=features)
            logits = out.logits_per_audio.float()
            loss = torch.nn.functional.cross_entropy
            (0.5 * (loss(logits, labels) + loss(logits.T, labels))).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

        return run
    model.eval()

    def embed():
        with torch.inference_mode(), cast:
            if workload == "audio":
                model.get_audio_features(input_features=features)
            else:
                model.get_text_features(input_ids=ids, attention_mask=mask)

    return embed


def worker(side: str, workload: str, batch: int, dtype: str) -> None:
    """Runs one iteration for each line on stdin; answers wall, CPU seconds and peak memory."""
    from clapjax.memory import keep_memory

    keep_memory()
    work = {"clapjax": clapjax_work, "torch": torch_work}[side](workload, batch, dtype)
    work()
    end = time.perf_counter() + WARM_UP
    while time.perf_counter() < end:
        work()
    print("ready", flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        row = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        row["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB to GiB
        print(json.dumps(row), flush=True)


def start(side: str, workload: str, batch: int, dtype: str) -> subprocess.Popen:
    """A worker that has compiled and warmed up."""
    command = [sys.executable, "-m", "benchmarks.against_transformers", "--worker", side]
    command += ["--workloads", workload, "--batches", str(batch), "--dtypes", dtype]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = {"GLIBC_TUNABLES": f"{TUNABLE}=1", "TOKENIZERS_PARALLELISM": "0"}
    process = subprocess.Popen(command, **pipes, env={**os.environ, **environment})
    line = process.stdout.readline()
    if line.strip() != "ready":
        process.kill()
        raise RuntimeError(f"{' '.join(command)}: failed to start ({line.strip()!r})")
    return process


def compare(workload: str, batch: int, dtype: str, repeats: int) -> str:
    """One row of the table."""
    sides = {side: start(side, workload, batch, dtype) for side in ("clapjax", "torch")}
    rows: dict[str, list[dict]] = {side: [] for side in sides}
    for _ in range(repeats):
        for side, process in sides.items():
            process.stdin.write("\n")
            process.stdin.flush()
            rows[side].append(json.loads(process.stdout.readline()))
    for process in sides.values():
        process.communicate()
    cells = [workload, str(batch), dtype]
    for quantity in ("wall", "cpu"):
        ours, theirs = (statistics.median(r[quantity] for r in rows[s]) for s in sides)
        cells += [f"{ours:.3f}", f"{theirs:.3f}", f"{theirs / ours:.2f}"]
    cells += [f"{max(r['peak'] for r in rows[side]):.1f}" for side in sides]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--batches", nargs="+", type=int, default=[8, 16])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--worker", choices=("clapjax", "torch"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args.worker, args.workloads[0], args.batches[0], args.dtypes[0])
        return
    sides = "clapjax | torch"
    measured = f"wall s: {sides} | ratio | CPU s: {sides} | ratio | peak GiB: {sides}"
    print(f"| work | batch | type | {measured} |")
    print("|---" * 11 + "|", flush=True)
    for workload in args.workloads:
        for dtype in ["float32"] if workload == "mel" else args.dtypes:
            for batch in args.batches:
                print(compare(workload, batch, dtype, args.repeats), flush=True)


if __name__ == "__main__":
    main()
