"""The report: one HTML file that needs nothing else; and the results as JSON."""

import json
import re
from html import escape
from pathlib import Path

import numpy as np

from clapjax.data.paths import write_text
from clapjax.evaluation import figures

NAMES = {"t_classify": "T-Classify", "zero_shot": "Zero-shot", "retrieval": "Retrieval"}
# Shown in per cent, wherever it occurs in a name.
FRACTION = re.compile(r"T.Classify|R@\d|mAP|accuracy|recall", re.I)
EXAMPLES = 8  # spectrograms are the only large part of the file: up to 100 kB each


def _name(key) -> str:
    """A key of the results as words: t_classify -> T-Classify, text_to_audio -> text to audio."""
    return NAMES.get(key, str(key).replace("_", " "))


def _show(name, value) -> str:
    """A value as escaped text: fractions in per cent, None (not measured) as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{100 * value:.1f} %" if FRACTION.search(name) else f"{value:.4g}"
    return escape(str(value))


def _leaves(tree, name=""):
    """(name, value) of every scalar in nested dicts and lists."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        label = f"{name} {_name(key)}".strip()
        if isinstance(value, dict | list | tuple):
            yield from _leaves(value, label)
        else:
            yield label, value


def _headlines(results, task=""):
    """(label, value, note) of each task's main numbers, wherever its dict lies in the results."""
    for key, value in results.items():
        label = f"{task} {_name(key)}".strip()
        if isinstance(value, dict) and "R@1" in value:
            note = ", ".join(f"{k} {_show(k, value.get(k))}" for k in ("R@10", "mAP@10"))
            yield f"{label} R@1", value["R@1"], note
        elif isinstance(value, dict) and key != "per_class":
            yield from _headlines(value, label)
        elif key in ("text_to_audio", "audio_to_text"):
            pairs = results.get("n" if key == "text_to_audio" else "n_audio", "?")
            yield label, value, f"{pairs} pairs, chance 50 %"
        elif key == "accuracy" and "confusion" in results:
            chance = 100 / len(results["confusion"])
            yield label, value, f"{results.get('n', '?')} clips, chance {chance:.3g} %"


def _cards(results) -> str:
    cards = "".join(
        f'<div class="card"><p>{escape(label)}</p><b>{_show("accuracy", value)}</b>'
        f"<p>{note}</p></div>"
        for label, value, note in _headlines(results)
    )
    return f'<div class="cards">{cards}</div>' if cards else _absent("Headline numbers")


