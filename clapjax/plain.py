"""Plain files and numbers, and config dataclasses from and to plain dicts, as JSON holds them."""

import dataclasses
import difflib
import json
import numbers
import os
import typing
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

# What a field of each type holds, in the words of an error.
HOLDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}


def read_json(file: Path, kind: type):
    """What a JSON file holds, a `kind`.

    Raises:
      ValueError: it is missing, damaged, or holds something else; the message names it.
    """
    try:
        value = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{file}: is missing") from error
    except ValueError as error:
        raise ValueError(f"{file}: damaged ({error})") from error
    if not isinstance(value, kind):
        raise ValueError(f"{file}: damaged (no {kind.__name__}, but {str(value)[:40]!r})")
    return value


def read_lines(file: str | os.PathLike) -> list[str]:
    """The lines of a UTF-8 text file that are not blank, stripped.

    Raises:
      ValueError: no such file, not UTF-8, or nothing in it.
    """
    lines = list(each_line(file))
    if not lines:
        raise ValueError(f"{file}: no lines of text in it")
    return lines


def each_line(file: str | os.PathLike) -> Iterator[str]:
    """`read_lines` one by one, none of which are held; of a file without any it yields nothing."""
    try:
        with Path(file).open(encoding="utf-8-sig") as lines:
            yield from (line for text in lines if (line := text.strip()))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read as UTF-8 text ({error})") from error


def check_count(value, name: str) -> None:
    """Raises ValueError where a setting is no whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be positive, not {value}")


def chunks(items: Iterable, size: int) -> Iterator[list]:
    """Lists of so many items, the last one of what is left."""
    items = iter(items)
    return iter(lambda: list(islice(items, size)), [])


def closest(name: str, known: Iterable[str]) -> str | None:
    """The name that was meant by one that is not known, if one is near; dots are between groups.

    Near are the same letters but for a few, best in the same group, and what a name is short for:
    by "optimizer.lr" optimizer.learning_rate is meant.
    """

    def alike(ours: str, theirs: str) -> float:
        return difflib.SequenceMatcher(None, ours, theirs).ratio()

    def likeness(other: str) -> float:
        (group, _, ours), (their_group, _, theirs) = name.rpartition("."), other.rpartition(".")
        short = "".join(word[:1] for word in theirs.split("_"))
        near = 1.0 if ours == short else alike(ours, theirs)
        if group == their_group:
            return near
        return near * (0.8 + 0.1 * alike(group, their_group) if group else 0.95)

    best = max(known, key=likeness, default=None)
    return best if best is not None and likeness(best) >= 0.7 else None


def to_dict(config) -> dict:
    """Nested plain dicts of a config dataclass; tuples become lists, as in JSON."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(cls, values: dict, path: str = ""):
    """Builds the frozen dataclass `cls` from nested dicts; fields left out keep their default.

    Raises:
      ValueError: an unknown field (the message names the closest one), a value of the wrong type,
        or one that the dataclass refuses.
    """
    if not isinstance(values, dict):
        raise ValueError(f"config {path or 'root'}: expected a group of fields, not {values!r}")
    known = typing.get_type_hints(cls)
    out = {}
    for name, value in values.items():
        where = f"{path}.{name}" if path else name
        if name not in known:
            meant = closest(name, known)
            hint = f"; did you mean {meant!r}?" if meant else f"; there are {', '.join(known)}"
            raise ValueError(f"config: no field {where!r}{hint}")
        out[name] = _convert(known[name], value, where)
    return cls(**out)


def _convert(kind, value, where: str):
    if dataclasses.is_dataclass(kind):
        return from_dict(kind, value, where)
    origin = typing.get_origin(kind)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"config: {where} must be a list, not {value!r}")
        item = typing.get_args(kind)[0]
        return tuple(_convert(item, part, where) for part in value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"config: {where} must be {HOLDS[kind]}, not {value!r}")
    return value
