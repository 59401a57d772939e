"""AudioCaps (Kim et al., NAACL 2019): human captions of 10-s AudioSet segments.

Get it: github.com/cdjkim/audiocaps (`dataset/`, or `dataset2.0/`); audio from YouTube, or through
the form named there. Layout: `train.csv`, `val.csv`, `test.csv` (audiocap_id, youtube_id,
start_time, caption, and others of `texts_of`), also in a folder `dataset/` or named
`audiocaps_train.csv`, any of them; audio anywhere below, named by YouTube id as `index_by_video`
says, or `AUDIOCAP_ID.wav`. A segment of val or test has five rows, one for each caption.
"""

from collections.abc import Iterator
from pathlib import Path

from clapjax.data.sources.clip import Clip, Notice, Rejected, SourceError
from clapjax.data.sources.common import (
    join_texts,
    make_clip,
    parse_seconds,
    read_rows,
    split_name,
    texts_of,
    unread_columns,
)
from clapjax.data.sources.finding import find_audio, find_video, index_by_stem, index_by_video

COLUMNS = ("audiocap_id", "youtube_id", "start_time", "caption")


def clips(root: Path) -> Iterator[Clip | Rejected | Notice]:
    """Clips in the order of the tables; the captions of a segment together."""
    patterns = ("{}.csv", "dataset/{}.csv", "audiocaps_{}.csv")
    tables = {
        split: root / pattern.format(split)
        for split in ("train", "val", "test")
        for pattern in patterns
        if (root / pattern.format(split)).is_file()
    }
    if not tables:
        raise SourceError(f"{root}: none of train.csv, val.csv and test.csv is here")
    tables = {split: (table, list(read_rows(table, COLUMNS))) for split, table in tables.items()}
    videos, stems = index_by_video(root), index_by_stem(root)
    for split, (table, rows) in tables.items():
        yield from unread_columns(table, rows, COLUMNS)
        segments: dict[tuple[str, str], list[dict]] = {}
        for row in rows:
            segments.setdefault((row["youtube_id"], row["start_time"]), []).append(row)
        for (video, start), of_segment in segments.items():
            try:
                seconds = parse_seconds(start)
            except ValueError:
                yield Rejected(f"audiocaps:{split}/{video}", f"start_time is {start!r}")
                continue
            by_id = (find_audio(stems, row["audiocap_id"]) for row in of_segment)
            yield make_clip(
                "audiocaps",
                f"{video}_{start}",
                find_video(videos, video, seconds) or next(filter(None, by_id), None),
                group=f"youtube:{video}",
                split=split_name(split),
                **join_texts(texts_of(row) for row in of_segment),
            )
