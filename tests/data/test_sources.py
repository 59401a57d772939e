"""Each source finds in a miniature of its published layout exactly what was put there."""

import importlib
import json
import pickle
import shutil

import numpy as np
import pytest

from clapjax.audio.files import AudioError
from clapjax.data import sources
from clapjax.data.sources import common, finding, list_clips, source_names
from clapjax.data.sources.clip import Clip, Rejected, TimedEvent, decode_clip
from clapjax.data.sources.fsd50k import plain_label
from tests.conftest import REPO, SHARED
from tests.data.layouts import LAYOUTS
from tests.data.miniature import RATE, sound, write_audio, write_table

LEVELS = {"min_seconds": 0.1, "silence_db": -70.0}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_source_yields_what_its_layout_holds(kind, tmp_path):
    layout = LAYOUTS[kind](tmp_path / "effects")
    clips, rejected = list_clips(kind, tmp_path / "effects")
    assert rejected == []
    found = {clip.id: clip for clip in clips}
    assert sorted(found) == sorted(expected.id for expected in layout.clips)
    for expected in layout.clips:
        clip = found[expected.id]
        for name in ("group", "split", "fold", "captions", "provenance"):
            assert getattr(clip, name) == getattr(expected, name), (clip.id, name)
        assert clip.labels == expected.labels
        assert clip.label == (expected.labels[0] if len(expected.labels) == 1 else "")
        recording = decode_clip(pickle.loads(pickle.dumps(clip)), RATE, **LEVELS)
        original = sound(expected.sound).astype(float)
        if "b0RFKhbpFJA_30000" in clip.id:  # Vorbis
            assert np.corrcoef(recording.samples, original)[0, 1] > 0.99
        else:  # 16 bits through float and back: off by one at most
            assert np.abs(recording.samples - original).max() <= 1


def test_every_source_has_a_layout_here_and_a_line_in_the_docs():
    assert source_names() == sorted(LAYOUTS)
    text = (REPO / "docs" / "sources.md").read_text()
    for name in source_names():
        assert f"| `{name}` |" in text, name
        module = importlib.import_module(f"clapjax.data.sources.{name}")
        assert "Layout" in module.__doc__ or "layout" in module.__doc__


def test_a_new_source_is_one_file(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from clapjax.data.sources.common import make_clip\n"
        "from clapjax.data.sources.finding import audio_files\n"
        "def clips(root):\n"
        "    for file in audio_files(root):\n"
        "        yield make_clip('mine', file.stem, file, captions=[file.stem])\n"
    )
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path)])
    write_audio(tmp_path / "data" / "a dog.wav", 0)
    assert "mine" in source_names()
    (clip,), rejected = list_clips("mine", tmp_path / "data")
    assert (clip.id, clip.captions, rejected) == ("mine-a dog", ("a dog",), [])


def test_unknown_sources_and_folders(tmp_path):
    with pytest.raises(ValueError, match="no source 'clip'; there are audiocaps, audioset"):
        list_clips("clip", tmp_path)  # a module, but no source
    with pytest.raises(ValueError, match="no source 'esc51'"):
        list_clips("esc51", tmp_path)
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        list_clips("esc50", tmp_path / "nowhere")


def test_strong_labels_are_events_by_onset(tmp_path):
    LAYOUTS["audioset"](tmp_path)
    clips, _ = list_clips("audioset", tmp_path)
    assert clips[0].events == (
        TimedEvent(0.0, 2.5, "Gush"),
        TimedEvent(2.627, 3.0, "Speech"),
        TimedEvent(4.5, 9.25, "Speech"),
        TimedEvent(9.4, 9.9, "Gush"),
    )
    assert clips[1].events == clips[2].events == ()
    assert clips[3].events == (TimedEvent(0.5, 1.0, "Cheering"),)


