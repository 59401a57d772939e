"""What is evaluated on stays out of what is trained on: by id lists, by origin, by ear."""

import json

import numpy as np
import pytest
import soundfile

from clapjax.cli.main import main
from clapjax.data import records
from clapjax.data.build.builder import build_records
from clapjax.data.build.config import SourceConfig
from clapjax.data.build.folder import REJECTED_FILE
from clapjax.data.config import DataConfig
from clapjax.data.overlap import named_in, read_ids
from clapjax.data.sources import list_clips
from clapjax.synthesis.mixup import MixupConfig
from clapjax.synthesis.sounds import render
from tests.data.layouts import LAYOUTS
from tests.data.miniature import RATE, write_audio, write_table

DATA = DataConfig(vocab_size=300)


def _build(data_dir, **source):
    return build_records(
        SourceConfig(**source), MixupConfig(), DATA, seed=0, sample_rate=RATE, data_dir=data_dir
    )


def _reasons(result) -> dict[str, str]:
    return {item.source: item.reason for item in result.rejected}


def _ids(data_dir, split: str) -> set[str]:
    return {example.id for example in records.read_examples(data_dir, split)}


PUBLISHED = {
    "esc50": {"freesound:100032", "freesound:155670", "freesound:9032"},
    "urbansound8k": {"freesound:100032", "freesound:100263"},
    "vggsound": {"youtube:---g-f_I2yQ"},  # its test set alone
    "fsd50k": {"freesound:64760", "freesound:16399"},
    "audiocaps": {"youtube:r1nicOVtvkQ", "youtube:UDGBjjwyaqE"},
    "autoacd": {"youtube:oPRC3zComfA", "youtube:mAJAqzo-Y_Y"},
}


@pytest.mark.parametrize("kind", PUBLISHED)
def test_ids_of_a_published_table(kind, tmp_path):
    table = LAYOUTS[kind](tmp_path).table
    assert read_ids(table) == PUBLISHED[kind]
    named = {clip.group for clip in list_clips(kind, tmp_path)[0]}
    assert PUBLISHED[kind] <= named  # a table and the source call a recording the same


