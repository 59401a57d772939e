"""Compiled programs are found again by the next start; whatever befalls them, it goes on."""

import collections
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache as jax_cache

import clapjax
from clapjax import compilation
from clapjax.cli.compiled import say_where_compiled
from clapjax.cli.main import main
from tests.inference.tiny import make_workdir
from tests.training.tiny import tiny_config, train

OURS = (
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_enable_compilation_cache",
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where they are kept, in a process to which nobody has told anything of it."""
    before = {name: getattr(jax.config, name) for name in OURS}
    for name, value in zip(OURS, (None, -1, 1.0, True), strict=True):
        jax.config.update(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    _start_again()
    yield tmp_path / "caches" / "clapjax" / "compiled"
    for name, value in before.items():
        jax.config.update(name, value)
    _start_again()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return make_workdir(tmp_path_factory.mktemp("model"))


@pytest.fixture
def events():
    """How often JAX did what to its cache, by the last word of the event."""
    counts = collections.Counter()

    def count(event: str, **_) -> None:
        if event.startswith("/jax/compilation_cache/"):
            counts[event.rpartition("/")[2]] += 1

    jax.monitoring.register_event_listener(count)
    yield counts
    jax.monitoring.unregister_event_listener(count)


def _start_again() -> None:
    """As a new process: nothing is compiled, no folder is open."""
    jax.clear_caches()
    jax_cache.reset_cache()


def _wave(scale: int = 1) -> np.ndarray:
    """A program of its own for each scale."""
    return np.asarray(jax.jit(lambda x: jnp.sin(x * scale) @ x)(jnp.arange(16.0)))


def _entries(folder) -> list:
    return sorted(folder.glob("*-cache"))


def test_a_second_training_compiles_nothing_and_ends_the_same(
    folder, events, demo_records, tmp_path
):
    assert clapjax.compilation_cache() == str(folder)
    states = []
    for name in ("first", "second"):
        _start_again()
        events.clear()
        states.append(
            train(
                tiny_config(),
                data_dir=demo_records,
                workdir=tmp_path / name,
                evaluate=lambda forward, variables, step: {"score": 0.0},
            )
        )
        if name == "first":
            assert events["cache_misses"] == events["compile_requests_use_cache"] > 1
    assert events["cache_hits"] == events["compile_requests_use_cache"] > 1
    assert events["cache_misses"] == 0
    jax.tree.map(np.testing.assert_array_equal, *map(jax.device_get, states))


def test_a_second_load_compiles_nothing(folder, events, workdir):
    vectors = []
    for _ in range(2):
        _start_again()
        events.clear()
        vectors.append(clapjax.load(workdir).embed_text(["a dog barks", "rain"]))
    assert events["cache_hits"] == events["compile_requests_use_cache"] > 0
    np.testing.assert_array_equal(*vectors)
    assert _entries(folder)


def test_verbs_keep_programs_unless_told_not_to(folder, workdir, tmp_path, capsys):
    (tmp_path / "texts").write_text("a dog barks\n")
    embed = ["embed", "--model", str(workdir), "--texts", str(tmp_path / "texts")]
    out = ["--out", str(tmp_path / "out.npz")]
    assert main([*embed, *out, "--no_compilation_cache"]) == 0
    assert not folder.exists()
    say_where_compiled()
    assert "compiled programs" not in capsys.readouterr().err
    jax.config.update("jax_enable_compilation_cache", True)
    _start_again()
    assert main([*embed, *out]) == 0
    assert _entries(folder) and "compiled programs" not in capsys.readouterr().err
    say_where_compiled()
    assert f"compiled programs: {folder} " in capsys.readouterr().err


def test_what_jax_was_told_stays(folder, tmp_path, monkeypatch):
    theirs = {
        "jax_compilation_cache_dir": str(tmp_path / "theirs"),
        "jax_compilation_cache_max_size": 12_345_678,
        "jax_persistent_cache_min_compile_time_secs": 0.25,
    }
    for name, value in theirs.items():
        jax.config.update(name, value)
    assert clapjax.compilation_cache() == str(tmp_path / "theirs")
    assert {name: getattr(jax.config, name) for name in theirs} == theirs
    jax.config.update("jax_enable_compilation_cache", False)
    assert clapjax.compilation_cache() is None
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", "")
    assert clapjax.compilation_cache() is None
    assert not folder.exists()


def test_one_of_several_processes_keeps_none_by_itself(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert clapjax.compilation_cache() is None and not folder.exists()
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "shared"))
    assert clapjax.compilation_cache() == str(tmp_path / "shared")


def test_a_relative_folder_for_caches_does_not_count(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in ("", "caches"):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert compilation.default_folder() == tmp_path / ".cache" / "clapjax" / "compiled"


def test_a_folder_that_cannot_be_made_is_a_warning(folder):
    folder.parent.parent.write_text("a file in the way")
    with pytest.warns(UserWarning, match="compiled programs are not kept: .*caches"):
        assert clapjax.compilation_cache() is None
    assert _wave() == pytest.approx(np.sin(np.arange(16.0)) @ np.arange(16.0), rel=1e-5)


def test_the_least_used_go_where_there_are_too_many(folder, monkeypatch):
    clapjax.compilation_cache()
    _wave(1)
    size = sum(path.stat().st_size for path in _entries(folder))
    monkeypatch.setattr(compilation, "MAX_BYTES", int(3.5 * size))
    jax.config.update("jax_compilation_cache_dir", None)
    _start_again()
    clapjax.compilation_cache()
    for scale in range(2, 8):
        _wave(scale)
        assert sum(path.stat().st_size for path in _entries(folder)) <= 3.5 * size
    assert _entries(folder)


def test_half_written_entries_are_removed_and_written_again(folder, events):
    """JAX itself never writes again a key whose entry is there, nor anything beside a half one."""
    clapjax.compilation_cache()
    expected = _wave(1)
    _wave(2)
    half, *_ = lost = [path for path in folder.glob("*-atime")]
    half.unlink()
    entry = half.with_name(half.name.replace("-atime", "-cache"))
    entry.write_bytes(entry.read_bytes()[:100])
    jax.config.update("jax_compilation_cache_dir", None)
    _start_again()
    events.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clapjax.compilation_cache()
        np.testing.assert_array_equal(_wave(1), expected)
        _wave(2)
    assert len(list(folder.glob("*-atime"))) == len(_entries(folder)) == len(lost)
    assert events["cache_misses"] == 1


def test_a_damaged_entry_is_a_warning(folder):
    clapjax.compilation_cache()
    expected = _wave()
    for path in _entries(folder):
        path.write_bytes(path.read_bytes()[:-40] + bytes(40))
    _start_again()
    with pytest.warns(UserWarning, match="reading persistent compilation cache"):
        np.testing.assert_array_equal(_wave(), expected)
