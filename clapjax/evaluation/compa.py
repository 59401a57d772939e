"""CompA-order and -attribute (Ghosh et al., ICLR 2024, arXiv 2310.08753) as they are published.

Get them: github.com/Sreyan88/CompA. Layout: one table with the columns pair_caption, pair_file,
reversed_pair_caption, reversed_pair_file and, for some rows, triplet_caption, triplet_file ("-" or
nothing for the others), and the audio files anywhere in the folder. The two or three clips of a row
have the same words in their captions, or the same sounds in another order.
"""

from collections.abc import Iterator
from pathlib import Path

from clapjax.data.sources.clip import Clip, Problem, Rejected, SourceError
from clapjax.data.sources.common import make_clip, read_rows
from clapjax.data.sources.finding import find_audio, index_by_stem
from clapjax.data.tables import table_columns

PARTS = ("pair", "reversed_pair", "triplet")
COLUMNS = tuple(f"{part}_{column}" for part in PARTS[:2] for column in ("caption", "file"))


def clips(root: Path) -> Iterator[Clip | Rejected]:
    """Clips row by row; the others of a row are what its negative captions are of."""
    tables = [
        file for file in sorted(root.rglob("*.csv")) if set(COLUMNS) <= set(table_columns(file))
    ]
    if len(tables) != 1:
        found = ", ".join(map(str, tables)) or "none"
        raise SourceError(f"{root}: expected one table with {', '.join(COLUMNS)}; found {found}")
    files = index_by_stem(root)
    for number, row in enumerate(read_rows(tables[0], COLUMNS), 1):
        yield from _row(number, row, files)


def _row(number: int, row: dict, files: dict) -> Iterator[Clip | Rejected]:
    """All clips of a row, or none where one lacks: what is left would be too easy."""
    cells = {
        part: [(row.get(f"{part}_{c}") or "").strip() for c in ("caption", "file")]
        for part in PARTS
    }
    cells = {part: cell for part, cell in cells.items() if not {"", "-"} & set(cell)}
    found = {part: find_audio(files, file) for part, (_, file) in cells.items()}
    lost = [
        cells[part][1] for part, file in found.items() if file is None or isinstance(file, Problem)
    ]
    if lost or len(cells) < 2:
        reason = f"no audio file {lost[0]}" if lost else "fewer than two clips"
        yield Rejected(f"compa:{number}", reason)
        return
    for part, (caption, _) in cells.items():
        yield make_clip(
            "compa",
            f"{number}/{part}",
            found[part],
            group=f"compa:{number}",
            captions=[caption],
            negative_captions=[other for name, (other, _) in cells.items() if name != part],
        )
