"""A library of embeddings to search in: by vectors of any number, of one kind or of both.

A small one is compared with whole; of a large one `Index.build` makes a folder that is mapped into
memory, and lists of its rows (`clapjax.inference.lists`), so that a query reads a few of them.
"""

import contextlib
import functools
import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clapjax.data.paths import as_path, local_folder, locked, need_local, remove_folder
from clapjax.inference import lists
from clapjax.inference.rows import RowsWriter, check_unit, open_rows, rows_of, split
from clapjax.inference.store import Table, fingerprint, read_table, read_tables
from clapjax.plain import check_count, read_json

FORMAT = 1
ABOUT = "index.json"
ROUNDING = 1e-6  # of the cosine of a vector with itself
APPROXIMATE_FROM = 50_000  # rows of a kind; fewer are compared with in some milliseconds


class Hit(NamedTuple):
    """A row of a library that is near to a query."""

    score: float  # cosine
    kind: str  # "audio" or "text"
    name: str  # path, or text
    start: float | None  # s; None: the whole recording, or a text
    end: float | None
    row: int  # its number among those of its kind, in the order in which they were embedded


class Index:
    """A library of embeddings, opened to search in.

    Audio and text lie apart, each with lists of its own: texts are nearer to one another than to
    any sound, so that lists of both would hold texts alone where a text asks.
    """

    def __init__(self, path: str | os.PathLike):
        """Opens a folder of `Index.build`, or reads what `clapjax embed` wrote, file or folder.

        Raises:
          ValueError: missing, damaged, without rows, or made by another version.
        """
        self.path = os.fspath(path)
        self._lists: dict[str, lists.Lists] = {}
        if not (as_path(path) / ABOUT).is_file():
            table = read_table(path)
            if not len(table.names):
                raise ValueError(f"{path}: no rows to search in")
            check_unit(table)
            self.model, self.fingerprints = table.model, table.fingerprints
            self._rows = rows_of(table)
            self.about = {kind: {"rows": len(rows)} for kind, rows in self._rows.items()}
            return
        folder = need_local(path, "an index")
        about = read_json(folder / ABOUT, dict)
        if about.get("format") != FORMAT:
            raise ValueError(
                f"{path}: an index of format {about.get('format')}, and this clapjax reads "
                f"{FORMAT}; make it anew with `clapjax index`"
            )
        try:
            self.model, self.fingerprints = about["model"], dict(about["fingerprints"])
            self.about = dict(about["kinds"])
            self._rows = {kind: open_rows(folder / kind) for kind in self.about}
            self._open_lists(folder)
            if not len(self):
                raise ValueError("no rows in it")
        # Of libraries; a file that says something else than what was written is of any kind.
        except (OSError, EOFError, ValueError, LookupError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{path}: damaged ({reason}); make it anew") from error

    def _open_lists(self, folder: Path) -> None:
        for kind, about in self.about.items():
            if about["rows"] != len(self._rows[kind]):
                raise ValueError(f"{about['rows']} rows of {kind}, found {len(self._rows[kind])}")
            if "lists" in about and lists.available():
                vectors = self._rows[kind].vectors
                self._lists[kind] = lists.Lists(folder / kind, vectors, about["probe"])
        if not lists.available() and any("lists" in about for about in self.about.values()):
            warnings.warn(
                f"{folder}: all {len(self):,} rows are compared with, as faiss is not installed; "
                "pip install 'clapjax[index]'",
                stacklevel=3,
            )

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(rows):,} {kind}" for kind, rows in self._rows.items())
        return f"Index({self.path!r}: {counts}, of {self.model})"

    @staticmethod
    def build(
        source: str | os.PathLike | Iterable[Table],
        out: str | os.PathLike,
        approximate: bool | None = None,
    ) -> "Index":
        """Makes a folder to search in from what `clapjax embed` wrote, and opens it.

        Memory is bounded whatever the number of rows. An index that is there is replaced when the
        new one is whole.

        Args:
          source: a file (.npz, .parquet), a folder of Parquet parts, or tables of one model.
          out: the folder.
          approximate: with lists, which need faiss (the extra `index`); None: kinds of at least
            APPROXIMATE_FROM rows have them, where faiss is installed.

        Raises:
          ValueError: the source is missing, damaged or of several models; or `out` is no index, or
            another process makes it.
          ImportError: lists are asked for, and there is no faiss.
        """
        out = need_local(out, "an index")
        if out.exists() and not (out / ABOUT).is_file():
            raise ValueError(f"{out}: exists, and is no index; name another folder")
        if approximate and not lists.available():
            told = "an approximate index needs faiss: pip install 'clapjax[index]'"
            raise ImportError(told, name="faiss")
        named = isinstance(source, str | os.PathLike)
        if named and (as_path(source) / ABOUT).is_file():
            raise ValueError(f"{source}: is an index; name what `clapjax embed` wrote")
        out.parent.mkdir(parents=True, exist_ok=True)
        with _alone(out), local_folder(out.parent, f".{out.name}") as folder:
            about = write_rows(read_tables(source) if named else source, folder)
            for kind, found in about["kinds"].items():
                wanted = approximate
                if approximate is None:
                    wanted = found["rows"] >= APPROXIMATE_FROM and lists.available()
                if wanted:
                    vectors = open_rows(folder / kind).vectors
                    found |= lists.build_lists(vectors, folder / kind)
            (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n")
            replace_folder(folder, out)
        return Index(out)

    def check(self, model) -> None:
        """Raises ValueError where another model than this `Clap` made the library.

        Of a model with one tower only that one is looked at.
        """
        towers = [name for name in self.fingerprints if f"{name}_projection" in model.params]
        made_by = {name: fingerprint(model.config, model.variables, name) for name in towers}
        self.check_fingerprints(made_by)

    def check_fingerprints(self, made_by: Mapping[str, str]) -> None:
        """As `check`, by {tower: fingerprint}; towers that made nothing here do not count."""
        if any(self.fingerprints.get(name, value) != value for name, value in made_by.items()):
            raise ValueError(
                f"{self.path}: was made with another model ({self.model}); search with that one, "
                "or embed anew with this one"
            )

    def search(
        self, queries: np.ndarray, top: int = 10, kind: str | None = None, exact: bool = False
    ) -> list[list[Hit]]:
        """The rows nearest to each query.

        Args:
          queries: (Q, D) or (D,) float, unit length, of `Clap.embed_text`, `Clap.embed_audio` or
            `combine`.
          top: how many.
          kind: "audio" or "text" only.
          exact: compares with every row, also where there are lists.

        Returns:
          For each query its hits, best first; fewer than `top` where there are no more rows.

        Raises:
          ValueError: an unknown kind, another size, shape or length of vectors, NaN, no numbers at
            all, or no positive `top`.
        """
        queries = np.atleast_2d(np.asarray(queries))
        if queries.dtype.kind not in "fiu":
            raise ValueError("queries are vectors, as `Clap.embed_text` makes them of words")
        queries = queries.astype(np.float32)
        if queries.ndim > 2 or not np.isfinite(queries).all():
            holds = f"have shape {queries.shape}" if queries.ndim > 2 else "hold NaN or Inf"
            raise ValueError(f"queries {holds}; (D,) or (Q, D) finite numbers are needed")
        check_count(top, "top")
        found: list[list[Hit]] = [[] for _ in queries]
        for name in self._chosen(kind):
            rows = self._rows[name]
            if queries.shape[1] != rows.vectors.shape[1]:
                sizes = f"{rows.vectors.shape[1]} numbers, and the query {queries.shape[1]}"
                raise ValueError(f"{self.path}: has vectors of {sizes}")
            if (np.abs(np.linalg.norm(queries, axis=1) - 1) > 1e-2).any():
                raise ValueError("queries must be of unit length, as embeddings are")
            if name in self._lists and not exact:
                results = self._lists[name].search(queries, top)
            else:
                results = lists.exact_search(rows.vectors, queries, top)
            for hits, (numbers, scores) in zip(found, results, strict=True):
                hits += map(functools.partial(self._hit, name), numbers.tolist(), scores.tolist())
        return [sorted(hits, key=lambda hit: -hit.score)[:top] for hits in found]

    def duplicates(self, least: float = 0.98, kind: str = "audio") -> Iterator[tuple[Hit, Hit]]:
        """Pairs of rows whose cosine is at least so much, the earlier row second.

        They come in the order of the later row. With lists, pairs are looked for in those around
        each row.

        Raises:
          ValueError: an unknown kind, or a cosine that is not in 0 .. 1.
        """
        if not 0 < least <= 1:
            raise ValueError(f"duplicates: a cosine of 0 .. 1 is needed, not {least}")
        return self._pairs(least - ROUNDING, kind)

    def _pairs(self, least: float, kind: str) -> Iterator[tuple[Hit, Hit]]:
        for name in self._chosen(kind):
            rows = self._rows[name]
            for start in range(0, len(rows), lists.NEAR):
                stop = min(start + lists.NEAR, len(rows))
                if name in self._lists:
                    pairs, scores = self._lists[name].near(start, stop, least)
                else:
                    pairs, scores = lists.exact_near(rows.vectors, start, stop, least)
                for (late, early), score in zip(pairs.tolist(), scores.tolist(), strict=True):
                    yield self._hit(name, late, score), self._hit(name, early, score)

    def vectors(self, kind: str = "audio") -> np.ndarray:
        """(N, D) float32: all rows of a kind, mapped from the disk where the library lies there."""
        (name,) = self._chosen(kind)
        return self._rows[name].vectors

    def names(self, kind: str = "audio", count: int | None = None) -> list[str]:
        """What the first rows of a kind are of, at most `count` different names; None: all."""
        (name,) = self._chosen(kind)
        every = (self._rows[name].about(row)[0] for row in range(len(self._rows[name])))
        found: dict[str, None] = {}
        for one in every:
            if count is not None and len(found) == count:
                break
            found[one] = None
        return list(found)

    def _chosen(self, kind: str | None) -> list[str]:
        if kind is not None and kind not in self._rows:
            raise ValueError(f"{self.path}: has {' and '.join(self._rows)}, no {kind!r}")
        return list(self._rows) if kind is None else [kind]

    def _hit(self, kind: str, row: int, score: float) -> Hit:
        return Hit(score, kind, *self._rows[kind].about(row), row)


def combine(vectors: np.ndarray, weights: Sequence[float] | None = None) -> np.ndarray:
    """One query of several: (D,), the weighted sum of (N, D) vectors, of unit length.

    Its cosine to a row is in proportion to the weighted sum of theirs: weights 1 and -1 ask for
    what is like the first and unlike the second.

    Raises:
      ValueError: another number of weights, NaN or Inf, or nothing remains of the sum.
    """
    vectors = np.asarray(vectors, np.float32)
    weights = np.ones(len(vectors)) if weights is None else np.asarray(weights, np.float64)
    if weights.shape != vectors.shape[:1]:
        raise ValueError(f"combine: {len(weights)} weights of {len(vectors)} vectors")
    found = weights @ vectors
    length = np.linalg.norm(found)
    if not np.isfinite(length):
        raise ValueError("combine: weights and vectors must be finite numbers")
    if length < 1e-5:
        raise ValueError("combine: these weights leave nothing of the vectors")
    return (found / length).astype(np.float32)


def write_rows(tables: Iterable[Table], folder: Path) -> dict:
    """Writes the rows of each kind into a folder of its own; what ABOUT is to say of them."""
    writers: dict[str, RowsWriter] = {}
    try:
        for table in tables:
            for kind, part in split(table):
                if kind not in writers:
                    writers[kind] = RowsWriter(folder / kind, part.vectors.shape[1])
                writers[kind].write(part)
    finally:
        for writer in writers.values():
            writer.close()
    if not writers:
        raise ValueError("no rows to search in")
    kinds = {kind: {"rows": writers[kind].count} for kind in sorted(writers)}
    made_by = {"model": table.model, "fingerprints": table.fingerprints}
    return {"format": FORMAT} | made_by | {"kinds": kinds}


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keeps other processes from making the same index, and removes what killed ones have left.

    Raises:
      ValueError: another process makes it.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(out.with_name(f".{out.name}.lock")))
        except BlockingIOError as error:
            raise ValueError(f"{out}: another process is making it") from error
        for name in os.listdir(out.parent):
            if re.fullmatch(rf"\.{re.escape(out.name)}\.\d+\.tmp", name):  # of `local_folder`
                remove_folder(out.parent / name)
        yield


def replace_folder(new: Path, old: Path) -> None:
    """Gives a finished folder its name; what had it goes when it is in its place."""
    before = new.with_suffix(".before")
    if old.exists():
        old.rename(before)
    new.rename(old)
    remove_folder(before)
