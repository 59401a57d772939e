"""Each source broken in many ways: one clear error, or the clip listed with a reason."""

import json
import tarfile
from pathlib import Path

import pytest

from clapjax.data.sources import list_clips, read_source
from clapjax.data.sources.clip import Rejected, decode_clip
from tests.data.layouts import LAYOUTS, add_to_tar, flac
from tests.data.miniature import RATE, write_audio

TABLES = [kind for kind in LAYOUTS if kind not in ("gtzan", "laion", "parquet")]
MERGED = ("audioset", "audiocaps", "autoacd", "folder")  # rows of one clip are put together
LEVELS = {"min_seconds": 0.1, "silence_db": -70.0}


@pytest.fixture(params=TABLES)
def broken(request, tmp_path):
    """(Kind, its miniature, list its clips, replace a text in its table)."""
    kind, root = request.param, tmp_path / "effects"
    layout = LAYOUTS[kind](root)

    def replace(change: tuple[str, str]) -> None:
        text = layout.table.read_text()
        assert change[0] in text, change
        layout.table.write_text(text.replace(*change, 1))

    return kind, layout, lambda: list_clips(kind, root), replace


def _rest(layout) -> set[str]:
    return {clip.id for clip in layout.clips[1:]}


def _one_line(error, *words: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message, (word, message)


MISSING = {
    "esc50": "expected meta.csv (or meta/esc50.csv) and a folder audio/",
    "esc10": "expected meta.csv (or meta/esc50.csv) and a folder audio/",
    "urbansound8k": "UrbanSound8K.csv: cannot be read (No such file",
    "vggsound": "vggsound.csv: cannot be read (No such file",
    "audioset": "class_labels_indices.csv: cannot be read (No such file",
    "fsd50k": "neither dev.csv nor eval.csv is here",
    "audiocaps": "none of train.csv, val.csv and test.csv is here",
    "clotho": "no clotho_captions_development.csv",
    "macs": "MACS.yaml: cannot be read (No such file",
    "wavtext5k": "WavText5K.csv: cannot be read (No such file",
    "autoacd": "none of train.csv, val.csv and test.csv is here",
    "wavcaps": "none of AudioSet_SL/as_final.json",
    "folder": "no .csv, .tsv or .jsonl table in it",
}


def test_no_table(broken):
    kind, layout, listed, _ = broken
    for file in (layout.table, *layout.extra.values()):
        if kind != "audioset" or file == layout.table:
            file.unlink()
    if kind == "audioset":
        (layout.table.parent / "mid_to_display_name.tsv").unlink()
    with pytest.raises(ValueError) as error:
        listed()
    _one_line(error, "effects", MISSING[kind])


def test_audio_of_one_clip_is_missing(broken):
    kind, layout, listed, _ = broken
    if kind in ("clotho", "wavcaps"):  # where it was the only file of its folder
        write_audio(layout.audio.with_name("another.wav"), 9)
    layout.audio.unlink()
    clips, rejected = listed()
    assert {clip.id for clip in clips} == _rest(layout)
    (item,) = rejected
    assert "audio" in item.reason, item


def test_all_audio_is_missing(broken):
    kind, layout, listed, _ = broken
    root = layout.table.parent
    while root.name != "effects":
        root = root.parent
    for file in [*root.rglob("*.wav"), *root.rglob("*.flac"), *root.rglob("*.ogg")]:
        file.unlink()
    try:
        clips, rejected = listed()
    except ValueError as error:
        assert "no audio files" in str(error)
    else:  # the layout names each file
        assert kind in ("esc50", "esc10", "urbansound8k", "folder")
        assert clips == [] and len(rejected) == len(layout.clips)


def test_a_column_is_missing(broken):
    kind, layout, listed, replace = broken
    replace(layout.column)
    if kind == "folder":  # one table without it is told, and not read
        listing = read_source(kind, layout.table.parent)
        assert [clip.id for clip in listing.clips] == ["effects-test/1"]
        assert {item.reason for item in listing.rejected} == {"no table names it"}
        (notice,) = listing.notices
        assert notice.source == str(layout.table)
        assert "no column names audio files; there are sound, caption_1" in notice.text
        layout.extra["test"].unlink()
    with pytest.raises(ValueError) as error:
        listed()
    words = {
        "vggsound": (":1: 3 cells, not 4 (youtube_id, start, label, split)",),
        "esc10": ("no column esc10; a folder of ESC-10 alone is read as esc50",),
        "urbansound8k": ("without the columns fsid",),
        "macs": ("file 0 has not the fields filename and annotations", "sentence"),
        "wavcaps": ("entry 0 has not the fields id and caption",),
        "folder": (
            "no column names the audio files (file, file_name",
            "there are sound, caption_1",
        ),
    }.get(kind, ("without the columns", layout.column[0].strip("\n,")))
    _one_line(error, str(layout.table), *words)


def test_audio_that_cannot_be_decoded(broken):
    _, layout, listed, _ = broken
    layout.audio.write_bytes(b"RIFF but no sound" * 9)
    clips, rejected = listed()
    assert rejected == [] and len(clips) == len(layout.clips)
    found = {clip.id: decode_clip(clip, RATE, **LEVELS) for clip in clips}
    bad = found.pop(layout.clips[0].id)
    assert isinstance(bad, Rejected)
    assert str(layout.audio) in bad.reason and "cannot be decoded" in bad.reason
    assert not any(isinstance(item, Rejected) for item in found.values())


def test_a_clip_without_text(broken):
    kind, layout, listed, replace = broken
    if kind == "audioset":  # a label that no table names
        layout.extra["train"].write_text(
            layout.extra["train"].read_text().replace("/m/09x0r", "/m/unknown")
        )
    else:
        replace(layout.empty)
    clips, rejected = listed()
    assert {clip.id for clip in clips} == _rest(layout)
    (item,) = rejected
    words = {
        "audioset": "label /m/unknown is not in class_labels_indices.csv",
        "esc50": "no fold or category",
        "esc10": "no fold or category",
    }
    assert words.get(kind, "neither a caption nor a label") in item.reason


@pytest.mark.parametrize("broken", [k for k in TABLES if k not in MERGED], indirect=True)
def test_a_clip_named_twice(broken):
    kind, layout, listed, replace = broken
    replace(layout.again)
    clips, rejected = listed()
    assert [item.reason for item in rejected] and len(rejected) == 1
    if kind in ("esc50", "esc10"):
        assert "named twice" in rejected[0].reason
    else:
        assert "is taken by an earlier clip" in rejected[0].reason
    assert {clip.id for clip in clips} == {clip.id for clip in layout.clips}


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x00garbage\x00", b"\n\n"])
def test_a_table_that_is_none(broken, content):
    kind, layout, listed, _ = broken
    layout.table.write_bytes(content)
    with pytest.raises(ValueError) as error:
        listed()
    _one_line(error, str(layout.table))


NUMBERS = {
    "esc50": (",1,0,dog", ",one,0,dog"),
    "esc10": (",1,0,dog", ",one,0,dog"),
    "urbansound8k": (",1,5,3,", ",1,five,3,"),
    "vggsound": (",1,people", ",early,people"),
    "audiocaps": (",130,", ",early,"),
}


@pytest.mark.parametrize("broken", NUMBERS, indirect=True)
def test_a_bad_number(broken):
    kind, layout, listed, replace = broken
    replace(NUMBERS[kind])
    clips, rejected = listed()
    assert {clip.id for clip in clips} == _rest(layout)
    assert len(rejected) == 1


@pytest.mark.parametrize("text", ["nan", "inf", "1e999"])
def test_a_number_that_is_no_time(tmp_path, text):
    layout = LAYOUTS["audiocaps"](tmp_path)
    layout.table.write_text(layout.table.read_text().replace(",130,", f",{text},", 1))
    _, rejected = list_clips("audiocaps", tmp_path)
    assert [one.reason for one in rejected] == [f"start_time is '{text}'"]


def test_strong_labels_that_are_none(tmp_path):
    layout = LAYOUTS["audioset"](tmp_path)
    good = layout.extra["strong"].read_text()
    for old, new, words in (
        ("PJHxphWEs_30000", "PJHxphWEs_early", "is not ID_MILLISECONDS"),
        ("2.627", "soon", "'soon' is not a time in seconds"),
        ("2.627", "nan", "'nan' is not a time in seconds"),
        ("2.627", "1e999", "'1e999' is not a time in seconds"),
        ("end_time_seconds", "end", "without the columns end_time_seconds"),
    ):
        layout.extra["strong"].write_text(good.replace(old, new, 1))
        with pytest.raises(ValueError, match=words) as error:
            list_clips("audioset", tmp_path)
        _one_line(error, str(layout.extra["strong"]))


def _gtzan_no_folder(root: Path, audio: Path):
    (root / "genres_original").rename(root / "songs")
    return "no genres_original or genres here"


def _gtzan_no_audio(root: Path, audio: Path):
    for file in root.rglob("*.wav"):
        file.unlink()
    return "no audio files in folders named by genre"


def _gtzan_wrong_place(root: Path, audio: Path):
    audio.rename(root / "genres_original" / audio.name)
    return [("blues.00000", "not in a folder named by genre")]


def _gtzan_wrong_name(root: Path, audio: Path):
    audio.rename(audio.with_name("jazz.00001.wav"))
    return [("blues/jazz.00001", "not named blues.NUMBER")]


def _gtzan_twice(root: Path, audio: Path):
    write_audio(audio.with_suffix(".au"), 0)
    return [("blues.00000", "taken by an earlier clip")]


@pytest.mark.parametrize(
    "change",
    [_gtzan_no_folder, _gtzan_no_audio, _gtzan_wrong_place, _gtzan_wrong_name, _gtzan_twice],
)
def test_gtzan_broken(tmp_path, change):
    expected = change(tmp_path, LAYOUTS["gtzan"](tmp_path).audio)
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            list_clips("gtzan", tmp_path)
        return
    clips, rejected = list_clips("gtzan", tmp_path)
    assert "gtzan-jazz.00054" in {clip.id for clip in clips}
    for item, (name, reason) in zip(rejected, expected, strict=True):
        assert name in item.source and reason in item.reason


def test_the_damaged_song_of_gtzan(tmp_path):
    LAYOUTS["gtzan"](tmp_path)
    (tmp_path / "genres_original" / "jazz" / "jazz.00054.wav").write_bytes(b"\0" * 4000)
    clips, _ = list_clips("gtzan", tmp_path)
    found = decode_clip(clips[1], RATE, **LEVELS)
    assert found.source == "gtzan:jazz.00054" and "cannot be decoded" in found.reason


def _tar(root: Path, members: dict[str, bytes]) -> Path:
    root.mkdir(exist_ok=True)
    with tarfile.open(root / "0.tar", "w") as archive:
        for name, data in members.items():
            add_to_tar(archive, name, data)
    return root / "0.tar"


TEXT = json.dumps({"text": ["A dog"], "tag": []}).encode()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"1.json": None}, "no 1.json or 1.txt in 0.tar"),
        ({"1.flac": None}, "no audio file for it"),
        ({"1.json": b"{"}, "1.json in 0.tar cannot be read"),
        ({"1.json": b"[]"}, "is not a JSON object"),
        ({"1.json": b'{"caption_of": "A dog"}'}, "neither a caption nor a label"),
        ({"1.json": b'{"text": [], "tag": [" "]}'}, "neither a caption nor a label"),
        ({"1.flac": b"no sound"}, "cannot be decoded"),
        ({"1.json": None, "1.txt": b"\xff"}, "1.txt in 0.tar cannot be read"),
        ({"1.json": None, "1.txt": b" nan\n"}, "neither a caption nor a label"),
        ({"1.json": b'{"text": "A", "provenance": ["human", "rules"]}'}, "2 words for 1 captions"),
    ],
)
def test_a_pair_of_a_tar_is_broken(tmp_path, change, reason):
    members = {"1.flac": flac(0), "1.json": TEXT, "2.flac": flac(1), "2.json": TEXT} | change
    _tar(tmp_path / "data", {k: v for k, v in members.items() if v is not None})
    clips, rejected = list_clips("laion", tmp_path / "data")
    decoded = [decode_clip(clip, RATE, **LEVELS) for clip in clips]
    bad = rejected + [item for item in decoded if isinstance(item, Rejected)]
    assert [item.source for item in bad] == ["data:1"]
    assert reason in bad[0].reason
    assert "data-2" in {clip.id for clip in clips}


