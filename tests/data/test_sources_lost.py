"""Nothing is lost in silence and no clip gets the audio of another: small inputs that did it."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest
import soundfile

from clapjax.audio.files import AudioError
from clapjax.data.paths import as_path
from clapjax.data.sources import list_clips, listing_key, read_source
from tests.data.layouts import LAYOUTS, add_to_tar
from tests.data.miniature import write_audio

RATE = 8000


def encoded(level: int, container: str = "WAV", seconds: float = 0.1) -> bytes:
    """A sound that tells which it is: all its samples are `level` hundredths."""
    stream = io.BytesIO()
    samples = np.full(int(seconds * RATE), level / 100, np.float32)
    soundfile.write(stream, samples, RATE, format=container)
    return stream.getvalue()


def write_level(file, level: int) -> None:
    """Writes such a sound in the format that the suffix names."""
    file.parent.mkdir(parents=True, exist_ok=True)
    container = file.suffix[1:].upper()
    file.write_bytes(encoded(level, {"AIF": "AIFF"}.get(container, container)))


def level_of(clip) -> int:
    """Which sound a clip reads."""
    return round(100 * float(clip.read(RATE).mean()))


def write_tar(file, members: list[tuple[str, bytes]]) -> None:
    """Writes an uncompressed tar."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as archive:
        for name, data in members:
            add_to_tar(archive, name, data)


def write_parquet(file, rows: list[dict], audio=None, **settings) -> None:
    """Writes rows with a column `audio` of {bytes, path}."""
    import pyarrow
    import pyarrow.parquet

    struct = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    others = sorted({name for row in rows for name in row} - {"audio"})
    columns = {"audio": pyarrow.array([row["audio"] for row in rows], audio or struct)}
    columns |= {name: [row.get(name) for row in rows] for name in others}
    file.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), file, **settings)


def found(kind: str, root) -> dict[str, tuple]:
    """Id to (captions, level) of the clips of a source that leaves nothing out."""
    clips, rejected = list_clips(kind, root)
    assert rejected == []
    return {clip.id: (clip.captions, level_of(clip)) for clip in clips}


# --- ids and keys ---------------------------------------------------------------------------


def test_folders_of_a_tar_are_part_of_the_key(tmp_path):
    root = tmp_path / "set"
    text = json.dumps({"text": "x"}).encode()
    members = [("x/1.flac", encoded(1, "FLAC")), ("x/1.json", text)]
    write_tar(root / "0.tar", [*members, ("y/1.flac", encoded(2, "FLAC"))])
    (clip,), (item,) = list_clips("laion", root)
    assert (clip.id, clip.captions, level_of(clip)) == ("set-x/1", ("x",), 1)
    assert item.source == "set:y/1" and "no y/1.json or y/1.txt in 0.tar" in item.reason


def test_two_formats_and_two_members_of_one_name_in_a_tar(tmp_path):
    text = json.dumps({"text": "x"}).encode()
    flac, wav = encoded(1, "FLAC"), encoded(2)
    write_tar(tmp_path / "a" / "0.tar", [("1.flac", flac), ("1.wav", wav), ("1.json", text)])
    assert found("laion", tmp_path / "a") == {"a-1": (("x",), 1), "a-1.wav": (("x",), 2)}
    sample = [("1.flac", flac), ("1.json", text)]
    write_tar(tmp_path / "b" / "0.tar", [*sample, *sample])  # as `tar --append` leaves it
    clips, rejected = list_clips("laion", tmp_path / "b")
    assert clips == [] and len(rejected) == 2
    assert all("0.tar has several 1.flac" in item.reason for item in rejected)


@pytest.mark.parametrize(
    ("paths", "ids"),
    [
        (["audio.wav"] * 3, ["s-train/audio", "s-train/audio.wav", "s-train/train-0-2"]),
        (["v1.0", "v1.1"], ["s-train/v1.0", "s-train/v1.1"]),
        (["x/a.wav", "y/a.wav"], ["s-train/a", "s-train/a.wav"]),
        ([None, None], ["s-train/train-0-0", "s-train/train-0-1"]),
    ],
)
def test_rows_of_parquet_with_one_name(tmp_path, paths, ids):
    rows = [
        {"audio": {"bytes": encoded(level), "path": path}, "caption": f"sound {level}"}
        for level, path in enumerate(paths, 1)
    ]
    write_parquet(tmp_path / "s" / "train.parquet", rows)
    expected = {name: ((f"sound {n}",), n) for n, name in enumerate(ids, 1)}
    assert found("parquet", tmp_path / "s") == expected


