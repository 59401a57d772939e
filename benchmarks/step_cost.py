"""What a training step costs a row, counted: matrix FLOPs, memory traffic, tokens of captions.

    python -m benchmarks.step_cost --config configs/t_clap.py \\
        --captions ../shared/data/captions/audiocaps_train.csv --negatives 0.25 --json

FLOPs are those of the traced step's matrix products and convolutions, forward and backward, both
towers, front end and loss, on one device of --topology: a device's captions, drawn from --captions,
are packed as the step packs them, and the chunks that they fill are counted. Without --captions all
have as many tokens as `clapjax plan` assumes. With --topology the step is compiled, and the bytes
are counted that each chip's memory moves (minutes; needs libtpu), unless --count says not to. Any
field can be set with --config.FIELD=VALUE.

Tokens are those of the config's tokenizer where it can be loaded, else of a byte-level BPE that is
trained on the captions themselves, with as many entries.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from clapjax.captions.tables import read_captions
from clapjax.cli.config import add_config_argument, load_config
from clapjax.data.tokenizer import load_tokenizer, tokenize, train_tokenizer
from clapjax.experiment import Experiment, make_task
from clapjax.models.packing import pack
from clapjax.models.packing import turns as turns_of
from clapjax.planning.chips import datasheet, hardware
from clapjax.planning.compiled import compiled
from clapjax.planning.counted import absent_mesh
from clapjax.planning.flops import matrix_flops
from clapjax.planning.shapes import TOKENS, text_turns, traced_step
from clapjax.tasks.contrastive import caption_sizes, needs_negatives
from clapjax.training.mesh import micro_batches
from clapjax.training.step import setting

STEPS = 20  # whose captions are drawn, at most


def step_cost(
    config: Experiment,
    topology: str = "v5e:1x1",
    captions: list[str] | None = None,
    negatives: float = 1.0,
    traffic: bool = False,
) -> dict:
    """Counts a config's step.

    Args:
      config: the run, of the contrastive task.
      topology: what it runs on, none of which is needed here (`clapjax.planning.chips.hardware`).
      captions: of the records; None: all have TOKENS.
      negatives: share of the rows that have a caption in a wrong order, of as many tokens.
      traffic: compile it, and count what its memory moves.

    Returns:
      The object that is printed, with numbers per row of the batch.

    Raises:
      ValueError: no such hardware, another task, or a share above 1.
    """
    if config.task != "contrastive":
        raise ValueError(
            f"--config: task={config.task} packs no captions; name a contrastive config"
        )
    if not 0 <= negatives <= 1:
        raise ValueError(f"--negatives must be in 0 .. 1, not {negatives}")
    devices = hardware(topology)
    mesh, task = absent_mesh(config.mesh, devices), make_task(config)
    rows = config.batch_size // devices.devices
    negatives = negatives if needs_negatives(config.loss) else 0.0
    count = rows * (2 if needs_negatives(config.loss) else 1)
    sizes = caption_sizes(config.model, count, setting(config, mesh))
    if captions is None:
        turns, tokens, name = text_turns(config, task, mesh), float(TOKENS), None
    else:
        tokenizer, name = _tokenizer(config, captions)
        lengths = tokenize(tokenizer, captions, config.model.text.max_length)[1].sum(axis=1)
        turns, tokens = _chunks(config, lengths, rows, negatives, sizes), float(lengths.mean())
    report = {
        "topology": topology,
        "rows": rows,
        "micro_batches": micro_batches(config, devices.devices, task.group),
        "captions_per_row": 1 + negatives,
        "tokenizer": name,
        "packed_length": sizes.length,
        "packed_rows": sizes.rows,
        "chunks": turns,
        "tokens_per_caption": tokens,
        "padded_tokens_per_caption": turns * (sizes.rows * sizes.length) / (rows * (1 + negatives)),
        "matrix_gflop_per_row": matrix_flops(
            traced_step(config, task, mesh).jaxpr, mesh.size, turns
        )
        / rows
        / 1e9,
        "traffic_mb_per_row": None,
    }
    if traffic:
        found = compiled(config, make_task, devices, turns=turns)
        seconds = found["roofline"]["memory_seconds"]
        report["traffic_mb_per_row"] = seconds * datasheet(devices.kind).memory / rows / 1e6
        report["bytes"] = found["bytes"]
    return report


def _tokenizer(config: Experiment, captions: list[str]):
    """(A tokenizer, what it is called)."""
    name = config.data.tokenizer
    if name not in ("records", "model"):
        try:
            return load_tokenizer(name), name
        except ValueError as error:
            print(f"{error}; one is trained on the captions", file=sys.stderr)
    size = config.data.vocab_size if name == "records" else config.model.text.vocab_size
    with tempfile.TemporaryDirectory() as folder:
        train_tokenizer(captions, folder, size)
        return load_tokenizer(Path(folder)), f"BPE of {size} trained on the captions"


def _chunks(config: Experiment, lengths: np.ndarray, rows: int, negatives: float, sizes) -> float:
    """Chunks that a device's captions fill on average, over a few steps drawn from all."""
    generator = np.random.default_rng(0)
    longest, both = config.model.text.max_length, bool(needs_negatives(config.loss))
    steps = min(STEPS, max(1, len(lengths) // rows))
    order = generator.permutation(np.resize(generator.permutation(len(lengths)), steps * rows))
    filled = jax.jit(lambda mask, there: turns_of(pack(mask, mask, there, sizes), sizes))
    found = []
    for drawn in lengths[order].reshape(steps, rows):
        wrong = generator.permutation(rows) < round(negatives * rows)
        there = np.concatenate([np.ones(rows, bool), wrong] if both else [np.ones(rows, bool)])
        of_all = np.concatenate([drawn, drawn] if both else [drawn])
        mask = (np.arange(longest) < of_all[:, None]).astype(np.int32)
        found.append(int(filled(mask, there)))
    return float(np.mean(found))


def main(argv: list[str] | None = None) -> int:
    """Counts, prints, and returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.step_cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_argument(parser)
    parser.add_argument("--captions", metavar="FILE", help="a table with captions: CSV, JSON lines")
    parser.add_argument(
        "--negatives", type=float, default=1.0, help="share of the rows with one in a wrong order"
    )
    parser.add_argument("--topology", metavar="T", help="as for `clapjax plan`; with traffic")
    parser.add_argument("--count", action="store_true", help="with --topology: count no traffic")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    args, overrides = parser.parse_known_args(argv)
    jax.config.update("jax_platforms", "cpu")  # what is counted for need not be here
    captions = None
    try:
        if args.captions:
            captions = [text for row in read_captions(args.captions) for text in row.captions]
        report = step_cost(
            load_config(args.config, overrides),
            args.topology or "v5e:1x1",
            captions,
            args.negatives,
            bool(args.topology) and not args.count,
        )
    except (ValueError, ModuleNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    report = {"config": args.config} | report
    for key, value in report.items():
        print(f"{key:<28}{value:.2f}" if isinstance(value, float) else f"{key:<28}{value}")
    if args.json:
        print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
