"""ESC-50 and ESC-10 (Piczak, ACM MM 2015): 5-s environmental sounds in 5 folds.

Get it: github.com/karolpiczak/ESC-50 (one archive). Layout: `meta/esc50.csv` (or `meta.csv`) with
the columns filename, fold, category and src_file (the Freesound id), beside a folder `audio/`.
Labels only, one each.
"""

from collections.abc import Iterator
from pathlib import Path

from clapjax.data.sources.clip import Clip, Rejected, SourceError
from clapjax.data.sources.common import read_rows
from clapjax.data.sources.readers import FileReader
from clapjax.data.tables import table_columns

COLUMNS = ("filename", "fold", "category", "src_file")


def clips(root: Path) -> Iterator[Clip | Rejected]:
    """Clips sorted by file name, then what does not fit the layout."""
    yield from list_esc50(root)


def list_esc50(root: Path, *, only_esc10: bool = False) -> Iterator[Clip | Rejected]:
    """Lists an ESC-50 folder, or its ESC-10 subset (column esc10).

    Raises:
      SourceError: no such folder, table or column.
    """
    tables = [root / "meta.csv", root / "meta" / "esc50.csv"]
    table = next((file for file in tables if file.is_file()), None)
    if table is None or not (root / "audio").is_dir():
        raise SourceError(f"{root}: expected meta.csv (or meta/esc50.csv) and a folder audio/")
    if only_esc10 and "esc10" not in table_columns(table):
        raise SourceError(f"{table}: no column esc10; a folder of ESC-10 alone is read as esc50")
    rows = list(read_rows(table, COLUMNS))
    present = {file.name for file in (root / "audio").iterdir() if file.is_file()}
    rejected, seen, stems = {}, set(), set()
    for row in sorted(rows, key=lambda row: row["filename"]):
        name = row["filename"]
        source = f"esc50:{name}"
        if only_esc10 and row["esc10"] != "True":
            pass
        elif name in seen:  # the first mention counts
            rejected.setdefault(source, f"named twice in {table.name}")
        elif name not in present:
            rejected[source] = f"named in {table.name} but not in audio/"
        elif not row["fold"].isdecimal() or not row["category"]:
            rejected[source] = f"no fold or category in {table.name}"
        else:
            label = row["category"].replace("_", " ")
            stem = Path(name).stem
            yield Clip(
                id=name if stem in stems else stem,  # unique even where stems are not
                label=label,
                fold=int(row["fold"]),
                group=f"freesound:{row['src_file'] or name}",
                source=source,
                read=FileReader(root / "audio" / name),
                labels=(label,),
            )
            stems.add(stem)
        seen.add(name)
    for name in sorted(present - seen):
        rejected[f"esc50:{name}"] = f"in audio/ but not named in {table.name}"
    yield from (Rejected(source, reason) for source, reason in rejected.items())
