"""`clapjax plan`."""

import argparse
import json
import sys

from clapjax.cli.config import add_config_argument, load_config

EXAMPLE = (
    "clapjax plan --config configs/laion_clap.py --topology v5e:16x16 --config.batch_size=65536"
)
GIB = 2**30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--config F [--topology T [--sweep]] [--json]."""
    add_config_argument(parser)
    parser.add_argument(
        "--topology",
        help="TPU slice to compile for, as v5e:16x16, v6e:4x4, v5p:2x2x2; needs libtpu, but no "
        "TPU. Without it the step runs on the devices at hand, and is measured",
    )
    parser.add_argument(
        "--sweep", action="store_true", help="look for the largest batch that fits, by doubling"
    )
    parser.add_argument("--steps", type=int, default=10, help="steps to measure")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints the plan; status 1 where it does not fit."""
    from clapjax.experiment import make_task

    config = load_config(args.config, overrides)
    task = make_task(config)
    if args.steps < 1:
        raise ValueError(f"--steps must be positive, not {args.steps}")
    if args.topology is None:
        return _measure(args, config, task)
    import jax

    jax.config.update("jax_platforms", "cpu")  # libtpu compiles; it need not find a TPU
    from clapjax.planning.plan import largest_batch, plan

    if args.sweep:
        report = largest_batch(config, task, args.topology, _print_row)
        if report is None:
            print("no batch fits, not even one row for each device")
        else:
            print(f"largest batch that fits, of those doubled: {report['batch_size']:,}")
    else:
        print(f"compiling for {args.topology} ...", file=sys.stderr, flush=True)
        report = plan(config, task, args.topology)
        print(text_report(report))
    if args.json:
        print(json.dumps(report or {"fits": False}))
    return 0 if report and report["fits"] else 1


def _measure(args, config, task) -> int:
    from clapjax.planning.measure import measure

    if args.sweep:
        raise ValueError("--sweep compiles for a --topology; name one")
    report = measure(config, task, args.steps)
    print(measured_report(report))
    if args.json:
        print(json.dumps(report))
    return 0


def _print_row(report: dict) -> None:
    fits = "fits" if report["fits"] else "does not fit"
    print(
        f"batch {report['batch_size']:>9,}: {_gib(report['hbm_bytes_per_device'])} of "
        f"{_gib(report['hbm_limit_bytes'])} GiB, {fits}, "
        f"compiled in {report['compile_seconds']:.0f} s",
        flush=True,
    )


def text_report(report: dict) -> str:
    """The plan for people."""
    memory, used, limit = (
        report["memory"],
        report["hbm_bytes_per_device"],
        report["hbm_limit_bytes"],
    )
    mesh = " x ".join(f"{name} {size}" for name, size in report["mesh"].items())
    lines = [
        f"{report['devices']} x {report['device']} ({report['topology']}), mesh {mesh}",
        f"batch {report['batch_size']:,}: {report['micro_batches']} micro-batches of "
        f"{report['rows_per_micro_batch']} rows a device, remat {report['remat']}",
        "",
        "memory of each device                        GiB",
        *(
            f"  {text:<38}{_gib(memory[name]):>8}"
            for name, text in (
                ("parameters", "parameters, statistics, average"),
                ("optimizer", "optimiser state"),
                ("batch", "batch"),
                ("temporaries", "temporaries, activations among them"),
            )
        ),
        f"  {'total':<38}{_gib(used):>8}  of {_gib(limit)}",
        f"  (activations of one micro-batch, before XLA saves on them: "
        f"{_gib(memory['activations'])})",
        "",
        f"TFLOP of a step on each device: {report['flops'] / 1e12:.2f}, of which the model needs "
        f"{report['model_flops'] / 1e12:.2f}",
    ]
    for kind, x in report.get("collectives", {}).items():
        lines.append(f"  {kind}: {x['count']} a step, {x['bytes'] / 2**20:,.1f} MiB")
    if roofline := report.get("roofline"):
        lines += [
            f"at the chip's peak rates: products {_ms(roofline['compute_seconds'])}, memory "
            f"{_ms(roofline['memory_seconds'])} (estimate), exchange "
            f"{_ms(roofline['exchange_seconds'])}",
            f"so a step takes at least {_ms(roofline['step_seconds'])}, at most "
            f"{roofline['clips_per_second']:,.0f} clips/s; the model FLOPs utilisation would be "
            f"{100 * roofline['model_flops_utilization']:.0f} %",
        ]
    lines += ["", f"compiled in {report['compile_seconds']:.0f} s"]
    if report["fits"]:
        return "\n".join([*lines, f"fits: {_gib(limit - used)} GiB to spare"])
    lines.append(f"does not fit: {_gib(used - limit)} GiB too much. Try")
    return "\n".join(lines + [f"  {item}" for item in report["advice"]])


def measured_report(report: dict) -> str:
    """The measurement for people."""
    limit = report["hbm_limit_bytes"]
    return "\n".join(
        [
            f"{report['devices']} x {report['device']}, batch {report['batch_size']:,} in "
            f"{report['micro_batches']} micro-batches, remat {report['remat']}",
            f"step {_ms(report['step_seconds'])} (median), "
            f"{report['clips_per_second']:,.1f} clips/s",
            f"peak memory of a device: {_gib(report['peak_bytes_per_device'])} GiB"
            + (f" of {_gib(limit)}" if limit else ""),
            f"TFLOP of a step on each device: {report['flops'] / 1e12:.3f}, of which the model "
            f"needs {report['model_flops'] / 1e12:.3f}",
            f"a large matrix product reaches {report['matrix_flops'] / 1e12:.3f} TFLOP/s here; "
            f"model FLOPs utilisation {100 * report['model_flops_utilization']:.0f} % of that",
        ]
    )


def _gib(size: float) -> str:
    return f"{size / GIB:.2f}"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"
