"""The same model in torch: `transformers.ClapModel`'s training step and embeddings on a GPU.

In a process of its own, which has left the card before JAX takes its part of the memory. As its
users run it: eager, bfloat16 autocast, fused AdamW, float32 parameters, random weights. The
log-mels, which its feature extractor makes on the CPU, are there already.
"""

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from benchmarks.accelerator.common import Clock, Setup, Skipped

KEYS = ("work", "batch", "dtype", "fits", "seconds", "per_second")
SECONDS = 75  # of its process
BATCHES = (128, 256, 512)
EMBED_BATCH = 512
TOKENS = 77  # of a caption, as in our step


def rows(setup: Setup, clock: Clock, results: dict) -> Iterator[dict | Skipped]:
    """What `measure` found before there were JAX's devices."""
    yield from results.get("measured_peer", ())


def measure(quick: bool) -> list[dict | Skipped]:
    """Rows of the peer, or why there are none."""
    if missing := [x for x in ("torch", "transformers") if importlib.util.find_spec(x) is None]:
        return [Skipped("all of it", f"{missing[0]} is not installed")]
    command = [sys.executable, "-m", "benchmarks.accelerator.peer", *["--quick"] * quick]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        printed, why = error.stdout or b"", f"ended after {SECONDS} s"
        printed = printed if isinstance(printed, str) else printed.decode()
    else:
        printed = done.stdout
        why = (
            (done.stderr.strip().splitlines() or ["no reason given"])[-1] if done.returncode else ""
        )
    found = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return [*found, Skipped("the rest", why)] if why else found


def main(quick: bool) -> None:
    """Prints a row in JSON for each work that was timed."""
    import torch
    from transformers import ClapConfig, ClapModel

    if not (quick or torch.cuda.is_available()):
        sys.exit("torch sees no GPU")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = ClapConfig()
    if quick:
        text = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 64}
        audio = {"patch_embeds_hidden_size": 8, "hidden_size": 64, "num_attention_heads": [1] * 4}
        config = ClapConfig(
            text_config=text | {"num_attention_heads": 2},
            audio_config=audio | {"depths": [2, 2, 2, 2]},
        )
        torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = True
    model = ClapModel(config).to(device)

    def inputs(batch: int) -> dict:
        ids = torch.randint(5, config.text_config.vocab_size, (batch, TOKENS), device=device)
        mels = torch.randn(batch, 1, 1001, config.audio_config.num_mel_bins, device=device)
        longer = torch.zeros(batch, 1, dtype=torch.bool, device=device)
        texts = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return {"audio": {"input_features": mels, "is_longer": longer}, "text": texts}

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)

    def step(batch: dict):
        with torch.autocast(device, torch.bfloat16):
            loss = model(**batch["audio"], **batch["text"], return_loss=True).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    @torch.no_grad()
    def embed(function: Callable, kind: str, batch: dict):
        with torch.autocast(device, torch.bfloat16):
            function(**batch[kind])

    model.eval()
    for kind, function in (
        ("captions", model.get_text_features),
        ("clips", model.get_audio_features),
    ):
        kept = "text" if kind == "captions" else "audio"
        batch = 2 if quick else EMBED_BATCH
        _show(kind, batch, lambda x, f=function, k=kept: embed(f, k, x), inputs, device)
    model.train()
    for batch in (2,) if quick else BATCHES:
        if not _show("training step", batch, step, inputs, device):
            break


def _show(work: str, batch: int, function: Callable, inputs: Callable, device: str) -> bool:
    """Prints a row; whether it fits."""
    import torch

    def wait():
        if device == "cuda":
            torch.cuda.synchronize()

    row = dict.fromkeys(KEYS) | {"work": work, "batch": batch, "dtype": "bfloat16", "fits": True}
    seconds = []
    try:
        given = inputs(batch)
        for _ in range(7):
            wait()
            start = time.perf_counter()
            function(given)
            wait()
            seconds.append(time.perf_counter() - start)
    except torch.OutOfMemoryError:
        row["fits"] = False
    else:
        row["seconds"] = sorted(seconds[2:])[2]
        row["per_second"] = batch / row["seconds"]
    print(json.dumps(row), flush=True)
    return row["fits"]


if __name__ == "__main__":
    main("--quick" in sys.argv)
