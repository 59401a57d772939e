"""The accelerator benchmark, with tiny sizes on one CPU device."""

import dataclasses
import json
import subprocess
import sys
import time
from types import SimpleNamespace

import jax
import pytest
from jax.profiler import ProfileData

from benchmarks.accelerator import __main__ as accelerator
from benchmarks.accelerator import captioning, peer, training
from benchmarks.accelerator.common import (
    Clock,
    Run,
    Setup,
    Skipped,
    captioner_run,
    fits,
    full_run,
    make_setup,
    tiny_captioner_run,
)
from benchmarks.accelerator.device import preallocation
from benchmarks.accelerator.kernels import ALL, kernel_times, op_names
from clapjax.cli.config import load_config
from clapjax.training.mesh import make_mesh, micro_batches
from tests.training.tiny import tiny_config

SECTION = accelerator.SECTIONS[0]


def tiny_setup(**changes) -> Setup:
    """One device; the large batch is the largest one again, which is compiled already."""
    sizes = {"first_rows": 2, "most_rows": 2, "micro_batches": 1, "embed_batches": (2,)}
    sizes |= {"loss_batches": (8,), "caption_batch": 3, "copy_bytes": 2**12, "repeats": 2}
    return Setup(tuple(jax.devices()[:1]), tiny_config(), tiny_captioner(), **(sizes | changes))


def tiny_captioner() -> Run:
    """Captions of five tokens by the audio encoder of `tiny_config`."""
    run = dataclasses.replace(tiny_captioner_run(), model=tiny_config().model, rows_per_device=2)
    decoder = dataclasses.replace(run.captioning.decoder, guidance_length=3, max_length=5)
    settings = dataclasses.replace(run.captioning, decoder=decoder)
    return dataclasses.replace(run, captioning=settings)


def run(setup: Setup, seconds: float = 1e6) -> dict:
    """The report of all sections."""
    report = accelerator.new_report(True, seconds)
    names = [section.name for section in accelerator.SECTIONS]
    accelerator.run(setup, report, names, time.monotonic(), lambda: None)
    return json.loads(accelerator.in_json(report))


def test_every_section_gives_figures_that_agree_with_each_other(capsys):
    report = run(tiny_setup())
    printed = capsys.readouterr().out
    assert (report["errors"], report["skipped"]) == ({}, [])
    assert report["device"]["device"] == jax.devices()[0].device_kind
    assert report["device"]["matrix_flops_float32"] > 1e9
    assert report["device"]["datasheet_flops"] is None
    assert "| datasheet_flops | unknown |" in printed
    assert len(report["training"]) == 2
    for row in report["training"]:
        assert set(row) == set(training.KEYS) and row["fits"]
        assert (row["rows"], row["micro_batches"], row["batch_size"]) == (2, 1, 2)
        assert row["pairs_per_second"] == pytest.approx(2 / row["step_seconds"])
        assert row["utilization_datasheet"] is None and row["peak_bytes"] is None
    first, again = (
        row["model_flops_per_second"] * row["step_seconds"] for row in report["training"]
    )
    assert first == pytest.approx(again)
    for row in report["embedding"]:
        assert row["per_second"] == pytest.approx(row["batch"] / row["seconds"])
    assert [row["stage"] for row in report["attention"]] == [0]
    assert 0 < report["attention"][0]["forward"] < report["attention"][0]["both"]
    forms = {(row["loss"], row["form"]) for row in report["loss"]}
    assert {("softmax", "ring"), ("sigmoid", "plain"), ("softmax, kappa", "plain")} <= forms
    *most, everything = report["kernels"]
    shares = [row["share"] for row in most]
    assert len(most) == 5 and shares == sorted(shares, reverse=True) and 0 < sum(shares) < 1
    assert everything["kernel"] == ALL and everything["rows"] == 2
    assert sum(row["step_milliseconds"] for row in most) < everything["step_milliseconds"]
    assert any("audio_encoder" in row["of"] or "text_encoder" in row["of"] for row in most)
    encoder, *ways, step = report["captioning"]
    assert [row["work"] for row in ways] == ["greedy", "3 beams"]
    assert [row["batch"] for row in (encoder, *ways, step)] == [3, 3, 3, 2]
    for row in (encoder, *ways, step):
        assert set(row) == set(captioning.KEYS) and row["fits"]
        assert row["per_second"] == pytest.approx(row["batch"] / row["seconds"])
    assert {row["encoder_per_second"] for row in ways} == {encoder["per_second"]}


def test_the_peer_in_torch_is_timed():
    rows = peer.measure(quick=True)
    assert [row["work"] for row in rows] == ["captions", "clips", "training step"]
    for row in rows:
        assert set(row) == set(peer.KEYS) and row["fits"]
        assert row["per_second"] == pytest.approx(row["batch"] / row["seconds"])


