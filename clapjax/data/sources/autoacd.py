"""Auto-ACD (Sun et al., ACM MM 2024): LLM captions of AudioSet and VGGSound segments.

Get it: huggingface.co/datasets/Loie/Auto-ACD (the tables); the audio is that of AudioSet and
VGGSound. Layout: `train.csv`, `val.csv`, `test.csv` (youtube_id, caption), any of them, where
youtube_id is `Y` and the id for an AudioSet segment, the id and `_000030` for a VGGSound one; audio
anywhere below, links followed, named as `index_by_video` says.

The test clips of VGGSound are among those of train.csv: name vggsound.csv in `source.exclude`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from clapjax.data.sources.clip import Clip, Rejected
from clapjax.data.sources.common import (
    VIDEO_FILE,
    SourceError,
    find_video,
    index_by_video,
    make_clip,
    read_rows,
    split_name,
)


def clips(root: Path) -> Iterator[Clip | Rejected]:
    """Clips in the order of the tables."""
    tables = {split: root / f"{split}.csv" for split in ("train", "val", "test")}
    tables = {split: table for split, table in tables.items() if table.is_file()}
    if not tables:
        raise SourceError(f"{root}: none of train.csv, val.csv and test.csv is here")
    segments = {split: _segments(table) for split, table in tables.items()}
    videos = index_by_video(root)
    for split, captions_of in segments.items():
        for name, captions in captions_of.items():
            match = VIDEO_FILE.fullmatch(name)
            if not match:
                yield Rejected(f"autoacd:{split}/{name}", "youtube_id is not Y and an id, or ID_n")
                continue
            yield make_clip(
                "autoacd",
                name,
                find_video(videos, match[1], float(match[2]) if match[2] else None),
                group=f"youtube:{match[1]}",
                split=split_name(split),
                captions=captions,
                provenance="llm:chatgpt",
            )


def _segments(table: Path) -> dict[str, list[str]]:
    """youtube_id to its captions."""
    segments: dict[str, list[str]] = {}
    for row in read_rows(table, ("youtube_id", "caption")):
        segments.setdefault(row["youtube_id"], []).append(bare_caption(row["caption"]))
    return segments


def bare_caption(text: str) -> str:
    """The caption in 'The caption could be: "A dog barks."', which some answers are."""
    match = re.search(r'\bbe: "(.+)"', text)
    return match[1] if match else text
