"""Records straight from the sources: captions and splits as published, whatever holds them."""

import dataclasses
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from clapjax.data import records
from clapjax.data.build.builder import build_records
from clapjax.data.build.config import SourceConfig
from clapjax.data.build.examples import DirectExamples, label_caption, sounding_order
from clapjax.data.build.folder import RejectedError
from clapjax.data.checking import check
from clapjax.data.config import DataConfig
from clapjax.data.schema import Example
from clapjax.data.sources.clip import Clip, TimedEvent
from clapjax.synthesis.mixup import MixupConfig
from tests.conftest import REPO
from tests.data.layouts import LAYOUTS
from tests.data.miniature import RATE, sound, write_audio, write_table

DATA = DataConfig(vocab_size=300)
FOLDS = {"train_folds": (1, 4, 5), "test_folds": (10,)}


def _build(data_dir, kind, root, data=DATA, **source):
    source = {"mode": "direct", **FOLDS} | source
    return build_records(
        SourceConfig(kind=kind, path=str(root), **source),
        MixupConfig(),
        data,
        seed=0,
        sample_rate=RATE,
        data_dir=data_dir,
    )


def _examples(data_dir) -> dict[str, Example]:
    splits = records.read_build(data_dir)["counts"]
    return {f"{s}/{e.id}": e for s in splits for e in records.read_examples(data_dir, s)}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_every_source_becomes_records(kind, tmp_path):
    layout = LAYOUTS[kind](tmp_path / "effects")
    result = _build(tmp_path / "d", kind, tmp_path / "effects")
    assert result.rejected == [] and check(tmp_path / "d") == []
    found = _examples(tmp_path / "d")
    assert len(found) == len(layout.clips)
    for clip in layout.clips:
        split = clip.split or ("test" if clip.fold == 10 else "train")
        example = found[f"{split}/{clip.id}"]
        assert example.labels == clip.labels
        if clip.captions:
            assert (example.captions, example.provenance) == (clip.captions, clip.provenance)
        else:
            if len(example.events) < 2:  # else its order is told
                assert example.captions == (label_caption(clip.labels),)
            assert example.provenance == "template"
        assert example.sample_rate == RATE and example.negative_captions == ()
        assert abs(example.audio.size - sound(clip.sound).size) <= 1


def _serialized(data_dir) -> dict[str, list[bytes]]:
    splits = records.read_build(data_dir)["counts"]
    return {split: list(records.read_serialized(data_dir, split)) for split in splits}


def _without_origin(serialized: dict[str, list[bytes]]) -> dict[str, list[bytes]]:
    """The origin is the file, the member of the tar or the row."""
    parse = records.parser()
    return {
        split: [
            records.serializer(split)(dataclasses.replace(parse(data), origin="")) for data in part
        ]
        for split, part in serialized.items()
    }


def test_tar_table_and_parquet_give_the_same_records(tmp_path):
    built = {}
    for kind in ("laion", "folder", "parquet"):
        LAYOUTS[kind](tmp_path / kind / "effects")
        _build(tmp_path / f"{kind}.d", kind, tmp_path / kind / "effects")
        built[kind] = _without_origin(_serialized(tmp_path / f"{kind}.d"))
    assert {split: len(part) for split, part in built["laion"].items()} == {"test": 1, "train": 2}
    assert built["laion"] == built["folder"] == built["parquet"]  # byte for byte
    texts = [(tmp_path / f"{k}.d" / "tokenizer" / "tokenizer.json").read_text() for k in built]
    assert len(set(texts)) == 1


