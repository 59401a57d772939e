"""What an accelerator reaches with clapjax, in one table after the other.

    python -m benchmarks.accelerator            # at most eight minutes on a GPU or TPU
    python -m benchmarks.accelerator --quick    # all of it tiny, for a CPU
    bash benchmarks/accelerator.sh              # on a bare machine with an NVIDIA GPU

Sections, each printed while it runs: the device and what it reaches on a matrix product and a copy;
the full training step of configs/laion_clap.py at the largest batch that fits, on GPUs also as
`clapjax train --deterministic` compiles it, and at a large batch in parts; the same model in torch,
where that is installed; embedding rates; the forms of window attention and of the loss; the step's
most expensive kernels; captions a second, and the training step, of configs/captioner.py. The last
line is all of it as one JSON object. What the time does not suffice for is skipped, and said so; a
section that fails leaves one line, and the status is 1 then.
"""

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jax

from benchmarks.accelerator import (
    attention,
    captioning,
    device,
    embedding,
    kernels,
    loss,
    peer,
    training,
)
from benchmarks.accelerator.common import Clock, Setup, Skipped, make_setup

GIB = 2**30
TIME = 470  # seconds; ten more are left for Python's start and end


def _percent(x: float) -> str:
    return f"{100 * x:.1f} %"


def _gib(x: float) -> str:
    return f"{x / GIB:.2f}"


def _number(digits: int, scale: float = 1.0) -> Callable[[float], str]:
    return lambda x: f"{x / scale:,.{digits}f}"


def _short_name(name: str) -> str:
    return name if len(name) <= 56 else name[:40] + "..." + name[-13:]


@dataclass(frozen=True)
class Section:
    """A table: its rows, and {key of a row: (heading, how its value is written)}."""

    name: str
    title: str
    share: float  # of the time
    rows: Callable[[Setup, Clock, dict], Iterator[dict | Skipped]]
    columns: dict[str, tuple[str, Callable]]


SECTIONS = (
    Section(
        "device",
        "Device",
        0.05,
        device.rows,
        {"figure": ("figure", str), "shown": ("value", str)},
    ),
    Section(
        "training",
        "Training step",
        0.45,
        training.rows,
        {
            "rows": ("rows a device", _number(0)),
            "micro_batches": ("micro-batches", str),
            "batch_size": ("batch", _number(0)),
            "deterministic": ("deterministic", lambda x: "yes" if x else "no"),
            "fits": ("fits", lambda x: "yes" if x else "no"),
            "compile_seconds": ("compile s", _number(1)),
            "step_seconds": ("step ms", _number(1, 1e-3)),
            "pairs_per_second": ("pairs/s", _number(1)),
            "model_flops_per_second": ("TFLOP/s a device", _number(3, 1e12)),
            "utilization_datasheet": ("of data sheet", _percent),
            "utilization_measured": ("of measured products", _percent),
            "program_bytes": ("program GiB", _gib),
            "peak_bytes": ("peak GiB", _gib),
        },
    ),
    Section(
        "peer",
        "transformers' ClapModel in torch, one device, from log-mels that are there",
        0.0,
        peer.rows,
        {
            "work": ("work", str),
            "batch": ("batch", _number(0)),
            "dtype": ("type", str),
            "fits": ("fits", lambda x: "yes" if x else "no"),
            "seconds": ("ms", _number(1, 1e-3)),
            "per_second": ("a second", _number(1)),
        },
    ),
    Section(
        "embedding",
        "Embedding, one device",
        0.11,
        embedding.rows,
        {
            "input": ("input", str),
            "batch": ("batch", str),
            "dtype": ("type", str),
            "fits": ("fits", lambda x: "yes" if x else "no"),
            "compile_seconds": ("compile s", _number(1)),
            "seconds": ("ms", _number(1, 1e-3)),
            "per_second": ("a second", _number(1)),
        },
    ),
    Section(
        "attention",
        "Window attention, one block, by stage",
        0.06,
        attention.rows,
        {
            "stage": ("stage", str),
            "form": ("form", str),
            "batch": ("clips", _number(0)),
            "dtype": ("type", str),
            "fits": ("fits", lambda x: "yes" if x else "no"),
            "compile_seconds": ("compile s", _number(1)),
            "forward": ("forward ms", _number(2, 1e-3)),
            "both": ("and backward ms", _number(2, 1e-3)),
        },
    ),
    Section(
        "loss",
        "Loss, value and gradient, D = 512",
        0.09,
        loss.rows,
        {
            "loss": ("loss", str),
            "form": ("form", str),
            "batch": ("batch", _number(0)),
            "dtype": ("type", str),
            "fits": ("fits", lambda x: "yes" if x else "no"),
            "compile_seconds": ("compile s", _number(1)),
            "seconds": ("ms", _number(2, 1e-3)),
            "temporary_bytes": ("temporaries MiB", _number(1, 2**20)),
        },
    ),
    Section(
        "kernels",
        "Kernels of the training step",
        0.07,
        kernels.rows,
        {
            "kernel": ("kernel", _short_name),
            "of": ("first of", lambda x: x[-60:]),
            "share": ("share", _percent),
            "step_milliseconds": ("ms a step", _number(2)),
            "rows": ("rows a device", str),
        },
    ),
    Section(
        "captioning",
        "Captioner: captions on one device, the training step on all",
        0.13,
        captioning.rows,
        {
            "work": ("work", str),
            "batch": ("batch", _number(0)),
            "dtype": ("type", str),
            "fits": ("fits", lambda x: "yes" if x else "no"),
            "compile_seconds": ("compile s", _number(1)),
            "seconds": ("ms", _number(1, 1e-3)),
            "per_second": ("a second", _number(1)),
            "encoder_per_second": ("its encoder's limit", _number(1)),
            "utilization_datasheet": ("of data sheet", _percent),
            "utilization_measured": ("of measured products", _percent),
        },
    ),
)


