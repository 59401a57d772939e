"""A folder of embeddings that is written part by part: parts-00000.parquet, parts-00001.parquet ...

Each part is of so many inputs, by their place in the row of all of them, and tells which in its
metadata: what is done is known from the finished parts alone. Where none of its inputs could be
embedded there is no part.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from clapjax.data import beam, paths
from clapjax.inference.store import Table, write_table
from clapjax.plain import chunks

PART = re.compile(r"parts-(\d{5,})\.parquet")
UNFINISHED = re.compile(r"\.parts-\d+\.parquet\.\w+\.tmp")  # of `paths.new_file`
LOCK, BEAM = ".lock", "beam"

Input = tuple[str, str]  # "audio" or "text", and its path or words


@dataclass(frozen=True)
class Part:
    """What a part tells of itself."""

    rows: int
    model: str
    fingerprints: dict[str, str]
    settings: dict  # what else its vectors depend on, and how many inputs a part has
    inputs: int
    digest: str  # of these
    left_out: list[str]  # names of inputs that could not be embedded


@dataclass
class Totals:
    """Of all parts, those that were done before included."""

    rows: int = 0
    inputs: int = 0
    left_out: int = 0
    done_before: int = 0  # inputs
    left_out_in: list[str] = field(default_factory=list)  # parts that were done before

    def add(self, part: Part) -> None:
        """Counts a part."""
        self.rows += part.rows
        self.inputs += part.inputs
        self.left_out += len(part.left_out)


@dataclass(frozen=True)
class Lacking:
    """A part that is not there yet."""

    number: int
    inputs: list[Input]

    @property
    def name(self) -> str:
        """Of its file."""
        return f"parts-{self.number:05}.parquet"


@dataclass(frozen=True)
class Writer:
    """Makes a part; it can be pickled if its function can."""

    folder: str
    fingerprints: dict[str, str]
    settings: dict  # see `Part`
    embed: Callable[[list[Input]], tuple[Table | None, list[str]]]

    def __call__(self, lacking: Lacking) -> Iterator[Part]:
        """Embeds and writes; a part of nothing is not written. Yields the part."""
        table, left_out = self.embed(lacking.inputs)
        told = {"settings": self.settings, "inputs": len(lacking.inputs)}
        told |= {"digest": _digest(lacking.inputs), "left_out": left_out}
        if table is None:
            yield Part(0, "", self.fingerprints, **told)
            return
        write_table(paths.as_path(self.folder) / lacking.name, table, {"part": told})
        yield Part(len(table.names), table.model, self.fingerprints, **told)


def run_here(lacking: Iterable[Lacking], write: Writer) -> Iterator[Part]:
    """One part after the other, in this process."""
    for one in lacking:
        yield from write(one)


def write_parts(
    folder: str | os.PathLike,
    items: Iterable[Input],
    size: int,
    fingerprints: dict[str, str],
    settings: dict,
    embed: Callable[[list[Input]], tuple[Table | None, list[str]]],
    skip: Callable[[int], None],
    run: Callable[[Iterable[Lacking], Writer], Iterable[Part]] = run_here,
) -> Totals:
    """Writes what lacks of the parts of a folder.

    Args:
      folder: the folder, which is made; here or in a bucket.
      items: all inputs, in the same order at each start.
      size: inputs of a part.
      fingerprints, settings: of the parts, see `Part`.
      embed: from inputs to a table of those that could be embedded, and the names of the others.
      skip: is told how many inputs are done already, part by part.
      run: does what lacks, `run_here` or `run_on_beam`.

    Raises:
      ValueError: there are parts of another model, of other settings or of other inputs, or damaged
        ones; or another process writes there.
    """
    path, totals = paths.as_path(folder), Totals()
    settings = settings | {"part_size": size}

    def lacking() -> Iterator[Lacking]:
        for number, some in enumerate(chunks(items, size)):
            one, done = Lacking(number, some), False
            if number in there:
                part = read_part(path / one.name)
                _check_origin(path / one.name, part, fingerprints, settings)
                done = _is_of(path / one.name, part, some, is_last=number == max(there))
                there.remove(number)
            if done:
                skip(part.inputs)
                totals.done_before += part.inputs
                totals.left_out_in += [one.name] if part.left_out else []
                totals.add(part)
            else:
                yield one

    with _alone(path):
        there = _numbers(path)
        for part in run(lacking(), Writer(os.fspath(folder), fingerprints, settings, embed)):
            totals.add(part)
    if there:
        raise ValueError(
            f"{folder}: has {len(there)} parts more than its inputs make, from number {min(there)} "
            "on; remove them, or name another --out"
        )
    return totals


def run_on_beam(
    lacking: Iterable[Lacking], write: Writer, *, runner: str, options: str
) -> Iterator[Part]:
    """`run` of `write_parts` on Apache Beam, whose workers must reach the inputs and the folder.

    Raises: as `clapjax.data.beam.run_units`.
    """
    asked, folder = [], paths.as_path(write.folder)

    def told() -> Iterator[Lacking]:
        for one in lacking:
            asked.append(one)
            yield one

    beam.run_units(told(), write, "embed", folder=folder / BEAM, runner=runner, options=options)
    for one in asked:
        file = folder / one.name
        if file.exists():
            yield read_part(file)
        else:  # none of its inputs could be embedded
            names = [name for _, name in one.inputs]
            yield Part(0, "", write.fingerprints, write.settings, len(names), "", names)


def read_part(file: Path) -> Part:
    """What a part tells of itself; its rows are not read.

    Raises:
      ValueError: it is damaged, or no part.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with file.open("rb") as source:
            found = pyarrow.parquet.read_metadata(source)
        told = json.loads(found.metadata[b"clapjax"])
        return Part(found.num_rows, told["model"], told["fingerprints"], **told["part"])
    except (OSError, pyarrow.ArrowException, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{file}: damaged, or no part of `clapjax embed` ({reason}); remove it, and the same "
            "command makes it anew"
        ) from error


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Makes the folder, which goes again if it stays empty, and keeps others from it.

    Raises:
      ValueError: another process writes there.
    """
    if not paths.is_local(path):
        yield
        return
    path.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_if_empty, path)  # also where nothing came of it
        try:
            stack.enter_context(paths.locked(path / LOCK))
        except BlockingIOError as error:
            raise ValueError(f"{path}: another process is writing there") from error
        for name in os.listdir(path):
            if UNFINISHED.fullmatch(name):  # of a start that was killed
                (path / name).unlink()
        yield


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # there is something in it
        folder.rmdir()


def _numbers(path: Path) -> set[int]:
    """Of the parts in a folder."""
    _, _, names = next(paths.walk(path), (path, [], []))
    return {int(match[1]) for name in names if (match := PART.fullmatch(name))}


def _check_origin(file: Path, part: Part, fingerprints: dict, settings: dict) -> None:
    """Raises ValueError where a part was made with another model or other settings."""
    if part.fingerprints != fingerprints:
        raise ValueError(
            f"{file}: was made with another model, or of other kinds of inputs ({part.model}: "
            f"{' and '.join(part.fingerprints)}); name another --out"
        )
    for name, value in settings.items():
        if (old := part.settings.get(name)) != value:
            raise ValueError(
                f"{file}: was made with --{name} {_said(old)}, not {_said(value)}; name another "
                "--out"
            )


def _said(value: object) -> object:
    return "left out" if value is None else value


def _is_of(file: Path, part: Part, some: list[Input], is_last: bool) -> bool:
    """Whether a part is of these inputs; not so the last one, if there are more of them now.

    Raises:
      ValueError: it is of others.
    """
    whole = part.inputs == len(some)
    if _digest(some[: part.inputs]) != part.digest or not (whole or is_last):
        raise ValueError(
            f"{file}: was made of other inputs than those that are there now, from {some[0][1]!r} "
            "on; name another --out, or remove this part and those behind it"
        )
    return whole


def _digest(some: list[Input]) -> str:
    names = b"\0".join(f"{kind}:".encode() + os.fsencode(name) for kind, name in some)
    return hashlib.sha256(names).hexdigest()[:32]
