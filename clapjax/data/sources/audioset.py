"""AudioSet (Gemmeke et al., ICASSP 2017) and its strong labels (Hershey et al., ICASSP 2021).

Get it: research.google.com/audioset/download.html and download_strong.html (the tables); audio from
YouTube. Layout, any of the tables:
- `balanced_train_segments.csv`, `unbalanced_train_segments.csv`, `eval_segments.csv`: three comment
  lines, then YouTube id, start and end in s, label ids in quotes;
- `audioset_train_strong.tsv`, `audioset_eval_strong.tsv`: segment_id (id, _, start in ms),
  start_time_seconds, end_time_seconds, label id; they give a clip its events in time;
- `class_labels_indices.csv` (index, mid, display_name), and for the strong labels
  `mid_to_display_name.tsv` (id, name, without a header);
- audio anywhere below, named as `index_by_video` says.
Labels only, several each.
"""

from collections.abc import Iterator
from pathlib import Path

from clapjax.data.sources.clip import Clip, Rejected, SourceError, TimedEvent
from clapjax.data.sources.common import make_clip, parse_seconds, read_rows
from clapjax.data.sources.finding import find_video, index_by_video

WEAK = {
    "balanced_train_segments.csv": "train",
    "unbalanced_train_segments.csv": "train",
    "eval_segments.csv": "test",
}
STRONG = {"audioset_train_strong.tsv": "train", "audioset_eval_strong.tsv": "test"}
WEAK_COLUMNS = ("video", "start", "end", "labels")
STRONG_COLUMNS = ("segment_id", "start_time_seconds", "end_time_seconds", "label")

Segment = tuple[str, int]  # YouTube id, start in ms


def clips(root: Path) -> Iterator[Clip | Rejected]:
    """Clips in the order of the tables, those with strong labels alone last."""
    weak = {root / name: split for name, split in WEAK.items() if (root / name).is_file()}
    strong = {root / name: split for name, split in STRONG.items() if (root / name).is_file()}
    if not weak and not strong:
        raise SourceError(f"{root}: none of {', '.join([*WEAK, *STRONG])} is here")
    names = _label_names(root)
    segments: dict[Segment, tuple[str, tuple[str, ...]]] = {}
    for table, split in weak.items():
        for segment, labels in _weak_labels(table):
            segments.setdefault(segment, (split, labels))
    events: dict[Segment, list[TimedEvent]] = {}
    for table, split in strong.items():
        for segment, event in _strong_labels(table):
            events.setdefault(segment, []).append(event)
            segments.setdefault(segment, (split, ()))
    videos = index_by_video(root)
    for segment, (split, labels) in segments.items():
        yield _make(segment, split, labels, events.get(segment, []), names, videos)


def _make(
    segment: Segment,
    split: str,
    labels: tuple[str, ...],
    events: list[TimedEvent],
    names: dict[str, str],
    videos: dict,
) -> Clip | Rejected:
    video, milliseconds = segment
    ids = [*labels, *(event.label for event in events)]
    if unknown := sorted({label for label in ids if label not in names}):
        where = "class_labels_indices.csv or mid_to_display_name.tsv"
        return Rejected(f"audioset:{split}/{video}", f"label {unknown[0]} is not in {where}")
    return make_clip(
        "audioset",
        f"{video}_{milliseconds}",
        find_video(videos, video, milliseconds / 1000),
        group=f"youtube:{video}",
        split=split,
        labels=[names[label] for label in ids],
        events=[TimedEvent(event.start, event.end, names[event.label]) for event in events],
    )


def _label_names(root: Path) -> dict[str, str]:
    """Label id to display name."""
    names = {}
    strong = root / "mid_to_display_name.tsv"
    if strong.is_file():
        rows = read_rows(strong, ("mid", "display_name"), header=False)
        names |= {row["mid"]: row["display_name"] for row in rows}
    weak = root / "class_labels_indices.csv"
    if weak.is_file() or not names:
        rows = read_rows(weak, ("mid", "display_name"))
        names |= {row["mid"]: row["display_name"] for row in rows}
    return names


def _weak_labels(table: Path) -> Iterator[tuple[Segment, tuple[str, ...]]]:
    rows = read_rows(table, WEAK_COLUMNS, header=False, comment="#")
    for row in rows:
        start = _seconds(table, row["start"])
        yield (row["video"], round(1000 * start)), tuple(row["labels"].split(","))


def _strong_labels(table: Path) -> Iterator[tuple[Segment, TimedEvent]]:
    for row in read_rows(table, STRONG_COLUMNS):
        video, _, start = row["segment_id"].rpartition("_")
        if not video or not start.isdecimal():
            raise SourceError(f"{table}: segment_id {row['segment_id']!r} is not ID_MILLISECONDS")
        onset = _seconds(table, row["start_time_seconds"])
        end = _seconds(table, row["end_time_seconds"])
        yield (video, int(start)), TimedEvent(onset, end, row["label"])


def _seconds(table: Path, text: str) -> float:
    try:
        return parse_seconds(text)
    except ValueError:
        raise SourceError(f"{table}: {text!r} is not a time in seconds") from None
