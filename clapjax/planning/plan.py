"""What a training step needs, before a chip is rented: memory, FLOPs, exchanges, time."""

import dataclasses
from collections.abc import Callable, Iterator

from clapjax.planning.chips import GIB, Hardware, datasheet
from clapjax.planning.compiled import DoesNotCompile, compiled
from clapjax.planning.counted import absent_mesh, counted, counted_flops
from clapjax.planning.reading import reading
from clapjax.training.config import TrainConfig
from clapjax.training.mesh import micro_batches


def plan(
    config: TrainConfig,
    make_task: Callable,
    devices: Hardware,
    count: bool = False,
    debug: bool = False,
    brief: bool = False,
) -> dict:
    """What a config's step needs: compiled for a TPU, counted for a GPU.

    Args:
      config: the run.
      make_task: a module's function of a config to the task.
      devices: that it is to run on.
      count: counts for a TPU, too.
      debug: what the compiler says goes to stderr.
      brief: where it is counted, the memory alone is.

    Returns:
      A dict for JSON, with numbers per device: "fits", "bytes" (what the program takes),
      "limit_bytes", "how" ("compiled" or "counted"), "memory" (parts of bytes), "rows",
      "micro_batches", "rows_per_micro_batch", "mesh", "flops", "model_flops" (without what is
      computed twice), "roofline" (least seconds, and the utilisation of model FLOPs at that pace),
      "hosts", "reading" (what each host must read at that pace, by the form of records) and, where
      compiled, "collectives" (by kind: count and bytes of a step). "reason" and "log"
      where it does not compile, with the memory counted.

    Raises:
      ValueError: no such slice, or the mesh or the batch does not divide among its devices.
      ModuleNotFoundError: libtpu is not installed.
    """
    absent_mesh(config.mesh, devices)
    rows = config.batch_size // devices.devices
    task = make_task(config)
    group = task.group
    parts = micro_batches(config, devices.devices, group)
    report = {
        "hardware": devices.name,
        "topology": devices.topology,
        "device": devices.kind,
        "devices": devices.devices,
        "slices": devices.slices,
        "batch_size": config.batch_size,
        "rows": rows,
        "group": group,
        "micro_batches": parts,
        "rows_per_micro_batch": rows // parts,
        "remat": config.remat,
        "limit_bytes": devices.bytes,
        "hosts": devices.hosts,
    }
    if count or devices.platform == "gpu":
        report |= counted(config, make_task, devices)
        report |= {} if brief else counted_flops(config, make_task, devices)
    else:
        try:
            report |= compiled(config, make_task, devices, debug)
        except DoesNotCompile as error:
            report |= counted(config, make_task, devices)
            report |= {"fits": False, "reason": str(error), "log": error.log}
    if engines := report.get("roofline"):
        report["roofline"] = engines | _pace(report, max(engines.values()))
        pace, copies = report["roofline"]["clips_per_second"], 1 + task.reverses / task.group
        report["reading"] = reading(task.audio, pace, devices.hosts, copies)
    return report


def _pace(report: dict, seconds: float) -> dict[str, float]:
    """What a step that takes so long comes to."""
    peak = datasheet(report["device"]).flops
    return {
        "step_seconds": seconds,
        "clips_per_second": report["batch_size"] / seconds,
        "model_flops_utilization": report["model_flops"] / seconds / peak,
    }


def fitting(
    config: TrainConfig, report: dict, attempt: Callable[[TrainConfig], dict]
) -> Iterator[tuple[str, dict]]:
    """Looks for a change that makes a config fit: fewer rows at once, then a split state too.

    Args:
      config, report: what does not fit, and its plan.
      attempt: a config to its plan.

    Yields:
      (flags, plan) of each change that is tried; the last one fits if any does.
    """
    rows, flags = _fewer(report), ""
    in_slice = report["devices"] // report["slices"]
    split = min(8, in_slice)
    while True:
        while rows:
            report = attempt(dataclasses.replace(config, rows_per_device=rows))
            yield f"--config.rows_per_device={rows}{flags}", report
            if report["fits"]:
                return
            rows = _fewer(report)
        if config.mesh.fsdp >= split or in_slice % split:
            return
        config = dataclasses.replace(config, mesh=dataclasses.replace(config.mesh, fsdp=split))
        rows, flags = report["rows_per_micro_batch"], f" --config.mesh.fsdp={split}"


def _fewer(report: dict) -> int:
    """Rows at once that should fit where a plan did not, at most half of its; 0: none can."""
    rows, temporaries = report["rows_per_micro_batch"], report["memory"]["temporaries"]
    # What a part takes shrinks with its rows, but for what does not depend on them.
    free = 0.95 * report["limit_bytes"] - (report["bytes"] - temporaries)
    if free <= 0:
        return 0
    most = min(rows // 2, max(1, free / (temporaries / rows)))
    return _part(report["rows"], most, report["group"])


def largest(
    config: TrainConfig, devices: int, group: int, attempt: Callable[[TrainConfig], dict]
) -> Iterator[dict]:
    """Doubles rows_per_device while the step fits, or halves it until it does.

    Yields:
      The plan of each number of rows; of those that fit, the one with the most is the largest.
    """
    all_rows = config.batch_size // devices
    rows, grows = all_rows // micro_batches(config, devices, group), None
    while rows:
        report = attempt(dataclasses.replace(config, rows_per_device=rows))
        yield report
        grows = report["fits"] if grows is None else grows
        if report["fits"] != grows or (report["fits"] and not grows):
            return
        if grows:
            larger = range(2 * rows, all_rows + 1, group)
            rows = next((x for x in larger if all_rows % x == 0), 0)
        else:
            rows = _part(all_rows, rows // 2, group)


def _part(rows: int, most: float, group: int) -> int:
    """The largest divisor of a device's rows, in whole groups, that is within a limit; 0: none."""
    return max(
        (x for x in range(group, min(rows, int(most)) + 1, group) if rows % x == 0), default=0
    )


def summary(report: dict) -> str:
    """A plan in one line."""
    split = f"{report['micro_batches']} x {report['rows_per_micro_batch']} rows a device"
    if "reason" in report:
        return f"{report['hardware']}: {split}, does not compile: {report['reason']}"
    used, limit = (report[name] / GIB for name in ("bytes", "limit_bytes"))
    fits = "fits" if report["fits"] else "does not fit"
    return f"{report['hardware']}: {split}, {used:.2f} of {limit:.2f} GiB ({report['how']}), {fits}"
