"""Runs tasks on benchmarks; a new task is one file, and its line here."""

from collections.abc import Mapping, Sequence

from clapjax.evaluation import (
    captioning,
    compositional,
    generated,
    groups,
    order,
    probe,
    retrieval,
    zero_shot,
)
from clapjax.evaluation.benchmarks import Benchmark
from clapjax.evaluation.config import TASKS, EvaluationConfig
from clapjax.evaluation.embed import Embedder, embed_dataset
from clapjax.evaluation.result import Result

# Each has `lacks(benchmark)` and `run(embedded, settings)`.
MODULES = dict(
    zip(
        TASKS,
        (order, retrieval, zero_shot, groups, compositional, probe, captioning, generated),
        strict=True,
    )
)
LACKS = {task: module.lacks for task, module in MODULES.items()}


def evaluate(
    model: Embedder,
    name: str,
    tasks: Mapping[str, Benchmark],
    settings: EvaluationConfig,
    **embedding,
) -> list[Result]:
    """Evaluates a model; deterministic. Each benchmark is embedded once.

    Args:
      model: the model.
      name: of the model, for the reader.
      tasks: what each runs on, from `benchmarks.load_tasks`.
      settings: how.
      embedding: of `embed_dataset`.

    Raises:
      RecordsError: a damaged split.
      ValueError: a benchmark without what its task needs, or embeddings that are no unit vectors.
    """
    embedded, found = {}, []
    for task, benchmark in tasks.items():
        key = benchmark.key
        if key not in embedded:
            embedded[key] = embed_dataset(model, benchmark, name, **embedding)
        if why := LACKS[task](embedded[key].benchmark):  # without what could not be decoded
            raise ValueError(f"{task}: {why}")
        found += MODULES[task].run(embedded[key], settings)
    return found


def scores(results: Sequence[Result]) -> dict[str, float]:
    """{"task/metric": value} of results of one model on one benchmark, for a training log."""
    return {name: value for result in results for name, value in result.scores().items()}
