"""VGGSound (Chen et al., ICASSP 2020): 10-s segments of YouTube videos, 309 classes.

Get it: robots.ox.ac.uk/~vgg/data/vggsound (the table); audio from YouTube, or
huggingface.co/datasets/Loie/VGGSound. Layout: `vggsound.csv` without a header (YouTube id, start in
s, label, train or test), and audio anywhere below, named `ID_000030.wav` or as `index_by_video`
says. Labels only, one each.
"""

from collections.abc import Iterator
from pathlib import Path

from clapjax.data.sources.clip import Clip, Rejected
from clapjax.data.sources.common import make_clip, read_rows
from clapjax.data.sources.finding import find_video, index_by_video

COLUMNS = ("youtube_id", "start", "label", "split")


def clips(root: Path) -> Iterator[Clip | Rejected]:
    """Clips in the order of the table."""
    rows = list(read_rows(root / "vggsound.csv", COLUMNS, header=False))
    videos = index_by_video(root)
    for row in rows:
        video, start, split = row["youtube_id"], row["start"], row["split"]
        if not start.isdecimal() or split not in ("train", "test"):
            yield Rejected(f"vggsound:{video}", f"start is {start!r}, split is {split!r}")
            continue
        yield make_clip(
            "vggsound",
            f"{video}_{int(start):06d}",
            find_video(videos, video, float(start)),
            group=f"youtube:{video}",
            split=split,
            labels=[row["label"]],
        )
