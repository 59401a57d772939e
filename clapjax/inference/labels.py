"""Zero-shot labels: names of classes, the captions that are made of them, and probabilities."""

from collections.abc import Iterable

import numpy as np

TEMPLATE = "This is a sound of {}."
NEUTRAL = "something"  # in the place of a label: what it is told from where it stands for itself


def class_names(labels: Iterable[str]) -> list[str]:
    """Class names of any iterable: a list, a set, the keys of a dictionary, an array.

    Raises:
      ValueError: none, no different ones, or what is no name.
    """
    if isinstance(labels, str | bytes) or not isinstance(labels, Iterable):
        raise ValueError(f"labels must be a list of different class names, not {labels!r:.40}")
    labels = np.atleast_1d(labels).tolist() if hasattr(labels, "__array__") else list(labels)
    for index, label in enumerate(labels):
        if isinstance(label, int | float):
            raise ValueError(
                f"labels must be class names; number {index} is {label!r}. A data set has names in "
                "features['label'].names"
            )
        if not isinstance(label, str) or not label.strip():
            raise ValueError(f"labels must be class names; number {index} is {label!r:.40}")
    if not labels or len(set(labels)) < len(labels):
        twice = sorted({label for label in labels if labels.count(label) > 1})
        what = f"{twice[0]!r} twice" if twice else "none"
        raise ValueError(f"labels must be a list of different class names; there is {what}")
    return labels


def fill_templates(names: list[str], template: str | Iterable[str]) -> list[list[str]]:
    """The captions of each class: its name in each template, with spaces for underscores.

    People name classes and files "sea_waves"; captions that models have learned from do not.

    Raises:
      ValueError: no template, or one without a place for the name; two names in the same words.
    """
    templates = [template] if isinstance(template, str) else list(template)
    if not templates:
        raise ValueError("template: there is none; give a caption with one {}")
    for one in templates:
        if not isinstance(one, str) or "{}" not in one:
            raise ValueError(f"template {one!r} has no {{}}")
    words = [name.replace("_", " ") for name in names]
    for at, word in enumerate(words):  # each would have half of the probability
        if word in words[:at]:
            first = names[words.index(word)]
            raise ValueError(f"labels must differ; {first!r} and {names[at]!r} are the same words")
    return [[one.replace("{}", word) for one in templates] for word in words]


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of (N, C) logits.

    Raises:
      ValueError: of one class alone.
    """
    if logits.shape[1] == 1:
        raise ValueError(
            "one label alone always has 100 %: give others to tell it from, or multi_label=True"
        )
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)
