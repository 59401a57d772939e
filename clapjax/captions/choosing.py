"""Which of the captions that a captioner wrote are kept, and how many each threshold leaves.

Its tables have, beside the columns of `clapjax.captions.tables`, lists with a number for each
caption: `SCORES`. A number that is not known, as an agreement where there are no tags, is null and
speaks against no caption.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from clapjax.captions.tables import SCORES
from clapjax.data.schema import SEPARATOR
from clapjax.data.selection import join_provenance
from clapjax.data.tables import TableError, read_table

FROM = {"similarity": "--clap MODEL", "agreement": "records with labels, or --tagger T"}
THRESHOLDS = 10  # of a score, that a report has at most


def read_scored(files: Iterable[str | os.PathLike]) -> Iterator[dict]:
    """The rows of tables of a captioner, as they stand.

    Raises:
      TableError: as `read_table`, or a row without captions and a number for each.
    """
    for file in files:
        for line, row in read_table(file):
            captions = row.get("captions")
            scores = [row[name] for name in SCORES if name in row]
            if not isinstance(captions, list) or any(
                not isinstance(values, list) or len(values) != len(captions) for values in scores
            ):
                raise TableError(f"{file}:{line}: no row of `clapjax captions generate`")
            yield row


def choose(rows: Iterable[dict], least: Mapping[str, float]) -> Iterator[dict]:
    """The rows of clips that keep a caption, with those that they keep.

    Args:
      rows: of `read_scored`.
      least: of "similarity" and "agreement", the lowest that is kept.

    Raises:
      ValueError: no caption has such a score.
    """
    known = set()
    for row in rows:
        known |= {name for name in least if any(x is not None for x in row.get(name, ()))}
        stay = [
            index
            for index in range(len(row["captions"]))
            if all(_passes(row, name, index, value) for name, value in least.items())
        ]
        if stay:
            yield _with(row, stay)
    if missing := [name for name in least if name not in known]:
        one = missing[0]
        raise ValueError(f"no caption has its {one}: generate them with {FROM[one]}")


def _passes(row: dict, name: str, index: int, least: float) -> bool:
    value = row[name][index] if name in row else None
    return value is None or value >= least


def _with(row: dict, stay: Sequence[int]) -> dict:
    """A row with some of its captions."""
    count = len(row["captions"])
    lists = {name: [row[name][at] for at in stay] for name in ("captions", *SCORES) if name in row}
    words = row.get("provenance", "human").split(SEPARATOR)
    if len(words) > 1:
        words = [*(words[at] for at in stay), *words[count:]]
    return row | lists | {"provenance": join_provenance(words)}


def report(rows: Iterable[dict]) -> list[str]:
    """Lines for the reader: how many captions there are, and what each threshold would keep."""
    clips, bare, counts, scores = 0, 0, [], {name: [] for name in SCORES}
    for row in rows:
        clips += 1
        bare += not row["captions"]
        counts.append(len(row["captions"]))
        for name, found in scores.items():
            found += row.get(name) or [None] * len(row["captions"])
    of_clip = np.repeat(np.arange(clips), counts)
    told = f"captions: {len(of_clip)} of {clips} clips"
    lines = [f"{told}, {bare} clips without" if bare else told]
    for name, option in (("similarity", "--min_score"), ("agreement", "--min_agreement")):
        values = np.array(scores[name], np.float64)  # NaN where there is none
        if np.isnan(values).all():
            continue
        lines.append(f"{option + ' X':>19}  {'captions kept':>18}  {'clips with one':>18}")
        for least in _thresholds(values):
            kept = ~(values < least)
            with_one = len(np.unique(of_clip[kept]))
            lines.append(
                f"{least:>19.3f}  {_share(kept.sum(), len(values))}  {_share(with_one, clips)}"
            )
        if unknown := np.isnan(values).sum():
            lines.append(f"{'unknown, so kept':>19}  {_share(unknown, len(values))}")
    return lines


def _thresholds(values: np.ndarray) -> np.ndarray:
    """The values themselves where they are few; else tenths of them, rounded."""
    found = np.unique(np.floor(1000 * values[~np.isnan(values)]) / 1000)
    if len(found) <= THRESHOLDS:
        return found
    tenths = np.nanquantile(values, np.arange(THRESHOLDS) / THRESHOLDS)
    return np.unique(np.floor(1000 * tenths) / 1000)


def _share(count: int, total: int) -> str:
    return f"{count:>9} ({100 * count / max(total, 1):5.1f} %)"
