"""Where a verb writes: that it can is found out before its work."""

import argparse
import os
from pathlib import Path

FOLDERS, FILES, EITHER = "folders", "files", "folders, or files of TABLES"
TABLES = (".npz", ".parquet")
# Arguments by verb, or verb and action: those that name a folder to be made, and files in one.
OUTPUTS = {
    "bootstrap": {FOLDERS: ("workdir",)},
    "captions expand": {FILES: ("output",)},
    "captions filter": {FILES: ("output",)},
    "captions generate": {FOLDERS: ("out",)},
    "captions negate": {FILES: ("output",)},
    "demo": {FOLDERS: ("workdir",)},
    "embed": {EITHER: ("out",)},
    "eval": {FOLDERS: ("out",)},
    "export": {FOLDERS: ("folder",)},
    "finetune": {FOLDERS: ("out",)},
    "import": {FOLDERS: ("folder",)},
    "index": {FOLDERS: ("out",)},
    "records annotate": {FOLDERS: ("data_dir",)},
    "records build": {FOLDERS: ("data_dir",)},
    "records filter": {FOLDERS: ("data_dir",)},
    "records info": {FILES: ("html",)},
    "records merge": {FOLDERS: ("data_dir",)},
    "report": {FILES: ("out",)},
    "train": {FOLDERS: ("workdir",)},
}
INSTEAD = {"eval": "workdir"}  # where the output is not named


def check_outputs(verb: str, args: argparse.Namespace) -> None:
    """Raises ValueError where a place that the arguments name cannot be written to."""
    action = getattr(args, "action", None)
    outputs = OUTPUTS.get(f"{verb} {action}" if action else verb, {})
    for kind, names in outputs.items():
        for name in names:
            given = getattr(args, name, None) or getattr(args, INSTEAD.get(verb, ""), None)
            if given and "://" not in given:
                _check(given, kind)


def _check(given: str, kind: str) -> None:
    place, tables = Path(given), " or ".join(TABLES)
    is_table = place.suffix in TABLES
    if kind == FOLDERS and is_table and not place.is_dir():
        raise ValueError(f"{place}: a folder is made there; a name in {tables} is a file's")
    if kind == EITHER:
        kind = FILES if is_table else FOLDERS
        looks_like_file = place.suffix[1:].isalpha() and not given.endswith("/")
        if given == "-" or (kind == FOLDERS and looks_like_file and not place.is_dir()):
            raise ValueError(f"{given}: must end in {tables}, or be a folder; say {given}/ for one")
    if kind == FILES and place.is_dir():
        raise ValueError(f"{place}: is a folder; name a file in it")
    if kind == FILES and not place.parent.is_dir():
        raise ValueError(f"{place}: there is no folder {place.parent}")
    whole = place.absolute()
    there = next(path for path in (whole, *whole.parents) if os.path.lexists(path))
    if kind == FOLDERS and not there.is_dir():
        raise ValueError(f"{place}: {there} is no folder")
    # A file appears beside the one that it takes the place of.
    folder = there if there.is_dir() else there.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"{place}: {folder} cannot be written to")
