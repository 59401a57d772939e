"""Zero-shot classification: the class whose prompt is nearest to the clip."""

import numpy as np

from clapjax.evaluation.retrieval import index_rows, unit_rows


def class_embeddings(class_text) -> np.ndarray:
    """One unit vector per class: the mean of its prompts' embeddings, renormalised.

    The prompt ensemble of CLIP (Radford et al., arXiv 2103.00020, section 3.1.4).

    Args:
        class_text: (C, D) or (C, P, D) float32, unit length, P prompts per class.

    Returns:
        (C, D) float32, unit length.

    Raises:
        ValueError: bad embeddings, or prompts of one class that cancel out.
    """
    shape = np.shape(class_text)
    if len(shape) != 3:
        return unit_rows("class_text", class_text)
    prompts = unit_rows("class_text", np.reshape(class_text, (-1, shape[2]))).reshape(shape)
    mean = prompts.mean(axis=1)  # (C, D)
    length = np.linalg.norm(mean, axis=1, keepdims=True)  # (C, 1)
    if length.min() < 1e-6:
        raise ValueError(f"class_text: the prompts of class {length.argmin()} cancel out")
    return mean / length


def zero_shot(audio, class_text, labels, class_names) -> dict:
    """Accuracy, confusion counts and recall per class; the prediction is the highest cosine.

    LAION-CLAP (evaluate/eval_zeroshot_classification.py) and T-CLAP (arXiv 2404.17806, 3.3) do
    the same. Equal cosines go to the lower class index.

    Args:
        audio: (N, D) float32, unit length.
        class_text: (C, D) or (C, P, D) float32, unit length, P prompts per class.
        labels: (N,) int, the true class in 0..C-1.
        class_names: C different names.

    Returns:
        {"accuracy", "mean_per_class_recall" (over classes with clips), "n": N,
        "confusion": C x C counts as lists, rows = true class,
        "per_class": {name: {"recall": fraction or None without clips, "n": clips}}}.

    Raises:
        ValueError: bad embeddings, different D, labels out of range, or names that do not fit.
    """
    audio, classes = unit_rows("audio", audio), class_embeddings(class_text)
    if audio.shape[1] != classes.shape[1]:
        raise ValueError(f"audio has {audio.shape[1]} dimensions, class_text {classes.shape[1]}")
    labels = index_rows("labels", labels, len(audio), len(classes))
    if len(class_names) != len(classes) or len(set(class_names)) != len(classes):
        raise ValueError(f"class_names: expected {len(classes)} different names")

    predicted = (audio @ classes.T).argmax(axis=1)  # (N, C) -> (N,)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    clips = confusion.sum(axis=1).tolist()
    right = confusion.diagonal().tolist()
    recall = [r / n if n else None for r, n in zip(right, clips, strict=True)]
    return {
        "accuracy": sum(right) / len(audio),
        "mean_per_class_recall": float(np.mean([r for r in recall if r is not None])),
        "n": len(audio),
        "confusion": confusion.tolist(),
        "per_class": {
            name: {"recall": r, "n": n}
            for name, r, n in zip(class_names, recall, clips, strict=True)
        },
    }
