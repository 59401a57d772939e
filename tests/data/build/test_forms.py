"""One source built as PCM, FLAC and log-mels."""

import importlib.util

import numpy as np
import pytest

from clapjax.audio.config import AudioConfig
from clapjax.audio.host_mel import host_log_mel
from clapjax.data import records
from clapjax.data.build import builder as build
from clapjax.data.build.config import SourceConfig
from clapjax.data.checking import check
from clapjax.data.config import DataConfig
from tests.data.build.test_builder import RATE, SYNTHESIS, _good
from tests.data.building import assert_same

AUDIO = AudioConfig(sample_rate=RATE, clip_samples=2 * RATE, hop_length=320, fmax=8000.0)


def test_a_source_in_every_form(tmp_path):
    folder = _good(tmp_path / "esc")

    def run(kind: str, name: str = "", processes: int = 0, **changes):
        source = {"kind": "esc50", "path": str(folder.root), "train_folds": (1, 2)}
        settings = {"seed": 0, "sample_rate": RATE, "data_dir": tmp_path / (name or kind)}
        return build.build_records(
            SourceConfig(**source, test_folds=(4,)),
            SYNTHESIS,
            DataConfig(vocab_size=300, audio=kind),
            audio=AUDIO,
            processes=processes,
            **settings | changes,
        )

    found = {kind: run(kind) for kind in ("auto", "flac", "mel")}
    assert found["auto"].counts == found["flac"].counts == found["mel"].counts
    for kind in ("flac", "mel"):
        assert check(tmp_path / kind) == [] and records.read_form(tmp_path / kind).kind == kind
        for split in found["auto"].counts:
            ours, theirs = (
                list(records.read_examples(tmp_path / one, split)) for one in (kind, "auto")
            )
            for one, pcm in zip(ours, theirs, strict=True):
                if (kind, split) == ("mel", "train"):
                    assert one.seconds == pcm.seconds and one.captions == pcm.captions
                    np.testing.assert_array_equal(one.audio, host_log_mel(pcm.audio, AUDIO))
                else:
                    assert_same(one, pcm)
    assert records.read_form(tmp_path / "mel").mel_splits == ("train",)
    with pytest.raises(records.RecordsError, match="other settings: data.audio was 'mel'"):
        run("flac", "mel")
    assert run("mel").reused and run("pcm", "auto").reused
    ways = {"processes": {"processes": 2}}
    if importlib.util.find_spec("apache_beam"):
        ways["beam"] = {"runner": "direct"}
    for name, how in ways.items():
        run("mel", name, **how)
        for file in (tmp_path / "mel").glob("*array_record*"):
            assert file.read_bytes() == (tmp_path / name / file.name).read_bytes()
    with pytest.raises(ValueError, match="data.audio=mel: log-mels are of a model's front end"):
        run("mel", "other", sample_rate=8000)
