"""Odd names, tables, tars and parquet files: nothing hangs, nothing is lost, nobody is mistaken."""

import io
import os
import tarfile

import pytest

from clapjax.audio.files import AudioError
from clapjax.data.build.listing import hash_listing
from clapjax.data.sources import read_source
from clapjax.data.sources.clip import SourceError
from tests.data.layouts import add_to_tar
from tests.data.test_sources_lost import (
    encoded,
    found,
    level_of,
    write_level,
    write_parquet,
    write_tar,
)


def _listed(kind: str, root) -> tuple[dict, dict, str]:
    """(Id to clip, source to reason, all notices), of what a build can write down."""
    listing = read_source(kind, root)
    hash_listing(listing.clips, listing.rejected)
    notices = " ".join(notice.text for notice in listing.notices)
    rejected = {one.source: one.reason for one in listing.rejected}
    return {clip.id: clip for clip in listing.clips}, rejected, notices


def test_names_that_are_not_unicode(tmp_path):
    root = tmp_path / "data"
    write_level(root / "a.wav", 10)
    for name in (b"l\xe9.wav", b"m\xe9.wav"):
        (root / os.fsdecode(name)).write_bytes(encoded(20))
    rows = ('"a.wav", "caption": "A"', r'"l\udce9.wav", "caption": "L"')
    (root / "t.jsonl").write_text("".join(f'{{"file": {row}}}\n' for row in rows))
    clips, rejected, _ = _listed("folder", root)
    assert {name: level_of(clip) for name, clip in clips.items()} == {
        "data-a": 10,
        r"data-l\udce9": 20,
    }
    assert rejected == {r"data:m\udce9.wav": "no table names it"}


def test_texts_that_are_not_unicode(tmp_path):
    root = tmp_path / "data"
    for name in "ab":
        write_level(root / f"{name}.wav", 10)
    rows = (r'"a.wav", "caption": "\ud83d dog"', r'"b.wav", "caption": "\ud83d\udc36"')
    (root / "t.jsonl").write_text("".join(f'{{"file": {row}}}\n' for row in rows))
    clips, rejected, _ = _listed("folder", root)
    assert clips["data-b"].captions == ("🐶",)
    assert list(rejected) == ["data:a"] and "not text in Unicode" in rejected["data:a"]


def test_names_in_either_form_of_accents(tmp_path):
    composed, split = "caf\u00e9", "cafe\u0301"
    for on_disk, told in ((composed, split), (split, composed)):
        for table_in in ("", "tables/"):  # by place, and by bare name
            root = tmp_path / f"{len(on_disk)}{len(table_in)}"
            write_level(root / f"x/{on_disk}.wav", 30)
            (root / "tables").mkdir()
            place = told if table_in else f"x/{told}.wav"
            (root / table_in / "t.csv").write_text(f"file,caption\n{place},A\n")
            clips, rejected, _ = _listed("folder", root)
            assert [level_of(clip) for clip in clips.values()] == [30] and not rejected


def test_rows_whose_names_no_file_can_have(tmp_path):
    root = tmp_path / "data"
    write_level(root / "a.wav", 10)
    long, none = "x" * 300, 'b\\u0000.wav"'
    rows = ['"a.wav"', f'"{long}.wav"', f'"{none}', "null", "NaN", '["a.wav"]']
    lines = [f'{{"file": {row}, "caption": "A"}}\n' for row in rows]
    (root / "t.jsonl").write_text("".join(lines))
    clips, rejected, _ = _listed("folder", root)
    assert list(clips) == ["data-a"]
    assert [reason for _, reason in sorted(rejected.items())] == [
        "no audio file for it",
        *["the row names no file"] * 3,
        "no audio file for it",
    ]
    cell = {"bytes": None, "path": f"{long}.wav"}
    write_parquet(tmp_path / "p" / "t.parquet", [{"audio": cell, "caption": "A"}])
    (clip,) = read_source("parquet", tmp_path / "p").clips
    with pytest.raises(ValueError, match="no such file"):
        clip.read(8000)


@pytest.mark.parametrize("kind", ["folder", "laion", "parquet"])
def test_what_is_not_a_file_to_read_is_counted(tmp_path, kind):
    """Pipes hold up whoever opens them; macOS puts ._files beside files."""
    root, text = tmp_path / "data", b'{"text": "A"}'
    write_level(root / "a.wav", 10)
    suffix = {"folder": ".csv", "laion": ".tar", "parquet": ".parquet"}[kind]
    table = root / f"a{suffix.upper()}"
    if kind == "folder":
        table.write_text("file,caption\na.wav,A\n")
    elif kind == "laion":
        write_tar(table, [("a.wav", encoded(10)), ("a.json", text)])
    else:
        write_parquet(table, [{"audio": {"bytes": encoded(10), "path": "a.wav"}, "caption": "A"}])
    (root / f"._a{suffix}").write_bytes(b"\0\5\x16\7\xb0")
    os.mkfifo(root / f"p{suffix}")
    os.symlink("nowhere", root / f"q{suffix}")
    clips, _, notices = _listed(kind, root)
    assert [level_of(clip) for clip in clips.values()] == [10]
    assert f"3 {suffix}" in notices


