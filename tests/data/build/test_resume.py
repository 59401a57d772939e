"""What a build that goes on does again: nothing but what changed."""

import csv
import dataclasses
import functools
import json
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import soundfile

from clapjax.cli.main import main
from clapjax.data import records
from clapjax.data.build import builder, examples, listing, processes
from clapjax.data.build import folder as building
from clapjax.data.build.folder import CACHE, alone
from clapjax.data.checking import check
from tests.data.build.layouts import RATE, SYNTHESIS, build
from tests.data.build.test_processes import tree


def _set(root: Path, clips: int) -> Path:
    """A folder of clips for training, and two to test on."""
    root.mkdir()
    for number in range(clips):
        _append(root, f"train-{number}", "train")
    for number in range(2):
        _append(root, f"test-{number}", "test")
    return root


def _append(root: Path, name: str, split: str, label: str = "") -> None:
    noise = np.random.default_rng(len(list(root.iterdir())))
    soundfile.write(root / f"{name}.wav", noise.uniform(-0.5, 0.5, 1000), RATE)
    table, new = root / "all.csv", not (root / "all.csv").exists()
    with table.open("a", newline="") as file:
        rows = [("file", "split", "label", "caption")] if new else []
        number = name.rpartition("-")[2]
        label = label or f"class {int(number) % 2}"
        csv.writer(file).writerows([*rows, (f"{name}.wav", split, label, f"Sound {name}")])


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The ids of what is decoded for a direct build, which "stop" ends."""
    made, original = [], examples.decode_clip

    def count(clip, *arguments, **settings):
        if "stop" in made:
            raise KeyboardInterrupt
        made.append(clip.id)
        return original(clip, *arguments, **settings)

    monkeypatch.setattr(examples, "decode_clip", count)
    return made


def test_a_clip_that_is_appended_costs_one_unit(tmp_path, decoded, monkeypatch):
    """Fails where edges move with the number of clips: of 358 units 61 stayed valid."""
    root = _set(tmp_path / "set", 41)
    with monkeypatch.context() as patch:
        patch.setattr(records, "write_metadata", lambda *_: 1 / 0)
        patch.setattr(Path, "replace", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build(root, tmp_path / "d")
    (tmp_path / "d.incomplete" / "placing").unlink()
    assert len(decoded) == 43
    decoded.clear()
    _append(root, "train-41", "train")
    assert build(root, tmp_path / "d").counts == {"train": 42, "test": 2}
    assert decoded == ["set-train/train-40", "set-train/train-41"]
    build(root, tmp_path / "clean")
    assert tree(tmp_path / "d") == tree(tmp_path / "clean")


def test_a_row_that_is_appended_afterwards_is_an_error_that_counts(tmp_path):
    """Fails where the settings alone are compared: the row was ignored."""
    root = _set(tmp_path / "set", 5)
    build(root, tmp_path / "d")
    before = tree(tmp_path / "d")
    _append(root, "train-5", "train")
    table = root / "all.csv"
    (root / "test-1.wav").rename(root / "other.wav")
    text = table.read_text().replace("Sound train-0", "A dog").replace("test-1.wav", "other.wav")
    table.write_text(text)
    with pytest.raises(records.RecordsError, match=r"\(2 new, 1 gone, 1 changed\).*--restart"):
        build(root, tmp_path / "d")
    assert tree(tmp_path / "d") == before
    assert build(root, tmp_path / "d", restart=True).counts == {"train": 6, "test": 2}
    assert build(root, tmp_path / "d").reused


def test_an_exclude_list_that_grew_is_a_change(tmp_path):
    root = _set(tmp_path / "set", 3)
    ids = tmp_path / "ids.txt"
    ids.write_text("youtube:aaaaaaaaaaa\n")
    with pytest.warns(UserWarning, match="names 1 recordings"):
        build(root, tmp_path / "d", exclude=(str(ids),))
    table = root / "all.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([f"{lines[0]},group", *(f"{row},freesound:{i}" for i, row in
                                                      enumerate(lines[1:]))]) + "\n")  # fmt: skip
    with pytest.warns(UserWarning, match="names 1 recordings"):
        build(root, tmp_path / "d", exclude=(str(ids),), restart=True)
    ids.write_text("freesound:1\n")
    with pytest.raises(records.RecordsError, match=r"\(0 new, 0 gone, 1 changed\)"):
        build(root, tmp_path / "d", exclude=(str(ids),))


def test_restart_leaves_alone_what_is_no_data_set(tmp_path):
    root = _set(tmp_path / "set", 3)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "thesis.txt").write_text("years of work")
    with pytest.raises(records.RecordsError, match="no records of clapjax"):
        build(root, tmp_path / "d", restart=True)
    assert (tmp_path / "d" / "thesis.txt").exists()


def test_the_listing_is_made_once(tmp_path, decoded, monkeypatch):
    root = _set(tmp_path / "set", 12)
    lists, original = [], listing.read_source

    def count(*arguments):
        lists.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(listing, "read_source", count)
    for _ in range(2):
        decoded.append("stop")
        with pytest.raises(KeyboardInterrupt):
            build(root, tmp_path / "d")
        decoded.clear()
    assert len(lists) == 1
    assert (tmp_path / "d.incomplete" / CACHE).exists()
    _append(root, "train-12", "train")
    assert build(root, tmp_path / "d").counts["train"] == 13
    assert len(lists) == 2


def test_a_bad_background_costs_no_finished_unit(tmp_path, monkeypatch):
    """Fails where one file of noise throws away all that was decoded and mixed."""
    root, noise = _set(tmp_path / "set", 6), tmp_path / "noise"
    noise.mkdir()
    soundfile.write(noise / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 4000), RATE)
    (noise / "b.wav").write_bytes(b"no sound")
    synthesis = dataclasses.replace(SYNTHESIS, background_share=0.5, background=str(noise))
    settings = {"mode": "mixup", "synthesis": synthesis}
    with pytest.raises(ValueError, match="b.wav: cannot be decoded"):
        build(root, tmp_path / "d", **settings)
    units = tmp_path / "d.incomplete" / "units"
    kept = {file.name: file.stat().st_mtime_ns for file in units.glob("decoded_*.json")}
    assert len(kept) == 2
    soundfile.write(noise / "b.wav", np.random.default_rng(1).uniform(-0.5, 0.5, 4000), RATE)
    seen = []

    def progress(items, total, what):
        seen.append(what)
        return items

    assert build(root, tmp_path / "d", progress=progress, **settings).counts["train"] == 13
    assert set(seen) == {"writing"}


def test_twenty_rejections_are_shown_and_all_are_in_a_file(tmp_path, capsys, monkeypatch):
    """Fails where a million of them are a million lines."""
    here = functools.partial(processes.run_units, processes=0)
    monkeypatch.setattr(builder, "run_units", lambda *args, processes, **kw: here(*args, **kw))
    root = _set(tmp_path / "set", 2)
    for number in range(30):
        _append(root, f"bad-{number}", "train")
        (root / f"bad-{number}.wav").write_bytes(b"no sound")
    command = ["records", "build", "--config", "configs/demo.py", "--config.source.kind=folder"]
    command += [f"--config.source.path={root}", "--config.source.mode=direct", "--processes=1"]
    assert main([*command, "--data_dir", str(tmp_path / "d")]) == 0
    said = capsys.readouterr()
    assert said.err.count("left out: set:") == 20 and "left out: 10 more" in said.err
    assert f"30 recordings left out, see {tmp_path / 'd'}/rejected.jsonl" in said.out
    command += ["--config.source.on_rejected=error"]
    assert main([*command, "--data_dir", str(tmp_path / "e")]) == 2
    said = capsys.readouterr().err
    file = tmp_path / "e.incomplete" / "rejected.jsonl"
    assert f"30 recordings rejected, see {file}:" in said and "and 10 more" in said
    assert said.count("set:train/bad-") == 20
    lines = [json.loads(line)["source"] for line in file.read_text().splitlines()]
    assert sorted(lines) == sorted(f"set:train/bad-{n}" for n in range(30))


def test_mixtures_longer_than_the_model_hears_are_an_error(tmp_path, capsys):
    """Fails where they are made, and cut in training, so that their captions are false."""
    command = ["records", "build", "--config", "configs/demo.py", "--data_dir", str(tmp_path / "d")]
    assert main([*command, "--config.synthesis.clip_seconds=60"]) == 2
    assert "synthesis.clip_seconds is 60, but the model hears 10 s" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# --- what lies in the folder of an unfinished build ------------------------------------------


def _stop_at(monkeypatch, root: Path, data_dir: Path, owner, name: str) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build(root, data_dir)


@pytest.mark.parametrize("damage", ["cut", "gone", "source"])
def test_placing_that_was_interrupted_costs_what_was_damaged_alone(
    tmp_path, decoded, monkeypatch, damage
):
    """Fails where a shard that has its name is taken as it is, or where all must be discarded."""
    root = _set(tmp_path / "set", 12)
    _stop_at(monkeypatch, root, tmp_path / "d", builder.records, "write_build")
    shards = sorted((tmp_path / "d.incomplete").glob("*train*-of-*"))
    decoded.clear()
    if damage == "cut":
        os.truncate(shards[1], shards[1].stat().st_size - 3)
    elif damage == "gone":
        shards[1].unlink()
    else:
        _append(root, "train-12", "train")
    again = ["set-train/train-12"] if damage == "source" else 4 * ["set-train"]
    build(root, tmp_path / "d")
    assert len(decoded) == len(again) and all(map(str.startswith, sorted(decoded), again))
    build(root, tmp_path / "clean")
    assert tree(tmp_path / "d") == tree(tmp_path / "clean")


def test_a_whole_set_whose_source_changed_and_changed_back_is_not_taken_apart(
    tmp_path, monkeypatch
):
    root = _set(tmp_path / "set", 12)
    build(root, tmp_path / "clean")
    _stop_at(monkeypatch, root, tmp_path / "d", building, "give_name")
    table = (root / "all.csv").read_text()
    _append(root, "train-12", "train")
    _stop_at(monkeypatch, root, tmp_path / "d", builder, "make_direct")
    (root / "all.csv").write_text(table)
    (root / "train-12.wav").unlink()
    build(root, tmp_path / "d")
    assert tree(tmp_path / "d") == tree(tmp_path / "clean")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff\x00garbage", b"null"])
def test_damaged_notes_of_a_build_cost_their_unit_and_no_more(tmp_path, monkeypatch, content):
    """Fails where what is no sidecar, or no listing, ends the build with a traceback."""
    root = _set(tmp_path / "set", 9)
    _stop_at(monkeypatch, root, tmp_path / "d", builder.records, "write_metadata")
    for name in (CACHE, "placing", "units/train-00001.json"):
        (tmp_path / "d.incomplete" / name).write_bytes(content)
    build(root, tmp_path / "d")
    build(root, tmp_path / "clean")
    assert tree(tmp_path / "d") == tree(tmp_path / "clean")


def test_two_builds_of_one_set_do_not_meet(tmp_path):
    """Fails where the second clears away what the first is writing."""
    root = _set(tmp_path / "set", 3)
    with alone(tmp_path / "d"):
        for restart in (False, True):
            with pytest.raises(records.RecordsError, match="another process is building it"):
                build(root, tmp_path / "d", restart=restart)
    build(root, tmp_path / "d")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["d", "set"]


def test_a_full_disk_is_one_line_with_its_path_and_the_build_goes_on(tmp_path, monkeypatch):
    """Fails where the library's RuntimeError, or an error without a path, comes through."""
    root = _set(tmp_path / "set", 5)
    build(root, tmp_path / "clean")
    before, said = resource.getrlimit(resource.RLIMIT_FSIZE), []
    for size in (10, 500, 100_000, 6500):  # bytes that a file may have: less than a shard needs
        if size == 6500:  # less than a tokenizer
            _stop_at(monkeypatch, root, tmp_path / "d", builder.records, "write_metadata")
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            with pytest.raises(OSError, match="File too large") as caught:
                build(root, tmp_path / "d")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        said.append(str(caught.value))
        assert str(tmp_path / "d.incomplete") in said[-1] and "\n" not in said[-1]
    assert "-000.array_record" in said[2] and "tokenizer" in said[3]
    build(root, tmp_path / "d")
    assert tree(tmp_path / "d") == tree(tmp_path / "clean")


