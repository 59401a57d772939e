"""The page of a data set of records: its figures, and some clips to hear and to see."""

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np

from clapjax.data.paths import as_path, write_text
from clapjax.data.schema import Example
from clapjax.evaluation import figures

CLIPS = 8  # shown in all; sound and picture of one take up to 500 kB
SECONDS = 10.0  # of a clip that are shown
ROWS = 30  # of a table of counts
STYLE = """
blockquote.wrong { border-left: .2rem solid #dc2626; padding-left: .5rem }
blockquote small { color: var(--soft) }
td.bar { width: 50%; text-align: left }
td.bar i { display: block; height: .8rem; background: #3b82f6; border-radius: .2rem }
dl { margin: .3rem 0; font-size: .875rem } dt { color: var(--soft) } dd { margin: 0 0 .3rem }
"""


class Chooser:
    """Keeps clips that lie evenly in each split, while the records go by."""

    def __init__(self, sizes: dict[str, int], count: int = CLIPS):
        each = max(1, count // max(1, len(sizes)))
        self._wanted = {
            split: set(np.linspace(0, size - 1, min(each, size)).round().astype(int).tolist())
            for split, size in sizes.items()
        }
        self._seen = dict.fromkeys(sizes, 0)
        self.chosen: list[tuple[str, Example]] = []

    def look(self, split: str, example: Example) -> None:
        """To be called with each example in order."""
        if self._seen[split] in self._wanted[split]:
            self.chosen.append((split, example))
        self._seen[split] += 1


def write_page(path, described: dict, clips: Sequence[tuple[str, Example]]) -> None:
    """Writes one HTML file that needs nothing else, atomically.

    Args:
      path: the file.
      described: what `statistics.describe` found.
      clips: (split, example) of those to show.

    Raises:
      ImportError: matplotlib is missing.
      OSError: the folder is missing or not writable.
    """
    splits = described["splits"]
    boxes = [_overview(splits)]
    for split, found in splits.items():
        tables = (
            ("Words of a caption", found["caption_words"], False),
            ("Connectives", found["connectives"], True),
            ("Captions came to be by", found["provenance"]["captions"], True),
            ("Negatives came to be by", found["provenance"]["negative_captions"], True),
            ("Labels", found["labels"], True),
        )
        boxes += [_counts(f"{split}: {title}", *rest) for title, *rest in tables if rest[0]]
    boxes += [_clip(split, example) for split, example in clips]
    title = escape(f"Records {described['data_dir']}")
    write_text(
        as_path(path),
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{figures.STYLE}{STYLE}</style></head><body>"
        f'<h1>{title}</h1><div class="grid">{"".join(boxes)}</div></body></html>\n',
    )


def _section(title: str, body: str, wide: bool = False) -> str:
    return f"<section{' class=wide' if wide else ''}><h2>{escape(title)}</h2>{body}</section>"


def _row(cells: Sequence, tag: str = "td") -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(str(cell))}</{tag}>' for cell in cells)}</tr>"


def _overview(splits: dict[str, dict]) -> str:
    """One row for each split, with every figure that is one number."""
    names = [name for name, value in next(iter(splits.values())).items() if np.isscalar(value)]
    head = ["split", *(name.replace("_", " ") for name in names), "shortest, median, longest (s)"]
    rows = [
        [split, *(found[name] for name in names), ", ".join(map(str, found["seconds"].values()))]
        for split, found in splits.items()
    ]
    body = _row(head, "th") + "".join(map(_row, rows))
    return _section("Splits", f'<div class="scroll"><table>{body}</table></div>', wide=True)


def _counts(title: str, counts: dict[str, int], by_count: bool) -> str:
    """A histogram as a table; by count, the most frequent ones first."""
    rows = sorted(counts.items(), key=lambda item: -item[1]) if by_count else list(counts.items())
    most = max(counts.values())
    body = "".join(
        f'<tr><td>{escape(name)}</td><td>{count}</td><td class="bar">'
        f'<i style="width:{100 * count / most:.1f}%"></i></td></tr>'
        for name, count in rows[:ROWS]
    )
    more = f'<p class="how">and {len(rows) - ROWS} more</p>' if len(rows) > ROWS else ""
    return _section(title, f"<table>{body}</table>{more}")


def _clip(split: str, example: Example) -> str:
    body = _heard(f"{example.id}: spectrogram", example.audio, example.sample_rate)
    if example.negative_audio is not None:
        wrong = _heard(
            f"{example.id}: spectrogram, wrong order", example.negative_audio, example.sample_rate
        )
        body += f"<details><summary>Wrong order</summary>{wrong}</details>"
    captions, negatives = example.kinds()
    body += "".join(
        f"<blockquote>{_said(text, kind)}</blockquote>"
        for text, kind in zip(example.captions, captions, strict=True)
    )
    body += "".join(
        f"<blockquote class=wrong>wrong order: {_said(text, kind)}</blockquote>"
        for text, kind in zip(example.negative_captions, negatives, strict=True)
    )
    facts = {
        "labels": ", ".join(example.labels),
        "events": ", ".join(example.events),
        "source": example.source,
        "origin": example.origin,
    }
    facts = "".join(f"<dt>{k}</dt><dd>{escape(v)}</dd>" for k, v in facts.items() if v)
    seconds = example.seconds
    return _section(f"{split}: {example.id}, {seconds:.1f} s", f"{body}<dl>{facts}</dl>")


def _said(text: str, kind: str) -> str:
    """A text and how it came to be."""
    return f"“{escape(text)}” <small>{escape(kind)}</small>"


def _heard(label: str, samples: np.ndarray, sample_rate: int) -> str:
    """A player and a spectrogram of (T,) int16, of at most SECONDS."""
    import soundfile

    if samples.ndim > 1:
        return '<p class="how">stored as a log-mel, which cannot be heard</p>'

    samples = samples[: int(SECONDS * sample_rate)]
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format="FLAC", subtype="PCM_16")
    data = base64.b64encode(file.getvalue()).decode()
    picture = figures.sound_picture(label, samples, sample_rate)
    player = f'<audio controls preload="none" src="data:audio/flac;base64,{data}"></audio>'
    return picture + player