def test_tars_that_are_none_or_cut(tmp_path):
    with pytest.raises(ValueError, match="no .tar files in it"):
        list_clips("laion", tmp_path)
    members = {"1.flac": flac(0), "1.json": TEXT, "2.json": TEXT, "2.flac": flac(1)}
    tar = _tar(tmp_path / "data", members)
    whole = tar.read_bytes()
    second = whole.rindex(b"fLaC")
    tar.write_bytes(whole[: second + 600])
    clips, rejected = list_clips("laion", tmp_path / "data")
    reasons = [item.reason for item in rejected] + [
        item.reason
        for clip in clips
        if isinstance(item := decode_clip(clip, RATE, **LEVELS), Rejected)
    ]
    assert any("damaged after" in reason or "before the clip does" in reason for reason in reasons)
    assert not isinstance(decode_clip(clips[0], RATE, **LEVELS), Rejected)
    tar.write_bytes(b"not a tar" * 100)
    clips, (item,) = list_clips("laion", tmp_path / "data")
    assert clips == [] and "damaged after 0 clips" in item.reason


def test_the_same_number_in_two_tars(tmp_path):
    tar = _tar(tmp_path / "data", {"1.flac": flac(0), "1.json": TEXT})
    tar.with_name("1.tar").write_bytes(tar.read_bytes())
    clips, rejected = list_clips("laion", tmp_path / "data")
    assert [clip.id for clip in clips] == ["data-1", "data-1/1"] and rejected == []


