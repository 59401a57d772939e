"""Clotho v2 (Drossos et al., ICASSP 2020): Freesound clips of 15-30 s, five human captions each.

Get it: zenodo.org/records/4783391. Layout: `clotho_captions_development.csv`, `..._validation.csv`,
`..._evaluation.csv` (file_name, caption_1 ... caption_5), any of them, and the unpacked audio in
`development/`, `validation/`, `evaluation/` (or `clotho_audio_development/`, ...). With
`clotho_metadata_development.csv` (..., sound_id, ...) beside them the Freesound ids are known, and
with them what overlaps other sets.
"""

from collections.abc import Iterator
from pathlib import Path

from clapjax.data.sources.clip import Clip, Notice, Rejected, SourceError
from clapjax.data.sources.common import (
    first_existing,
    make_clip,
    read_rows,
    texts_of,
    unread_columns,
)
from clapjax.data.sources.finding import find_audio, index_by_stem, stem_of

SPLITS = {"development": "train", "validation": "validation", "evaluation": "test"}
CAPTIONS = tuple(f"caption_{number}" for number in range(1, 6))


def clips(root: Path) -> Iterator[Clip | Rejected | Notice]:
    """Clips in the order of the tables."""
    found = [name for name in SPLITS if (root / f"clotho_captions_{name}.csv").is_file()]
    if not found:
        raise SourceError(
            f"{root}: no clotho_captions_development.csv, ..._validation.csv or ..._evaluation.csv"
        )
    for name in found:
        table = root / f"clotho_captions_{name}.csv"
        rows = list(read_rows(table, ("file_name", *CAPTIONS)))
        yield from unread_columns(table, rows, ("file_name",))
        files = index_by_stem(first_existing(root, name, f"clotho_audio_{name}"))
        sounds = _freesound_ids(root / f"clotho_metadata_{name}.csv")
        for row in rows:
            sound = sounds.get(row["file_name"], "")
            yield make_clip(
                "clotho",
                stem_of(row["file_name"]),
                find_audio(files, row["file_name"]),
                group=f"freesound:{sound}" if sound.isdecimal() else "",
                split=SPLITS[name],
                **texts_of(row),
            )


def _freesound_ids(table: Path) -> dict[str, str]:
    """File name to Freesound id ("Not found" for some); the published tables are Latin-1."""
    if not table.is_file():
        return {}
    rows = read_rows(table, ("file_name", "sound_id"), encoding="latin-1")
    return {row["file_name"]: row["sound_id"] for row in rows}
