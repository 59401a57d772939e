"""Answers of language models on disk, so that none is asked or paid for twice."""

import contextlib
import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator

from clapjax.data.paths import need_local

TABLE = """
CREATE TABLE IF NOT EXISTS answers (
  key TEXT PRIMARY KEY,  -- sha256 of model and prompt
  model TEXT NOT NULL,
  prompt TEXT NOT NULL,  -- JSON
  answer TEXT NOT NULL
)"""


class AnswerCache:
    """A map from (model, prompt) to answer in one SQLite file; threads may share it.

    What `put` has returned from is on the disk: it survives a kill of the process.
    """

    def __init__(self, connection: sqlite3.Connection):
        self._connection = connection
        self._lock = threading.Lock()

    def get(self, model: str, prompt) -> str | None:
        """The answer of a model to a prompt (any JSON value), or None."""
        query = "SELECT answer FROM answers WHERE key = ?"
        with self._lock:
            row = self._connection.execute(query, (_key(model, prompt),)).fetchone()
        return row[0] if row else None

    def put(self, model: str, prompt, answer: str) -> None:
        """Stores an answer; the first one to a prompt stays."""
        row = (_key(model, prompt), model, json.dumps(prompt, ensure_ascii=False), answer)
        with self._lock, self._connection:
            self._connection.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?)", row)

    def __len__(self) -> int:
        with self._lock:
            return self._connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0]


@contextlib.contextmanager
def open_cache(path: str | os.PathLike) -> Iterator[AnswerCache]:
    """Opens or makes the cache file.

    Raises:
      ValueError: the file is there and is no cache.
    """
    connection = sqlite3.connect(
        need_local(path, "a file of answers (--cache)"), timeout=60, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(TABLE)
        yield AnswerCache(connection)
    except sqlite3.DatabaseError as error:
        raise ValueError(f"{os.fspath(path)} cannot serve as cache of answers: {error}") from error
    finally:
        connection.close()


def _key(model: str, prompt) -> str:
    text = json.dumps([model, prompt], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
