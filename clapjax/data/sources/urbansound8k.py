"""UrbanSound8K (Salamon et al., ACM MM 2014): 8,732 slices of up to 4 s, 10 classes, 10 folds.

Get it: urbansounddataset.weebly.com or zenodo.org/records/1203745 (one archive). Layout:
`metadata/UrbanSound8K.csv` (slice_file_name, fsID, start, end, salience, fold, classID, class) and
`audio/fold1/` to `audio/fold10/`. Labels only, one each; fsID is the Freesound id.
"""

from collections.abc import Iterator
from pathlib import Path

from clapjax.data.paths import is_file
from clapjax.data.sources.clip import Clip, Rejected, SourceError
from clapjax.data.sources.common import make_clip, read_rows
from clapjax.data.sources.finding import stem_of

COLUMNS = ("slice_file_name", "fsid", "fold", "class")


def clips(root: Path) -> Iterator[Clip | Rejected]:
    """Clips in the order of the table."""
    if not (root / "audio").is_dir():
        raise SourceError(f"{root}: no folder audio/ here (with fold1/ to fold10/ in it)")
    for row in read_rows(root / "metadata" / "UrbanSound8K.csv", COLUMNS):
        name, fold = row["slice_file_name"], row["fold"]
        if not fold.isdecimal():
            yield Rejected(f"urbansound8k:{name}", f"fold is {fold!r}")
            continue
        file = root / "audio" / f"fold{fold}" / name
        yield make_clip(
            "urbansound8k",
            stem_of(name),
            file if is_file(file) else None,
            group=f"freesound:{row['fsid'] or name}",
            fold=int(fold),
            labels=[row["class"].replace("_", " ")],
        )