def test_the_full_runs_are_those_of_the_config_files():
    config = load_config("configs/laion_clap.py", [])
    for part in ("model", "loss", "optimizer", "steps"):
        assert getattr(full_run(), part) == getattr(config, part)
    setup = make_setup(False, jax.devices()[:1])
    assert setup.config == full_run()
    config, ours = load_config("configs/captioner.py", []), captioner_run()
    for part in ("task", "model", "optimizer", "steps", "rows_per_device"):
        assert getattr(ours, part) == getattr(config, part)
    # Of the tokenizer that is trained.
    decoder = dataclasses.replace(config.captioning.decoder, vocab_size=config.data.vocab_size)
    assert ours.captioning == dataclasses.replace(config.captioning, decoder=decoder)


@pytest.mark.parametrize(
    ("first", "room", "tried"),
    [
        (4, 16, [(4, 1), (8, 1), (16, 1), (32, 1), (16, 8)]),
        (64, 17, [(64, 1), (32, 1), (16, 1), (16, 8)]),
        (64, 1000, [(64, 1), (128, 1), (128, 8)]),  # not beyond most_rows
        (2, 3, [(2, 1), (4, 1), (2, 8), (1, 8)]),  # parts take more than the same rows at once
    ],
)
def test_the_search_ends_at_the_largest_batch_that_fits(monkeypatch, first, room, tried):
    seen = []

    def timed(config, mesh, repeats, reached, deterministic):
        assert not deterministic
        parts = micro_batches(config, mesh.size)
        rows = config.batch_size // mesh.size // parts
        seen.append((rows, parts))
        if rows + parts // 8 * (room == 3) * 2 > room:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying ...")
        return {"step_seconds": 1.0}

    monkeypatch.setattr(training, "_timed", timed)
    monkeypatch.setattr(training, "matrix_rate", lambda dtype, device: 1.0)
    setup = tiny_setup(first_rows=first, most_rows=128, micro_batches=8)
    rows = list(training.rows(setup, Clock(time.monotonic() + 1e6), {}))
    assert seen == [(row["rows"], row["micro_batches"]) for row in rows] == tried
    assert rows[-1]["fits"] and all(set(row) == set(training.KEYS) for row in rows)


def test_a_gpu_is_timed_with_deterministic_programs_too(monkeypatch):
    seen = []

    def timed(config, mesh, repeats, reached, deterministic):
        seen.append((config.batch_size, micro_batches(config, mesh.size), deterministic))
        return {"step_seconds": 2.0 if deterministic else 1.0}

    device = SimpleNamespace(platform="gpu")
    monkeypatch.setattr(training, "_timed", timed)
    monkeypatch.setattr(training, "matrix_rate", lambda dtype, device: 1.0)
    monkeypatch.setattr(training, "task_of", lambda config: SimpleNamespace(dtype=str))
    mesh = SimpleNamespace(size=1, local_devices=[device])
    monkeypatch.setattr(training, "make_mesh", lambda config, devices: mesh)
    setup = tiny_setup(first_rows=4, most_rows=4, micro_batches=2)
    rows = list(training.rows(setup, Clock(time.monotonic() + 1e6), {}))
    assert seen == [(4, 1, False), (4, 1, True), (8, 2, False)]
    assert [row["deterministic"] for row in rows] == [False, True, False]
    (step, exact, _) = (row["step_seconds"] for row in rows)
    assert (step, exact) == (1.0, 2.0)


def clock_of(*left: float) -> SimpleNamespace:
    """A `Clock` that is asked so many times, and says these."""
    return SimpleNamespace(left=iter(left).__next__)


def test_a_search_without_time_left_says_what_it_leaves_out(monkeypatch):
    monkeypatch.setattr(training, "_timed", lambda *_: {})
    monkeypatch.setattr(training, "matrix_rate", lambda dtype, device: 1.0)
    setup = tiny_setup(first_rows=1, micro_batches=2)
    rows = list(training.rows(setup, clock_of(1.0, 0.0, 0.0), {}))
    assert rows[1:] == [Skipped("2 rows a device"), Skipped("2 micro-batches of 1 rows")]


def test_the_first_batch_is_what_memory_allows(monkeypatch):
    mesh = make_mesh(tiny_config().mesh, jax.devices()[:1])
    setup, stats = tiny_setup(first_rows=None), {}
    monkeypatch.setattr(training, "memory_stats", lambda device: stats)
    assert training.first_rows(setup, mesh) == 64  # it does not tell
    found = []
    for stats["bytes_limit"] in (1, 2**28, 2**29):
        found.append(training.first_rows(setup, mesh))
    assert found[0] == 1 and found[1] > 8 and found[2] == 2 * found[1]


