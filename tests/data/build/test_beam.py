"""The same data set on Apache Beam as in processes; Beam is an extra, clapjax[beam]."""

import importlib.util
import sys

import pytest

from clapjax.cli.main import main
from tests.data.build.test_processes import build, clean, folder, tree

assert clean and folder  # fixtures

HERE = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
BUNDLES = "apache_beam.runners.direct.direct_runner.BundleBasedDirectRunner"


@pytest.fixture
def beam():
    """Skips where Beam is not installed."""
    return pytest.importorskip("apache_beam", reason="Apache Beam is not installed (clapjax[beam])")


@pytest.mark.parametrize("runner", ["direct", "DirectRunner", BUNDLES])
def test_beam_makes_the_same(beam, clean, folder, tmp_path, runner):
    mode, data_dir = clean
    build(folder, tmp_path / "d", mode, runner=runner)
    assert tree(tmp_path / "d") == tree(data_dir)


def test_beam_in_processes_of_its_own(beam, clean, folder, tmp_path):
    mode, data_dir = clean
    options = "--direct_num_workers=2 --direct_running_mode=multi_processing"
    build(folder, tmp_path / "d", mode, runner="direct", beam_options=options)
    assert tree(tmp_path / "d") == tree(data_dir)


def test_no_binary_is_downloaded(beam, clean, folder, tmp_path, monkeypatch):
    """Beam's own DirectRunner would fetch and start Prism."""
    from apache_beam.runners.portability import prism_runner

    def fail(*_):
        raise AssertionError("Prism was asked for")

    monkeypatch.setattr(prism_runner.PrismRunner, "__init__", fail)
    mode, data_dir = clean
    build(folder, tmp_path / "d", mode, runner="DirectRunner")
    assert tree(tmp_path / "d") == tree(data_dir)


def test_the_graph_holds_names_and_not_clips(beam, folder, tmp_path, monkeypatch):
    """Fails where 600,000 clips make a graph of 145 MiB."""
    created, original = [], beam.Create

    def create(items):
        created.extend(items)
        return original(items)

    monkeypatch.setattr(beam, "Create", create)
    build(folder, tmp_path / "d", runner="direct")
    assert len(created) >= 5 and all(isinstance(item, str) for item in created)


def test_an_unknown_runner(beam, folder, tmp_path):
    with pytest.raises(ValueError, match="--runner NoRunner: "):
        build(folder, tmp_path / "d", runner="NoRunner")
    assert not any((tmp_path / "d.incomplete" / "units").iterdir())


def test_without_beam(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    command = ["records", "build", "--config", "configs/demo.py:runlocal", "--runner", "direct"]
    assert main([*command, "--data_dir", str(tmp_path / "d")]) == 2
    assert capsys.readouterr().err.endswith(
        "clapjax records: --runner needs Apache Beam: pip install 'clapjax[beam]'\n"
    )


def test_the_name_of_the_runner_in_this_process():
    from clapjax.data import beam

    assert beam.IN_PROCESS == HERE
    if importlib.util.find_spec("apache_beam"):
        from apache_beam.runners.runner import create_runner

        assert type(create_runner(HERE)).__name__ == "FnApiRunner"
