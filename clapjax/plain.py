"""Plain files, and frozen config dataclasses from and to plain dicts, as JSON holds them."""

import dataclasses
import difflib
import json
import os
import typing
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
    try:
        lines = [line.strip() for line in Path(file).read_text("utf-8-sig").split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read as UTF-8 text ({error})") from error
    lines = [line for line in lines if line]
    if not lines:
        raise ValueError(f"{file}: no lines of text in it")
    return lines


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
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"
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
