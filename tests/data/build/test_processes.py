"""Whoever does the work, and however often it is killed, the data set is the same bytes."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile

from clapjax.cli.main import main
from clapjax.data import records
from clapjax.data.build import examples, processes
from clapjax.data.build.builder import build_records
from clapjax.data.build.config import SourceConfig
from clapjax.data.build.folder import RejectedError
from clapjax.data.build.units import Unit, Work, divide
from clapjax.data.checking import check
from clapjax.data.config import DataConfig
from clapjax.synthesis.mixup import MixupConfig
from clapjax.synthesis.sounds import SOUND_CLASSES, render
from tests.conftest import REPO

RATE = 8000
SHARD_BYTES = {"direct": 640_000, "mixup": 40_000}  # four samples or so to a unit
SYNTHESIS = MixupConfig(
    train_mixtures=40,
    test_mixtures=9,
    crops_per_recording=1,
    clip_seconds=0.6,
    min_event_seconds=0.2,
    max_event_seconds=0.3,
    max_crossfade_seconds=0.05,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """36 short clips in a table, at twice the rate of the records; four of them unusable."""
    root = tmp_path_factory.mktemp("source") / "set"
    root.mkdir()
    lines = ["file,label,split"]
    for number in range(36):
        name = SOUND_CLASSES[number % 6]
        split = "test" if number % 3 == 0 else "train"
        soundfile.write(root / f"{number}.wav", render(name, (1, number), 0.4, 2 * RATE), 2 * RATE)
        lines.append(f"{number}.wav,{name},{split}")
    (root / "7.wav").write_bytes(b"no sound")
    (root / "11.wav").unlink()
    soundfile.write(root / "20.wav", [0.0] * RATE, RATE)
    (root / "33.wav").write_bytes((root / "33.wav").read_bytes()[:60])
    (root / "all.csv").write_text("\n".join(lines) + "\n")
    return root


def build(folder: Path, data_dir: Path, mode: str = "direct", **changes):
    """Builds the records of `folder`."""
    source = {"kind": "folder", "path": str(folder), "mode": mode}
    source |= {key: changes.pop(key) for key in list(changes) if hasattr(SourceConfig, key)}
    settings = {"seed": 0, "shard_bytes": SHARD_BYTES[mode]} | changes
    data = DataConfig(vocab_size=300)
    synthesis = settings.pop("synthesis", SYNTHESIS)
    return build_records(
        SourceConfig(**source), synthesis, data, sample_rate=RATE, data_dir=data_dir, **settings
    )


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with the hash of its bytes."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module", params=["direct", "mixup"])
def clean(request, folder, tmp_path_factory):
    """(mode, an undisturbed build in one process)."""
    data_dir = tmp_path_factory.mktemp(request.param) / "records"
    build(folder, data_dir, request.param)
    return request.param, data_dir


def test_there_are_shards_and_rejections(clean):
    mode, data_dir = clean
    splits = records.open_builder(data_dir).info.splits
    assert splits["train"].num_shards >= 3 and splits["test"].num_shards >= 2
    lines = (data_dir / "rejected.jsonl").read_text().splitlines()
    named = {json.loads(line)["source"].rpartition("/")[2] for line in lines}
    assert named == {"7", "11", "20", "33"} and len(lines) == 4
    assert check(data_dir) == []
    assert list(data_dir.parent.iterdir()) == [data_dir]


@pytest.mark.parametrize("drop", [False, True])
def test_processes_make_the_same(clean, folder, tmp_path, drop):
    mode, data_dir = clean
    if drop:
        build(folder, tmp_path / "one", mode, drop_duplicates=True)
        data_dir = tmp_path / "one"
    counted = []

    def progress(items, total, what):
        counted.append((what, total, sum(1 for _ in items)))
        return ()

    build(folder, tmp_path / "d", mode, processes=2, progress=progress, drop_duplicates=drop)
    assert tree(tmp_path / "d") == tree(data_dir)
    assert counted and all(total == seen for _, total, seen in counted)


# --- interruptions --------------------------------------------------------------------------

KILLED = """
import os, random, signal, sys, time
import numpy
from pathlib import Path
from array_record.python import array_record_module
from clapjax.data.records import serializer
from clapjax.data.schema import Example
from tests.data.build.test_processes import RATE, build
serializer("a")(Example("a", numpy.ones(9, numpy.int16), RATE, ("a",)))  # what it imports is there
folder, killed, clean, mode = (*map(Path, sys.argv[1:4]), sys.argv[4])

def slowly(items, total, what):  # so that what is between two units takes a while
    for item in items:
        time.sleep(0.005)
        yield item

def start(data_dir):
    child = os.fork()  # before any thread: this process itself builds nothing
    if not child:
        build(folder, data_dir, mode, progress=slowly)
        os._exit(0)
    return child