def test_cells_without_a_group_or_a_split(tmp_path):
    """One of "nan" for all would put every clip into one group, and so out of training."""
    root = tmp_path / "data"
    for name in "ab":
        write_level(root / f"{name}.wav", 10)
    (root / "t.csv").write_text("file,caption,group,split\na,A,nan,Train\nb,B,nan,None\n")
    clips, _, _ = _listed("folder", root)
    assert {clip.id: (clip.group, clip.split) for clip in clips.values()} == {
        "data-train/a": ("data:a", "train"),
        "data-b": ("data:b", ""),
    }


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("test2", "test"),
        ("my_TEST", "test"),
        ("dev-clean", "validation"),
        ("balanced_train", "train"),
        ("valid.other", "validation"),
        ("train_test", ""),
        ("latest", ""),
        ("contest", ""),
    ],
)
def test_splits_by_the_names_of_tables(tmp_path, name, split):
    """A table of held-out clips that is not named so to the letter is not trained on."""
    root = tmp_path / "data"
    write_level(root / "a.wav", 10)
    (root / f"{name}.csv").write_text("file,caption\na.wav,A\n")
    cell = {"bytes": encoded(10), "path": "a.wav"}
    write_parquet(tmp_path / "p" / f"{name}-00000-of-00001.parquet", [{"audio": cell, "text": "A"}])
    assert [clip.split for clip in read_source("folder", root).clips] == [split]
    if name != "train_test":  # there, the first word counts
        assert [clip.split for clip in read_source("parquet", tmp_path / "p").clips] == [split]


def test_splits_that_tfds_has_no_files_for(tmp_path):
    """A name with a dot or a blank failed when all was built."""
    root = tmp_path / "data"
    names = {"test.clean": "test_clean", "Test 1": "test_1", "a/b": "a_b", "dev-clean": "dev-clean"}
    names |= {"..": "", " Dev ": "validation", "größe": "größe"}
    for number in range(len(names)):
        write_level(root / f"{number}.wav", 10)
    rows = "".join(f"{number},A,{name}\n" for number, name in enumerate(names))
    (root / "t.csv").write_text(f"file,caption,split\n{rows}")
    assert [clip.split for clip in read_source("folder", root).clips] == list(names.values())


def test_negatives_that_are_captions_in_other_letters(tmp_path):
    root = tmp_path / "data"
    for name in "ab":
        write_level(root / f"{name}.wav", 10)
    (root / "t.csv").write_text("file,caption,negative_caption\na,A dog,a  DOG\nb,A dog,A dog b\n")
    clips, rejected, _ = _listed("folder", root)
    assert list(clips) == ["data-b"]
    assert rejected == {"data:a": "a negative caption is a caption too: 'a dog'"}


def test_json_lines_with_other_columns_in_later_rows(tmp_path):
    root = tmp_path / "data"
    write_level(root / "a.wav", 10)
    (root / "t.jsonl").write_text('{"caption": "B"}\n{"file": "a.wav", "caption": "A"}\n')
    clips, rejected, _ = _listed("folder", root)
    assert list(clips) == ["data-a"] and rejected == {"data:t.jsonl:1": "the row names no file"}


def test_links_and_sparse_files_in_tars(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    with tarfile.open(root / "0.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        for name in "xyz":
            add_to_tar(archive, f"{name}.json", b'{"text": "A"}')
        add_to_tar(archive, "x.wav", encoded(10))
        link = tarfile.TarInfo("y.wav")
        link.type, link.linkname = tarfile.LNKTYPE, "x.wav"
        archive.addfile(link)
        # As `tar --sparse` writes 512 bytes of data in a file of 1 MiB.
        sparse = tarfile.TarInfo("z.wav")
        sparse.type, sparse.size = tarfile.GNUTYPE_SPARSE, 512
        header = bytearray(sparse.tobuf(tarfile.GNU_FORMAT))
        header[386:410] = b"%011o\0%011o\0" % (0, 512)
        header[483:495] = b"%011o\0" % 2**20
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        archive.fileobj.write(header + encoded(20)[:512])
        archive.offset += 1024
        add_to_tar(archive, "w.txt", b"W")
        add_to_tar(archive, "w.wav", encoded(30))
    clips, rejected, _ = _listed("laion", root)
    assert {name: level_of(clip) for name, clip in clips.items()} == {"data-x": 10, "data-w": 30}
    assert list(rejected) == ["data:0/y.wav", "data:0/z.wav"]
    assert all("a link or a sparse file" in reason for reason in rejected.values())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"text": "A", "text": "B"}', "two things in it are named 'text'"),
        (b'{"text": "A", "Text": "B"}', "two columns are named 'text'"),
        (b'{"text": ' + b"[" * 100_000 + b"}", "is not JSON that can be read"),
        (b'{"text": ' + b"1" * 5_000 + b"}", "is not JSON that can be read"),
        (b'{"text": true}', "'True' is neither a text"),
        (b'{"text": Infinity}', "neither a caption nor a label"),
        (b'{"text": "..."}', "neither a caption nor a label"),
    ],
)
def test_json_that_is_read_in_part_by_others(tmp_path, text, reason):
    write_tar(tmp_path / "data" / "0.tar", [("1.wav", encoded(10)), ("1.json", text)])
    clips, rejected, _ = _listed("laion", tmp_path / "data")
    assert not clips and reason in rejected["data:1"]


