"""Random layouts: every row and every audio file is in the clips or listed as left out, once, and
a clip reads the audio that its row named. Sounds tell which they are, captions which they want."""

import csv
import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from clapjax.audio.files import AudioError
from clapjax.data.sources import list_clips, read_source
from tests.data.test_sources_lost import (
    encoded,
    level_of,
    write_level,
    write_parquet,
    write_tar,
)

FOLDERS = ("", "x/", "x/y/", "v1.0/")
STEMS = ("a", "b", "v1.0", "v1.1", "ü b", ".c", "1")
SUFFIXES = (".wav", ".flac", ".FLAC", ".caf")
TABLES = ("t.csv", "train.csv", "test.jsonl", "x/more.tsv", "x/val.csv", "semicolons.csv")


def _names(generator: random.Random, count: int) -> list[str]:
    """Different paths, many of which have a name or a stem in common."""
    every = [f + stem + suffix for f in FOLDERS for stem in STEMS for suffix in SUFFIXES]
    return generator.sample(every, count)


def _write_table(root: Path, name: str, rows: list[dict]) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return
    delimiter = {".tsv": "\t"}.get(file.suffix, ";" if "semi" in name else ",")
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def _meant(table: str, way: str, name: str, levels: dict[str, int]) -> str | None:
    """The file that a row means; None where there is none, or several."""
    if way == "bare":
        found = [place for place in levels if os.path.basename(place) == name]
        return found[0] if len(found) == 1 else None
    base = os.path.dirname(table) if way == "table" else ""
    place = os.path.normpath(os.path.join(base, name))
    return place if place in levels else None


@pytest.mark.parametrize("seed", range(30))
def test_folders(tmp_path, seed):
    generator, root = random.Random(seed), tmp_path / "set"
    places = _names(generator, 14)
    levels = {place: level for level, place in enumerate(places[:9], 1)}  # the others are missing
    for place, level in levels.items():
        write_level(root / place, level)
    (root / "junk.csv").write_text("time,loss\n1,2,3\n\x00\n")
    (root / "notes.txt").write_text("file,caption\n")
    asked: list[tuple[str, str, str | None]] = []  # (table, name in it, file that is meant)
    for table in generator.sample(TABLES, generator.randint(1, 4)):
        way = generator.choice(("table", "root", "bare"))
        rows = []
        for place in generator.choices(places, k=6):
            base = os.path.dirname(table) if way == "table" else ""
            name = os.path.basename(place) if way == "bare" else os.path.relpath(place, base or ".")
            rows.append({"file": name, "caption": ""})
        # In a table with a name that is right relative to it (or to the root), all others are too.
        for other in ("table", "root"):
            if any(_meant(table, other, row["file"], levels) for row in rows):
                way = other
                break
        for row in rows:
            meant = _meant(table, way, row["file"], levels)
            row["caption"] = f"sound {levels[meant]}" if meant else f"missing {row['file']}"
            asked.append((table, row["file"], meant))
        _write_table(root, table, rows)

    clips, rejected = list_clips("folder", root)
    for clip in clips:
        assert clip.captions == (f"sound {level_of(clip)}",)
    heard = Counter((level_of(clip), clip.split) for clip in clips)
    assert set(heard.values()) <= {1}
    named = {meant for _, _, meant in asked if meant}
    assert {level for level, _ in heard} == {levels[place] for place in named}
    assert len({clip.id for clip in clips}) == len(clips)
    reasons = Counter(item.reason.split(":")[0] for item in rejected)
    lost = {(table, name) for table, name, meant in asked if not meant}
    assert reasons.pop("no table names it", 0) == len(levels.keys() - named)
    unclear = reasons.pop("which file is its audio is not clear", 0)
    assert unclear + reasons.pop("no audio file for it", 0) == len(lost)
    assert not reasons


