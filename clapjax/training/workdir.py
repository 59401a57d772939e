"""What a run keeps of its records in its workdir."""

import json
import os
import secrets
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from clapjax.data import records
from clapjax.data.order import parse_share
from clapjax.data.paths import is_local, write_text
from clapjax.plain import read_json
from clapjax.tasks.task import Task
from clapjax.training import checkpoint, distributed
from clapjax.training.config import TrainConfig

RECORDS_FILE = "records.json"
GLOBS = "[]*?"  # what Orbax wrote below such a path it cannot find again
NONCE_FILE = "nonce"  # of the start that is under way
PATIENCE = 10.0  # seconds for a file to be seen by the others


def builds(data_dir: str | os.PathLike, run: TrainConfig) -> dict:
    """What the records were made from, those that are mixed in included.

    All processes must come here, and all find out where one of them sees others.

    Raises:
      RecordsError: there are none, or not the same for all processes.
    """
    folders, found = [parse_share(item)[0] for item in run.data.mixture], None
    try:
        build = records.read_build(data_dir)
        if folders:
            build["mixture"] = [records.read_build(folder) for folder in folders]
    except records.RecordsError as error:
        build, found = None, error
    apart = distributed.others(zlib.crc32(json.dumps(build, sort_keys=True).encode()))
    if apart:
        raise records.RecordsError(
            f"{data_dir}: {_hosts(apart)} no or other records there than host 0; name a folder "
            "that all hosts see, as gs://BUCKET/FOLDER, or copy the records to each"
        )
    if found is not None:
        raise found
    return build


def _hosts(numbers: list[int]) -> str:
    """ "host 3 sees", "hosts 1, 2 see" ...; of many the first."""
    shown = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
    return f"hosts {shown} see" if len(numbers) > 1 else f"host {shown} sees"


def prepare(
    workdir: Path, data_dir: str | os.PathLike, build: dict, task: Task
) -> Callable[[], None]:
    """Makes the workdir with what is copied from the records, written by one process for all.

    Returns:
      A function that raises ValueError where another start has taken the workdir over since then:
      of two the later one goes on, lest both write the same checkpoints.

    Raises:
      RecordsError: the checkpoints there were made with other records.
      ValueError: the workdir is not the same folder for all processes, or has a name with which
        checkpoints could not be read again.
    """
    place = os.path.abspath(workdir) if is_local(workdir) else os.fspath(workdir)
    if found := set(place) & set(GLOBS):
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
    nonce = distributed.from_main(secrets.randbits(31))
    with distributed.together(workdir):
        if distributed.is_main():
            workdir.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps(build, indent=2) + "\n")
            task.keep(data_dir, workdir)
            write_text(workdir / NONCE_FILE, f"{nonce}\n")
    kept = workdir / NONCE_FILE
    if apart := distributed.others(_sees(kept, nonce)):
        raise ValueError(
            f"{workdir}: {_hosts(apart)} not what host 0 wrote there; name a folder that all hosts "
            "see, as gs://BUCKET/FOLDER (--workdir)"
        )

    def check() -> None:
        if not _holds(kept, nonce):
            raise ValueError(f"{workdir}: was started a second time, which goes on; this one ends")

    return check


def _sees(file: Path, nonce: int) -> bool:
    """`_holds`, but with patience: NFS shows others some seconds later what one has written."""
    until = time.monotonic() + PATIENCE
    while not (found := _holds(file, nonce)) and time.monotonic() < until:
        time.sleep(0.5)
    return found


def _holds(file: Path, nonce: int) -> bool:
    return file.is_file() and file.read_text() == f"{nonce}\n"
