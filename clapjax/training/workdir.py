"""What a run keeps of its records in its workdir."""

import json
import os
import secrets
import zlib
from collections.abc import Callable
from pathlib import Path

from clapjax.data import records
from clapjax.data.order import parse_share
from clapjax.data.paths import write_text
from clapjax.plain import read_json
from clapjax.tasks.task import Task
from clapjax.training import checkpoint, distributed
from clapjax.training.config import TrainConfig

RECORDS_FILE = "records.json"
GLOBS = "[]*?"  # what Orbax wrote below such a path it cannot find again
NONCE_FILE = "nonce"  # of the start that is under way


def builds(data_dir: str | os.PathLike, run: TrainConfig) -> dict:
    """What the records were made from, those that are mixed in included.

    Raises:
      RecordsError: there are none.
    """
    build = records.read_build(data_dir)
    folders = [parse_share(item)[0] for item in run.data.mixture]
    if folders:
        build["mixture"] = [records.read_build(folder) for folder in folders]
    return build


def prepare(
    workdir: Path, data_dir: str | os.PathLike, build: dict, task: Task
) -> Callable[[], None]:
    """Makes the workdir with what is copied from the records, written by one process for all.

    Returns:
      A function that raises ValueError where another start has taken the workdir over since then:
      of two the later one goes on, lest both write the same checkpoints.

    Raises:
      RecordsError: the checkpoints there were made with other records, or the processes have
        different ones.
      ValueError: the workdir is not the same folder for all processes, or has a name with which
        checkpoints could not be read again.
    """
    if found := set(os.path.abspath(workdir)) & set(GLOBS):
        raise ValueError(
            f"{workdir}: the path of a workdir may not have {' '.join(sorted(found))}, which Orbax "
            "takes for a pattern; choose another name"
        )
    file = workdir / RECORDS_FILE
    begun = checkpoint.latest_step(workdir) is not None and file.is_file()
    if begun and read_json(file, dict) != build:
        raise records.RecordsError(
            f"{workdir}: this run began with other records; use a new --workdir, or the old records"
        )
    if not distributed.same(zlib.crc32(json.dumps(build, sort_keys=True).encode())):
        raise records.RecordsError(f"{data_dir}: the processes have different records there")
    nonce = distributed.from_main(secrets.randbits(31))
    with distributed.together(workdir):
        if distributed.is_main():
            workdir.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps(build, indent=2) + "\n")
            task.keep(data_dir, workdir)
            write_text(workdir / NONCE_FILE, f"{nonce}\n")
    kept = workdir / NONCE_FILE
    if not distributed.all_agree(_holds(kept, nonce)):
        raise ValueError(f"{workdir}: is not the same folder for all processes")

    def check() -> None:
        if not _holds(kept, nonce):
            raise ValueError(f"{workdir}: was started a second time, which goes on; this one ends")

    return check


def _holds(file: Path, nonce: int) -> bool:
    return file.is_file() and file.read_text() == f"{nonce}\n"
