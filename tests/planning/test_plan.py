"""`clapjax plan`: the compiler's word for a TPU, a measurement for what is here."""

import dataclasses
import importlib.util
import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clapjax.cli.main import main
from clapjax.planning.plan import fitting, largest
from clapjax.training.config import TrainConfig
from clapjax.training.mesh import micro_batches

DEMO = "configs/demo.py:runlocal"
TOPOLOGY = "v5litepod-8"


@pytest.fixture
def plan(capsys):
    """plan("--config.batch_size=8", ...): (exit status, JSON of the last line, text)."""

    def run(*arguments, config=DEMO):
        status = main(["plan", "--config", config, "--json", *arguments])
        text = capsys.readouterr().out
        return status, json.loads(text.splitlines()[-1]), text

    return run


@pytest.fixture
def compiler():
    pytest.importorskip("libtpu", reason="libtpu, XLA's compiler for TPUs, is not installed")


def test_measures_what_is_here(plan):
    status, report, text = plan("--steps", "2")
    assert status == 0 and "clips/s" in text
    assert report["step_seconds"] > 0 and report["devices"] == 8
    assert report["clips_per_second"] == pytest.approx(8 / report["step_seconds"])
    # The backward pass computes texts again.
    assert 1e6 < report["model_flops"] < report["flops"] < 1.34 * report["model_flops"]
    assert report["collectives"]["all-reduce"]["count"] >= 1
    _, other, _ = plan(
        "--steps",
        "1",
        "--config.remat=full",
        "--config.batch_size=16",
        "--config.rows_per_device=1",
    )
    assert other["model_flops"] == pytest.approx(2 * report["model_flops"], rel=0.05)
    # Of three passes' worth: the parts run forward twice, and their layers once more.
    assert 1.4 < other["flops"] / other["model_flops"] < 1.75


def test_compiles_for_a_slice(plan, compiler):
    status, report, text = plan("--topology", TOPOLOGY)
    assert status == 0 and report["fits"]
    assert text.splitlines()[-2].startswith("v5litepod-8: 1 x 1 rows a device, 0.0")
    assert text.splitlines()[-2].endswith(" of 15.75 GiB (compiled), fits")
    assert report["devices"] == 8 and report["device"] == "TPU v5 lite"
    memory = report["memory"]
    held = memory["parameters"] + memory["optimizer"] + memory["batch"] + memory["temporaries"]
    assert held <= report["bytes"] <= 1.5 * held + 2**24
    assert memory["optimizer"] == pytest.approx(2 * memory["parameters"], rel=0.05)  # Adam's two
    sent = report["collectives"]["all-reduce"]["bytes"]
    assert sent == pytest.approx(memory["parameters"], rel=0.1)  # the gradient, once
    roofline = report["roofline"]
    assert roofline["compute_seconds"] == pytest.approx(report["flops"] / 197e12)
    assert 0 < roofline["model_flops_utilization"] <= 1

    _, split, _ = plan(
        "--topology", TOPOLOGY, "--config.mesh.fsdp=8", "--config.mesh.split_above=1"
    )
    assert split["memory"]["optimizer"] < 0.3 * memory["optimizer"]
    # So small a gradient is reduced whole; that of configs/large_batch.py is scattered.
    assert {"all-gather", "all-reduce"} <= split["collectives"].keys()


def test_advice_is_compiled_before_it_is_given(plan, compiler):
    status, report, text = plan("--topology", TOPOLOGY, "--config.batch_size=131072")
    assert status == 1 and not report["fits"] and report["bytes"] > report["limit_bytes"]
    assert "does not fit" in text
    advice = report["advice"]
    assert text.splitlines()[-3] == advice and text.splitlines()[-2].endswith("(compiled), fits")


