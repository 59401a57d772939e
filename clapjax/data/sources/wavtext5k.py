"""WavText5K (Deshmukh et al., Interspeech 2023): BigSoundBank and SoundBible with descriptions.

Get it: github.com/microsoft/WavText5K; its process.py downloads the audio. Layout: `WavText5K.csv`
(view_link, download_link, title, description, fname, tags as a Python list), audio anywhere below
by fname. The caption is the description, or the title where there is none. No splits.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from clapjax.data.sources.clip import Clip, Notice, Rejected
from clapjax.data.sources.common import make_clip, read_rows, texts_of, unread_columns
from clapjax.data.sources.finding import find_audio, index_by_stem, stem_of

COLUMNS = ("view_link", "title", "description", "fname", "tags")


def clips(root: Path) -> Iterator[Clip | Rejected | Notice]:
    """Clips in the order of the table."""
    table = root / "WavText5K.csv"
    rows = list(read_rows(table, COLUMNS))
    yield from unread_columns(table, rows, (*COLUMNS, "download_link"))
    files = index_by_stem(root)
    for row in rows:
        stem = stem_of(row["fname"])
        sound = re.search(r"soundbible\.com/(\d+)-", row["view_link"])
        caption = row["description"].strip() or row["title"]
        yield make_clip(
            "wavtext5k",
            stem,
            find_audio(files, row["fname"]),
            group=f"soundbible:{sound[1]}" if sound else "",
            **texts_of(row | {"caption": caption}),
        )
