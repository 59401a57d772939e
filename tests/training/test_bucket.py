"""A run whose records and workdir are in a bucket, of a server that the tests start."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from clapjax.api import load
from clapjax.cli.main import main
from clapjax.data import paths
from clapjax.data.paths import as_path
from clapjax.evaluation.result import read_results
from clapjax.experiment import load_experiment, save_experiment
from clapjax.interop.export import write_model
from clapjax.interop.load import Pretrained, load_pretrained
from clapjax.training import checkpoint, log_files
from clapjax.training.log_files import read_log
from tests.training.tiny import assert_same, train

PLACES = ("gs", "s3")
TIMES = ("clips_per_second", "seconds_waiting_for_data")  # in the log


class Killed(Exception):
    """Stands for the end of a process."""


@pytest.fixture(scope="module")
def config(tiny):
    """Of all runs here: by blocks, as records in a bucket are read."""
    data = dataclasses.replace(tiny.data, order="blocks")
    return dataclasses.replace(tiny, eval_every=4, data=data)


def _scored(forward, variables, step):
    return {"score": float(step)}


@pytest.fixture(scope="module")
def whole(config, demo_records, tmp_path_factory):
    """(workdir, final state) of a run on this machine without a break."""
    workdir = tmp_path_factory.mktemp("whole")
    state = train(config, data_dir=demo_records, workdir=workdir, evaluate=_scored)
    return workdir, jax.device_get(state)


@pytest.fixture(scope="module", params=PLACES)
def killed(request, bucket_of, config, demo_records):
    """(workdir, step of its checkpoint when it died in an evaluation, state when it had ended)."""
    place = bucket_of(request.param)
    workdir = f"{place}/run"
    paths.copy_folder(demo_records, as_path(place) / "records")

    def die(forward, variables, step):
        if step == 4:
            raise Killed
        return {"score": float(step)}

    arguments = {"data_dir": f"{place}/records", "workdir": workdir}
    save_experiment(config, workdir)
    with pytest.raises(Killed):
        train(config, **arguments, evaluate=die)
    reached = checkpoint.latest_step(workdir)
    state = train(config, **arguments, evaluate=_scored, profile=(5, 6))
    return workdir, reached, jax.device_get(state)


def test_killed_and_resumed_it_ends_as_a_local_one(killed, whole):
    """Of the evaluation in which it died, the steps are there already; its scores came later."""
    workdir, reached, state = killed
    assert reached == 4
    assert not Path("gs:").exists() and not Path("s3:").exists()
    assert_same(state, whole[1])
    assert checkpoint.scores(workdir) == {4: {"score": 4.0}, 6: {"score": 6.0}}
    ours, theirs = (
        [{k: v for k, v in row.items() if k not in TIMES} for row in read_log(place)]
        for place in (workdir, whole[0])
    )
    assert ours == theirs and [row["step"] for row in ours] == [0, 2, 3, 4, 4, 6, 6]


def test_the_trace_is_there(killed):
    (trace,) = (
        file
        for name, file in paths.walk_files(as_path(killed[0]) / "profile")
        if name.endswith(".xplane.pb")
    )
    assert len(trace.read_bytes()) > 10_000


def test_tensorboard_finds_the_same_there(killed, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    paths.copy_folder(as_path(killed[0]) / log_files.EVENTS, tmp_path)
    found = EventAccumulator(str(tmp_path)).Reload()
    rows = {row["step"]: row["loss"] for row in read_log(killed[0]) if "loss" in row}
    for event in found.Tensors("loss"):
        assert make_ndarray(event.tensor_proto) == np.float32(rows.pop(event.step))
    assert not rows


def test_the_model_is_loaded_and_exported_there(killed):
    """The export is read back bit for bit."""
    workdir, _, state = killed
    assert load_experiment(workdir).eval_every == 4
    model = load(workdir, compilation_cache=False)
    assert_same(jax.device_get(model.params), state.params)
    folder = f"{workdir}.export"
    write_model(folder, Pretrained(model.config, model.variables, model.tokenizer), to="clapjax")
    again = load_pretrained(folder)
    assert_same(again.variables["params"], state.params)
    with pytest.raises(ValueError, match="exists already"):
        write_model(folder, again, to="clapjax")
    with pytest.raises(ValueError, match="no such file or folder"):
        load(f"{workdir}.nothing", compilation_cache=False)


def test_it_is_evaluated_and_reported_there(killed, capsys):
    """Results, sounds and embeddings lie in the workdir; a second time they are read there."""
    workdir, _, _ = killed
    if not workdir.startswith("gs"):
        pytest.skip("by the same code as in the other bucket")
    what = ["--workdir", workdir, "--data_dir", f"{workdir[:-4]}/records", "--no_compilation_cache"]
    for _ in range(2):
        assert main(["eval", *what, "--config.evaluation.tasks=('zero_shot',)"]) == 0
    first, second = capsys.readouterr().out.split("wrote ")[:2]
    assert first.splitlines()[-1] == second.splitlines()[-1]
    (result,) = read_results(workdir)
    assert result.provenance["step"] == 6 and len(result.items) > 1
    page = (as_path(workdir) / "report.html").read_text()
    assert "Loss" in page or "loss" in page  # the curves of its log
    assert len(list((as_path(workdir) / "embeddings").iterdir())) >= 2
    assert main(["report", workdir, "--markdown"]) == 0
    assert "zero-shot" in capsys.readouterr().out.lower()


def test_a_damaged_checkpoint_is_set_aside(killed):
    """After all else, for it takes the newest one away."""
    workdir, _, state = killed
    folder = as_path(workdir) / checkpoint.CHECKPOINTS / "6"
    for below, file in paths.walk_files(folder):
        if "/d/" in below:  # of arrays
            file.write_bytes(file.read_bytes()[: file.stat().length // 2])
    template = jax.device_put(state)
    with checkpoint.open_manager(workdir) as manager, pytest.warns(UserWarning, match="6: cannot"):
        restored = checkpoint.restore(manager, template)
    assert int(restored.step) == 4
    there = as_path(workdir) / checkpoint.DAMAGED / "6"
    assert {below for below, _ in paths.walk_files(there)} >= {"_CHECKPOINT_METADATA"}
    assert checkpoint.latest_step(workdir) == 4


@pytest.mark.parametrize("kind", PLACES)
def test_no_object_of_the_log_is_written_for_ever(bucket_of, kind, monkeypatch):
    """Rows that a killed attempt had made beyond the checkpoint are gone from it."""
    folder, written = as_path(bucket_of(kind)), []
    monkeypatch.setattr(log_files, "ROWS", 3)

    def put(file, text):
        written.append(file.name)
        paths.write_text(file, text)

    monkeypatch.setattr(log_files, "write_text", put)
    rows = log_files.RowsParts(folder, [])
    for step in range(8):
        rows.append({"step": step})
    assert [row["step"] for row in read_log(folder)] == list(range(8))
    names = [f"{number:06d}.jsonl" for number in (0, 0, 0, 1, 1, 1, 2, 2)]
    assert written == names
    written.clear()
    log_files.RowsParts(folder, [{"step": step} for step in range(4)]).append({"step": 9})
    assert [row["step"] for row in read_log(folder)] == [0, 1, 2, 3, 9]
    assert set(written) == {"000001.jsonl"}  # and the third is gone
