"""From an ESC-50 folder, with all the faults that files have, to a data set of records."""

import csv
import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from clapjax.data import records
from clapjax.data.build import builder as build
from clapjax.data.build import examples
from clapjax.data.build.config import SourceConfig
from clapjax.data.build.decoded import DecodeClips
from clapjax.data.build.folder import REJECTED_FILE, RejectedError
from clapjax.data.checking import check
from clapjax.data.config import DataConfig
from clapjax.synthesis.mixup import MixupConfig
from clapjax.synthesis.sounds import render

RATE = 16_000
CLASSES = ("dog bark", "rain", "siren")
SYNTHESIS = MixupConfig(
    train_mixtures=9,
    test_mixtures=5,
    crops_per_recording=2,
    clip_seconds=2.0,
    min_event_seconds=0.4,
    max_event_seconds=0.6,
)
DATA = DataConfig(vocab_size=300)


class Esc50:
    """A folder in ESC-50's layout that grows file by file."""

    def __init__(self, root: Path):
        self.root, self.rows = root, []
        (root / "audio").mkdir(parents=True)

    def list(self, name: str, fold, category: str = "dog_bark", origin: str = "") -> None:
        self.rows.append((name, fold, category, origin or f"from-{name}"))
        with (self.root / "meta.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("filename", "fold", "category", "src_file"), *self.rows])

    def write(self, name: str, samples, rate: int = RATE, **settings) -> None:
        soundfile.write(self.root / "audio" / name, samples, rate, **settings)

    def add(self, name: str, samples, fold=1, category: str = "dog_bark", rate=RATE, **settings):
        self.write(name, samples, rate, **settings)
        self.list(name, fold, category)


def _good(root: Path) -> Esc50:
    folder = Esc50(root)
    for number, label in enumerate(CLASSES):
        for fold in (1, 2, 4, 5):  # 5: neither trained nor tested on
            samples = render(label, (number, fold), 0.8, RATE)
            folder.add(f"{fold}-{number}.wav", samples, fold, label.replace(" ", "_"))
    return folder


def _run(folder: Esc50, data_dir: Path, seed: int = 0, data: DataConfig = DATA, **source):
    source = SourceConfig(
        kind="esc50", path=str(folder.root), train_folds=(1, 2), test_folds=(4,), **source
    )
    return build.build_records(
        source, SYNTHESIS, data, seed=seed, sample_rate=RATE, data_dir=data_dir
    )


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return _good(tmp_path_factory.mktemp("good") / "esc")


@pytest.fixture(scope="module")
def built(good, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("built") / "records"
    return _run(good, data_dir), data_dir


# Each faulty file, and what is said about it.
FAULTS = {
    "broken.wav": "cannot be decoded",
    "empty.wav": "cannot be decoded",
    "silent.wav": r"silent \(peak below -70",
    "one.wav": "only 1 samples",
    "nan.wav": "holds NaN or Inf",
    "text.wav": "cannot be decoded",
    "missing.wav": "named in meta.csv but not in audio/",
    "extra.wav": "in audio/ but not named in meta.csv",
    "twice.wav": "named twice in meta.csv",
    "badfold.wav": "no fold or category in meta.csv",
    "straddling.wav": "cut from the same original recording as a held-out clip",
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    folder = _good(tmp_path_factory.mktemp("faulty") / "esc")
    bark = render("dog bark", 77, 0.8, RATE)
    audio = folder.root / "audio"
    folder.add("broken.wav", bark)
    (audio / "broken.wav").write_bytes((audio / "broken.wav").read_bytes()[:30])
    for name, content in (("empty.wav", b""), ("text.wav", b"This is no sound.\n" * 99)):
        (audio / name).write_bytes(content)
        folder.list(name, 1)
    folder.add("silent.wav", np.zeros(RATE))
    folder.add("one.wav", np.full(1, 0.5))
    folder.add("nan.wav", np.where(np.arange(bark.size) == 99, np.nan, bark), subtype="FLOAT")
    folder.list("missing.wav", 1)
    folder.write("extra.wav", bark)
    folder.add("twice.wav", bark)
    for _ in range(2):
        folder.list("twice.wav", 2)
    folder.add("badfold.wav", bark, fold="one")
    folder.write("straddling.wav", bark)
    folder.list("straddling.wav", 1, origin="from-4-0.wav")
    stereo = np.stack([render("rain", 5, 0.8, 8000)] * 2, axis=1)
    folder.add("stereo8k.wav", stereo, 2, "rain", rate=8000)
    return folder


def test_faults_are_listed_once_and_the_good_is_kept(faulty, tmp_path):
    data_dir = tmp_path / "records"
    result = _run(faulty, data_dir)
    assert check(data_dir) == []
    found = {item.source.removeprefix("esc50:"): item.reason for item in result.rejected}
    assert found.keys() == FAULTS.keys()
    for name, reason in FAULTS.items():
        assert re.search(reason, found[name]), (name, found[name])
    lines = (data_dir / REJECTED_FILE).read_text().splitlines()
    sources = Counter(json.loads(line)["source"] for line in lines)
    assert sources == Counter(f"esc50:{name}" for name in FAULTS)

    singles = {e.source for e in records.read_examples(data_dir, "train") if len(e.events) == 1}
    kept = [f"{fold}-{n}.wav" for fold in (1, 2) for n in range(3)] + ["twice.wav", "stereo8k.wav"]
    assert singles == {f"esc50:{name}" for name in kept}
    assert result.counts == {"train": 9 + 2 * len(kept), "test": 5, "test_clips": 3}


def test_stereo_at_another_rate_is_mixed_down_and_resampled(faulty, tmp_path):
    _run(faulty, tmp_path / "records")
    whole = next(
        e
        for e in records.read_examples(tmp_path / "records", "train")
        if e.source == "esc50:stereo8k.wav" and e.id.endswith("-000")
    )
    assert whole.sample_rate == RATE
    assert abs(whole.audio.size - 0.8 * RATE) <= 2
    original, _ = soundfile.read(faulty.root / "audio" / "stereo8k.wav")
    ratio = np.abs(whole.audio / 32767).max() / np.abs(original).max()
    assert 0.8 < ratio < 1.25


def test_on_rejected_error_keeps_what_is_done(faulty, tmp_path, monkeypatch):
    """Fails where one bad file throws away all that was decoded."""
    with pytest.raises(RejectedError, match=f"{len(FAULTS)} recordings rejected") as caught:
        _run(faulty, tmp_path / "records", on_rejected="error")
    for name in FAULTS:
        assert f"esc50:{name}: " in str(caught.value)
    folder = tmp_path / "records.incomplete"
    assert list(tmp_path.iterdir()) == [folder]
    assert str(folder / REJECTED_FILE) in str(caught.value)
    lines = (folder / REJECTED_FILE).read_text().splitlines()
    assert {json.loads(line)["source"] for line in lines} == {f"esc50:{name}" for name in FAULTS}
    decoded = []
    monkeypatch.setattr(DecodeClips, "__call__", lambda self, unit: decoded.append(unit))
    assert _run(faulty, tmp_path / "records").counts["test"] == 5  # the default goes on
    assert decoded == []


def test_a_clean_folder_rejects_nothing(good, tmp_path):
    result = _run(good, tmp_path / "records", on_rejected="error")
    assert result.rejected == [] and not result.reused
    assert (tmp_path / "records" / REJECTED_FILE).read_text() == ""


def test_examples_are_what_the_config_says(built):
    result, data_dir = built
    assert result.counts == {"train": 9 + 6 * 2, "test": 5, "test_clips": 3}
    for split, count in result.counts.items():
        found = list(records.read_examples(data_dir, split))
        assert len(found) == count
        mixtures = [e for e in found if "mixture" in e.id]
        assert len(mixtures) == {"train": 9, "test": 5, "test_clips": 0}[split]
        for example in mixtures:
            assert len(set(example.events)) == 2 and len(example.negative_captions) == 4
            assert 2 * 0.4 * RATE - 0.2 * RATE <= example.audio.size <= 2 * RATE
            assert (example.negative_audio is not None) == (split == "test")
        for example in found:
            assert example.sample_rate == RATE and example.provenance == "template"


def test_train_and_test_share_no_original(built, good):
    origin = {f"esc50:{name}": src for name, _, _, src in good.rows}
    fold = {f"esc50:{name}": fold for name, fold, _, _ in good.rows}
    origins, folds = {}, {}
    for split in ("train", "test", "test_clips"):
        for example in records.read_examples(built[1], split):
            for source in example.source.split(" + "):
                origins.setdefault(split, set()).add(origin[source])
                folds.setdefault(split, set()).add(fold[source])
    assert folds == {"train": {1, 2}, "test": {4}, "test_clips": {4}}
    assert not origins["train"] & (origins["test"] | origins["test_clips"])


def _hashes(data_dir: Path) -> dict[str, str]:
    files = [*data_dir.glob("clapjax_records-*"), data_dir / "tokenizer" / "tokenizer.json"]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_same_seed_same_bytes(good, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        _run(good, tmp_path / name, seed)
    first, again, other = (_hashes(tmp_path / name) for name in "abc")
    assert len(first) == 4 and first == again
    for split in ("train", "test"):
        (name,) = (name for name in first if f"-{split}." in name)
        assert other[name] != first[name]


def test_a_finished_data_set_is_reused(built, good):
    result, data_dir = built
    before = {file: file.stat().st_mtime_ns for file in data_dir.iterdir()}
    again = _run(good, data_dir)
    assert again.reused and again.counts == result.counts
    assert {file: file.stat().st_mtime_ns for file in data_dir.iterdir()} == before


def test_other_settings_are_an_error(built, good):
    with pytest.raises(
        records.RecordsError, match=r"made with other settings: seed was 0, is 1\. "
    ):
        _run(good, built[1], seed=1)
    with pytest.raises(records.RecordsError, match="source.min_seconds was 0.1, is 0.2"):
        _run(good, built[1], min_seconds=0.2)


def test_a_foreign_folder_is_left_alone(good, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(records.RecordsError, match="not empty, and no records of clapjax"):
        _run(good, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_empty_folder_is_filled(good, tmp_path):
    (tmp_path / "records").mkdir()
    assert _run(good, tmp_path / "records").counts["test"] == 5
    assert check(tmp_path / "records") == []


def test_an_interrupted_build_goes_on(good, built, tmp_path, monkeypatch):
    data_dir = tmp_path / "records"

    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(examples, "single_event", fail)  # after the mixtures
        with pytest.raises(KeyboardInterrupt):
            _run(good, data_dir)
    assert not data_dir.exists()
    with pytest.raises(records.RecordsError, match="its build did not finish"):
        records.read_build(data_dir)
    _run(good, data_dir)
    assert _hashes(data_dir) == _hashes(built[1])
    assert [file.name for file in tmp_path.iterdir()] == ["records"]


def test_two_classes_are_needed(good, tmp_path):
    source = SourceConfig(kind="esc50", path=str(good.root), train_folds=(1, 2), test_folds=(3,))
    with pytest.raises(ValueError, match="test folds hold 0 usable recordings of 0 classes"):
        build.build_records(
            source, SYNTHESIS, DATA, seed=0, sample_rate=RATE, data_dir=tmp_path / "records"
        )


def test_files_that_differ_in_the_extension_get_ids_of_their_own(tmp_path):
    folder = _good(tmp_path / "esc")
    folder.add("1-0.flac", render("rain", 9, 0.8, RATE), 1, "rain")
    _run(folder, tmp_path / "records")
    assert check(tmp_path / "records") == []


@pytest.mark.parametrize("fault", ["no table", "no audio", "no column", "no rows"])
def test_a_folder_of_another_layout(tmp_path, fault):
    folder = Esc50(tmp_path / "esc")
    folder.list("a.wav", 1)
    table = folder.root / "meta.csv"
    if fault == "no table":
        table.unlink()
    elif fault == "no audio":
        (folder.root / "audio").rmdir()
    else:
        table.write_text("filename,fold,category\n" + "a.wav,1,dog\n" * (fault == "no column"))
    words = "expected meta.csv" if fault in ("no table", "no audio") else "without the columns"
    with pytest.raises(ValueError, match=words):
        _run(folder, tmp_path / "records")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "esc51"}, "source.kind: no source 'esc51'; there are audiocaps, "),
        ({"kind": "esc50"}, "source.path is empty"),
        ({"path": "ESC-10"}, "source.path=ESC-10: source.kind=sounds, which"),
        ({"on_rejected": "cry"}, "must be 'skip' or 'error'"),
        ({"train_folds": (1, 4)}, "a fold is in both"),
    ],
)
def test_bad_source_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        SourceConfig(**changes)