def test_counts_for_gpus(plan):
    status, report, text = plan(
        "--topology", "h100x8", "--config.batch_size=64", "--config.optimizer.kind=adamw"
    )
    assert status == 0 and report["device"] == "NVIDIA H100 80GB HBM3"
    assert text.splitlines()[-2].startswith("h100x8: 1 x 8 rows a device, 1.5")
    assert text.splitlines()[-2].endswith(" of 59.74 GiB (counted), fits")
    memory = report["memory"]
    assert memory["optimizer"] == pytest.approx(2 * memory["parameters"], rel=0.05)
    assert report["bytes"] == sum(memory.values())
    assert report["roofline"]["step_seconds"] == pytest.approx(report["flops"] / 989e12)
    pace, hosts = report["roofline"]["clips_per_second"], report["hosts"]
    for kind, one in report["reading"].items():
        assert one["bytes_per_second"] == pytest.approx(one["clip_bytes"] * pace / hosts)
        assert one["fits"] == (one["bytes_per_second"] <= 12.5e9)
        assert f"  {kind:<5}{one['clip_bytes']:>9,} bytes a clip" in text
    assert 1 < report["flops"] / report["model_flops"] < 1.34


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--topology", "v99:2x2"), "no hardware 'v99:2x2'; there are TPUs (v2, "),
        (("--topology", TOPOLOGY, "--config.batch_size=9"), "does not divide among 8 devices"),
        (("--topology", TOPOLOGY, "--config.mesh.fsdp=3"), "does not make 8 devices"),
        (("--topology", TOPOLOGY, "h100"), "--table only"),
        (("--table", DEMO), "--config FILE, or --table FILE"),
        (("--sweep",), "name one"),
        (("--count",), "name one"),
        (("--steps", "0"), "--steps must be positive"),
    ],
)
def test_bad_input(arguments, message, capsys):
    assert main(["plan", "--config", DEMO, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_without_the_compiler(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["plan", "--config", DEMO, "--topology", TOPOLOGY]) == 2
    message = capsys.readouterr().err
    assert "pip install libtpu" in message and "--count" in message


def linear(fixed, row, limit, devices=8, state=0):
    """Plans by a formula: what is held, half of it split by fsdp, and so much for each row."""

    def attempt(config):
        rows = config.batch_size // devices
        parts = micro_batches(config, devices)
        at_once = rows // parts
        temporaries = row * at_once
        size = fixed + state / config.mesh.fsdp + temporaries
        return {
            "devices": devices,
            "slices": 1,
            "rows": rows,
            "group": 1,
            "micro_batches": parts,
            "rows_per_micro_batch": at_once,
            "memory": {"temporaries": temporaries},
            "bytes": size,
            "limit_bytes": limit,
            "fits": size <= limit,
        }

    return attempt


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.integers(1, 4000),
    fixed=st.integers(0, 120),
    row=st.integers(1, 50),
    state=st.integers(0, 200),
)
def test_the_search_ends_with_what_fits(rows, fixed, row, state):
    config = TrainConfig(batch_size=8 * rows)
    attempt = linear(fixed, row, 100, state=state)
    first = attempt(config)
    if first["fits"]:
        return
    tries = list(fitting(config, first, attempt))
    assert len(tries) <= 5  # each is minutes of compilation
    assert not any(report["fits"] for _, report in tries[:-1])
    if tries and tries[-1][1]["fits"]:
        flags = re.findall(r"--config.(\S+)=(\d+)", tries[-1][0])
        told = {name: int(value) for name, value in flags}
        mesh = dataclasses.replace(config.mesh, fsdp=told.get("mesh.fsdp", 1))
        rows = told["rows_per_device"]
        again = attempt(dataclasses.replace(config, mesh=mesh, rows_per_device=rows))
        assert again == tries[-1][1]
    else:  # not even a row at once, with the state split, leaves the twentieth that is kept free
        assert fixed + state / 8 + row > 95


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.integers(1, 4000),
    start=st.integers(0, 64),
    fixed=st.integers(0, 120),
    row=st.integers(1, 50),
)
def test_the_sweep_finds_the_border(rows, start, fixed, row):
    config = TrainConfig(batch_size=8 * rows, rows_per_device=start)
    tries = list(largest(config, 8, 1, linear(fixed, row, 100)))
    sizes = [report["rows_per_micro_batch"] for report in tries]
    fits = [report["fits"] for report in tries]
    assert all(rows % size == 0 for size in sizes)
    if fits[0]:
        assert sizes == sorted(sizes) and all(fits[:-1])
        more = [x for x in range(2 * sizes[-1], rows + 1) if rows % x == 0]
        assert not (fits[-1] and more)
    else:
        assert sizes == sorted(sizes, reverse=True) and not any(fits[:-1])
        assert fits[-1] or sizes[-1] == 1
