"""T-Classify (T-CLAP, arXiv 2404.17806, section 3.3): is the right temporal order preferred?"""

import numpy as np
from scipy.stats import binomtest

from clapjax.evaluation.retrieval import unit_rows


def _margins(**sides) -> np.ndarray:
    """sim(query, positive) - sim(query, negative) row by row, (N,) float32; three named arrays."""
    arrays = {name: unit_rows(name, side) for name, side in sides.items()}
    query, positive, negative = arrays.values()  # each (N, D)
    if not query.shape == positive.shape == negative.shape:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"shapes differ: {shapes}")
    # The difference first: equal pairs give exactly 0, near-equal ones lose no digits.
    return np.einsum("nd,nd->n", query, positive - negative)


def text_to_audio(audio, positive, negative) -> np.ndarray:
    """Margin by which each clip prefers its caption to the one in the wrong order.

    T-CLAP section 3.3: sim(a_i, t+_i) - sim(a_i, t-_i), cosine.

    Args:
        audio, positive, negative: (N, D) float32, unit length; row i of the three belongs
            together. A clip with several negative captions takes one row for each.

    Returns:
        (N,) float32 in -2..2.

    Raises:
        ValueError: bad or empty embeddings, or shapes that differ.
    """
    return _margins(audio=audio, positive=positive, negative=negative)


def audio_to_text(text, positive_audio, negative_audio) -> np.ndarray:
    """Margin by which each caption prefers its clip to the one in the wrong order.

    T-CLAP section 3.3: sim(t_i, a+_i) - sim(t_i, a-_i), cosine.

    Args:
        text, positive_audio, negative_audio: (M, D) float32, unit length.

    Returns:
        (M,) float32 in -2..2.

    Raises:
        ValueError: bad or empty embeddings, or shapes that differ.
    """
    return _margins(text=text, positive_audio=positive_audio, negative_audio=negative_audio)


def summarize(t2a_margins, a2t_margins) -> dict:
    """Fractions of right judgements: margins > 0. A tie is wrong; chance is 0.5.

    Args:
        t2a_margins: (N,) float from `text_to_audio`; empty where nothing was measured.
        a2t_margins: (M,) float from `audio_to_text`; likewise.

    Returns:
        {"text_to_audio": fraction in 0..1 or None if empty, "audio_to_text": likewise,
        "intervals": {"text_to_audio": [low, high], ...} of those that are not None, 95 % by
        Wilson's score, "n": N, "n_audio": M}.

    Raises:
        ValueError: not 1-D, NaN or infinite.
    """
    margins = {"text_to_audio": np.asarray(t2a_margins), "audio_to_text": np.asarray(a2t_margins)}
    for name, values in margins.items():
        if values.ndim != 1 or not np.isfinite(values).all():
            raise ValueError(f"{name}: expected finite (N,) margins, got shape {values.shape}")
    accuracy = {k: float(np.mean(v > 0)) if v.size else None for k, v in margins.items()}
    judged = {k: binomtest(int((v > 0).sum()), v.size) for k, v in margins.items() if v.size}
    return accuracy | {
        "intervals": {
            k: [float(x) for x in test.proportion_ci(method="wilson")] for k, test in judged.items()
        },
        "n": margins["text_to_audio"].size,
        "n_audio": margins["audio_to_text"].size,
    }
