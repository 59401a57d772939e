"""ESC-50 and ESC-10 (Piczak, ACM MM 2015; github.com/karolpiczak/ESC-50).

Layout: `meta.csv` (or `meta/esc50.csv`) with the columns filename, fold, category and src_file,
beside a folder `audio/` that holds the files.
"""

import csv
import functools
import os
from pathlib import Path

from clapjax.audio.files import read_audio
from clapjax.data.sources.clip import Clip, Rejected

COLUMNS = ("filename", "fold", "category", "src_file")


def list_esc50(path: str | os.PathLike) -> tuple[list[Clip], list[Rejected]]:
    """Lists the recordings of an ESC-50 or ESC-10 folder.

    Args:
      path: the folder that holds meta.csv and audio/.

    Returns:
      (clips sorted by file name, what does not fit the layout).

    Raises:
      ValueError: no such folder, table or column.
    """
    root = Path(path)
    tables = [root / "meta.csv", root / "meta" / "esc50.csv"]
    table = next((file for file in tables if file.is_file()), None)
    if table is None or not (root / "audio").is_dir():
        raise ValueError(f"{root}: expected meta.csv (or meta/esc50.csv) and a folder audio/")
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    missing = [column for column in COLUMNS if not rows or column not in rows[0]]
    if missing:
        raise ValueError(f"{table}: empty, or without the columns {', '.join(missing)}")

    present = {file.name for file in (root / "audio").iterdir() if file.is_file()}
    clips, rejected, seen, stems = [], {}, set(), set()
    for row in sorted(rows, key=lambda row: row["filename"] or ""):
        name = row["filename"] or ""
        source = f"esc50:{name}"
        if name in seen:  # the first mention counts
            rejected.setdefault(source, f"named twice in {table.name}")
        elif name not in present:
            rejected[source] = f"named in {table.name} but not in audio/"
        elif not (row["fold"] or "").isdecimal() or not row["category"]:
            rejected[source] = f"no fold or category in {table.name}"
        else:
            read = functools.partial(read_audio, root / "audio" / name)
            label = row["category"].replace("_", " ")
            group = row["src_file"] or name
            stem = Path(name).stem
            clip_id = name if stem in stems else stem  # ids are unique even where stems are not
            clips.append(Clip(clip_id, label, int(row["fold"]), group, source, read))
            stems.add(stem)
        seen.add(name)
    for name in sorted(present - seen):
        rejected[f"esc50:{name}"] = f"in audio/ but not named in {table.name}"
    return clips, [Rejected(source, reason) for source, reason in rejected.items()]
