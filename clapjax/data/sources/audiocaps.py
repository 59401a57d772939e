"""AudioCaps (Kim et al., NAACL 2019): human captions of 10-s AudioSet segments.

Get it: github.com/cdjkim/audiocaps (`dataset/`, or `dataset2.0/`); audio from YouTube, or through
the form named there. Layout: `train.csv`, `val.csv`, `test.csv` (audiocap_id, youtube_id,
start_time, caption), also in a folder `dataset/` or named `audiocaps_train.csv`, any of them; audio
anywhere below, named by YouTube id as `index_by_video` says, or `AUDIOCAP_ID.wav`. A segment of val
or test has five rows, one for each caption.
"""

from collections.abc import Iterator
from pathlib import Path

from clapjax.data.sources.clip import Clip, Rejected
from clapjax.data.sources.common import (
    SourceError,
    find_video,
    index_by_stem,
    index_by_video,
    make_clip,
    read_rows,
    split_name,
)

COLUMNS = ("audiocap_id", "youtube_id", "start_time", "caption")


def clips(root: Path) -> Iterator[Clip | Rejected]:
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
    segments = {split: _segments(table) for split, table in tables.items()}
    videos, stems = index_by_video(root), index_by_stem(root)
    for split, rows in segments.items():
        for (video, start), texts in rows.items():
            try:
                seconds = float(start)
            except ValueError:
                yield Rejected(f"audiocaps:{split}/{video}", f"start_time is {start!r}")
                continue
            by_id = (stems[number] for number, _ in texts if number in stems)
            yield make_clip(
                "audiocaps",
                f"{video}_{start}",
                find_video(videos, video, seconds) or next(by_id, None),
                group=f"youtube:{video}",
                split=split_name(split),
                captions=[text for _, text in texts],
            )


def _segments(table: Path) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """(YouTube id, start) to the audiocap_id and caption of each of its rows."""
    segments: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in read_rows(table, COLUMNS):
        key = (row["youtube_id"], row["start_time"])
        segments.setdefault(key, []).append((row["audiocap_id"], row["caption"]))
    return segments