@pytest.mark.parametrize(
    ("stem", "video", "start"),
    [
        ("YHpnja1gcKN0", "Hpnja1gcKN0", None),
        ("YHpnja1gcKN", "YHpnja1gcKN", None),
        ("abcdefgh_12", "abcdefgh_12", None),
        ("Yabcdefghij_", "abcdefghij_", None),
        ("Yabcdefghij__30000", "abcdefghij_", 30000.0),
        ("---g-f_I2yQ_000001", "---g-f_I2yQ", 1.0),
        ("YmAJAqzo-Y_Y", "mAJAqzo-Y_Y", None),
        ("b0RFKhbpFJA_30.000_40.000", "b0RFKhbpFJA", 30.0),
        ("too-short", None, None),
    ],
)
def test_names_of_segments(tmp_path, stem, video, start):
    write_audio(tmp_path / f"{stem}.wav", 0)
    index = finding.index_by_video(tmp_path)
    assert list(index) == ([video] if video else [])
    if video:
        assert index[video][0][0] == start
        assert finding.find_video(index, video, None) == tmp_path / f"{stem}.wav"
        assert (finding.find_video(index, video, 7.0) is None) == (start is not None)


def test_fsd50k_labels_are_audioset_names():
    file = SHARED / "labels" / "FSD50k_class_labels_indices.json"
    if not file.is_file():
        pytest.skip("label lists are not beside this checkout (../shared/data/labels)")
    names = json.loads(file.read_text())
    published = [name.replace(", ", "_and_").replace(" ", "_") for name in names]
    differ = {plain_label(label) for label in published} ^ set(names)
    assert differ <= {"Dishes, pots, and pans", "Dishes, pots, pans"}


def test_laion_augmented_captions(tmp_path):
    rows = {"text": ["A b"], "text_augment_t5": "C d", "text_augment_all": ["A b", "C d"]}
    assert common.texts_of(rows)["captions"] == ["A b"]
    assert common.texts_of(rows)["augmented"] == ["C d"]
    assert common.texts_of({"text": "one", "text_augment_t5": None})["augmented"] == []


def test_classes_of_a_parquet_set_are_named(tmp_path):
    import pyarrow
    import pyarrow.parquet

    LAYOUTS["parquet"](tmp_path)
    file = tmp_path / "data" / "train-00000-of-00001.parquet"
    table = pyarrow.parquet.read_table(file).drop_columns(["labels"])
    table = table.append_column("label", pyarrow.array([1, 0]))
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    info = json.dumps({"info": {"features": features}})
    pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": info}), file)
    clips, _ = list_clips("parquet", tmp_path)
    assert [clip.label for clip in clips] == ["siren", "dog", "cat"]


def test_rows_of_one_file_are_its_captions(tmp_path):
    write_audio(tmp_path / "a.wav", 0)
    rows = [("a.wav", "One"), ("a.wav", "Two"), ("a.wav", "One")]
    write_table(tmp_path / "metadata.csv", rows, "file_name,caption")
    (clip,), rejected = list_clips("folder", tmp_path)
    assert (clip.captions, clip.split, rejected) == (("One", "Two"), "", [])


def test_links_are_followed_once(tmp_path):
    write_audio(tmp_path / "elsewhere" / "b.wav", 0)
    write_audio(tmp_path / "set" / "a.wav", 1)
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "set")
    found = [file.name for file in finding.audio_files(tmp_path / "set")]
    assert found == ["a.wav", "b.wav"]


def test_levels_of_a_clip(tmp_path):
    def clip(samples) -> Clip:
        return Clip("a", "", None, "g", "test:a", lambda rate: np.asarray(samples, np.float32))

    silent = decode_clip(clip(np.zeros(RATE)), RATE, **LEVELS)
    short = decode_clip(clip(np.ones(99)), RATE, **LEVELS)
    assert isinstance(silent, Rejected) and "silent" in silent.reason
    assert isinstance(short, Rejected) and "only 99 samples" in short.reason


def test_audio_that_vanishes_after_listing_is_rejected(tmp_path):
    for kind in ("laion", "parquet", "folder"):
        LAYOUTS[kind](tmp_path / kind)
        clips, _ = list_clips(kind, tmp_path / kind)
        shutil.rmtree(tmp_path / kind)
        with pytest.raises(AudioError, match=str(tmp_path / kind)):
            clips[0].read(RATE)
