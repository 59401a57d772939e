"""FSD50K (Fonseca et al., TASLP 2022): 51,197 Freesound clips, 200 classes, several each.

Get it: zenodo.org/records/4060432. Layout: `FSD50K.ground_truth/dev.csv` (fname, labels, mids,
split: train or val) and `eval.csv` (fname, labels, mids), audio in `FSD50K.dev_audio/` and
`FSD50K.eval_audio/`, named by Freesound id. Either half may be absent. Labels only.
"""

from collections.abc import Iterator
from pathlib import Path

from clapjax.data.sources.clip import Clip, Rejected, SourceError
from clapjax.data.sources.common import make_clip, read_rows, split_name
from clapjax.data.sources.finding import find_audio, index_by_stem


def clips(root: Path) -> Iterator[Clip | Rejected]:
    """Clips in the order of the tables, dev before eval."""
    truth = root / "FSD50K.ground_truth"
    halves = [half for half in ("dev", "eval") if (truth / f"{half}.csv").is_file()]
    if not halves:
        raise SourceError(f"{truth}: neither dev.csv nor eval.csv is here")
    for half in halves:
        columns = ("fname", "labels", "split") if half == "dev" else ("fname", "labels")
        rows = list(read_rows(truth / f"{half}.csv", columns))
        files = index_by_stem(root / f"FSD50K.{half}_audio")
        for row in rows:
            yield make_clip(
                "fsd50k",
                row["fname"],
                find_audio(files, row["fname"]),
                group=f"freesound:{row['fname']}",
                split=split_name(row["split"]) if half == "dev" else "test",
                labels=[plain_label(label) for label in row["labels"].split(",")],
            )


def plain_label(label: str) -> str:
    """AudioSet's display name: "Gunshot_and_gunfire" is "Gunshot, gunfire"."""
    return label.strip().replace("_and_", ", ").replace("_", " ")
