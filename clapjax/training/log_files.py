"""The files of a training log: one that grows, or in a bucket parts that are soon left alone."""

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from clapjax.data.paths import as_path, is_local, write_bytes, write_text

LOG_FILE = "log.jsonl"
PARTS = "log"  # folder of its parts, in a bucket
EVENTS = "tensorboard"
ROWS = 100  # of a part: so often is an object written, at most


def read_log(workdir: str | os.PathLike) -> list[dict]:
    """The rows logged so far, one dict a log step; what a killed process left unfinished is not."""
    folder = as_path(workdir)
    if is_local(folder):
        files = [folder / LOG_FILE] if (folder / LOG_FILE).is_file() else []
    else:
        files = sorted((folder / PARTS).glob("*.jsonl"))
    rows = []
    for file in files:
        for line in file.read_bytes().decode("utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                rows.append(row)
    return rows


def _lines(rows: Sequence[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


class RowsFile:
    """Rows as JSON lines in a file of this machine; `rows` are what it begins with."""

    def __init__(self, workdir: Path, rows: Sequence[dict]):
        self._file = workdir / LOG_FILE
        write_text(self._file, _lines(rows))

    def append(self, row: dict) -> None:
        """Writes one more."""
        with self._file.open("a") as file:
            file.write(_lines([row]))


class RowsParts:
    """Rows as JSON lines in objects of `ROWS` each, of which the last alone is written again."""

    def __init__(self, workdir: Path, rows: Sequence[dict]):
        self._folder = workdir / PARTS
        rows = list(rows)
        there = sorted(self._folder.glob("*.jsonl"))
        for number in range(max(len(there), len(rows) // ROWS)):
            part = rows[number * ROWS : (number + 1) * ROWS]
            file = self._part(number)
            if not part:
                file.unlink()
            elif file not in there or file.read_text() != _lines(part):
                write_text(file, _lines(part))
        self._full = len(rows) // ROWS
        self._rows = rows[self._full * ROWS :]

    def _part(self, number: int) -> Path:
        return self._folder / f"{number:06d}.jsonl"

    def append(self, row: dict) -> None:
        """Writes one more."""
        self._rows.append(row)
        write_text(self._part(self._full), _lines(self._rows))
        if len(self._rows) == ROWS:
            self._full, self._rows = self._full + 1, []


class Events:
    """TensorBoard's files; of a bucket they are made here and put there, in parts of `ROWS` rows.

    TensorFlow's own way into a bucket writes an object anew for each row, and knows no S3.
    """

    def __init__(self, workdir: Path):
        self._place, self._scratch = workdir / EVENTS, None
        if not is_local(workdir):
            self._scratch = Path(tempfile.mkdtemp())
        self._open()

    def _open(self) -> None:
        import tensorflow as tf

        self._writer = tf.summary.create_file_writer(os.fspath(self._scratch or self._place))
        self._rows = 0

    def append(self, step: int, scalars: dict[str, float]) -> None:
        """Writes the scalars of a step."""
        import tensorflow as tf

        with self._writer.as_default():
            for name, value in scalars.items():
                tf.summary.scalar(name, value, step=step)
        self._writer.flush()  # else a full disk would be noticed some rows later
        self._rows += 1
        self._put()
        if self._scratch and self._rows == ROWS:
            self._close_part()
            self._open()

    def _put(self) -> None:
        for file in self._scratch.iterdir() if self._scratch else ():
            write_bytes(self._place / file.name, file.read_bytes())

    def _close_part(self) -> None:
        self._writer.close()
        self._put()
        for file in self._scratch.iterdir():
            file.unlink()

    def close(self) -> None:
        """Flushes everything."""
        self._writer.close()
        if self._scratch:
            shutil.rmtree(self._scratch)


def open_files(workdir: Path, rows: Sequence[dict]) -> tuple[RowsFile | RowsParts, Events]:
    """What a run writes its rows to, which begins with some, and its scalars."""
    kind = RowsFile if is_local(workdir) else RowsParts
    return kind(workdir, rows), Events(workdir)
