"""Units of work on Apache Beam: Dataflow, Flink, Spark, or a process here."""

import functools
import hashlib
import logging
import os
import pickle
import shlex
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from clapjax.data import paths
from clapjax.data.paths import as_path

WRITES = 16  # of files in a bucket at once
# Beam's own DirectRunner downloads and starts a binary (Prism); this one is plain Python.
IN_PROCESS = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


class Named(Protocol):
    """A part of the work, which can be pickled."""

    name: str


def run_units(
    units: Iterable[Named],
    work: Callable[[Named], Iterable],
    what: str,
    *,
    folder: str | os.PathLike,
    runner: str,
    options: str,
) -> None:
    """Does units as a Beam pipeline; its workers must reach what `work` reads, and the folder.

    The pipeline holds the names of units alone: workers read the work and the items of a unit from
    files, which they trust as they trust the pipeline. Beam itself tries what crashed again: an
    item that kills its worker is not left out.

    Args:
      units: each is one element, so that a bundle that is tried again writes the same files again.
      work: what is done with each; it can be pickled, and yields once for each item.
      what: name of the step.
      folder: for the files, with nothing else in it; goes when the pipeline has ended.
      runner: of Beam, e.g. "DataflowRunner", or a class by its full name.
      options: Beam's flags, as on a command line: "--project=p --region=europe-west4".

    Raises:
      ImportError: Beam is not installed.
      ValueError: no such runner.
      Exception: what `work` raises, or the runner.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
        from apache_beam.runners.runner import create_runner
    except ImportError as error:
        raise ImportError(
            "--runner needs Apache Beam: pip install 'clapjax[beam]'", name="apache_beam"
        ) from error

    name = IN_PROCESS if runner.lower() in ("direct", "directrunner") else runner
    try:
        chosen = create_runner(name)
    except (AttributeError, ValueError) as error:
        raise ValueError(f"--runner {runner}: {error}") from error
    flags = PipelineOptions(shlex.split(options))
    place = as_path(folder)
    place.mkdir(exist_ok=True)
    try:
        work_file = _put(place, work)
        with ThreadPoolExecutor(WRITES) as pool:
            names = list(pool.map(functools.partial(_put, place), units))
        if names:
            logging.getLogger("apache_beam").setLevel(logging.WARNING)
            with beam.Pipeline(runner=chosen, options=flags) as pipeline:
                does = beam.Map(functools.partial(_do, work_file))
                _ = pipeline | beam.Create(names) | beam.Reshuffle() | what >> does
    finally:  # the pipeline has ended, well or not
        paths.remove_folder(place)


def _do(work_file: str, unit_file: str) -> str:
    """On a worker: does a unit."""
    from apache_beam.metrics import Metrics

    unit = pickle.loads(as_path(unit_file).read_bytes())
    for _ in _load_work(work_file)(unit):
        Metrics.counter("clapjax", "items").inc()
    return unit.name


def _put(folder, item: object) -> str:
    """Writes an item to a file that is named by its content."""
    data = pickle.dumps(item)
    file = folder / f"{hashlib.sha256(data).hexdigest()[:32]}.pickle"
    file.write_bytes(data)
    return os.fspath(file)


@functools.lru_cache(maxsize=2)  # a worker does many units of one work
def _load_work(file: str) -> Callable[[Named], Iterable]:
    return pickle.loads(as_path(file).read_bytes())
