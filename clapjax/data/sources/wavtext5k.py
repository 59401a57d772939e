"""WavText5K (Deshmukh et al., Interspeech 2023): BigSoundBank and SoundBible with descriptions.

Get it: github.com/microsoft/WavText5K; its process.py downloads the audio. Layout: `WavText5K.csv`
(view_link, download_link, title, description, fname, tags as a Python list), audio anywhere below
by fname. The caption is the description, or the title where there is none. No splits.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from clapjax.data.sources.clip import Clip, Rejected
from clapjax.data.sources.common import index_by_stem, make_clip, read_rows

COLUMNS = ("view_link", "title", "description", "fname", "tags")


def clips(root: Path) -> Iterator[Clip | Rejected]:
    """Clips in the order of the table."""
    rows = list(read_rows(root / "WavText5K.csv", COLUMNS))
    files = index_by_stem(root)
    for row in rows:
        stem = Path(row["fname"]).stem
        sound = re.search(r"soundbible\.com/(\d+)-", row["view_link"])
        tags = _tags(row["tags"])
        if tags is None:
            yield Rejected(f"wavtext5k:{stem}", f"tags are not a list: {row['tags'][:60]}")
            continue
        yield make_clip(
            "wavtext5k",
            stem,
            files.get(stem),
            group=f"soundbible:{sound[1]}" if sound else "",
            labels=tags,
            captions=[row["description"].strip() or row["title"]],
        )


def _tags(text: str) -> list[str] | None:
    """Tags of a cell; None where it cannot be read."""
    if not text.strip():
        return []
    try:
        tags = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
    return [str(tag) for tag in tags] if isinstance(tags, list) else None
