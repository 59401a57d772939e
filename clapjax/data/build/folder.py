"""What a build leaves on the disk: what it was begun with, its finished units, its end.

`D.incomplete` holds made_from.json (settings), listing.pickle, units/ (finished ones) and, after a
failure, rejected.jsonl. The finished data set is put together there and renamed to D; in a bucket,
where nothing is renamed in one go, in D itself, clapjax_build.json last.
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from clapjax.data import paths, records
from clapjax.data.build.config import TRAIN, SourceConfig, used_settings
from clapjax.data.build.listing import CACHE, LISTED_FILE, difference, digest
from clapjax.data.build.units import PLACING
from clapjax.data.forms import form_of
from clapjax.data.records import RecordsError
from clapjax.data.sources.clip import Rejected
from clapjax.data.tokenizer import train_tokenizer

REJECTED_FILE = "rejected.jsonl"
MADE_FROM, UNITS, BEAM = "made_from.json", "units", "beam"
MOST_SHOWN = 20  # rejected clips in a message
MOVES = 16  # at once, in a bucket


@dataclass(frozen=True)
class BuildResult:
    """What `build_records` did."""

    counts: dict[str, int]
    rejected: list[Rejected] = field(default_factory=list)
    reused: bool = False  # the data set was there already
    excluded: dict[str, int] = field(default_factory=dict)  # list to training clips that it named


class RejectedError(ValueError):
    """Recordings were rejected and the config says that this is an error."""


def refuse(rejected: list[Rejected], source: SourceConfig, file: Path) -> None:
    """Ends the build where the config says that a rejection is an error; `file` lists them."""
    if rejected and source.on_rejected == "error":
        lines = [f"  {item.source}: {item.reason}" for item in rejected[:MOST_SHOWN]]
        if more := len(rejected) - len(lines):
            lines.append(f"  and {more} more")
        raise RejectedError(
            f"{len(rejected)} recordings rejected, see {file}:\n" + "\n".join(lines)
        )


def write_rejected(folder: Path, rejected: list[Rejected]) -> None:
    """Writes what was left out."""
    lines = [json.dumps(asdict(item)) + "\n" for item in rejected]
    paths.write_text(folder / REJECTED_FILE, "".join(lines))


def read_rejected(folder: Path) -> list[Rejected]:
    """The inverse of `write_rejected`."""
    lines = paths.read_text(folder / REJECTED_FILE).splitlines()
    return [Rejected(**json.loads(line)) for line in lines]


def differences(old: dict, new: dict, path: str = "") -> list[str]:
    """How nested settings differ: "source.min_seconds was 0.1, is 0.2"."""
    found = []
    for name in [*old, *(name for name in new if name not in old)]:
        where, before, after = f"{path}{name}", old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{where}.")
        elif before != after:
            found.append(f"{where} was {before!r}, is {after!r}")
    return found


@contextlib.contextmanager
def alone(data_dir: Path) -> Iterator[None]:
    """Makes sure that no other process of this machine builds the same.

    Raises:
      RecordsError: one does.
    """
    if paths.is_local(data_dir):
        data_dir.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(paths.locked(_lock(data_dir)))
        except BlockingIOError as error:
            raise RecordsError(f"{data_dir}: another process is building it") from error
        yield


def _lock(data_dir: Path) -> Path:
    return data_dir.parent / f"{data_dir.name}.lock"


def discard(data_dir: Path) -> None:
    """Removes records and what is left of an unfinished build; nothing that is neither."""
    if (data_dir / records.BUILD_FILE).is_file():
        paths.remove_folder(data_dir)
    paths.remove_folder(records.incomplete(data_dir))


def is_finished(data_dir: Path, build: dict) -> bool:
    """Whether records are at `data_dir` that were made with the settings of `build`.

    Raises:
      RecordsError: it holds something else, or records that were made with other settings.
    """
    if not data_dir.exists() or (data_dir.is_dir() and not any(data_dir.iterdir())):
        if paths.is_local(data_dir) and (data_dir.is_mount() or data_dir == Path.cwd()):
            raise RecordsError(  # which can neither be removed nor replaced
                f"{data_dir}: is where a disk begins, or where you are; name a folder in it"
            )
        return False
    if not (data_dir / records.BUILD_FILE).is_file():
        if not paths.is_local(data_dir) and (records.incomplete(data_dir) / PLACING).exists():
            return False
        raise RecordsError(
            f"{data_dir}: not empty, and no records of clapjax; choose another --data_dir"
        )
    there = records.read_build(data_dir)
    if found := differences(used_settings(there), used_settings(build)):
        raise RecordsError(
            f"{data_dir}: holds records made with other settings: {'; '.join(found)}. Choose "
            "another --data_dir, or remove these and build again (--restart)"
        )
    return True


def reuse(data_dir: Path, listed: np.ndarray) -> BuildResult:
    """The records that are at `data_dir`, which `is_finished`.

    Raises:
      RecordsError: the source now lists other clips than they were made of.
    """
    there = records.read_build(data_dir)
    if there.get("listed", digest(listed)) != digest(listed):
        raise RecordsError(
            f"{data_dir}: the source has changed since these records were made of it "
            f"({difference(data_dir, listed)}); keep them, or remove them and build again "
            "(--restart)"
        )
    paths.remove_folder(records.incomplete(data_dir))  # interrupted after the last byte
    return BuildResult(
        there["counts"], read_rejected(data_dir), reused=True, excluded=there.get("excluded", {})
    )


def check_begun(data_dir: Path, made_from: dict) -> None:
    """Makes sure that a build may go on in `D.incomplete`.

    Raises:
      RecordsError: units were finished there with other settings.
    """
    folder = records.incomplete(data_dir)
    begun = _read_json(folder / MADE_FROM)
    if has_units(folder) and (found := differences(begun, made_from)):
        raise RecordsError(
            f"{folder}: was begun with other settings: {'; '.join(found)}. Go on with the old "
            "ones, or discard what is finished (--restart)"
        )


def _read_json(file: Path, kind: type = dict) -> dict | list:
    """What a file holds; nothing where it is absent, damaged, or something else."""
    try:
        found = json.loads(paths.read_text(file))
    except (OSError, ValueError):
        found = None
    return found if isinstance(found, kind) else kind()


def has_units(folder: Path) -> bool:
    """Whether a folder of a build holds finished units."""
    units = folder / UNITS
    return units.is_dir() and any(file.name.endswith(".json") for file in units.iterdir())


def open_folder(data_dir: Path, made_from: dict, cache: bytes) -> Path:
    """The folder to build in, with what is done there already.

    Args:
      data_dir: of the data set.
      made_from: its settings.
      cache: of the listing; empty for none.
    """
    folder = records.incomplete(data_dir)
    unplace(data_dir)
    if not has_units(folder):
        paths.remove_folder(folder)
    (folder / UNITS).mkdir(parents=True, exist_ok=True)
    paths.write_text(folder / MADE_FROM, json.dumps(made_from, indent=2) + "\n")
    if cache:
        _write_bytes(folder, folder / CACHE, cache)
    return folder


def _write_bytes(folder: Path, file: Path, data: bytes) -> None:
    with paths.local_folder(folder / UNITS, file.name) as made:
        (made / file.name).write_bytes(data)
        paths.put_file(made / file.name, file)


def unplace(data_dir: Path) -> None:
    """Gives shards that had got their names those of their units back.

    So a build that was interrupted then goes on as any other: a unit whose shard was damaged or
    lost is made again, and others than were planned may get the names.
    """
    folder = records.incomplete(data_dir)
    if not (folder / PLACING).exists():
        return
    target = _target(data_dir)
    (folder / records.BUILD_FILE).unlink(missing_ok=True)  # of what is not whole from here on

    def move(pair: tuple[str, str]) -> None:
        part, final = folder / UNITS / pair[0], target / pair[1]
        if not part.exists() and final.exists():
            final.replace(part)

    with ThreadPoolExecutor(MOVES) as pool:
        list(pool.map(move, _read_json(folder / PLACING, list)))
    if target != folder:
        paths.remove_folder(target)  # it was empty before
    (folder / PLACING).unlink()


def _target(data_dir: Path) -> Path:
    """The folder in which a finished data set is put together."""
    return records.incomplete(data_dir) if paths.is_local(data_dir) else data_dir


def close_failed(folder: Path, rejected: list[Rejected]) -> None:
    """Leaves what a failed build has done; nothing where it has done nothing."""
    if rejected:
        write_rejected(folder, rejected)
    elif not has_units(folder):
        paths.remove_folder(folder)


def is_whole(data_dir: Path, build: dict, listed: np.ndarray) -> bool:
    """Whether the records of a build were interrupted when they only lacked their name."""
    there = _read_json(records.incomplete(data_dir) / records.BUILD_FILE)
    return (
        bool(there)
        and used_settings(there) == used_settings(build)
        and there.get("listed") == digest(listed)
    )


def finish(
    data_dir: Path,
    units: dict[str, list[dict]],
    build: dict,
    rejected: list[Rejected],
    listed: np.ndarray,
) -> BuildResult:
    """Makes a data set of finished units: it is there when its last file is.

    Args:
      data_dir: where it goes.
      units: split to what is known of its units, in order.
      build: what it was made from.
      rejected: what was left out.
      listed: of `hash_listing`.
    """
    folder = records.incomplete(data_dir)
    target = _target(data_dir)
    target.mkdir(parents=True, exist_ok=True)
    splits = _place(folder, target, units)
    records.write_metadata(target, splits, form_of(build))
    with paths.local_folder(folder / UNITS, records.TOKENIZER_FOLDER) as made:
        train_tokenizer(_captions(units), made, build["data"]["vocab_size"])
        paths.put_folder(made, target / records.TOKENIZER_FOLDER)
    write_rejected(target, rejected)
    stream = io.BytesIO()
    np.save(stream, listed)
    _write_bytes(folder, target / LISTED_FILE, stream.getvalue())
    build["counts"] = {split: sum(lengths) for split, lengths, _ in splits}
    build["content"] = _content(units)
    records.write_build(target, build | {"listed": digest(listed)})
    return give_name(data_dir)


def give_name(data_dir: Path) -> BuildResult:
    """Clears away what was only needed to build, and gives records that are whole their name."""
    folder = records.incomplete(data_dir)
    if paths.is_local(data_dir):
        for name in (UNITS, BEAM):
            paths.remove_folder(folder / name)
        for file in folder.iterdir():
            if file.name in (MADE_FROM, PLACING, CACHE) or file.name.endswith(".tmp"):
                file.unlink()
        _lock(data_dir).unlink(missing_ok=True)  # here, for nobody would if this were killed next
        paths.move_folder(folder, data_dir, last=records.BUILD_FILE)
    else:
        paths.remove_folder(folder)
    build = records.read_build(data_dir)
    return BuildResult(build["counts"], read_rejected(data_dir), excluded=build["excluded"])


def _place(
    folder: Path, target: Path, units: dict[str, list[dict]]
) -> list[tuple[str, list[int], int]]:
    """Gives the finished shards their names; (split, records per shard, bytes) of each split."""
    moves, splits = [], []
    for split, known in units.items():
        shards = [shard for unit in known for shard in unit["shards"]]
        for number, (name, _, _) in enumerate(shards):
            final = records.shard_name(split, number, len(shards))
            moves.append((name, final))
        if shards:
            lengths = [count for _, count, _ in shards]
            splits.append((split, lengths, sum(size for _, _, size in shards)))
    paths.write_text(folder / PLACING, json.dumps(moves))

    def move(pair: tuple[str, str]) -> None:
        paths.move_file(folder / UNITS / pair[0], target / pair[1])

    with ThreadPoolExecutor(MOVES) as pool:
        list(pool.map(move, moves))
    return splits


def _content(units: dict[str, list[dict]]) -> str:
    """A digest of the records, whose audio may be another one under the same names."""
    parts = {split: [unit.get("content", "") for unit in known] for split, known in units.items()}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _captions(units: dict[str, list[dict]]) -> list[str]:
    """What the tokenizer is trained on: the captions of train, or else of all."""
    found = {
        split: [caption for unit in known for caption in unit["captions"]]
        for split, known in units.items()
    }
    return found.get(TRAIN) or [caption for part in found.values() for caption in part]