def test_two_formats_of_one_name_in_a_folder(tmp_path):
    root = tmp_path / "s"
    write_level(root / "a.wav", 1)
    write_level(root / "a.flac", 2)
    (root / "t.csv").write_text("file,caption\na.wav,one\na.flac,two\n")
    assert found("folder", root) == {"s-a": (("one",), 1), "s-a.flac": (("two",), 2)}


def test_a_name_that_several_files_have_is_not_guessed(tmp_path):
    root = tmp_path / "clotho"
    LAYOUTS["clotho"](root)
    write_audio(root / "development" / "again" / "Distorted AM Radio noise.wav", 9)
    clips, (item,) = list_clips("clotho", root)
    assert len(clips) == 1 and item.source == "clotho:train/Distorted AM Radio noise"
    assert "not clear: " in item.reason and "again/Distorted AM Radio noise.wav" in item.reason

    root = tmp_path / "audiocaps"
    LAYOUTS["audiocaps"](root)
    write_audio(root / "more" / "r1nicOVtvkQ.flac", 9)
    clips, (item,) = list_clips("audiocaps", root)
    assert item.source == "audiocaps:train/r1nicOVtvkQ_130" and "not clear: " in item.reason
    write_audio(root / "more" / "r1nicOVtvkQ_130.flac", 9)  # which tells the start
    clips, rejected = list_clips("audiocaps", root)
    assert rejected == [] and clips[0].read.file.name == "r1nicOVtvkQ_130.flac"


# --- tables ---------------------------------------------------------------------------------


def test_a_comma_that_is_not_quoted_is_an_error(tmp_path):
    write_level(tmp_path / "a.wav", 1)
    (tmp_path / "t.csv").write_text("file,caption\na.wav,a dog barks, then a man speaks\n")
    with pytest.raises(ValueError, match=r"t\.csv:2: 3 cells .* quote the text"):
        list_clips("folder", tmp_path)
    LAYOUTS["audiocaps"](tmp_path / "audiocaps")
    with (tmp_path / "audiocaps" / "train.csv").open("a") as table:
        table.write("1,UDGBjjwyaqE,20,a dog barks, then a man speaks\n")
    with pytest.raises(ValueError, match=r"train\.csv:4: 5 cells"):
        list_clips("audiocaps", tmp_path / "audiocaps")


def test_cells_that_hold_no_caption_or_a_list(tmp_path):
    cells = ["nan", "None", "null", "N/A", "", "12.5"]
    lists = ["\"['a dog', 'a cat']\"", '"[""a dog"", ""a cat""]"']
    lines = ["file,caption,caption_2"]
    for level, cell in enumerate([*cells, *lists], 1):
        write_level(tmp_path / "s" / f"{level}.wav", level)
        lines.append(f"{level}.wav,{cell},nan")
    (tmp_path / "s" / "t.csv").write_text("\n".join(lines) + "\n")
    clips, rejected = list_clips("folder", tmp_path / "s")
    assert [item.source for item in rejected] == [f"s:{n}" for n in range(1, 7)]
    assert {item.reason for item in rejected} == {"neither a caption nor a label"}
    assert [clip.captions for clip in clips] == [("a dog", "a cat")] * 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "\ufeff File ,CAPTION\naudio/x.ogg,A dog\n"),
        ("t.csv", "filepath;caption\naudio/x.ogg;A dog\n"),
        ("t.csv", "audio_path\tcaption\naudio/x.ogg\tA dog\n"),
        ("t.TSV", "filename\tcaption\naudio/x.ogg\tA dog\n"),
        ("t.csv", "file,caption\nx.ogg,A dog\n"),
        ("t.csv", "file,caption\nx,A dog\n"),
        ("sub/t.csv", "file,caption\naudio/x.ogg,A dog\n"),
        ("sub/t.csv", "file,caption\n./../audio/x.ogg,A dog\n"),
    ],
)
def test_tables_as_people_write_them(tmp_path, name, text):
    write_level(tmp_path / "s" / "audio" / "x.ogg", 5)
    (tmp_path / "s" / "sub").mkdir()
    (tmp_path / "s" / name).write_text(text)
    assert found("folder", tmp_path / "s") == {"s-audio/x": (("A dog",), 5)}