def new_report(quick: bool, seconds: float) -> dict:
    """What goes into the JSON: every section is a key of it, None where it did not run."""
    report = {"benchmark": "accelerator", "quick": quick, "limit_seconds": seconds, "seconds": 0.0}
    report |= {section.name: None for section in SECTIONS}
    return report | {"skipped": [], "errors": {}, "running": None}


def run(setup: Setup, report: dict, names: list[str], start: float, save: Callable) -> None:
    """Runs sections, prints their tables and fills the report.

    Args:
      setup: the devices and sizes.
      report: as `new_report` makes it.
      names: of the sections to run.
      start: on `time.monotonic`, from where the limit counts.
      save: called after each section.
    """
    chosen = [section for section in SECTIONS if section.name in names]
    end = start + report["limit_seconds"]
    for index, section in enumerate(chosen):
        rest = sum(later.share for later in chosen[index:])
        left = end - time.monotonic()
        print(f"\n## {section.title}\n", flush=True)
        # What earlier sections left over is shared among the later ones.
        if left < report["limit_seconds"] * section.share / 3:
            print("skipped: out of time", flush=True)
            report["skipped"].append(section.name)
            continue
        report["running"] = section.name
        clock = Clock(time.monotonic() + left * section.share / rest)
        _run_section(section, setup, clock, report)
        report["running"] = None
        save()


def _run_section(section: Section, setup: Setup, clock: Clock, report: dict) -> None:
    rows = report[section.name] = []
    skipped = []
    try:
        for row in section.rows(setup, clock, report):
            if isinstance(row, Skipped):
                skipped.append(row)
                continue
            if not rows:
                headings = [heading for heading, _ in section.columns.values()]
                print(_line(headings), _line(["---"] * len(headings)), sep="\n")
            rows.append(row)
            print(_line(_cell(row[key], form) for key, (_, form) in section.columns.items()))
            sys.stdout.flush()
    except Exception as error:  # whatever it is, the other sections have their turn
        reason = next(iter(str(error).splitlines()), "")
        report["errors"][section.name] = f"{type(error).__name__}: {reason}"
        print(f"\nfailed: {report['errors'][section.name]}", flush=True)
    if skipped:
        print()
    for item in skipped:
        print(f"skipped: {item.what} ({item.why})", flush=True)
        report["skipped"].append(f"{section.name}: {item.what}")


def _line(cells) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value, form: Callable) -> str:
    return "-" if value is None else form(value)


def in_json(report: dict) -> str:
    """The report on one line; the device's figures by their names."""
    figures = report["device"]
    if figures is not None:
        figures = {row["figure"]: row["value"] for row in figures}
    return json.dumps(
        {key: x for key, x in report.items() if key not in ("running", "measured_peer")}
        | {"device": figures}
    )


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; status 1 where a section failed."""
    start = time.monotonic()
    known = [section.name for section in SECTIONS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, for a CPU")
    parser.add_argument("--sections", default=",".join(known), help="some of %(default)s")
    parser.add_argument("--seconds", type=float, default=TIME, help="limit (%(default)s)")
    parser.add_argument("--devices", type=int, help="use so many (all)")
    parser.add_argument("--out", type=Path, help="write the JSON there too, after each section")
    args = parser.parse_args(argv)
    if args.seconds <= 0 or (args.devices is not None and args.devices < 1):
        parser.error("--seconds and --devices must be positive")
    names = args.sections.split(",")
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no section {unknown[0]!r}; there are {', '.join(known)}")
    if args.out and not args.out.parent.is_dir():
        parser.error(f"--out {args.out}: there is no folder {args.out.parent}")
    # Before JAX takes its part of a GPU's memory.
    measured = peer.measure(args.quick) if "peer" in names else []
    try:
        devices = jax.devices()[: args.devices]
    except RuntimeError as error:
        parser.error(f"JAX finds no device: {str(error).splitlines()[0]}")
    setup = make_setup(args.quick, devices)
    report = new_report(args.quick, args.seconds) | {"measured_peer": measured}

    def save() -> None:
        report["seconds"] = time.monotonic() - start
        if args.out:
            args.out.write_text(in_json(report) + "\n")

    def stop() -> None:
        """A compiler cannot be interrupted: what there is is printed, and the process ended."""
        reason = f"still running after {args.seconds:g} s"
        report["errors"][report["running"] or "start"] = reason
        print(f"\nfailed: {reason}")
        save()
        print("\n" + in_json(report), flush=True)
        os._exit(1)

    guard = threading.Timer(args.seconds + start - time.monotonic(), stop)
    guard.daemon = True
    guard.start()
    run(setup, report, names, start, save)
    guard.cancel()
    save()
    print("\n" + in_json(report), flush=True)
    return 1 if report["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