def test_ids_of_lists(tmp_path):
    black = {"AudioSet": ["YHpnja1gcKN0.wav", "Y3Gc8iEAZgwk.wav"], "FreeSound": ["187384", 31748]}
    (tmp_path / "blacklist.json").write_text(json.dumps(black))
    assert read_ids(tmp_path / "blacklist.json") == {
        "youtube:Hpnja1gcKN0",
        "youtube:3Gc8iEAZgwk",
        "freesound:187384",
        "freesound:31748",
    }
    (tmp_path / "mine.txt").write_text("# held out\nfreesound:12  # rain\n\nyoutube:abc\n")
    assert read_ids(tmp_path / "mine.txt") == {"freesound:12", "youtube:abc"}
    LAYOUTS["clotho"](tmp_path / "clotho")  # Latin-1
    table = tmp_path / "clotho" / "clotho_metadata_development.csv"
    assert read_ids(table) == {"freesound:335683"}
    LAYOUTS["audioset"](tmp_path / "audioset")
    table = tmp_path / "audioset" / "eval_segments.csv"
    assert read_ids(table) == {"youtube:-0mjrMposBM"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "\ufeffyoutube:3Gc8iEAZgwk\r\n"),
        ("A.CSV", "youtube_id,caption\nY3Gc8iEAZgwk.m4a,A\n3Gc8iEAZgwk_30000_40000.WAV,A\n"),
        ("a.tsv", "YouTube_ID\tcaption\n3Gc8iEAZgwk.webm\tA\n"),
        ("a.jsonl", '{"youtube_id": "3Gc8iEAZgwk"}\n'),
        ("A.JSON", '{"AudioSet": ["Y3Gc8iEAZgwk.opus"]}'),
    ],
)
def test_lists_as_people_write_them(tmp_path, name, content):
    """A recording is known by its id, whatever its file is called: else it is trained on."""
    (tmp_path / name).write_text(content)
    assert read_ids(tmp_path / name) == {"youtube:3Gc8iEAZgwk"}
    (tmp_path / "f.csv").write_text("fsid\n1234.0\n")
    (tmp_path / "f.jsonl").write_text('{"fsid": 1234}\n')
    assert read_ids(tmp_path / "f.csv") == read_ids(tmp_path / "f.jsonl") == {"freesound:1234"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "12345\n", "'12345' is not COLLECTION:ID, e.g. freesound:12345"),
        ("a.txt", "# nothing\n", "names no recordings"),
        ("a.txt", None, "cannot be read"),
        ("a.csv", "name,label\nx,y\n", "no column of ids; known are youtube_id, fsid"),
        ("a.csv", "youtube_id,b\n", "the table has no rows"),
        ("a.json", '{"Freesound": ["1"]}', "expected lists of ids under the names AudioSet"),
        ("a.json", '{"AudioSet": "3Gc8iEAZgwk"}', "expected lists of ids"),  # no list of letters
        ("a.json", '{"AudioSet": null}', "expected lists of ids"),
        ("a.json", '{"AudioSet": [{"id": 1}]}', "expected lists of ids"),
        ("a.json", "[" * 100_000, "is not JSON"),
        ("a.json", '{"FreeSound": []}', "names no recordings"),
        ("a.json", "{", "is not JSON"),
    ],
)
def test_lists_that_are_none(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_ids(tmp_path / name)


def test_the_test_set_of_vggsound_stays_out_of_autoacd(tmp_path):
    """T-CLAP's rule, with the tables as they are published."""
    LAYOUTS["autoacd"](tmp_path / "acd")
    table = write_table(
        tmp_path / "vggsound.csv",
        [("oPRC3zComfA", 117, "typing", "test"), ("mAJAqzo-Y_Y", 0, "speech", "train")],
    )
    result = _build(
        tmp_path / "d", kind="autoacd", path=str(tmp_path / "acd"), exclude=(str(table),)
    )
    assert _reasons(result) == {
        "autoacd:train/oPRC3zComfA_000117": f"youtube:oPRC3zComfA is listed in {table}"
    }
    assert _ids(tmp_path / "d", "train") == {"autoacd-train/YmAJAqzo-Y_Y"}


def test_a_blacklist_takes_from_wavcaps_and_not_from_a_test_set(tmp_path):
    LAYOUTS["wavcaps"](tmp_path / "wavcaps")
    black = tmp_path / "blacklist.json"
    black.write_text(json.dumps({"AudioSet": ["Yb0RFKhbpFJA.wav"], "FreeSound": ["2219"]}))
    wavcaps = {"kind": "wavcaps", "path": str(tmp_path / "wavcaps"), "exclude": (str(black),)}
    result = _build(tmp_path / "d", **wavcaps)
    assert _ids(tmp_path / "d", "train") == {"wavcaps-SoundBible/2219"}
    assert len(result.rejected) == 2

    LAYOUTS["fsd50k"](tmp_path / "fsd50k")
    (tmp_path / "ids.txt").write_text("freesound:64760\nfreesound:37199\n")
    fsd = {"kind": "fsd50k", "path": str(tmp_path / "fsd50k")}
    result = _build(tmp_path / "f", **fsd, exclude=(str(tmp_path / "ids.txt"),))
    assert result.counts == {"test": 1, "validation": 1}  # the test set is left as it is
    assert list(_reasons(result)) == ["fsd50k:train/64760"]


def test_freesound_overlap_of_the_mix_up(tmp_path):
    """ESC-50's recordings are named by Freesound id, in every set that has them."""
    LAYOUTS["urbansound8k"](tmp_path)
    esc = LAYOUTS["esc50"](tmp_path / "esc")
    clips, _ = list_clips("urbansound8k", tmp_path)
    lists = {"ESC-50": read_ids(esc.table)}
    assert [named_in(clip, lists) for clip in clips] == [["ESC-50"], []]


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """A folder whose training set repeats a test clip as a bad, quieter, shifted MP3."""
    root = tmp_path_factory.mktemp("twins") / "set"
    rows = []
    for split, numbers in (("train", (0, 1, 2)), ("test", (3, 4))):
        for number in numbers:
            name = ("dog bark", "rain", "siren", "rooster crow", "applause")[number]
            samples = render(name, (1, number), 3.0, RATE)
            write_audio(root / split / f"{number}.wav", 0)
            soundfile.write(root / split / f"{number}.wav", samples, RATE)
            rows.append((f"{split}/{number}.wav", split, name))
    again = 0.3 * np.pad(render("applause", (1, 4), 3.0, RATE)[700:], (0, 3000))
    settings = {"format": "MP3", "subtype": "MPEG_LAYER_III", "compression_level": 0.8}
    soundfile.write(root / "train" / "twin.mp3", again, RATE, **settings)
    rows.append(("train/twin.mp3", "train", "applause"))
    write_table(root / "all.csv", rows, "file,split,label")
    return root


@pytest.mark.parametrize("mode", ["direct", "mixup"])
def test_training_clips_that_sound_as_a_test_clip_are_left_out(twins, tmp_path, mode):
    source = {"kind": "folder", "path": str(twins), "mode": mode, "drop_duplicates": True}
    synthesis = MixupConfig(
        train_mixtures=2, test_mixtures=2, crops_per_recording=1, clip_seconds=1.0,
        min_event_seconds=0.4, max_event_seconds=0.5,
    )  # fmt: skip
    result = build_records(
        SourceConfig(**source), synthesis, DATA, seed=0, sample_rate=RATE, data_dir=tmp_path / "d"
    )
    (item,) = result.rejected
    assert item.source == "set:train/twin"
    assert "the same audio as" in item.reason and "test/4" in item.reason
    rejected = (tmp_path / "d" / REJECTED_FILE).read_text()
    assert json.loads(rejected)["source"] == "set:train/twin"
    sources = {e.source for e in records.read_examples(tmp_path / "d", "train")}
    assert not any("twin" in source for source in sources)


def test_training_clips_that_sound_as_another_set_are_left_out(twins, tmp_path):
    folder = {"kind": "folder", "path": str(twins)}
    first = _build(tmp_path / "first", **folder)
    assert first.counts == {"train": 4, "test": 2} and first.rejected == []
    kept_apart = (f"{tmp_path / 'first'}:train",)
    second = _build(
        tmp_path / "second", **folder, exclude_audio=kept_apart, splits=("train", "test")
    )
    assert second.counts == {"test": 2}  # nothing is left to train on
    assert len(second.rejected) == 4
    assert f"{tmp_path / 'first'}/set-train/0" in _reasons(second)["set:train/0"]
    with pytest.raises(records.RecordsError, match="no split 'dev'"):
        _build(tmp_path / "third", **folder, exclude_audio=(f"{tmp_path / 'first'}:dev",))


def test_the_command_reports_overlap(twins, tmp_path, capsys):
    _build(tmp_path / "d", kind="folder", path=str(twins))
    assert main(["records", "overlap", f"{tmp_path / 'd'}:train", str(tmp_path / "d")]) == 1
    out = capsys.readouterr().out.splitlines()
    found = json.loads(out[0])
    assert found["train"] == f"{tmp_path / 'd'}/set-train/twin"
    assert found["test"] == f"{tmp_path / 'd'}/set-test/4"
    assert abs(found["offset"] - 700 / RATE) < 0.04 and found["errors"] < 0.3
    assert out[1:] == ["1 of 4 recordings are in both"]
    other = ["records", "overlap", f"{tmp_path / 'd'}:test", f"{tmp_path / 'd'}:train"]
    assert main(other) == 1


def test_a_recording_cut_in_two_does_not_straddle(tmp_path):
    """Direct builds too: slices of one Freesound recording in a train and a test fold."""
    layout = LAYOUTS["urbansound8k"](tmp_path / "us8k")
    text = layout.table.read_text().replace("100263,58.5", "100032,58.5")
    layout.table.write_text(text)
    source = {"kind": "urbansound8k", "path": str(tmp_path / "us8k")}
    result = _build(tmp_path / "d", **source, train_folds=(5,), test_folds=(10,))
    assert result.counts == {"test": 1}
    assert "same original recording" in _reasons(result)["urbansound8k:100032-3-0-0"]
