"""`clapjax plan`: the compiler's word for a TPU, a measurement for what is here."""

import json
import sys

import pytest

from clapjax.cli.main import main

DEMO = "configs/demo.py:runlocal"
TOPOLOGY = "v5e:2x4"


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
    assert report["flops"] == report["model_flops"] > 1e6
    assert report["collectives"]["all-reduce"]["count"] >= 1
    _, other, _ = plan(
        "--steps", "1", "--config.remat=full", "--config.batch_size=16", "--config.micro_batches=2"
    )
    assert other["model_flops"] == pytest.approx(2 * report["model_flops"], rel=0.05)
    # Of three passes' worth: the parts run forward twice, and their layers once more.
    assert 1.4 < other["flops"] / other["model_flops"] < 1.75


def test_compiles_for_a_slice(plan, compiler):
    status, report, text = plan("--topology", TOPOLOGY)
    assert status == 0 and report["fits"] and "fits:" in text
    assert report["devices"] == 8 and report["device"] == "TPU v5 lite"
    assert report["hbm_limit_bytes"] == pytest.approx(15.75 * 2**30, rel=1e-3)
    memory = report["memory"]
    held = memory["parameters"] + memory["optimizer"] + memory["batch"] + memory["temporaries"]
    assert held <= report["hbm_bytes_per_device"] <= 1.5 * held + 2**24
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
    assert "reduce-scatter" in split["collectives"]


def test_says_by_how_much_it_does_not_fit(plan, compiler):
    status, report, text = plan("--topology", TOPOLOGY, "--config.batch_size=131072")
    assert status == 1 and not report["fits"]
    assert report["hbm_bytes_per_device"] > report["hbm_limit_bytes"]
    assert "does not fit" in text
    (parts,) = [item for item in report["advice"] if "micro_batches" in item]
    status, report, _ = plan("--topology", TOPOLOGY, "--config.batch_size=131072", parts)
    assert status == 0 and report["fits"]


def test_sweep_finds_the_border(plan, compiler):
    status, report, text = plan("--topology", TOPOLOGY, "--sweep", "--config.batch_size=32768")
    rows = [line for line in text.splitlines() if line.startswith("batch ")]
    assert status == 0 and report["fits"] and len(rows) >= 2
    assert rows[-1].count("does not fit") == 1
    assert f"largest batch that fits, of those doubled: {report['batch_size']:,}" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--topology", "v99:2x2"), "no topology 'v99:2x2'"),
        (("--topology", TOPOLOGY, "--config.batch_size=9"), "does not divide among 8 devices"),
        (("--topology", TOPOLOGY, "--config.mesh.fsdp=3"), "does not make 8 devices"),
    ],
)
def test_bad_input_for_a_slice(arguments, message, capsys, compiler):
    assert main(["plan", "--config", DEMO, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_bad_input(capsys, monkeypatch):
    assert main(["plan", "--config", DEMO, "--sweep"]) == 2
    assert "name one" in capsys.readouterr().err
    assert main(["plan", "--config", DEMO, "--steps", "0"]) == 2
    assert "--steps must be positive" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "libtpu", None)
    assert main(["plan", "--config", DEMO, "--topology", TOPOLOGY]) == 2
    assert "pip install libtpu" in capsys.readouterr().err