def test_other_audio_under_the_same_names_makes_other_records(tmp_path):
    """Fails where a run goes on with them, and an evaluation takes the embeddings of the old."""
    root = _set(tmp_path / "set", 3)
    ids = []
    for seed in (0, 0, 1):
        noise = np.random.default_rng(seed).uniform(-0.5, 0.5, 1000)
        soundfile.write(root / "test-1.wav", noise, RATE)
        build(root, tmp_path / "d", restart=True)
        ids.append(records.build_id(tmp_path / "d"))
    assert ids[0] == ids[1] != ids[2]


def test_where_records_can_not_go_is_said_before_the_work(tmp_path, decoded, monkeypatch):
    """Fails where a link, a file or the current folder in its place is found out at the end."""
    root = _set(tmp_path / "set", 3)
    (tmp_path / "disk" / "real").mkdir(parents=True)
    (tmp_path / "link").symlink_to("disk/real")
    (tmp_path / "dangling").symlink_to("disk/new")
    for name, place in (("link", "real"), ("dangling", "new")):
        build(root, tmp_path / name)
        assert check(tmp_path / "disk" / place) == []
        assert build(root, tmp_path / name).reused
    decoded.clear()
    (tmp_path / "file").write_text("")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name, said in ((tmp_path / "file", "no records of clapjax"), (".", "where you are")):
        with pytest.raises(records.RecordsError, match=said):
            build(root, name)
    with pytest.raises(records.RecordsError, match="no records here"):
        records.read_build(".")
    with pytest.raises(ValueError, match="data.vocab_size must be at least 261, not 260"):
        build(root, tmp_path / "d", vocab_size=260)
    assert decoded == []