@pytest.mark.parametrize("fault", ["none", "no parquet", "no audio", "no struct", "cut"])
def test_parquet_broken(tmp_path, fault):
    import pyarrow
    import pyarrow.parquet

    file = LAYOUTS["parquet"](tmp_path).table
    table = pyarrow.parquet.read_table(file)
    if fault == "none":
        for each in tmp_path.rglob("*.parquet"):
            each.unlink()
    elif fault == "no parquet":
        file.write_bytes(b"PAR1" + b"x" * 99)
    elif fault == "no audio":
        pyarrow.parquet.write_table(table.rename_columns(["sound", "caption", "labels"]), file)
    elif fault == "no struct":
        sounds = pyarrow.array([b"x", b"y"])
        pyarrow.parquet.write_table(table.set_column(0, "audio", sounds), file)
    else:
        file.write_bytes(file.read_bytes()[:-50])
    words = {
        "none": "no .parquet files in it",
        "no parquet": "is not a parquet file",
        "no audio": "no column audio of struct {bytes, path} or of paths; there are sound, ",
        "no struct": "no column audio of struct",
        "cut": "is not a parquet file",
    }
    with pytest.raises(ValueError) as error:
        list_clips("parquet", tmp_path)
    _one_line(error, words[fault])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"audio": {"bytes": None, "path": "3.flac"}, "caption": ["A"]}, "there is no such file"),
        ({"audio": {"bytes": None, "path": None}, "caption": ["A"]}, "neither audio bytes nor"),
        ({"audio": None, "caption": ["A"]}, "neither audio bytes nor a path"),
        ({"audio": {"bytes": b"noise", "path": "3.flac"}, "caption": ["A"]}, "cannot be decoded"),
        ({"audio": {"bytes": flac(0), "path": "3.flac"}, "caption": []}, "neither a caption"),
    ],
)
def test_a_row_of_parquet_is_broken(tmp_path, row, reason):
    import pyarrow
    import pyarrow.parquet

    file = LAYOUTS["parquet"](tmp_path).table
    table = pyarrow.parquet.read_table(file)
    more = pyarrow.Table.from_pylist([row | {"labels": []}], table.schema)
    pyarrow.parquet.write_table(pyarrow.concat_tables([table, more]), file)
    clips, rejected = list_clips("parquet", tmp_path)
    decoded = [decode_clip(clip, RATE, **LEVELS) for clip in clips]
    bad = rejected + [item for item in decoded if isinstance(item, Rejected)]
    assert len(bad) == 1 and reason in bad[0].reason
    assert len(clips) + len(rejected) == 4


@pytest.mark.parametrize("line", ["{", "[1]", '"text"'])
def test_json_lines_broken(tmp_path, line):
    layout = LAYOUTS["folder"](tmp_path)
    with layout.extra["test"].open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match="test.jsonl:2: is not") as error:
        list_clips("folder", tmp_path)
    _one_line(error, "test.jsonl")