def test_a_missing_file_is_not_taken_for_another(tmp_path):
    root = tmp_path / "s"
    for level, name in enumerate(("x/a.wav", "y/a.wav", "y/b.wav"), 1):
        write_level(root / name, level)
    (root / "t.csv").write_text("file,caption\nx/a.wav,one\nx/b.wav,missing\nb.wav,missing too\n")
    clips, rejected = list_clips("folder", root)
    assert [level_of(clip) for clip in clips] == [1]
    assert {item.source: item.reason for item in rejected} == {
        "s:x/b": "no audio file for it",
        "s:b": "no audio file for it",
        "s:y/a.wav": "no table names it",
        "s:y/b.wav": "no table names it",
    }
    (root / "t.csv").write_text("file,caption\na.wav,which\nb.wav,three\n")
    clips, rejected = list_clips("folder", root)
    assert [(clip.captions, level_of(clip)) for clip in clips] == [(("three",), 3)]
    assert "not clear: " in rejected[0].reason and "x/a.wav or " in rejected[0].reason


def test_a_foreign_table_is_told_and_not_read(tmp_path):
    root = tmp_path / "s"
    write_level(root / "a.wav", 1)
    (root / "t.csv").write_text("file,caption\na.wav,one\n")
    (root / "log.csv").write_text("time,loss\n1,2,3,4\n")
    listing = read_source("folder", root)
    assert [clip.captions for clip in listing.clips] == [("one",)] and listing.rejected == []
    (notice,) = listing.notices
    assert notice.source == str(root / "log.csv") and "time, loss" in notice.text
    (root / "t.csv").unlink()
    with pytest.raises(ValueError, match=r"log\.csv: no column names the audio files \(file, "):
        read_source("folder", root)


def test_names_that_are_all_wrong_are_listed(tmp_path):
    root = tmp_path / "s"
    write_level(root / "a.wav", 1)
    (root / "t.csv").write_text("file,caption\nb.wav,one\nc.wav,two\n,three\n")
    clips, rejected = list_clips("folder", root)
    assert clips == []
    assert [item.source for item in rejected] == ["s:t.csv:4", "s:b", "s:c", "s:a.wav"]