def test_another_process_writes_the_same_bytes(tmp_path, quick_env):
    """Protocol buffers order their maps by a seed that each process draws anew."""
    LAYOUTS["folder"](tmp_path / "effects")
    _build(tmp_path / "here", "folder", tmp_path / "effects")
    code = (
        "import sys; from pathlib import Path; from tests.data.test_sources_records import _build; "
        "_build(Path(sys.argv[1]), 'folder', sys.argv[2])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "there"), str(tmp_path / "effects")]
    subprocess.run(command, check=True, cwd=REPO, env=quick_env, timeout=300)
    assert _serialized(tmp_path / "here") == _serialized(tmp_path / "there")


def test_strong_labels_give_the_order_of_events(tmp_path):
    LAYOUTS["audioset"](tmp_path / "as")
    _build(tmp_path / "d", "audioset", tmp_path / "as")
    found = _examples(tmp_path / "d")
    first = found["train/audioset-train/--PJHxphWEs_30000"]
    assert first.events == ("Gush", "Speech", "Gush")
    for caption in first.captions:
        assert re.findall("gush|speech", caption.lower()) == ["gush", "speech", "gush"]
    assert first.negative_captions == ()  # speech is before and after a gush
    assert found["train/audioset-train/YxlGt805lTA_0"].events == ("Dog",)
    assert found["test/audioset-test/-0mjrMposBM_120000"].events == ()  # order is not known


def test_bad_clips_are_listed_and_the_rest_is_kept(tmp_path):
    layout = LAYOUTS["clotho"](tmp_path / "clotho")
    write_audio(layout.audio.with_name("other.wav"), 5)
    with layout.table.open("a") as file:
        file.write("missing.wav,a,b,c,d,e\nother.wav,a,b,c,d,e\nother.wav,a,b,c,d,e\n")
    layout.audio.write_bytes(b"no sound")
    result = _build(tmp_path / "d", "clotho", tmp_path / "clotho")
    assert result.counts == {"test": 1, "train": 1}
    reasons = {item.source: item.reason for item in result.rejected}
    assert "no audio file" in reasons["clotho:train/missing"]
    assert "taken by an earlier clip" in reasons["clotho:train/other"]
    assert "cannot be decoded" in reasons["clotho:train/Distorted AM Radio noise"]
    lines = (tmp_path / "d" / "rejected.jsonl").read_text().splitlines()
    assert {json.loads(line)["source"] for line in lines} == set(reasons)
    with pytest.raises(RejectedError, match="3 recordings rejected"):
        _build(tmp_path / "e", "clotho", tmp_path / "clotho", on_rejected="error")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["clotho", "d", "e.incomplete"]


def test_nothing_usable_is_an_error(tmp_path):
    layout = LAYOUTS["macs"](tmp_path / "macs")
    for file in layout.audio.parent.iterdir():
        file.write_bytes(b"no sound")
    with pytest.raises(ValueError, match="none of its clips can be used; the first: macs:airport"):
        _build(tmp_path / "d", "macs", tmp_path / "macs")
    lines = (tmp_path / "d.incomplete" / "rejected.jsonl").read_text().splitlines()
    assert len(lines) == len(layout.clips)


def test_splits_and_sets_without(tmp_path):
    LAYOUTS["clotho"](tmp_path / "clotho")
    result = _build(tmp_path / "a", "clotho", tmp_path / "clotho", splits=("test",))
    assert result.counts == {"test": 1}
    with pytest.raises(ValueError, match="no clips of a split 'dev'; there are train, test"):
        _build(tmp_path / "b", "clotho", tmp_path / "clotho", splits=("dev",))
    LAYOUTS["gtzan"](tmp_path / "gtzan")
    result = _build(tmp_path / "c", "gtzan", tmp_path / "gtzan", whole="test")
    assert result.counts == {"test": 2}


def _clip(**fields) -> Clip:
    read = lambda rate: np.ones(rate, np.float32)  # noqa: E731
    values = {"id": "a", "label": "", "fold": None, "group": "g", "source": "test:a", "read": read}
    return Clip(**(values | fields))


def test_sounding_order():
    events = tuple(TimedEvent(i, i + 2, label) for i, label in enumerate("aabba"))
    assert sounding_order(_clip(events=events, labels=("a", "b"))) == ("a", "b", "a")
    assert sounding_order(_clip(labels=("a",))) == ("a",)
    assert sounding_order(_clip(labels=("a", "b"))) == ()


def test_a_clip_becomes_an_example():
    clip = _clip(captions=("Human",), labels=("dog",), split="test")
    (example,) = DirectExamples(8000, 0.1, -70.0)(clip)
    assert example.audio.dtype == np.int16 and (example.audio == 32767).all()
    assert (example.id, example.events, example.provenance) == ("a", ("dog",), "human")


def test_the_embedded_sounds_as_they_are(tmp_path):
    source = SourceConfig(
        mode="direct", train_folds=(0,), test_folds=(1,), sounds_per_fold=1, sounds_seconds=0.3
    )
    result = build_records(
        source, MixupConfig(), DATA, seed=0, sample_rate=RATE, data_dir=tmp_path / "d"
    )
    assert result.counts == {"test": 24, "train": 24} and result.rejected == []
    found = _examples(tmp_path / "d")
    assert found["train/siren-0-0"].captions == ("The sound of siren",)


def test_mixtures_of_another_labelled_source(tmp_path):
    """The mix-up takes clips with one label, by fold or by split."""
    root = tmp_path / "set"
    rows = []
    for number in range(8):
        split = "test" if number > 3 else "train"
        write_audio(root / f"{number}.wav", number)
        labels = f"class {number % 2}" + ";more" * (number == 0)
        rows.append((f"{number}.wav", split, labels))
    write_table(root / "all.csv", rows, "file,split,labels")
    synthesis = MixupConfig(
        train_mixtures=3, test_mixtures=2, crops_per_recording=1, clip_seconds=0.6,
        min_event_seconds=0.2, max_event_seconds=0.3, max_crossfade_seconds=0.05,
    )  # fmt: skip
    source = SourceConfig(kind="folder", path=str(root), mode="mixup")
    result = build_records(
        source, synthesis, DATA, seed=0, sample_rate=RATE, data_dir=tmp_path / "d"
    )
    assert result.counts == {"train": 6, "test": 2, "test_clips": 4}
    assert [item.reason for item in result.rejected] == [
        "a mixture needs clips with exactly one label"
    ]


def test_settings_that_came_later_do_not_hinder_reuse(tmp_path):
    LAYOUTS["macs"](tmp_path / "macs")
    _build(tmp_path / "d", "macs", tmp_path / "macs", mode="auto")
    file = tmp_path / "d" / records.BUILD_FILE
    build = json.loads(file.read_text())
    del build["source"]["exclude_audio"]
    file.write_text(json.dumps(build))
    assert _build(tmp_path / "d", "macs", tmp_path / "macs", mode="auto").reused
    with pytest.raises(records.RecordsError, match="source.whole was 'train', is 'test'"):
        _build(tmp_path / "d", "macs", tmp_path / "macs", mode="auto", whole="test")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "clotho2"}, "source.kind: no source 'clotho2'; there are audiocaps, .*, sounds"),
        ({"kind": "clotho"}, "source.path is empty"),
        ({"mode": "both"}, "source.mode must be one of auto, mixup, direct, .*, not 'both'"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        SourceConfig(**changes)