def test_only_a_lack_of_memory_is_taken_for_one():
    def fail(text):
        raise jax.errors.JaxRuntimeError(text)

    for text in ("RESOURCE_EXHAUSTED: no", "INTERNAL: CUDA_ERROR_OUT_OF_MEMORY: no"):
        assert fits(fail, text) == {"fits": False}
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        fits(fail, "INTERNAL: ptxas exited with 1")


def test_preallocation_is_what_the_environment_says(monkeypatch):
    for name in ("PREALLOCATE", "MEM_FRACTION", "ALLOCATOR"):
        monkeypatch.delenv(f"XLA_PYTHON_CLIENT_{name}", raising=False)
    assert preallocation("cpu") is None
    assert preallocation("gpu").startswith("on, fraction JAX's default")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", ".5")
    assert preallocation("gpu").startswith("off, fraction .5")


def trace(*planes: str) -> ProfileData:
    """A trace of planes in protobuf's text form."""
    return ProfileData.from_text_proto("\n".join(planes))


def plane(name: str, lines: dict[str, list[tuple[str, str, int, int]]]) -> str:
    """One plane; an event is (name, HLO instruction or "", start and end in ns)."""
    names = sorted({event[0] for events in lines.values() for event in events})
    text = [f'planes {{ name: "{name}"']
    for number, label in enumerate(names, 1):
        label = label.replace('"', r"\"")
        text.append(f'event_metadata {{ key: {number} value {{ id: {number} name: "{label}" }} }}')
    text.append('stat_metadata { key: 1 value { id: 1 name: "hlo_op" } }')
    for line, events in lines.items():
        text.append(f'lines {{ name: "{line}"')
        for event, op, start, end in events:
            stat = f'stats {{ metadata_id: 1 str_value: "{op}" }}' if op else ""
            number = names.index(event) + 1
            text.append(
                f"events {{ metadata_id: {number} offset_ps: {1000 * start} "
                f"duration_ps: {1000 * (end - start)} {stat} }}"
            )
        text.append("}")
    return "\n".join([*text, "}"])


def test_kernels_of_a_gpu_are_those_on_its_streams():
    data = trace(
        plane("/host:CPU", {"python": [("fusion", "fusion.1", 0, 1000)]}),
        plane("/device:GPU:1", {"Stream #1": [("gemm", "dot.1", 0, 500)]}),
        plane(
            "/device:GPU:0",
            {
                "Stream #13(Compute)": [
                    ("gemm", "dot.1", 0, 30),
                    ("gemm", "dot.2", 30, 40),
                    ("loop_fusion", "fusion.1", 40, 90),
                ],
                "Stream #14(MemcpyD2D)": [("MemcpyD2D", "", 10, 15)],
                "XLA Ops": [("dot.1", "dot.1", 0, 30)],
            },
        ),
    )
    assert kernel_times(data) == {
        "gemm": {"dot.1": 30, "dot.2": 10},
        "loop_fusion": {"fusion.1": 50},
        "MemcpyD2D": {"MemcpyD2D": 5},
    }


def test_what_runs_inside_of_a_loop_counts_once():
    events = [
        ("%while.1 = (f32[]) while(...)", "while.1", 0, 100),
        ("%fusion.2 = f32[8] fusion(...)", "fusion.2", 10, 40),
        ("%fusion.2 = f32[8] fusion(...)", "fusion.2", 40, 70),
    ]
    steps = {"XLA Ops": events, "Steps": [("1", "", 0, 100)]}
    assert kernel_times(trace(plane("/device:TPU:0", steps))) == {
        "while.1": {"while.1": 40},
        "fusion.2": {"fusion.2": 60},
    }
    threads = {"worker": [*events, ("ThreadpoolListener::Record", "", 5, 6)]}
    assert kernel_times(trace(plane("/host:CPU", threads))) == {
        "while.1": {"while.1": 40},
        "fusion.2": {"fusion.2": 60},
    }
    assert kernel_times(trace(plane("/host:metadata", {}))) == {}


def test_kernels_are_traced_back_to_the_model():
    text = """
  %fusion.1 = f32[8]{0} fusion(%a), calls=%c, metadata={op_type="x" op_name="jit(step)/transpose(jvp(Clap))/Clap.text/while/body/mlp/dot" source_line=3}
  ROOT %add = f32[] add(%b, %c), metadata={op_name="jit(step)/add"}
  %copy = f32[] copy(%b)
"""  # noqa: E501
    assert op_names(text) == {
        "fusion.1": "backward/mlp/dot",
        "fusion_1": "backward/mlp/dot",  # the kernel of it in a CUDA graph
        "add": "add",
    }
    newer = text.replace("jvp(Clap))/Clap.text", "jvp(Clap.text))/Clap.project_text")
    assert op_names(newer) == op_names(text)


