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

from clapjax.data.sources.clip import Clip, Notice, Rejected, SourceError
from clapjax.data.sources.common import (
    join_texts,
    make_clip,
    read_rows,
    split_name,
    texts_of,
    unread_columns,
)
from clapjax.data.sources.finding import find_video, index_by_video, parse_video

COLUMNS = ("youtube_id", "caption")


def clips(root: Path) -> Iterator[Clip | Rejected | Notice]:
    """Clips in the order of the tables."""
    tables = {split: root / f"{split}.csv" for split in ("train", "val", "test")}
    tables = {split: table for split, table in tables.items() if table.is_file()}
    if not tables:
        raise SourceError(f"{root}: none of train.csv, val.csv and test.csv is here")
    tables = {split: (table, list(read_rows(table, COLUMNS))) for split, table in tables.items()}
    videos = index_by_video(root)
    for split, (table, rows) in tables.items():
        yield from unread_columns(table, rows, COLUMNS)
        segments: dict[str, list[dict]] = {}
        for row in rows:
            row["caption"] = bare_caption(row["caption"])
            segments.setdefault(row["youtube_id"], []).append(row)
        for name, of_segment in segments.items():
            video = parse_video(name)
            if not video:
                yield Rejected(f"autoacd:{split}/{name}", "youtube_id is not Y and an id, or ID_n")
                continue
            yield make_clip(
                "autoacd",
                name,
                find_video(videos, *video),
                group=f"youtube:{video[0]}",
                split=split_name(split),
                **join_texts(texts_of(row, "llm:chatgpt") for row in of_segment),
            )


def bare_caption(text: str) -> str:
    """The caption in 'The caption could be: "A dog barks."', which some answers are."""
    match = re.search(r'\bbe: "(.+)"', text)
    return match[1] if match else text