assert os.waitpid(start(clean), 0)[1] == 0
shards = len(list(clean.glob("*_record-*")))
chance = random.Random(sys.argv[5])
units = killed.with_name("killed.incomplete") / "units"
for attempt in range(10):
    child, ended = start(killed), 0
    while not ended and len(list(units.glob("*.json"))) < attempt * shards // 10:
        ended = os.waitpid(child, os.WNOHANG)[0]
    time.sleep(chance.uniform(0, 0.03))
    if not ended:
        os.kill(child, signal.SIGKILL)
        ended = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        print(int(ended), len(list(units.glob("*.json"))), flush=True)
assert os.waitpid(start(killed), 0)[1] == 0
"""


def test_killed_ten_times(clean, folder, tmp_path, quick_env):
    """Forks of a warm process, so that each kill falls into the work and not into imports."""
    mode, data_dir = clean
    arguments = [folder, tmp_path / "killed", tmp_path / "again", mode, "seed"]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, arguments)],
        cwd=REPO,
        env=quick_env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    attempts = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert [killed for killed, _ in attempts] == [1] * 10
    assert len({units for _, units in attempts}) >= 5  # at different moments
    assert tree(tmp_path / "killed") == tree(data_dir) == tree(tmp_path / "again")
    assert not (tmp_path / "killed.incomplete").exists()


def test_a_killed_command_leaves_no_process_and_goes_on(tmp_path, quick_env):
    command = [
        *("records", "build", "--config", "configs/demo.py:runlocal", "--processes", "2"),
        *("--config.source.sounds_per_fold=4", "--data_dir"),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "clapjax", *command, str(tmp_path / "d")],
        env=quick_env,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    units = tmp_path / "d.incomplete" / "units"
    wait_until(lambda: process.poll() is not None or any(units.glob("decoded_*.json")), 120)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)  # the parent alone
    process.wait()
    wait_until(lambda: not _alive(process.pid), 30)
    kept = {file.name: file.stat().st_mtime_ns for file in units.glob("decoded_*.json")}
    assert kept

    seen = {}

    def spy(items, total, what):
        for item in items:
            seen.update({file.name: file.stat().st_mtime_ns for file in units.glob("*.json")})
            yield item

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clapjax.cli.records.progress", spy)
        assert main([*command, str(tmp_path / "d")]) == 0
        assert main([*command, str(tmp_path / "clean"), "--processes", "1"]) == 0
    assert kept.items() <= seen.items()  # what was finished was not made again
    assert tree(tmp_path / "d") == tree(tmp_path / "clean")


def wait_until(condition, seconds: float) -> None:
    """Waits for something that must happen."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _interrupted(folder, data_dir, monkeypatch, after: int, **changes) -> None:
    """A build that stops after some clips."""
    made = []

    def stop(*arguments, **settings):
        made.append(arguments)
        if len(made) > after:
            raise KeyboardInterrupt
        return original(*arguments, **settings)

    original = examples.decode_clip
    with monkeypatch.context() as patch:
        patch.setattr(examples, "decode_clip", stop)
        with pytest.raises(KeyboardInterrupt):
            build(folder, data_dir, **changes)


def _count_made(monkeypatch) -> list:
    made, original = [], examples.decode_clip

    def count(clip, *args, **settings):
        made.append(clip.id)
        return original(clip, *args, **settings)

    monkeypatch.setattr(examples, "decode_clip", count)
    return made


def test_what_is_finished_is_not_made_again(folder, tmp_path, monkeypatch):
    _interrupted(folder, tmp_path / "d", monkeypatch, after=20)
    units = sorted((tmp_path / "d.incomplete" / "units").glob("*.json"))
    assert len(units) >= 2
    made = _count_made(monkeypatch)
    build(folder, tmp_path / "d")
    assert 35 - 20 <= len(made) < 35 - 6
    build(folder, tmp_path / "clean")
    assert tree(tmp_path / "d") == tree(tmp_path / "clean")


