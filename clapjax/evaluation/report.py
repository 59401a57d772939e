"""The report: one HTML file of results that needs nothing else."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from clapjax.data.paths import as_path, write_text
from clapjax.evaluation import figures, text
from clapjax.evaluation.config import USUAL
from clapjax.evaluation.result import Result, Shown
from clapjax.evaluation.text import NAMES, chance, interval, is_part, lower_is_better, spoken

EXAMPLES = 12  # sound and picture of one take up to 400 kB
MISTAKES = 12  # rows of the table of confusions

MARGIN = (
    "Cosine with the right order minus cosine with the wrong one: what lies right of the dashed "
    "line is judged right."
)

COMPARED = (
    "The same items for both: difference of the shares that are right, its 95 % interval, and how "
    "probable one as large would be if the models were equally good."
)

Found = Sequence[tuple[Path, Result]]  # with the folder that holds its files


def write_report(
    path: Path, found: Found, curves: Mapping[str, Sequence[dict]], note: str = ""
) -> None:
    """Writes the page, atomically; what is not in the results is said in a line.

    Args:
      path: the file.
      found: results of one or several models, each with the folder of its results.json.
      curves: {model: rows of its training log}.
      note: what a reader is to know first.

    Raises:
      ImportError: matplotlib is missing.
      OSError: the folder is missing or not writable.
    """
    results = [result for _, result in found]
    models = list(dict.fromkeys(result.model for result in results))
    title = f"clapjax: {', '.join(models)}"
    boxes = [_numbers(results, models), _comparison(results, models), _margins(results)]
    boxes += [*_classes(results), *_labels(results), *_examples(found)]
    folded = [*_curves(curves), _folded("Where these numbers come from", _provenance(results))]
    said = f"<p>{escape(note)}</p>" if note else ""
    body = f'{said}{_absent(results)}<div class="grid">{"".join(boxes)}{"".join(folded)}</div>'
    write_text(
        as_path(path),
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{figures.STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1>{body}<script>{figures.SORT}</script></body></html>\n",
    )


def _section(title: str, body: str, how: str = "", wide: bool = False) -> str:
    """A box with a heading and a sentence that says how to read it."""
    told = f'<p class="how">{how}</p>' if how else ""
    return f"<section{' class=wide' if wide else ''}><h2>{escape(title)}</h2>{body}{told}</section>"


def _folded(title: str, body: str) -> str:
    inside = f"<details><summary>{escape(title)}</summary>{body}</details>"
    return f'<section class="wide">{inside}</section>'


def _table(head: Sequence[str], rows: Sequence[Sequence], sortable: bool = False) -> str:
    """Cells are text; those that begin with "<b>" are bold already."""

    def cells(values, tag):
        return "".join(f"<{tag}>{_cell(value)}</{tag}>" for value in values)

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    kind = ' class="sort"' if sortable else ""
    return (
        f'<div class="scroll"><table{kind}><thead><tr>{cells(head, "th")}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


class _Bold(str):
    """Text that stands out."""


def _cell(value) -> str:
    text = re.sub(r" (\[.*\])$", r' <span class="interval">\1</span>', escape(str(value)))
    return f"<b>{text}</b>" if isinstance(value, _Bold) else text


def _numbers(results: Sequence[Result], models: Sequence[str]) -> str:
    """Every metric, a column for each model that has it; parts are folded.

    A table for each benchmark, and of what only some models do another: first what most of them do.
    """
    body = ""
    for benchmark in dict.fromkeys(result.benchmark for result in results):
        rows: dict[tuple, dict] = {}
        for result in (one for one in results if one.benchmark == benchmark):
            for place, (name, metric) in enumerate(result.metrics.items()):
                guess = chance(result) if place == 0 else ""
                key = (spoken(result.task), name, result.n, guess)
                rows.setdefault(key, {})[result.model] = metric
        body += f"<h3>{escape(benchmark)}</h3>"
        tables: dict[tuple, tuple[list, list]] = {}  # (whole, parts) by the models of the columns
        for (task, name, n, guess), metrics in rows.items():
            those = tuple(model for model in models if model in metrics)
            cells = [f"{task} {spoken(name)}", n, guess, *_row_of_models(name, metrics, those)]
            tables.setdefault(those, ([], []))[is_part(name)].append(cells)
        for those in sorted(tables, key=len, reverse=True):
            head, (shown, parts) = ["measure", "n", "chance", *those], tables[those]
            body += _table(head, shown) if shown else ""
            if parts:
                body += f"<details><summary>Parts</summary>{_table(head, parts)}</details>"
    how = "In brackets: 95 % intervals over clips. Chance is that of the measure in its row."
    return _section("Results", body, how, wide=True)


def _row_of_models(name: str, metrics: Mapping, models: Sequence[str]) -> list[str]:
    """The metric of each model, the best in bold."""
    best = (min if lower_is_better(name) else max)(metric.value for metric in metrics.values())
    cells = []
    for model in models:
        text = interval(name, metrics[model])
        bold = len(models) > 1 and metrics[model].value == best
        cells.append(_Bold(text) if bold else text)
    return cells


def _comparison(results: Sequence[Result], models: Sequence[str]) -> str:
    """How much better the first model is than each other one on the same items."""
    rows = text.comparisons(results)
    if not rows:
        return ""
    title = f"{models[0]} against the others"
    return _section(title, _table(text.COMPARED, rows), COMPARED, wide=True)


def _absent(results: Sequence[Result]) -> str:
    missing = [NAMES.get(task, task) for task in USUAL if all(r.task != task for r in results)]
    return f'<p class="absent">Not measured: {", ".join(missing)}.</p>' if missing else ""


def _margins(results: Sequence[Result]) -> str:
    """Margins of T-Classify, the models over one another."""
    boxes = []
    for direction in ("text_to_audio", "audio_to_text"):
        chosen = [r for r in results if r.task == "t_classify" and direction in r.metrics]
        for benchmark in dict.fromkeys(result.benchmark for result in chosen):
            margins = {
                r.model: np.asarray(r.items["margin"], float)
                for r in chosen
                if r.benchmark == benchmark and r.items
            }
            if margins:
                title = f"{benchmark}: T-Classify {spoken(direction)}"
                boxes.append(_section(title, figures.margin_histogram(title, margins), MARGIN))
    return "".join(boxes)


def _classes(results: Sequence[Result]) -> list[str]:
    """Of classification with one label a clip: mistakes, and recall class by class."""
    boxes = []
    for result in results:
        one = result.task in ("zero_shot", "probe", "supervised") and "accuracy" in result.metrics
        if not one or "rank" not in result.items:
            continue
        label, predicted = (np.asarray(result.items[key], str) for key in ("label", "predicted"))
        right = np.asarray(result.items["rank"]) == 1
        title = f"{result.benchmark}: what {result.model} takes for something else"
        pairs, counts = np.unique(
            np.stack([label, predicted])[:, ~right], axis=1, return_counts=True
        )
        order = np.argsort(-counts, kind="stable")[:MISTAKES]
        rows = [
            (
                pairs[0, i],
                pairs[1, i],
                int(counts[i]),
                f"{100 * counts[i] / (label == pairs[0, i]).sum():.0f} %",
            )
            for i in order
        ]
        table = _table(["class", "taken for", "clips", "of the class"], rows)
        body = table if rows else "<p>No mistakes.</p>"
        names = sorted(set(label))
        if len(names) <= figures.MOST_NAMES and rows:
            body = figures.mistakes(title, label, predicted, names) + body
        per_class = [
            (name, int((label == name).sum()), f"{100 * right[label == name].mean():.0f} %")
            for name in names
        ]
        table = _table(["class", "clips", "right"], per_class, sortable=True)
        body += f"<details><summary>All classes</summary>{table}</details>"
        boxes.append(_section(title, body, "Mistakes alone; what is right is not drawn."))
    return boxes


def _labels(results: Sequence[Result]) -> list[str]:
    """Of several labels a clip: average precision label by label, folded away."""
    boxes = []
    for result in results:
        if found := result.provenance.get("by_label"):
            rows = [(name, n, f"{100 * value:.1f} %") for name, (n, value) in found.items()]
            table = _table(["label", "clips", "average precision"], rows, sortable=True)
            title = f"{result.benchmark}: each label by {result.model}, {spoken(result.task)}"
            boxes.append(_folded(title, table))
    return boxes


def _examples(found: Found) -> list[str]:
    """Sounds to listen to, with what the model makes of them."""
    boxes = []
    for folder, result in found:
        for shown in result.examples:
            if len(boxes) < EXAMPLES and any(sound.file for sound in shown.sounds):
                boxes.append(_example(folder, result, shown))
    return boxes


def _example(folder: Path, result: Result, shown: Shown) -> str:
    body = ""
    for sound in shown.sounds:
        title = f"{sound.clip}, wrong order" if sound.negative else sound.clip
        label = f"{result.model}, {result.benchmark}, {shown.title}, {title}"
        body += f"<h3>{escape(title)}</h3>{_player(folder / sound.file, label)}"
        for said in sound.said:
            kind = "good" if said.right else "bad"
            mark = "right" if said.right else "wrong"
            body += (
                f"<blockquote>“{escape(said.text)}” "
                f'<b class="{kind}">{mark}, {said.score:.3f}</b></blockquote>'
            )
    title = f"{result.model} on {result.benchmark}: {shown.title}"
    return _section(title, body, "Numbers are cosines.")


def _player(file: Path, label: str) -> str:
    """A player and a spectrogram of a FLAC file, both inside the page."""
    import soundfile

    data = file.read_bytes()
    samples, rate = soundfile.read(io.BytesIO(data), dtype="int16")
    source = f"data:audio/flac;base64,{base64.b64encode(data).decode()}"
    picture = figures.sound_picture(f"{label}: spectrogram", samples, rate)
    return f'{picture}<audio controls preload="none" src="{source}"></audio>'


def _curves(curves: Mapping[str, Sequence[dict]]) -> list[str]:
    """Losses, learning rate and throughput of the training runs, folded away."""

    def series(rows, key):
        # A run that was resumed may log a step twice: the later row counts.
        points = {row["step"]: row[key] for row in rows if row.get(key) is not None}
        points = {step: y for step, y in sorted(points.items()) if np.isfinite(y)}
        return list(points), list(points.values())

    boxes = []
    for key, ylabel in (
        ("loss", "loss (nats)"),
        ("learning_rate", "learning rate"),
        ("clips_per_second", "clips per second"),
        ("seconds_waiting_for_data", "seconds of a step spent waiting for data"),
    ):
        found = {model: series(rows, key) for model, rows in curves.items()}
        found = {model: points for model, points in found.items() if points[0]}
        if found:
            title = spoken(key)
            boxes.append(_section(title, figures.line_chart(title, found, ylabel)))
    body = f'<div class="grid">{"".join(boxes)}</div>'
    return [_folded("Training", body)] if boxes else []


def _provenance(results: Sequence[Result]) -> str:
    """Model, step, data and command of each row that differs."""
    columns = (
        "source",
        "step",
        "fingerprint",
        "data",
        "path",
        "split",
        "template",
        "version",
        "command",
    )
    rows: dict[tuple, list[str]] = {}
    for result in results:
        values = tuple(str(result.provenance.get(name, "–")) for name in columns)
        tasks = rows.setdefault((result.model, result.benchmark, *values), [])
        if spoken(result.task) not in tasks:
            tasks.append(spoken(result.task))
    return _table(
        ["model", "benchmark", "tasks", *columns],
        [(key[0], key[1], ", ".join(tasks), *key[2:]) for key, tasks in rows.items()],
    )