def _table(rows) -> str:
    """Dicts as table rows; of a column of fractions the best is bold."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    best = {
        column: max([row[column] for row in rows if isinstance(row.get(column), float)], default=0)
        for column in columns
        if FRACTION.search(column) and len(rows) > 1
    }
    lines = ["".join(f"<th>{escape(str(column))}</th>" for column in columns)]
    for row in rows:
        cells = [(_show(c, row.get(c)), c in best and row.get(c) == best[c]) for c in columns]
        lines.append("".join(f"<td>{f'<b>{t}</b>' if bold else t}</td>" for t, bold in cells))
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table>{body}</table></div>'


def _section(title, body, how, wide=False) -> str:
    """A box with a heading and one sentence that says how to read it."""
    start = '<section class="wide">' if wide else "<section>"
    return f'{start}<h2>{escape(title)}</h2>{body}<p class="how">{how}</p></section>'


def _absent(title) -> str:
    why = "Not shown: this run has no data for it."
    return f'<section><h2>{escape(title)}</h2><p class="absent">{why}</p></section>'


def _finite(name, array, ndim) -> np.ndarray:
    """A float64 array of `ndim` dimensions, not empty, or a ValueError that names it."""
    array = np.asarray(array, float)
    if array.ndim != ndim or not array.size or not np.isfinite(array).all():
        raise ValueError(f"{name}: expected a finite {ndim}-D array, got shape {array.shape}")
    return array


def _curves(rows) -> str:
    """Losses in one chart, learning rate and throughput in their own."""

    def series(key):
        # A run that was resumed may log a step twice: the later row counts.
        points = {row["step"]: row[key] for row in rows if row.get(key) is not None}
        points = {step: y for step, y in sorted(points.items()) if np.isfinite(y)}
        return list(points), list(points.values())

    losses = [key for key in dict.fromkeys(k for row in rows for k in row) if "loss" in key]
    charts = [
        ("Loss curves", losses, "loss (nats)", "Each loss should fall and then level off."),
        ("Learning rate", ["learning_rate"], "learning rate", "The schedule that was followed."),
        ("Throughput", ["clips_per_second"], "clips per second", "Dips are stalls of the input."),
    ]
    boxes = []
    for title, keys, ylabel, how in charts:
        found = {_name(key): points for key in keys if (points := series(key))[0]}
        if found:
            boxes.append(_section(title, figures.line_chart(title, found, ylabel), how))
        elif title == "Loss curves":
            boxes.append(_absent(title))
    return "".join(boxes)


def _margins(margins) -> str:
    title = "T-Classify margins"
    margins = margins or {}
    arrays = {_name(k): _finite(k, values, 1) for k, values in margins.items() if np.size(values)}
    if not arrays:
        return _absent(title)
    how = (
        "Cosine with the right order minus cosine with the wrong order: what lies right of the "
        "dashed line is judged right."
    )
    return _section(title, figures.margin_histogram(title, arrays), how)


def _similarity(similarity) -> str:
    title = "Similarity of clips and captions"
    if not similarity or not np.size(similarity["values"]):
        return _absent(title)
    values, rows, columns = (similarity[key] for key in ("values", "rows", "columns"))
    values = _finite("similarity", values, 2)
    if values.shape != (len(rows), len(columns)):
        raise ValueError(f"similarity: {values.shape} for {len(rows)} rows, {len(columns)} columns")
    low, high = values.min(), values.max()
    shade = (values - low) / ((high - low) or 1)
    ticks = [[str(i + 1) for i in range(n)] for n in values.shape]
    picture = figures.matrix(title, values, shade, *ticks, "caption", "clip", ".2f")
    lists = "".join(
        f"<details><summary>{name}</summary><ol>"
        f"{''.join(f'<li>{escape(str(text))}</li>' for text in texts)}</ol></details>"
        for name, texts in (("Captions", columns), ("Clips", rows))
    )
    how = (
        f"Cosines, {low:.2f} (clear) to {high:.2f} (full colour): each row should peak on the "
        "diagonal."
    )
    return _section(title, picture + lists, how)


def _confusion(confusion, class_names) -> str:
    title = "Confusion of classes"
    if confusion is None or not np.size(confusion):
        return _absent(title)
    counts = _finite("confusion", confusion, 2).astype(int)
    names = [str(name) for name in class_names or ()]
    if counts.shape != (len(names), len(names)):
        raise ValueError(f"confusion: {counts.shape} for {len(names)} class names")
    shade = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    picture = figures.matrix(title, counts, shade, names, names, "predicted", "true", "d")
    wrong = np.where(np.eye(len(names), dtype=bool), 0, counts)
    worst = [np.unravel_index(i, wrong.shape) for i in np.argsort(-wrong, axis=None)[:10]]
    rows = [{"true": names[i], "predicted": names[j], "clips": int(wrong[i, j])} for i, j in worst]
    rows = [row for row in rows if row["clips"]]
    if rows:
        picture += f"<details><summary>Most frequent mistakes</summary>{_table(rows)}</details>"
    how = "Numbers are clips, colour is the share of the row: all on the diagonal is perfect."
    return _section(title, picture, how)


def _examples(examples) -> str:
    if not examples:
        return _absent("Right and wrong order")
    boxes = []
    for number, example in enumerate(examples[:EXAMPLES], 1):
        log_mel = _finite("log_mel", example["log_mel"], 2)
        label = f"Log-mel spectrogram {number}"
        kind, text = ("good", "right order") if example["right_order"] else ("bad", "wrong order")
        body = (
            f"{figures.spectrogram(label, log_mel, example['seconds'])}"
            f"<blockquote>“{escape(str(example['caption']))}”</blockquote>"
            f'<b class="{kind}">{text}, cosine {example["score"]:.3f}</b>'
        )
        how = "The caption's events from left to right; the right order should score higher."
        boxes.append(_section(str(example["title"]), body, how))
    return "".join(boxes)


def _details(results, config) -> str:
    """What few look up, folded away: every number of the results, and the config."""
    numbers = [
        {"measure": name, "value": _show(name, value)}
        for name, value in _leaves(results)
        if "confusion" not in name
    ]
    text = json.dumps(config, indent=2, default=str)
    folded = {"All numbers": _table(numbers)} if numbers else {}
    folded |= {"Config": f"<pre>{escape(text)}</pre>"} if config else {}
    return "".join(
        f'<section class="wide"><details><summary>{name}</summary>{body}</details></section>'
        for name, body in folded.items()
    )


def write_results(path, results) -> None:
    """Writes results as JSON, indented by 2, atomically.

    Raises:
        ValueError: a value is NaN or infinite; names its key.
        TypeError: a value is not a plain Python one.
        OSError: the folder is missing or not writable.
    """
    for name, value in _leaves(results):
        if isinstance(value, float) and not np.isfinite(value):
            raise ValueError(f"{path}: '{name}' is {value}, which JSON cannot hold")
    write_text(Path(path), json.dumps(results, indent=2, allow_nan=False) + "\n")


def write_report(
    path,
    *,
    title,
    results,
    curves=(),
    margins=None,
    similarity=None,
    confusion=None,
    class_names=(),
    examples=(),
    config=None,
    comparison=None,
) -> None:
    """Writes a self-contained HTML page, atomically; what is empty or None is said to be absent.

    Args:
        path: the file.
        title: heading of the page.
        results: nested dicts as the tasks' functions return them, under any names.
        curves: rows of a training log, each with "step" and scalars ("loss", "learning_rate",
            "clips_per_second", every key with "loss" in it).
        margins: {"text_to_audio": (N,) float, "audio_to_text": (M,) float}, from t_classify.
        similarity: {"values": (K, L) cosines, "rows": K clip names, "columns": L captions}.
        confusion: (C, C) counts, rows = true class, from zero_shot.
        class_names: C names.
        examples: dicts of "log_mel" (frames, mels) dB, "caption", "score" (cosine), "right_order"
            (bool), "seconds", "title"; the first 8 are shown.
        config: the resolved config, nested dicts.
        comparison: rows of a table, {"model": name, column: number, ...}.

    Raises:
        ValueError: an array has the wrong shape, or NaN.
        ImportError: matplotlib is missing.
        OSError: the folder is missing or not writable.
    """
    compared = "Each row is a model on the same data; bold is the best of its column."
    table = comparison and _section("Comparison", _table(comparison), compared, wide=True)
    boxes = [
        table or _absent("Comparison"),
        _curves(curves),
        _margins(margins),
        _similarity(similarity),
        _confusion(confusion, class_names),
        _examples(examples),
        _details(results, config),
    ]
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{figures.STYLE}</style></head><body>"
        f'<h1>{escape(title)}</h1>{_cards(results)}<div class="grid">{"".join(boxes)}'
        "</div></body></html>\n"
    )
    write_text(Path(path), page)
