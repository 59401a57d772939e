"""`clapjax plan`."""

import argparse
import functools
import json
import sys

from clapjax.cli.config import add_config_argument, load_config

EXAMPLE = "clapjax plan --config configs/laion_clap.py --topology v5litepod-16"
GIB = 2**30
TABLE = ("v5e-8", "v5e-16", "v5e-256", "v6e-16", "v5p-64", "h100", "h200", "h100x8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--config F [--topology T [--sweep]] [--json], or --table F..."""
    add_config_argument(parser, required=False)
    parser.add_argument(
        "--topology",
        nargs="+",
        metavar="NAME",
        help="what to plan for, none of which is needed here: a TPU slice as v5e:16x16 or as the "
        "cloud has it (v5litepod-256, v6e-16, v5p-64), several slices as 2xv5e:16x16, or GPUs as "
        "h100 or h100x8. TPU programs are compiled (needs libtpu), the memory of GPUs is counted. "
        "Without it the step runs on the devices at hand, and is measured",
    )
    parser.add_argument(
        "--sweep", action="store_true", help="look for the most rows_per_device that fit"
    )
    parser.add_argument(
        "--count", action="store_true", help="count the memory of TPUs too: seconds, no libtpu"
    )
    parser.add_argument(
        "--table",
        nargs="+",
        metavar="FILE",
        help=f"configs by hardware (--topology, else {' '.join(TABLE)}), as Markdown",
    )
    parser.add_argument("--steps", type=int, default=10, help="steps to measure")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints the plan; status 1 where it does not fit."""
    if args.steps < 1:
        raise ValueError(f"--steps must be positive, not {args.steps}")
    if bool(args.config) == bool(args.table):
        raise ValueError("name --config FILE, or --table FILE...")
    if args.topology is None and not args.table:
        return _measure(args, overrides)
    import jax

    jax.config.update("jax_platforms", "cpu")  # what is planned for need not be here
    from clapjax.planning.chips import hardware

    names = [hardware(name) for name in args.topology or TABLE]
    if args.table:
        return _table(args, overrides, names)
    if len(names) > 1:
        raise ValueError("--topology takes several names with --table only")
    from clapjax.experiment import make_task
    from clapjax.planning.plan import fitting, plan

    config = load_config(args.config, overrides)
    attempt = functools.partial(
        plan, make_task=make_task, devices=names[0], count=args.count, debug=args.debug
    )
    if args.sweep:
        return _sweep(args, config, names[0].devices, attempt)
    if names[0].platform == "tpu" and not args.count:
        print(f"compiling for {names[0].name} ...", file=sys.stderr, flush=True)
    report = attempt(config)
    print(text_report(report), flush=True)
    if log := report.pop("log", ""):
        print("\n".join(log.splitlines()[-10:]), file=sys.stderr)
    if not report["fits"]:
        print("looking for what fits ...", file=sys.stderr, flush=True)
        report["advice"] = _advice(fitting(config, report, attempt))
    if args.json:
        print(json.dumps(report))
    return 0 if report["fits"] else 1


def _advice(tries) -> str | None:
    """Shows what is tried, and returns the flags that make it fit."""
    from clapjax.planning.plan import summary

    flags = None
    for flags, report in tries:
        print(f"{flags}\n  {summary(report)}", flush=True)
        if report["fits"]:
            return flags
    print(
        "nothing that was tried fits" if flags else "no number of rows fits, not even one", end=""
    )
    print(": a smaller --config.batch_size, or more devices")
    return None


def _sweep(args, config, devices, attempt) -> int:
    from clapjax.experiment import make_task
    from clapjax.planning.plan import largest, summary

    best = None
    for report in largest(config, devices, make_task(config).group, attempt):
        print(summary(report), flush=True)
        if report["fits"] and (best is None or report["rows_per_micro_batch"] > best):
            best, found = report["rows_per_micro_batch"], report
    if best is None:
        print("not even one row at once fits")
    else:
        print(f"largest that fits, of those tried: --config.rows_per_device={best}")
    if args.json:
        print(json.dumps(found if best else {"fits": False}))
    return 0 if best else 1


def _table(args, overrides, names) -> int:
    """A row for each config and hardware, printed when it is known."""
    from clapjax.experiment import make_task
    from clapjax.planning.plan import plan

    print("| config | batch | hardware | rows a device | GiB a device | of | how | fits |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for file in args.table:
        config = load_config(file, overrides)
        for devices in names:
            try:
                report = plan(config, make_task, devices, args.count, args.debug, brief=True)
            except ValueError as error:
                row = [devices.name, "", "", "", "", str(error)]
            else:
                row = table_row(report)
            print(f"| {file} | {config.batch_size:,} | {' | '.join(row)} |", flush=True)
    return 0


def table_row(report: dict) -> list[str]:
    """The cells of a plan in the table, from the hardware on."""
    split = f"{report['micro_batches']} x {report['rows_per_micro_batch']}"
    fits = report.get("reason") or ("yes" if report["fits"] else "no")
    used, limit = _gib(report["bytes"]), _gib(report["limit_bytes"])
    return [report["hardware"], split, used, limit, report["how"], fits]


def _measure(args, overrides) -> int:
    from clapjax.experiment import make_task
    from clapjax.planning.measure import measure

    if args.sweep or args.count:
        raise ValueError("--sweep and --count plan for a --topology; name one")
    config = load_config(args.config, overrides)
    report = measure(config, make_task(config), args.steps)
    print(measured_report(report))
    if args.json:
        print(json.dumps(report))
    return 0


def text_report(report: dict) -> str:
    """The plan for people."""
    from clapjax.planning.plan import summary
    from clapjax.planning.reading import reading_lines

    memory, used, limit = report["memory"], report["bytes"], report["limit_bytes"]
    mesh = " x ".join(f"{name} {size}" for name, size in report["mesh"].items())
    where = f" ({report['topology']})" if report["topology"] else ""
    lines = [
        f"{report['devices']} x {report['device']}{where}, mesh {mesh}",
        f"batch {report['batch_size']:,}: {report['rows']} rows a device, "
        f"{report['rows_per_micro_batch']} of them at once, remat {report['remat']}",
        "",
        f"memory of each device, {report['how']:<23}GiB",
        *(
            f"  {text:<38}{_gib(memory[name]):>8}"
            for name, text in (
                ("parameters", "parameters, statistics, average"),
                ("optimizer", "optimiser state"),
                ("batch", "batch"),
                ("temporaries", "temporaries, activations, program"),
            )
        ),
        f"  {'total':<38}{_gib(used):>8}  of {_gib(limit)}",
        "",
    ]
    if "flops" in report:
        lines.append(
            f"TFLOP of a step on each device: {report['flops'] / 1e12:.2f}, of which the model "
            f"needs {report['model_flops'] / 1e12:.2f}"
        )
    for kind, x in report.get("collectives", {}).items():
        lines.append(f"  {kind}: {x['count']} a step, {x['bytes'] / 2**20:,.1f} MiB")
    if roofline := report.get("roofline"):
        engines = {"compute": "products", "memory": "memory (estimate)", "exchange": "exchange"}
        shown = ", ".join(
            f"{text} {_ms(roofline[f'{name}_seconds'])}"
            for name, text in engines.items()
            if f"{name}_seconds" in roofline
        )
        lines += [
            f"at the peak rates of the data sheet: {shown}",
            f"so a step takes at least {_ms(roofline['step_seconds'])}, at most "
            f"{roofline['clips_per_second']:,.0f} clips/s; the model FLOPs utilisation would be "
            f"{100 * roofline['model_flops_utilization']:.0f} %",
            *reading_lines(report["reading"], report["hosts"]),
        ]
    return "\n".join([*lines, f"{report['how']} in {report['seconds']:.0f} s", "", summary(report)])


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