def test_tables_beside_each_other_are_joined_by_file(tmp_path):
    """What `captions negate` writes beside a table goes to the same clips, in their splits."""
    root = tmp_path / "s"
    for level, name in enumerate(("a.wav", "b.wav"), 1):
        write_level(root / name, level)
    (root / "train.csv").write_text("file,caption\na.wav,One then two\n")
    (root / "test.csv").write_text("file,caption\nb.wav,Three then four\n")
    rows = [
        {"file": "a.wav", "caption": "One then two", "negative_captions": ["Two then one"],
         "provenance": "human;rules"},
        {"file": "b.wav", "captions": ["Three, four"], "negative_captions": ["Four then three"],
         "provenance": ["llm:m", "rules"], "reason": "?"},
    ]  # fmt: skip
    (root / "negatives.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    listing = read_source("folder", root)
    assert listing.rejected == []
    first, second = sorted(listing.clips, key=lambda clip: clip.id, reverse=True)
    assert (first.id, first.captions) == ("s-train/a", ("One then two",))
    assert (first.negative_captions, first.provenance) == (("Two then one",), "human;rules")
    assert (second.id, second.captions) == ("s-test/b", ("Three, four", "Three then four"))
    assert second.provenance == "llm:m;human;rules"
    (notice,) = listing.notices
    assert notice.text == "nothing reads the columns reason"
    rows[0]["provenance"] = "a;b;c"
    (root / "negatives.jsonl").write_text(json.dumps(rows[0]) + "\n")
    _, (item,) = list_clips("folder", root)
    assert item.reason == "provenance has 3 words for 2 captions and negative captions"


def test_one_file_in_two_splits_has_one_origin(tmp_path):
    root = tmp_path / "s"
    write_level(root / "a.wav", 1)
    write_level(root / "a.flac", 2)
    (root / "train.csv").write_text("file,caption\na.flac,other\na.wav,one\n")
    (root / "test.csv").write_text("file,caption\na.wav,one\n")
    clips, rejected = list_clips("folder", root)
    groups = {(clip.split, level_of(clip)): clip.group for clip in clips}
    assert rejected == [] and len(groups) == 3
    assert groups["train", 1] == groups["test", 1] != groups["train", 2]


# --- negatives and provenance in every captioned source -------------------------------------

ADDED = {
    "audiocaps": ("train.csv", ',"[""Wrong order""]",human;rules'),
    "autoacd": ("train.csv", ",Wrong order,llm:chatgpt;rules"),
    "clotho": ("clotho_captions_development.csv", ",Wrong order," + "human;" * 5 + "rules"),
    "wavtext5k": ("WavText5K.csv", ",['Wrong order'],human;rules"),
}


@pytest.mark.parametrize("kind", [*ADDED, "macs", "wavcaps", "laion", "parquet"])
def test_negative_captions_of_every_captioned_source(kind, tmp_path):
    layout = LAYOUTS[kind](tmp_path)
    if kind in ADDED:
        name, cells = ADDED[kind]
        lines = (tmp_path / name).read_text().splitlines()
        lines[0] += ",negative_captions,provenance,odd"
        lines[1:] = [line + cells + ",?" for line in lines[1:]]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    elif kind == "macs":
        more = "\n  negative_captions: [Wrong order]\n  provenance: human;human;rules\n  odd: 1\n"
        text = layout.table.read_text().replace("0-0-a.wav\n", "0-0-a.wav" + more)
        layout.table.write_text(text)
    elif kind == "wavcaps":
        content = json.loads(layout.table.read_text())
        added = {"negative_captions": ["Wrong order"], "provenance": ["llm:chatgpt", "rules"]}
        content["data"][0] |= added | {"odd": 1}
        layout.table.write_text(json.dumps(content))
    elif kind == "laion":
        text = {"text": ["One"], "negative_captions": ["Wrong order"], "odd": 1}
        text["provenance"] = ["human", "rules"]
        members = [("1.wav", encoded(1)), ("1.json", json.dumps(text).encode())]
        write_tar(tmp_path / "train" / "0.tar", members)
    else:
        row = {"audio": {"bytes": encoded(1), "path": "1.wav"}, "caption": "One", "odd": 1}
        row |= {"negative_captions": ["Wrong order"], "provenance": "human;rules"}
        write_parquet(layout.table, [row])
    listing = read_source(kind, tmp_path)
    with_negatives = [clip for clip in listing.clips if clip.negative_captions]
    clip = with_negatives[0]
    assert clip.negative_captions == ("Wrong order",)
    words = clip.provenance.split(";")
    assert len(words) == len(clip.captions) + 1 and words[-1] == "rules" != words[0]
    assert [notice.text for notice in listing.notices] == ["nothing reads the columns odd"]


# --- formats --------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".caf", ".w64", ".rf64", ".aiff", ".mp3", ".m4a"])
def test_audio_is_found_whatever_its_format(tmp_path, suffix):
    layout = LAYOUTS["audiocaps"](tmp_path)
    file = layout.audio.with_suffix(suffix)
    layout.audio.unlink()
    if suffix == ".m4a":
        from tests.audio.test_files import encode_media

        encode_media(file, "aac", "ipod", np.full(RATE, 0.1, np.float32), RATE)
    else:
        write_level(file, 10)
    clips, rejected = list_clips("audiocaps", tmp_path)
    assert rejected == [] and clips[0].read.file == file
    assert abs(clips[0].read(RATE).mean() - 0.1) < 0.02


def test_text_files_and_odd_members_of_tars(tmp_path):
    root = tmp_path / "s"
    write_tar(
        root / "deep" / "train" / "0.tar",
        [
            ("1.flac", encoded(1, "FLAC")), ("1.txt", b"A dog\n"),
            ("2.wav", encoded(2)), ("2.txt", b"A cat"), ("2.json", b'{"text": "A lynx"}'),
            ("3.wav", encoded(3)),  # as of AudioSet, without a text
            ("4.txt", b"No sound"), ("4.cls", b"7"), ("5.jpg", b""),
        ],
    )  # fmt: skip
    (root / "README.md").write_text("x")
    listing = read_source("laion", root)
    assert {clip.id: (set(clip.captions), level_of(clip)) for clip in listing.clips} == {
        "s-train/1": ({"A dog"}, 1),
        "s-train/2": ({"A cat", "A lynx"}, 2),
    }
    assert [(item.source, item.reason) for item in listing.rejected] == [
        ("s:train/3", "no 3.json or 3.txt in 0.tar"),
        ("s:train/4", "no audio file for it"),
    ]
    assert [notice.text for notice in listing.notices] == [
        "not read, in the tars: 1 .cls, 1 .jpg",
        "not read: 1 .md",
    ]


@pytest.mark.parametrize("texts", [False, True])
def test_parquet_with_audio_beside_it(tmp_path, texts):
    import pyarrow

    root = tmp_path / "s"
    for level, name in enumerate(("data/clips/1.wav", "clips/2.wav"), 1):
        write_level(root / name, level)
    names = ["clips/1.wav", "clips/2.wav", "clips/3.wav"]
    cells = names if texts else [{"bytes": None, "path": name} for name in names]
    rows = [{"audio": cell, "caption": "x"} for cell in cells]
    write_parquet(root / "data" / "train.parquet", rows, pyarrow.string() if texts else None)
    clips, rejected = list_clips("parquet", root)
    assert rejected == [] and [level_of(clip) for clip in clips[:2]] == [1, 2]
    assert clips[0].duration() == 0.1
    with pytest.raises(AudioError, match="clips/3.wav has no audio bytes, and there is no such"):
        clips[2].read(RATE)


def test_mp3_with_zeros_in_front_in_every_container(tmp_path):
    data = bytes(5000) + encoded(20, "MP3", 1.0)
    write_tar(tmp_path / "tar" / "0.tar", [("1.mp3", data), ("1.txt", b"x")])
    row = {"audio": {"bytes": data, "path": "1.mp3"}, "caption": "x"}
    write_parquet(tmp_path / "parquet" / "0.parquet", [row])
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "1.mp3").write_bytes(data)
    (tmp_path / "folder" / "t.csv").write_text("file,caption\n1.mp3,x\n")
    kinds = {"laion": "tar", "parquet": "parquet", "folder": "folder"}
    heard = [list_clips(kind, tmp_path / name)[0][0].read(RATE) for kind, name in kinds.items()]
    assert heard[0].size > 0.9 * RATE
    np.testing.assert_array_equal(heard[0], heard[1])
    np.testing.assert_array_equal(heard[0], heard[2])


