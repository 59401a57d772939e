"""`clapjax config`."""

import argparse
import ast
import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Iterator

from clapjax.cli.config import add_config_argument, load_config

EXAMPLE = "clapjax config --config configs/folder.py optimizer"
WIDTH = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """[--config F] [FIELD...]."""
    add_config_argument(parser, required=False)
    parser.add_argument(
        "fields", nargs="*", metavar="FIELD", help="of these groups and fields alone, as model.text"
    )


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints fields with value and meaning, and the default where that differs."""
    from clapjax.experiment import Experiment

    config = load_config(args.config or Experiment(), overrides)
    shown = 0
    for path, value, default, meaning in describe(config, Experiment()):
        inside = [path == name or path.startswith(f"{name}.") for name in args.fields]
        if args.fields and not any(inside):
            continue
        shown += 1
        other = "" if value == default else f"  (default: {default!r})"
        print(f"{path} = {value!r}{other}")
        print(textwrap.fill(meaning, WIDTH, initial_indent="    ", subsequent_indent="    "))
    if not shown:
        raise ValueError(f"no field is called {' or '.join(args.fields)}")
    return 0


def describe(config, default, prefix: str = "") -> Iterator[tuple[str, object, object, str]]:
    """(path, value, default, meaning) of each field of a config, groups behind single fields."""
    told = meanings(type(config))
    names = [one.name for one in dataclasses.fields(config)]
    groups = [name for name in names if dataclasses.is_dataclass(getattr(config, name))]
    for name in names:
        if name not in groups:
            path = f"{prefix}{name}"
            yield path, getattr(config, name), getattr(default, name), told[name]
    for name in groups:
        yield from describe(getattr(config, name), getattr(default, name), f"{prefix}{name}.")


def meanings(config: type) -> dict[str, str]:
    """What the comments in a dataclass's source say of each field: above it, and behind it.

    A field without one has "".
    """
    found = {}
    for cls in reversed(config.__mro__):
        if dataclasses.is_dataclass(cls):
            found |= _of_source(textwrap.dedent(inspect.getsource(cls)))
    return {name: found[name] for name in typing.get_type_hints(config)}


def _of_source(source: str) -> dict[str, str]:
    lines, found = source.splitlines(), {}
    (definition,) = ast.parse(source).body
    for node in definition.body:
        if isinstance(node, ast.AnnAssign):
            at, above = node.lineno - 2, []
            while lines[at].lstrip().startswith("#"):
                above.insert(0, lines[at])
                at -= 1
            behind = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
            comments = [*above, behind] if behind.strip().startswith("#") else above
            found[node.target.id] = " ".join(line.strip().lstrip("# ") for line in comments)
    return found
