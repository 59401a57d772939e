"""Units of a build on Apache Beam: Dataflow, Flink, Spark, or a pool of processes here."""

import logging
import shlex

from clapjax.data.build.units import Unit, Work

# Beam's own DirectRunner downloads and starts a binary (Prism); this one is plain Python.
IN_PROCESS = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def run_units(units: list[Unit], work: Work, what: str, *, runner: str, options: str) -> None:
    """Does units as a Beam pipeline; its workers must reach the sources and the folder of `work`.

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

    def do(unit: Unit) -> str:
        for _ in work(unit):
            beam.metrics.Metrics.counter("clapjax", "samples").inc()
        return unit.name

    name = IN_PROCESS if runner.lower() in ("direct", "directrunner") else runner
    try:
        chosen = create_runner(name)
    except (AttributeError, ValueError) as error:
        raise ValueError(f"--runner {runner}: {error}") from error
    flags = PipelineOptions(shlex.split(options))
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    with beam.Pipeline(runner=chosen, options=flags) as pipeline:
        _ = pipeline | beam.Create(units) | beam.Reshuffle() | what >> beam.Map(do)