def fake_sections(monkeypatch, *functions) -> None:
    """Puts sections "one", "two" ... with these functions in place of the real ones."""
    names = ["one", "two", "three"][: len(functions)]
    sections = [
        dataclasses.replace(SECTION, name=name, rows=rows, share=1.0)
        for name, rows in zip(names, functions, strict=True)
    ]
    monkeypatch.setattr(accelerator, "SECTIONS", tuple(sections))
    monkeypatch.setattr(accelerator, "new_report", new_report_of(names))


def new_report_of(names: list[str]):
    def new_report(quick, seconds):
        report = {"limit_seconds": seconds, "device": None} | dict.fromkeys(names)
        return report | {"skipped": [], "errors": {}, "running": None}

    return new_report


def good(setup, clock, results):
    yield {"figure": "a", "value": 1, "shown": "one"}
    yield Skipped("b", "no reason")


def bad(setup, clock, results):
    yield {"figure": "c", "value": 2, "shown": "two"}
    raise KeyError("gone")


def test_a_section_that_fails_leaves_its_rows_and_the_others(monkeypatch, capsys, tmp_path):
    fake_sections(monkeypatch, bad, good)
    out = tmp_path / "figures.json"
    assert accelerator.main(["--quick", "--devices", "1", "--out", str(out)]) == 1
    printed = capsys.readouterr().out
    assert "failed: KeyError: 'gone'\n" in printed and "skipped: b (no reason)\n" in printed
    report = json.loads(printed.splitlines()[-1])
    assert report == json.loads(out.read_text())
    assert report["errors"] == {"one": "KeyError: 'gone'"}
    assert report["skipped"] == ["two: b"]
    assert [row["value"] for row in report["one"] + report["two"]] == [2, 1]


def test_without_errors_the_status_is_0_and_sections_can_be_chosen(monkeypatch, capsys):
    fake_sections(monkeypatch, bad, good)
    assert accelerator.main(["--quick", "--sections", "two"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["one"] is None
    with pytest.raises(SystemExit, match="2"):
        accelerator.main(["--sections", "two,four"])
    assert "no section 'four'; there are one, two" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        accelerator.main(["--out", "no/such/file.json"])
    assert "there is no folder no/such" in capsys.readouterr().err


def test_sections_without_time_are_skipped(monkeypatch, capsys):
    def slow(setup, clock, results):
        time.sleep(0.2)
        yield from good(setup, clock, results)

    fake_sections(monkeypatch, slow, slow, good)
    report = run(tiny_setup(), seconds=0.25)
    assert report["skipped"] == ["one: b", "two", "three"]
    assert report["two"] is None and report["one"]
    assert capsys.readouterr().out.count("skipped: out of time") == 2


def test_what_cannot_be_interrupted_is_ended_with_what_there_is(quick_env, tmp_path):
    out = tmp_path / "figures.json"
    program = (
        "import time, benchmarks.accelerator.__main__ as a, dataclasses as d\n"
        "def stuck(setup, clock, results):\n"
        "    yield {'figure': 'x', 'value': 1, 'shown': '1'}\n"
        "    time.sleep(600)\n"
        "a.SECTIONS = (d.replace(a.SECTIONS[0], rows=stuck), *a.SECTIONS[1:])\n"
        "argv = ['--quick', '--sections', 'device,training', '--seconds', '3']\n"
        f"a.main([*argv, '--out', {str(out)!r}])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=quick_env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    report = json.loads(done.stdout.splitlines()[-1])
    assert report == json.loads(out.read_text())
    assert report["errors"] == {"device": "still running after 3 s"}
    assert report["device"] == {"x": 1} and report["training"] is None


@pytest.mark.parametrize(
    ("room", "left", "tried"), [(40, [1.0, 1.0, 1.0], [128, 64, 32]), (1, [1.0, 0.0], [128])]
)
def test_a_captioners_step_is_halved_until_it_fits(monkeypatch, room, left, tried):
    def attempt(setup, mesh, size, parts, reached):
        assert setup.config.task == "captioning" and parts == 1
        row = dict.fromkeys(training.KEYS) | {"batch_size": size, "fits": size <= room}
        return row | ({"step_seconds": 2.0, "pairs_per_second": size / 2} if row["fits"] else {})

    monkeypatch.setattr(captioning, "_ways", lambda setup: [])
    monkeypatch.setattr(captioning, "matrix_rate", lambda dtype, device: 1.0)
    monkeypatch.setattr(training, "attempt", attempt)
    run = dataclasses.replace(tiny_captioner(), rows_per_device=128)
    setup = dataclasses.replace(tiny_setup(), captioner=run)
    *others, last = captioning.rows(setup, clock_of(*left), {})
    if room == 1:
        assert last == Skipped("training step, 64 rows a device")
    else:
        assert (last["seconds"], last["per_second"]) == (2.0, 16.0)
        others.append(last)
    assert [row["batch"] for row in others] == tried