def test_a_text_in_a_tar_that_claims_a_petabyte(tmp_path):
    root, stream = tmp_path / "data", io.BytesIO()
    root.mkdir()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        add_to_tar(archive, "1.wav", encoded(10))
        huge = tarfile.TarInfo("1.json")
        huge.size = 2**50
        archive.fileobj.write(huge.tobuf(tarfile.GNU_FORMAT))
    (root / "0.tar").write_bytes(stream.getvalue())
    clips, rejected, _ = _listed("laion", root)
    assert not clips and list(rejected) == ["data:1", "data:0.tar"]


def test_parquet_with_paths_beside_the_audio(tmp_path):
    """LibriSpeech has a column `file` with the paths of the machine that it was made on."""
    rows = [
        {"file": "/nowhere/a.wav", "audio": {"bytes": encoded(10), "path": "a.wav"}, "text": "A"}
    ]
    write_parquet(tmp_path / "train.parquet", rows)
    assert found("parquet", tmp_path) == {f"{tmp_path.name}-train/a": (("A",), 10)}
    assert not read_source("parquet", tmp_path).notices


def test_parquet_of_other_writers(tmp_path):
    import pyarrow
    from pyarrow.parquet import write_table

    struct = pyarrow.struct([("bytes", pyarrow.large_binary()), ("path", pyarrow.large_string())])
    audio = pyarrow.array([{"bytes": encoded(10), "path": "a.wav"}], struct)
    labels = pyarrow.array(["dog"]).dictionary_encode()
    odd = pyarrow.array([1], pyarrow.timestamp("ns"))  # Python cannot hold these
    table = pyarrow.table({"audio": audio, "label": labels, "when": odd})
    (tmp_path / "a").mkdir()
    for meta in (b"no json", b"[]", b'{"info": null}', b"\xff"):
        write_table(
            table.replace_schema_metadata({b"huggingface": meta}), tmp_path / "a" / "t.parquet"
        )
        (clip,) = read_source("parquet", tmp_path / "a").clips
        assert clip.labels == ("dog",) and level_of(clip) == 10
    (tmp_path / "b").mkdir()
    write_level(tmp_path / "b" / "a.wav", 20)
    named = pyarrow.table({"file": pyarrow.array(["a.wav"]).dictionary_encode(), "text": ["A"]})
    write_table(named, tmp_path / "b" / "t.parquet")
    assert found("parquet", tmp_path / "b") == {"b-a": (("A",), 20)}
    (tmp_path / "c").mkdir()
    twice = pyarrow.Table.from_arrays([audio, labels, labels], ["audio", "label", "Label"])
    write_table(twice, tmp_path / "c" / "t.parquet")
    with pytest.raises(SourceError, match="t.parquet: two columns are named 'label'"):
        read_source("parquet", tmp_path / "c")


def test_a_row_group_that_ends_before_its_rows(tmp_path):
    rows = [{"audio": {"bytes": encoded(10), "path": f"{i}.wav"}, "text": "A"} for i in range(3)]
    write_parquet(tmp_path / "t.parquet", rows)
    clips = read_source("parquet", tmp_path).clips
    write_parquet(tmp_path / "t.parquet", rows[:1])
    with pytest.raises(AudioError, match="cannot be read .the row group ends before row 2"):
        clips[2].read(8000)


def test_a_table_of_thousands_of_columns_is_told_in_a_line(tmp_path):
    root = tmp_path / "data"
    write_level(root / "a.wav", 10)
    names = ",".join(f"c{i}" for i in range(3000))
    (root / "t.csv").write_text(f"file,caption,{names}\na.wav,A{',' * 3000}\n")
    clips, _, notices = _listed("folder", root)
    assert list(clips) == ["data-a"] and notices.endswith("c18, c19, and 2980 more")
