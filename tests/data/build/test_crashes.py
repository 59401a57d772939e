"""A decoder that kills its process costs the file that it was given, and no other."""

import dataclasses
import functools
import os
import signal
import time
from pathlib import Path

import numpy as np

from clapjax.data import records
from clapjax.data.build import builder, processes
from clapjax.data.build.decoded import DecodeClips
from clapjax.data.build.processes import run_units
from clapjax.data.build.units import divide, rejected_of
from clapjax.data.sources.clip import Clip, Rejected, decode_clip
from tests.data.build.layouts import RATE, build


def _read(number: int, fatal: tuple[int, ...], once: str, rate: int) -> np.ndarray:
    """Samples of a clip, or the end of the process: for some always, for clip 5 the first time."""
    if number in fatal or (number == 5 and once and not os.path.exists(once)):
        if number not in fatal:
            Path(once).touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    return np.random.default_rng(number).uniform(-0.5, 0.5, 1000).astype(np.float32)


def _clips(fatal: tuple[int, ...], once: str = "") -> list[Clip]:
    return [
        Clip(
            id=f"set-{n}",
            label="",
            fold=None,
            group=f"recording {n}",
            source=f"set:{n}",
            read=functools.partial(_read, n, fatal, once),
            captions=(f"Sound {n}",),
        )
        for n in range(10)
    ]


def test_it_is_tried_twice_and_left_out(tmp_path):
    """Clips 3 and 7 crash always, 5 the first time: out of memory beside others, perhaps."""
    work = DecodeClips(str(tmp_path), "", RATE, 0.1, -70.0, prints=True)
    units = divide("decoded", _clips((3, 7), str(tmp_path / "crashed")), 5)
    counted = []

    def progress(items, total, what):
        counted.append((total, sum(1 for _ in items)))
        return ()

    run_units(units, work, "decoding", processes=2, progress=progress)
    assert (tmp_path / "crashed").exists() and counted == [(10, 10)]
    known = [work.load(unit) for unit in units]
    reason = "decoding it killed the process (SIGSEGV)"
    assert rejected_of(known) == [Rejected("set:3", reason), Rejected("set:7", reason)]
    kept = [clip for pair in zip(units, known, strict=True) for clip in work.recordings(*pair)]
    assert [clip.clip.id for clip in kept] == [f"set-{n}" for n in range(10) if n not in (3, 7)]
    for clip in kept:
        alone = decode_clip(clip.clip, RATE, min_seconds=0.1, silence_db=-70.0)
        np.testing.assert_array_equal(clip.open().samples[:], alone.samples)


def test_it_costs_a_build_that_file(tmp_path, monkeypatch):
    """Fails where the process that died ends the build, at the same clip each time."""
    monkeypatch.setattr(builder, "list_source", lambda *_: (_clips((3,)), [], b""))
    result = build(tmp_path, tmp_path / "d", processes=1)
    assert [item.source for item in result.rejected] == ["set:3"]
    named = {example.source for example in records.read_examples(tmp_path / "d", "train")}
    assert named == {f"set:{n}" for n in range(10) if n != 3}


def test_a_decoder_that_never_comes_back_costs_its_file(tmp_path, monkeypatch):
    """Fails where it blocks the build for ever."""
    monkeypatch.setattr(processes, "STUCK", 1)
    monkeypatch.setattr(processes, "PAUSE", 0.1)
    clips = _clips(())
    clips[4] = dataclasses.replace(clips[4], read=_hang)
    monkeypatch.setattr(builder, "list_source", lambda *_: (clips, [], b""))
    result = build(tmp_path, tmp_path / "d", processes=2)
    reason = "decoding it killed the process (nothing came of it for 1 s)"
    assert result.rejected == [Rejected("set:4", reason)]
    assert result.counts == {"train": 9}


def _hang(rate: int) -> np.ndarray:
    while True:
        time.sleep(60)
