"""Units of a build on Apache Beam: Dataflow, Flink, Spark, or a pool of processes here."""

import functools
import hashlib
import logging
import os
import pickle
import shlex
from concurrent.futures import ThreadPoolExecutor

from clapjax.data.build.units import Unit, Work
from clapjax.data.paths import as_path

WRITES = 16  # of files in a bucket at once
# Beam's own DirectRunner downloads and starts a binary (Prism); this one is plain Python.
IN_PROCESS = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def run_units(units: list[Unit], work: Work, what: str, *, runner: str, options: str) -> None:
    """Does units as a Beam pipeline; its workers must reach the sources and the folder of `work`.

    The pipeline holds the names of units alone: workers read the work and the items of a unit from
    files beside its folder, which they trust as they trust the pipeline. Beam itself tries what
    crashed again: an item that kills its worker is not left out.

    Args:
      units: at least one; each is one element, so that a bundle that is tried again writes the
        same files again.
      work: what is done with each.
      what: name of the step.
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
    folder = as_path(work.folder).parent / "beam"
    folder.mkdir(exist_ok=True)
    work_file = _put(folder, work)
    with ThreadPoolExecutor(WRITES) as pool:
        names = list(pool.map(functools.partial(_put, folder), units))

    def do(unit_file: str) -> str:
        unit = pickle.loads(as_path(unit_file).read_bytes())
        for _ in _load_work(work_file)(unit):
            beam.metrics.Metrics.counter("clapjax", "samples").inc()
        return unit.name

    flags = PipelineOptions(shlex.split(options))
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    with beam.Pipeline(runner=chosen, options=flags) as pipeline:
        _ = pipeline | beam.Create(names) | beam.Reshuffle() | what >> beam.Map(do)


def _put(folder, item: Unit | Work) -> str:
    """Writes an item to a file that is named by its content."""
    data = pickle.dumps(item)
    file = folder / f"{hashlib.sha256(data).hexdigest()[:32]}.pickle"
    file.write_bytes(data)
    return os.fspath(file)


@functools.lru_cache(maxsize=2)  # a worker does many units of one work
def _load_work(file: str) -> Work:
    return pickle.loads(as_path(file).read_bytes())
