"""Files of embeddings (.npz or Parquet) that know which model made them."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import jax
import numpy as np

from clapjax.data.paths import as_path, is_local, local_file, new_file
from clapjax.models.config import ClapConfig
from clapjax.plain import to_dict

FORMAT = 1
BLOCK = 2**15  # rows read at once
SUFFIXES = (".npz", ".parquet")
TRAINING_ONLY = re.compile(
    r"dropout|drop_path|_std$|_stripes$|(time|freq)_width$|_init$|mlp_transforms|compute_dtype"
)
KINDS = ("audio", "text")  # of rows, and of the towers that make them
TOLD = "clapjax_fingerprint_"  # and the tower: in the metadata of an export's safetensors file
MAX_NAME_BYTES = 2**31  # of all names in an .npz, where each takes as much as the longest one


@dataclass(frozen=True)
class Table:
    """Embeddings, and what each of them is of."""

    vectors: np.ndarray  # (N, D) float32, unit length
    names: Sequence[str]  # path, or text
    kinds: Sequence[str]  # "audio" or "text"
    model: str  # what it was loaded from, for the reader
    fingerprints: dict[str, str]  # of the towers that made the rows; see `fingerprint`
    times: np.ndarray | None = None  # (N, 2) s of windows; NaN for text


def fingerprint(config: ClapConfig, variables: dict, tower: str) -> str:
    """32 hex digits that tell models apart: of a tower's variables, and of the configuration.

    The same on every machine, in every layout that the model is exported to, and with the other
    tower loaded or not. Fields at their default do not count, so that a file stays readable when a
    later clapjax has more of them; nor do those that only training heeds.
    """
    default = dict(_flat(to_dict(ClapConfig())))
    fields = {
        name: value
        for name, value in _flat(to_dict(config))
        if value != default[name] and not TRAINING_ONLY.search(name)
    }
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        # path[0] is the collection.
        if path[1].key in (tower, f"{tower}_encoder", f"{tower}_projection"):
            array = np.ascontiguousarray(leaf, np.float32)
            digest.update(f"{jax.tree_util.keystr(path)} {array.shape}".encode())
            digest.update(array)
    return digest.hexdigest()[:32]


def model_fingerprint(config: ClapConfig, variables: dict) -> str:
    """32 hex digits of both towers, a tagger or a captioner, for what was measured with them."""
    parts = ["audio", "text", "head", *(["decoder"] if "decoder" in variables["params"] else [])]
    towers = [fingerprint(config, variables, part) for part in parts]
    return hashlib.sha256("".join(towers).encode()).hexdigest()[:32]


def _flat(tree: dict, prefix: str = ""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def check_output(path: str | os.PathLike, names: Sequence[str] = ()) -> None:
    """Finds out before hours of work whether a table can be written.

    Raises:
      ValueError: a suffix other than .npz or .parquet, no such folder, or names too long for .npz.
    """
    path = as_path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: the name must end in {' or '.join(SUFFIXES)}")
    if path.is_dir() or (is_local(path) and not path.absolute().parent.is_dir()):
        raise ValueError(f"{path}: cannot be written there; no such folder, or it is one itself")
    size = 4 * len(names) * max(map(len, names), default=0)
    if path.suffix == ".npz" and size > MAX_NAME_BYTES:
        raise ValueError(f"{path}: its names would take {size / 2**30:.0f} GiB; write .parquet")


def write_table(path: str | os.PathLike, table: Table, told: dict | None = None) -> None:
    """Writes .npz or Parquet, whole or not at all; an older file of that name is replaced.

    .npz: arrays vectors, names, kinds, times (of windows), and metadata (JSON). Parquet: columns
    embedding (list of D floats), name, kind, start and end (of windows); metadata under "clapjax",
    with what else is `told`, plain values.

    Raises:
      ValueError: as `check_output`.
      OSError: the file cannot be written.
    """
    check_output(path, table.names)
    path = as_path(path)
    metadata = {"format": FORMAT, "model": table.model, "fingerprints": table.fingerprints}
    metadata |= told or {}
    with new_file(path, "wb") as file:
        write = _write_npz if path.suffix == ".npz" else _write_parquet
        write(file, table, json.dumps(metadata))


def _write_npz(file: BinaryIO, table: Table, metadata: str) -> None:
    arrays = {
        "vectors": table.vectors,
        "names": np.array(table.names, dtype=str),
        "kinds": np.array(table.kinds, dtype=str),
        "metadata": np.array(metadata),
    }
    if table.times is not None:
        arrays["times"] = table.times
    np.savez(file, **arrays)


def _write_parquet(file: BinaryIO, table: Table, metadata: str) -> None:
    import pyarrow
    import pyarrow.parquet

    vectors = pyarrow.array(table.vectors.reshape(-1))
    columns = {
        "name": pyarrow.array(table.names, pyarrow.string()),
        "kind": pyarrow.array(table.kinds, pyarrow.string()),
        "embedding": pyarrow.FixedSizeListArray.from_arrays(vectors, table.vectors.shape[1]),
    }
    if table.times is not None:
        columns |= {"start": table.times[:, 0], "end": table.times[:, 1]}
    rows = pyarrow.table(columns).replace_schema_metadata({"clapjax": metadata})
    pyarrow.parquet.write_table(rows, file)


def read_table(path: str | os.PathLike) -> Table:
    """Reads what `clapjax embed` wrote, whole: a file, or a folder of Parquet parts.

    Raises:
      ValueError: as `read_tables`.
    """
    tables = list(read_tables(path))
    if len(tables) == 1:
        return tables[0]
    times = None
    if any(table.times is not None for table in tables):
        none = [np.full((len(table.names), 2), np.nan) for table in tables]
        pairs = zip(tables, none, strict=True)
        times = np.concatenate([x if table.times is None else table.times for table, x in pairs])
    return replace(
        tables[-1],
        vectors=np.concatenate([table.vectors for table in tables]),
        names=[name for table in tables for name in table.names],
        kinds=[kind for table in tables for kind in table.kinds],
        times=times,
    )


def read_tables(path: str | os.PathLike) -> Iterator[Table]:
    """The rows of a file, or of the Parquet parts of a folder by name, BLOCK at a time.

    A table has the fingerprints of all files up to its own. Of .npz all rows come at once.

    Raises:
      ValueError: missing, damaged, no file of embeddings, or files of several models.
    """
    path = as_path(path)
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or files[0].suffix not in SUFFIXES or not files[0].is_file():
        lacks = "holds no embeddings" if path.exists() else "no such file of embeddings"
        raise ValueError(f"{path}: {lacks}; `clapjax embed` makes them")
    fingerprints: dict[str, str] = {}
    for file in files:
        for table in _each_table(file):
            for tower, made_by in table.fingerprints.items():
                if fingerprints.setdefault(tower, made_by) != made_by:
                    raise ValueError(f"{file}: is of another model than the files before it")
            yield replace(table, fingerprints=dict(fingerprints))


def _each_table(file: Path) -> Iterator[Table]:
    """Blocks of one file, checked; what is damaged is a ValueError."""
    each = _each_npz if file.suffix == ".npz" else _each_parquet
    try:
        with local_file(file) as here:
            for table, format_ in each(here):
                rows, width = table.vectors.shape
                lengths = {rows, len(table.names), len(table.kinds)}
                if table.times is not None:
                    lengths.add(len(table.times))
                if len(lengths) > 1 or not width or format_ != FORMAT:
                    raise ValueError(f"format {format_}, columns of {sorted(lengths)} rows")
                if not np.isfinite(table.vectors).all():
                    raise ValueError("holds NaN or Inf")
                yield table
    except Exception as error:  # zipfile, numpy, json and pyarrow each have errors of their own
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{file}: damaged, or no file of embeddings ({reason})") from error


def _each_npz(path: str) -> Iterator[tuple[Table, int]]:
    with np.load(path, allow_pickle=False) as file:
        metadata = json.loads(str(file["metadata"]))
        times = file.get("times")
        names, kinds, vectors = file["names"].tolist(), file["kinds"].tolist(), file["vectors"]
    table = Table(vectors, names, kinds, metadata["model"], metadata["fingerprints"], times)
    yield table, metadata["format"]


def _each_parquet(path: str) -> Iterator[tuple[Table, int]]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        metadata = json.loads(file.schema_arrow.metadata[b"clapjax"])
        timed = "start" in file.schema_arrow.names
        empty = pyarrow.RecordBatch.from_pylist([], file.schema_arrow)
        for rows in file.iter_batches(BLOCK) if file.metadata.num_rows else [empty]:
            embedding = rows["embedding"]
            vectors = embedding.flatten().to_numpy().reshape(len(rows), embedding.type.list_size)
            pair = (rows[name].to_numpy(zero_copy_only=False) for name in ("start", "end"))
            times = np.stack(list(pair), axis=1) if timed else None
            names, kinds = rows["name"].to_pylist(), rows["kind"].to_pylist()
            origin = metadata["model"], metadata["fingerprints"]
            yield Table(vectors, names, kinds, *origin, times), metadata["format"]


def tell_fingerprints(config: ClapConfig, variables: dict) -> dict[str, str]:
    """Metadata of a safetensors file in which `told_fingerprints` finds those of its towers."""
    return {TOLD + tower: fingerprint(config, variables, tower) for tower in KINDS}


def told_fingerprints(source: str | os.PathLike) -> dict[str, str]:
    """{tower: fingerprint} where a model's safetensors file tells them, as those of exports do.

    So a model is known without reading its weights. Of other models, and of what is not on this
    machine: {}.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(source) / "model.safetensors"
    if not file.is_file():
        return {}
    with contextlib.suppress(SafetensorError, OSError), safe_open(file, "np") as opened:
        metadata = opened.metadata() or {}
        return {t: metadata[TOLD + t] for t in KINDS if TOLD + t in metadata}
    return {}
