"""Runs the evaluation tasks of a config on a data set of records."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from clapjax.data.records import open_builder, read_examples
from clapjax.data.schema import Example
from clapjax.data.selection import nearest_text
from clapjax.evaluation import t_classify
from clapjax.evaluation.retrieval import retrieval
from clapjax.evaluation.zero_shot import zero_shot

TASKS = ("t_classify", "retrieval", "zero_shot")


@dataclass(frozen=True)
class EvaluationConfig:
    """What is evaluated, on which splits."""

    tasks: tuple[str, ...] = TASKS  # which; () for none
    split: str = "test"  # T-Classify and retrieval
    zero_shot_split: str = "test_clips"  # its examples' first label is the class
    template: str = "This is a sound of {}."  # of the sentence for a label in zero-shot

    def __post_init__(self):
        unknown = set(self.tasks) - set(TASKS)
        if unknown:
            raise ValueError(f"evaluation.tasks: no task {sorted(unknown)}; there are {TASKS}")
        if "{}" not in self.template:
            raise ValueError(f"evaluation.template {self.template!r} has no {{}}")


class Embedder(Protocol):
    """What the tasks need of a model: `clapjax.inference.Clap` is one."""

    def embed_audio(
        self, audio: Sequence[np.ndarray], sampling_rate: int | None = None
    ) -> np.ndarray:
        """(N, D) float32, unit length."""

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """(N, D) float32, unit length."""


@dataclass(frozen=True)
class Evaluation:
    """Results, and what the report draws."""

    results: dict  # JSON-ready: t_classify, retrieval, zero_shot
    margins: dict[str, np.ndarray] = field(default_factory=dict)
    similarity: dict | None = None
    examples: list[dict] = field(default_factory=list)
    class_names: tuple[str, ...] = ()

    def scalars(self) -> dict[str, float]:
        """The headline numbers, flat, for a training log."""
        flat = {}
        for task, keys in (
            ("t_classify", ("text_to_audio", "audio_to_text")),
            ("zero_shot", ("accuracy",)),
        ):
            scores = self.results.get(task, {})
            flat |= {f"{task}/{key}": scores[key] for key in keys if scores.get(key) is not None}
        for direction in ("text_to_audio", "audio_to_text"):
            scores = self.results.get("retrieval", {}).get(direction, {})
            flat |= {f"retrieval/{direction}/{key}": value for key, value in scores.items()}
        return flat


def evaluate(
    embedder: Embedder, data_dir: str | os.PathLike, config: EvaluationConfig
) -> Evaluation:
    """Evaluates a model; deterministic.

    Args:
      embedder: the model.
      data_dir: records with the splits that the config names.
      config: tasks and splits.

    Raises:
      RecordsError: a split is missing or damaged.
      ValueError: a split has nothing that its task can use.
    """
    results, margins, similarity, shown = {}, {}, None, []
    if {"t_classify", "retrieval"} & set(config.tasks):
        examples = list(read_examples(data_dir, config.split))
        audio = _embed_audio(embedder, [e.audio for e in examples], examples)  # (N, D)
        if "t_classify" in config.tasks:
            margins, shown = _t_classify(embedder, examples, audio)
            results["t_classify"] = t_classify.summarize(*margins.values())
        if "retrieval" in config.tasks:
            results["retrieval"], similarity = _retrieval(embedder, examples, audio)
    names: tuple[str, ...] = ()
    if "zero_shot" in config.tasks:
        examples = list(read_examples(data_dir, config.zero_shot_split))
        results["zero_shot"], names = _zero_shot(embedder, examples, config.template)
    return Evaluation(results, margins, similarity, shown, names)


def supported(
    data_dir: str | os.PathLike, config: EvaluationConfig
) -> tuple[tuple[str, ...], list[str]]:
    """Which of a config's tasks a data set has something for; each split is read once.

    Returns:
      (the tasks, a line for each of the others that says why not).

    Raises:
      RecordsError: no data set, or a damaged one.
    """
    splits, found, left_out = open_builder(data_dir).info.splits, [], []

    def reason(task: str) -> str:
        split = config.zero_shot_split if task == "zero_shot" else config.split
        if split not in splits or not splits[split].num_examples:
            return f"the records have no split {split!r}; there are {', '.join(splits)}"
        if task == "t_classify":
            some = any(e.negative_captions for e in read_examples(data_dir, split))
            return "" if some else f"no example of the split {split!r} has a negative caption"
        if task == "zero_shot":
            bare = sum(not e.labels for e in read_examples(data_dir, split))
            return f"{bare} examples of the split {split!r} have no label" if bare else ""
        return ""

    for task in config.tasks:
        if why := reason(task):
            left_out.append(f"{task}: {why}")
        else:
            found.append(task)
    return tuple(found), left_out


def _embed_audio(embedder: Embedder, waveforms: list[np.ndarray], examples: list[Example]):
    if not examples:
        raise ValueError("evaluation: a split is empty")
    return embedder.embed_audio(waveforms, sampling_rate=examples[0].sample_rate)


def _t_classify(
    embedder: Embedder, examples: list[Example], audio: np.ndarray
) -> tuple[dict[str, np.ndarray], list[dict]]:
    """Margins of both directions, and the surest and the worst clip for the report."""
    with_text = [i for i, e in enumerate(examples) if e.negative_captions]
    if not with_text:
        raise ValueError("T-Classify: no example of the split has a negative caption")
    wrong_texts = [examples[i].negative_captions[0] for i in with_text]
    right_texts = [
        nearest_text(wrong, examples[i].captions)
        for wrong, i in zip(wrong_texts, with_text, strict=True)
    ]
    right = embedder.embed_text(right_texts)
    wrong = embedder.embed_text(wrong_texts)
    margins = {
        "text_to_audio": t_classify.text_to_audio(audio[with_text], right, wrong),
        "audio_to_text": np.zeros(0, np.float32),
    }
    rows = [row for row, i in enumerate(with_text) if examples[i].negative_audio is not None]
    if not rows:
        return margins, []
    chosen = [examples[with_text[row]] for row in rows]
    other = _embed_audio(embedder, [e.negative_audio for e in chosen], chosen)
    positive = audio[[with_text[row] for row in rows]]
    margins["audio_to_text"] = t_classify.audio_to_text(right[rows], positive, other)

    told = [right_texts[row] for row in rows]
    order = np.argsort(margins["audio_to_text"])
    shown = []
    for title, at in (("median", order[len(order) // 2]), ("worst", order[0])):
        example = chosen[at]
        for samples, embedding, is_right in (
            (example.audio, positive[at], True),
            (example.negative_audio, other[at], False),
        ):
            shown.append(
                {
                    "title": f"{title} margin, {'right' if is_right else 'wrong'} order",
                    "caption": told[at],
                    "score": float(embedding @ right[rows][at]),
                    "right_order": is_right,
                    "samples": samples,
                    "sample_rate": example.sample_rate,
                }
            )
    return margins, shown


def _retrieval(embedder: Embedder, examples: list[Example], audio: np.ndarray) -> tuple[dict, dict]:
    """Retrieval among clips with different contents.

    Of the clips in which the same events sound in the same order, the first is kept: their captions
    would describe the others as well.
    """
    seen, kept = set(), []
    for index, example in enumerate(examples):
        if not example.events or example.events not in seen:
            kept.append(index)
        seen.add(example.events)
    captions = [caption for index in kept for caption in examples[index].captions]
    owner = [row for row, index in enumerate(kept) for _ in examples[index].captions]
    text = embedder.embed_text(captions)
    results = retrieval(audio[kept], text, np.asarray(owner))
    rows = list(range(min(24, len(kept))))
    first = [owner.index(row) for row in rows]
    similarity = {
        "values": audio[kept][rows] @ text[first].T,
        "rows": [" / ".join(examples[kept[row]].events) or examples[kept[row]].id for row in rows],
        "columns": [captions[i] for i in first],
    }
    return results, similarity


def _zero_shot(
    embedder: Embedder, examples: list[Example], template: str
) -> tuple[dict, tuple[str, ...]]:
    unlabelled = [e.id for e in examples if not e.labels]
    if unlabelled or not examples:
        raise ValueError(f"zero-shot: examples without a label: {unlabelled[:3]}")
    names = tuple(sorted({e.labels[0] for e in examples}))
    audio = _embed_audio(embedder, [e.audio for e in examples], examples)
    text = embedder.embed_text([template.replace("{}", name) for name in names])
    labels = np.array([names.index(e.labels[0]) for e in examples])
    return zero_shot(audio, text, labels, names), names