def test_what_a_folder_holds_besides_is_counted(tmp_path):
    root = tmp_path / "s"
    write_level(root / "a.wav", 1)
    write_level(tmp_path / "elsewhere" / "b.wav", 2)
    write_level(tmp_path / "elsewhere" / "c.wav", 3)
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "again").symlink_to(tmp_path / "elsewhere")  # whose files are known by another name
    (root / "t.csv").write_text("file,caption\na.wav,one\nlinked/b.wav,two\n")
    for name in ("notes.txt", "cover.JPG", "back.jpg", "Makefile"):
        (root / name).write_text("x")
    listing = read_source("folder", root)
    assert {level_of(clip) for clip in listing.clips} == {1, 2}
    (item,) = listing.rejected
    assert item.source.endswith("/c.wav") and item.reason == "no table names it"
    (notice,) = listing.notices
    assert notice.text == "not read: 2 .jpg, 1 .txt, 1 without a suffix"


# --- reading and keeping --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "laion", "parquet"])
def test_a_window_of_a_clip_and_its_duration(kind, tmp_path):
    LAYOUTS[kind](tmp_path)
    for clip in pickle.loads(pickle.dumps(read_source(kind, tmp_path))).clips:
        whole = clip.read(RATE)
        window = clip.read(RATE, 0.1, 0.05)
        np.testing.assert_allclose(window, whole[800:1200], rtol=0, atol=1e-5)
        assert clip.duration() == pytest.approx(whole.size / RATE, abs=1e-3)


def test_rows_of_parquet_in_any_order(tmp_path):
    rows = [
        {"audio": {"bytes": encoded(level), "path": None}, "caption": "x"} for level in range(1, 9)
    ]
    write_parquet(tmp_path / "0.parquet", rows, row_group_size=5)
    clips, _ = list_clips("parquet", tmp_path)
    for number in (0, 1, 1, 4, 3, 7, 0, 5, 2, 6):
        assert level_of(clips[number]) == number + 1


def test_a_listing_is_known_again(tmp_path):
    LAYOUTS["folder"](tmp_path)
    root = as_path(tmp_path)
    key = listing_key(root)
    assert listing_key(root) == key
    listing = read_source("folder", root)
    assert pickle.loads(pickle.dumps(listing)) == listing
    keys = {key}
    with (tmp_path / "train.csv").open("a") as table:
        table.write("x.wav,a,b,c\n")
    keys.add(listing_key(root))
    write_level(tmp_path / "x.wav", 1)
    keys.add(listing_key(root))
    (tmp_path / "test.jsonl").rename(tmp_path / "valid.jsonl")
    keys.add(listing_key(root))
    assert len(keys) == 4