@pytest.mark.parametrize("seed", range(30))
def test_tars(tmp_path, seed):
    generator, root = random.Random(seed), tmp_path / "set"
    audio: dict[int, tuple[str, str]] = {}  # level to (tar, key)
    texts: dict[tuple[str, str], list[str]] = {}
    again, orphans, others = set(), set(), 0
    for tar in generator.sample(("0.tar", "train/0.tar", "train/1.tar", "test/0.tar"), 2):
        members = []
        for name in _names(generator, 6):
            level = len(audio) + 1
            members.append((name, encoded(level, name.rsplit(".", 1)[1].upper())))
            audio[level] = (tar, name.rsplit(".", 1)[0])
        for key in sorted({name.rsplit(".", 1)[0] for name, _ in members} | {"x/none"}):
            for suffix in generator.choice(((), (".json",), (".txt",), (".json", ".txt"))):
                text = f"{tar} {key}"
                data = json.dumps({"text": text}) if suffix == ".json" else text
                members.append((key + suffix, data.encode()))
                texts.setdefault((tar, key), []).append(text)
        orphans |= {key for key in texts if key[0] == tar and key not in set(audio.values())}
        if generator.random() < 0.3:  # a second member of a name
            members.append(members[0])
            again.add((tar, members[0][0].rsplit(".", 1)[0]))
            others += 1
        generator.shuffle(members)
        write_tar(root / tar, members)

    clips, rejected = list_clips("laion", root)
    heard = [level_of(clip) for clip in clips]
    assert len(set(heard)) == len(heard) == len({clip.id for clip in clips})
    for clip, level in zip(clips, heard, strict=True):
        assert clip.captions == (" ".join(audio[level]),)
    usable = {n for n, key in audio.items() if key in texts and key not in again}
    assert set(heard) == usable
    assert len(rejected) == len(audio) - len(usable) + len(orphans) + others
    assert len({item.source for item in rejected}) == len(rejected)


@pytest.mark.parametrize("seed", range(30))
def test_parquet(tmp_path, seed):
    generator, root = random.Random(seed), tmp_path / "set"
    names = [*_names(generator, 5), "audio.wav", None]
    beside = {name: n for n, name in enumerate(generator.sample(names[:-1], 3), 91)}
    for name, level in beside.items():
        write_level(root / "data" / name, level)
    wanted: list[int | None] = []
    for part in ("train-0", "train-1", "test"):
        rows = []
        for _ in range(generator.randint(1, 6)):
            name, inside = generator.choice(names), generator.random() < 0.7
            wanted.append(len(wanted) + 1 if inside else beside.get(name))
            data = encoded(len(wanted)) if inside else None
            cell = None if name is None and not inside else {"bytes": data, "path": name}
            rows.append({"audio": cell, "caption": f"row {len(wanted)}"})
        generator.choice((rows.reverse, lambda: None))()
        write_parquet(root / "data" / f"{part}.parquet", rows, row_group_size=2)

    clips, rejected = list_clips("parquet", root)
    assert rejected == [] and len({clip.id for clip in clips}) == len(clips) == len(wanted)
    rows = [int(clip.captions[0].split()[1]) for clip in clips]
    assert sorted(rows) == list(range(1, len(wanted) + 1))
    for clip, row in zip(clips, rows, strict=True):
        if wanted[row - 1] is None:
            with pytest.raises(AudioError, match="no such file|nor a path"):
                clip.read(8000)
        else:
            assert level_of(clip) == wanted[row - 1]


@pytest.mark.parametrize("seed", range(30))
def test_videos(tmp_path, seed):
    """AudioCaps: a segment reads a file of its video, its start if that is told, or none."""
    generator, root = random.Random(seed), tmp_path / "set"
    videos = ("r1nicOVtvkQ", "YDGBjjwyaqE", "vfY_TJq7n_U", "abcdefghi_1")
    forms = ("{}", "Y{}", "{}_{}", "Y{}_{}", "{}_{}000", "{}_{:06d}", "{}_{}000_{}999", "{}_{}.000")
    files: dict[int, tuple[str, int | None]] = {}
    for level in range(1, 13):
        video, start = generator.choice(videos), generator.choice((0, 5, 30, 110))
        form = generator.choice(forms)
        place = generator.choice(FOLDERS) + form.format(video, start, start)
        place += generator.choice(SUFFIXES)
        if not (root / place).exists():
            write_level(root / place, level)
            files[level] = (video, start if "_{" in form else None)
    rows = [
        {"audiocap_id": n, "youtube_id": generator.choice(videos),
         "start_time": generator.choice((0, 5, 30, 110)), "caption": f"row {n}"}
        for n in range(10)
    ]  # fmt: skip
    _write_table(root, "train.csv", rows)
    listing = read_source("audiocaps", root)
    segments = {(row["youtube_id"], row["start_time"]) for row in rows}
    assert len(listing.clips) + len(listing.rejected) == len(segments)
    for clip in listing.clips:
        row = rows[int(clip.captions[0].split()[1])]
        video, start = files[level_of(clip)]
        assert video == row["youtube_id"] and start in (None, row["start_time"])
        exact = [one for one in files.values() if one == (video, row["start_time"])]
        assert len(exact) <= 1 and (start is not None or not exact)
