"""Miniatures of all layouts; here those of one's own data, the same clips in three containers."""

import io
import json
import tarfile
from pathlib import Path

import soundfile

from tests.data.layouts_captions import audiocaps, autoacd, clotho, macs, wavcaps, wavtext5k
from tests.data.layouts_labels import audioset, esc10, esc50, fsd50k, gtzan, urbansound8k, vggsound
from tests.data.miniature import RATE, Expected, Layout, sound, write_audio, write_table

# What the three general layouts hold: (split, stem, sound, captions, labels).
GENERAL = (
    ("train", "1", 0, ("A dog barks, then it rains", "Rain after a dog"), ("dog", "rain")),
    ("train", "2", 1, ("Größe 🐶", "犬が吠える"), ()),
    ("test", "1", 2, (), ("siren",)),
)


def _general(name: str) -> tuple[Expected, ...]:
    return tuple(
        Expected(
            f"{name}-{split}/{stem}", i, f"{name}:{split}/{stem}", split, None, labels, captions
        )
        for split, stem, i, captions, labels in GENERAL
    )


def folder(root: Path) -> Layout:
    """A CSV table of the training set, JSON lines of the test set."""
    rows = [
        (f"{split}/{stem}.flac", *captions, ";".join(labels))
        for split, stem, _, captions, labels in GENERAL[:2]
    ]
    table = write_table(root / "train.csv", rows, "file,caption_1,caption_2,labels")
    split, stem, _, captions, labels = GENERAL[2]
    line = {"file": f"{split}/{stem}.flac", "captions": captions, "labels": labels}
    (root / "test.jsonl").write_text(json.dumps(line) + "\n")
    audio = [write_audio(root / g[0] / f"{g[1]}.flac", g[2]) for g in GENERAL]
    line = '"A dog barks, then it rains",Rain after a dog,dog;rain\n'
    return Layout(
        _general(root.name), table, audio[0], ("file,", "sound,"), (line, ",,\n"),
        extra={"test": root / "test.jsonl"},
    )  # fmt: skip


def add_to_tar(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """Adds a file to a tar."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def flac(number: int) -> bytes:
    """`sound(number)` as FLAC."""
    stream = io.BytesIO()
    soundfile.write(stream, sound(number), RATE, format="FLAC")
    return stream.getvalue()


def laion(root: Path) -> Layout:
    for split in ("train", "test"):
        (root / split).mkdir(parents=True, exist_ok=True)
        with tarfile.open(root / split / "0.tar", "w") as archive:
            for where, stem, i, captions, labels in GENERAL:
                if where == split:
                    add_to_tar(archive, f"{stem}.flac", flac(i))
                    text = {"text": list(captions), "tag": list(labels), "original_data": {}}
                    add_to_tar(archive, f"{stem}.json", json.dumps(text).encode())
    tar = root / "train" / "0.tar"
    return Layout(_general(root.name), tar, tar, ("", ""), ("", ""))


def parquet(root: Path) -> Layout:
    import pyarrow
    import pyarrow.parquet

    (root / "data").mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        rows = [
            {
                "audio": {"bytes": flac(i), "path": f"{stem}.flac"},
                "caption": list(captions),
                "labels": list(labels),
            }
            for where, stem, i, captions, labels in GENERAL
            if where == split
        ]
        texts = pyarrow.list_(pyarrow.string())
        audio = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
        schema = pyarrow.schema([("audio", audio), ("caption", texts), ("labels", texts)])
        table = pyarrow.Table.from_pylist(rows, schema)
        file = root / "data" / f"{split}-00000-of-00001.parquet"
        pyarrow.parquet.write_table(table, file, row_group_size=1)
    file = root / "data" / "train-00000-of-00001.parquet"
    return Layout(_general(root.name), file, file, ("", ""), ("", ""))


LAYOUTS = {
    make.__name__: make
    for make in (
        esc50, esc10, urbansound8k, vggsound, audioset, fsd50k, gtzan, audiocaps, clotho, macs,
        wavtext5k, autoacd, wavcaps, folder, laion, parquet,
    )
}  # fmt: skip