@pytest.mark.parametrize("damage", ["cut", "gone", "sidecar"])
def test_a_unit_that_a_power_failure_damaged_is_made_again(folder, tmp_path, monkeypatch, damage):
    _interrupted(folder, tmp_path / "d", monkeypatch, after=20)
    units = tmp_path / "d.incomplete" / "units"
    victim = units / ("test-00000.json" if damage == "sidecar" else "test-00000-000.array_record")
    if damage == "gone":
        victim.unlink()
    else:
        os.truncate(victim, victim.stat().st_size // 2)
    build(folder, tmp_path / "d")
    build(folder, tmp_path / "clean")
    assert tree(tmp_path / "d") == tree(tmp_path / "clean")


def test_other_settings_are_refused_and_nothing_is_lost(folder, tmp_path, monkeypatch):
    """Fails where they discard without a word what is finished."""
    _interrupted(folder, tmp_path / "d", monkeypatch, after=20)
    kept = tree(tmp_path / "d.incomplete" / "units")
    for changes, said in (
        ({"min_seconds": 0.2}, "source.min_seconds was 0.1, is 0.2"),
        ({"seed": 1}, "seed was 0, is 1"),
        ({"shard_bytes": 10**6}, "shard_bytes was 640000, is 1000000"),
    ):
        with pytest.raises(records.RecordsError, match=f"{said}. Go on .* discard .*--restart"):
            build(folder, tmp_path / "d", **changes)
    assert tree(tmp_path / "d.incomplete" / "units").items() >= kept.items()
    made = _count_made(monkeypatch)
    # What a direct build of a folder does not use is no difference, nor is the way it fails.
    unused = {"sounds_per_fold": 3, "on_rejected": "error", "synthesis": MixupConfig(captions=2)}
    with pytest.raises(RejectedError):
        build(folder, tmp_path / "d", **unused)
    assert 0 < len(made) < 35
    made.clear()
    build(folder, tmp_path / "d", min_seconds=0.2, restart=True)
    assert len(made) == 35
    build(folder, tmp_path / "clean", min_seconds=0.2)
    assert tree(tmp_path / "d") == tree(tmp_path / "clean")


def test_an_edited_table_is_noticed(folder, tmp_path, monkeypatch):
    """Units whose clips are as they were are kept, the others are made again."""
    other = tmp_path / "set"
    other.mkdir()
    for file in folder.iterdir():
        os.link(file, other / file.name)
    _interrupted(other, tmp_path / "d", monkeypatch, after=30)
    text = (other / "all.csv").read_text()
    (other / "all.csv").unlink()
    (other / "all.csv").write_text(text.replace(f"0.wav,{SOUND_CLASSES[0]}", "0.wav,gong", 1))
    made = _count_made(monkeypatch)
    build(other, tmp_path / "d")
    assert "set-test/0" in made and len(made) < 35
    captions = {e.id: e.captions for e in records.read_examples(tmp_path / "d", "test")}
    assert captions["set-test/0"] == ("The sound of gong",)


def test_placing_is_taken_up_again(folder, tmp_path, monkeypatch):
    """Killed while shards get their names, and after the last byte."""
    for name in ("write_metadata", "write_build"):
        with monkeypatch.context() as patch:
            patch.setattr(records, name, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                build(folder, tmp_path / "d")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", _fail_on(tmp_path / "d"))
        with pytest.raises(KeyboardInterrupt):
            build(folder, tmp_path / "d")
    made = _count_made(monkeypatch)
    result = build(folder, tmp_path / "d")
    assert made == [] and len(result.rejected) == 4
    build(folder, tmp_path / "clean")
    assert tree(tmp_path / "d") == tree(tmp_path / "clean")


def _fail_on(target: Path):
    original = os.replace

    def replace(source, place):
        if Path(place) == target:
            raise KeyboardInterrupt
        original(source, place)

    return replace


# --- processes that fail --------------------------------------------------------------------


@dataclass(frozen=True)
class Trouble(Work):
    """Work that fails at the item -1, and ends its process at -2."""

    def __call__(self, unit: Unit):
        for item in unit.items:
            if item == -1:
                raise soundfile.LibsndfileError(7, prefix="no ")
            if item == -2:
                os._exit(1)
            yield


def _run(items, count=2):
    seen = []

    def progress(ticks, total, what):
        seen.extend(ticks)
        return ()

    units = divide("train", items, 2)
    processes.run_units(units, Trouble("", ""), "testing", processes=count, progress=progress)
    return len(seen)


def test_every_item_is_counted():
    assert _run(range(11)) == 11 == _run(range(11), count=1)


def test_an_error_comes_through():
    with pytest.raises(soundfile.LibsndfileError, match="no ") as caught:
        _run([0, 1, 2, -1, 3, 4])
    assert "in a process of its own" in caught.value.__notes__[0]


def test_a_process_that_dies_is_one_clear_error():
    with pytest.raises(
        ChildProcessError, match=r"a process died \(exit status 1\) while it made train-00001"
    ):
        _run([0, 1, 2, -2, 3, 4])


def test_bad_settings(folder, tmp_path, capsys):
    with pytest.raises(ValueError, match="processes must be at least 0, not -1"):
        build(folder, tmp_path / "d", processes=-1)
    command = ["records", "build", "--config", "configs/demo.py", "--data_dir", str(tmp_path / "d")]
    for extra, words in (
        (["--processes", "2", "--runner", "direct"], "either --processes or --runner"),
        (["--beam_options=--x=1"], "--beam_options goes with --runner"),
        (["--processes", "0"], "processes must be at least 1"),
        (
            ["--data_dir", "ftp://host/d"],
            "ftp:// is not known; use a folder of this machine, gs://",
        ),
    ):
        assert main([*command, *extra]) == 2
        assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
