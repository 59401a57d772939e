"""Answers as HTML: a player, a picture and words for each sound; no Gradio in it."""

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
import soundfile

from clapjax.app.library import Library, find, readable
from clapjax.app.listening import (
    Labelled,
    OverTime,
    Preferred,
    stretch_of,
)
from clapjax.app.pictures import clock, picture, spectrogram
from clapjax.audio.files import AudioError, read_blocks
from clapjax.data.paths import new_file
from clapjax.inference import Clap

PLAYED_RATE = 44_100  # Hz
MOST_PLAYED = 200  # files that are kept for players; the oldest go
WEAK = 0.3  # a cosine of which the colour is full, at least: where nothing fits all rows are pale
UNSURE = 0.05  # of two captions' probabilities: nearer to one half than this tells nothing
HOW = "A click in a picture plays from there."

# Gradio's own colours, light or dark.
STYLE = """
figure.clapjax { margin: 0 0 1.2rem; padding: .8rem; border: 1px solid var(--border-color-primary);
  border-radius: 8px }
figure.clapjax figcaption { display: flex; gap: 1rem; justify-content: space-between;
  margin-bottom: .4rem; overflow-wrap: anywhere }
figure.clapjax audio { width: 100%; height: 2.4rem; margin-bottom: .4rem }
svg.clapjax { display: block; width: 100%; height: auto; cursor: pointer }
svg.clapjax image { image-rendering: pixelated }
svg.clapjax text { font-size: 13px; fill: var(--body-text-color) }
svg.clapjax text.soft { fill: var(--body-text-color-subdued) }
svg.clapjax .line { stroke: var(--border-color-primary) }
svg.clapjax .cursor { stroke: #2a9df4; stroke-width: 2 }
p.clapjax-how { font-size: .9rem }
.clapjax .soft { color: var(--body-text-color-subdued); white-space: nowrap }
"""
# A line goes along the picture of a sound that plays; a click in the picture plays from there.
SCRIPT = """
(() => {
  const parts = figure => [figure.querySelector("audio"), figure.querySelector("svg.clapjax")];
  const put = (audio, svg) => {
    const {start, end, left, right} = svg.dataset;
    const x = +left + (right - left) * Math.min(1, audio.currentTime / (end - start));
    svg.querySelector(".cursor").setAttribute("transform", `translate(${x - left} 0)`);
  };
  const follow = figure => {
    const [audio, svg] = parts(figure);
    put(audio, svg);
    if (!audio.paused && figure.isConnected) requestAnimationFrame(() => follow(figure));
  };
  for (const kind of ["play", "seeked", "timeupdate"]) document.addEventListener(kind, event => {
    const figure = event.target.closest?.("figure.clapjax");
    if (!figure) return;
    if (kind === "play") document.querySelectorAll("figure.clapjax audio").forEach(
      other => other === event.target || other.pause());
    follow(figure);
  }, true);
  document.addEventListener("click", event => {
    const svg = event.target.closest?.("svg.clapjax");
    if (!svg) return;
    const [audio] = parts(svg.closest("figure")), box = svg.getBoundingClientRect();
    const {start, end, left, right} = svg.dataset;
    const x = (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
    const second = (end - start) * (x - left) / (right - left);
    if (second < 0 || second > end - start) return;
    audio.currentTime = second;
    audio.play();
  });
})();
"""


@dataclass(frozen=True)
class Heard:
    """A stretch of a sound that a search has found, and where in it the query speaks."""

    name: str
    score: float
    path: str
    over_time: OverTime
    span: tuple[float, float]


@dataclass(frozen=True)
class Found:
    """Answers of a search, and a line about each sound that is not there any more."""

    heard: Sequence[Heard]
    lost: Sequence[str] = field(default_factory=list)


def search(
    model: Clap, library: Library, query: np.ndarray, said: str, top: int, listen: Callable
) -> Found:
    """The sounds nearest to a (D,) query; `listen`: `listen_between`, or what remembers it."""
    heard, lost = [], []
    for hit in find(library, query, top):
        path = library.path(hit.name)
        try:
            times, vectors = listen(model, path, *stretch_of(path, hit.start, hit.end))
        except AudioError as error:
            lost.append(str(error))
            continue
        row = model.similarity(vectors, query[None])[:, 0]
        span = float(times[0, 0]), float(times[-1, 1])
        heard.append(Heard(hit.name, hit.score, path, OverTime(times, {said: row}), span))
    return Found(heard, lost)


def show_found(model: Clap, library: Library, found: Found, folder: Path) -> str:
    """A figure for each answer, with one scale of colour for all; players' files go to a folder."""
    colour = _shades(*(one.over_time for one in found.heard))
    figures, lost = [], list(found.lost)
    for one in found.heard:
        title, note = library.title(one.name) + _place(one.span), f"cosine {one.score:.3f}"
        about = {"title": title, "note": note, "colour": colour}
        try:
            figures.append(show(model, one.path, one.span, one.over_time, folder, **about))
        except AudioError as error:  # it went meanwhile
            lost.append(str(error))
    how = (
        "Below each picture: when in it what you asked for is heard, at the right its highest "
        f"cosine. The best that is shown has the full colour, if it is not weak (below {WEAK:g})."
    )
    figures += [_legend(how)] if figures else []
    return told(lost, "lost since the index was made") + "".join(figures)


def show_labelled(model: Clap, path: str, title: str, found: Labelled, folder: Path) -> str:
    """The figure of labels over time, each with its probability in the whole."""
    times, rows = found.over_time.times, found.over_time.rows
    rows = {f"{label}  {100 * p:.0f} %": rows[label] for label, p in found.whole.items()}
    span = float(times[0, 0]), float(times[-1, 1])
    over_time = OverTime(times, rows)
    figure = show(model, path, span, over_time, folder, title=title, note="probabilities")
    one = " A single label is judged for itself: it is there, or not." if len(rows) == 1 else ""
    how = (
        "Behind each label: how probable it is in the whole sound. In its row each moment is heard "
        f"alone, so that it may be sure where the whole is not; at the right the highest.{one}"
    )
    return figure + _legend(how)


def show_preferred(
    model: Clap, path: str, title: str, captions: tuple[str, str], found: Preferred, folder: Path
) -> str:
    """Which caption it is, in words, and the figure of where both and their events speak."""
    best = 0 if found.first else 1
    unsure = found.probabilities[best] - 0.5 < UNSURE
    verb = "can hardly tell; by a hair it prefers" if unsure else "prefers"
    words = (
        f'<p class="clapjax">The model {verb} <b>{escape(captions[best])}</b>: '
        f"{100 * found.probabilities[best]:.0f} % against "
        f"{100 * found.probabilities[1 - best]:.0f} % "
        f'<span class="soft">(cosines {found.cosines[best]:.3f} and '
        f"{found.cosines[1 - best]:.3f})</span></p>"
    )
    times = found.over_time.times
    span = float(times[0, 0]), float(times[-1, 1])
    about = {"title": title, "note": "cosines", "colour": _shades(found.over_time)}
    how = (
        "Rows: the cosine of each moment with each caption, and with each event that they name. A "
        "moment is too short to tell an order; the sentence above is of the whole sound."
    )
    figure = show(model, path, span, found.over_time, folder, **about)
    return words + figure + _legend(how)


def show(
    model: Clap,
    path: str,
    span: tuple[float, float],
    over_time: OverTime,
    folder: Path,
    *,
    title: str,
    note: str,
    colour: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> str:
    """A figure: title, player, picture; `colour` is as of `picture`.

    Raises:
      AudioError: the sound cannot be read.
    """
    mel, hertz = spectrogram(path, span, model.config.audio)
    svg = picture(mel, hertz, span, over_time, colour)
    file = f"gradio_api/file={play(path, span, folder)}"
    return (
        f'<figure class="clapjax"><figcaption><b>{escape(title)}</b><span class="soft">'
        f'{escape(note)}</span></figcaption><audio controls preload="metadata" '
        f'src="{escape(file)}"></audio>{svg}</figure>'
    )


def play(path: str, span: tuple[float, float], folder: Path) -> Path:
    """A FLAC in a folder, which every browser plays, of a stretch of a sound of any format.

    A recording is copied some seconds at a time, and the browser reads of it what it plays.
    """
    key = repr((path, span, changed(path)))
    file = folder / f"{hashlib.sha256(key.encode('utf-8', 'replace')).hexdigest()[:24]}.flac"
    if file.exists():
        return file
    with contextlib.suppress(FileNotFoundError):  # another visitor's answer removed it first
        for old in sorted(folder.glob("*.flac"), key=os.path.getmtime)[:-MOST_PLAYED]:
            old.unlink()
    source, name = readable(path)
    blocks = read_blocks(source, PLAYED_RATE, start=span[0], seconds=span[1] - span[0], name=name)
    with (
        new_file(file, "wb") as out,
        soundfile.SoundFile(out, "w", PLAYED_RATE, 1, format="FLAC") as sound,
    ):
        for block in blocks:
            sound.write(block)
    return file


def remembered(listen: Callable, count: int) -> Callable:
    """`listen`, which knows its last answers of files that have not changed since."""

    @functools.lru_cache(maxsize=count)
    def answer(_: float, *asked):
        return listen(*asked)

    return lambda model, path, *stretch: answer(changed(path), model, path, *stretch)


def changed(path: str) -> float:
    """When a file was written, by which one is known that takes another's name; in a bucket 0."""
    return os.path.getmtime(path) if os.path.exists(path) else 0


def told(problems: Sequence[str], what: str) -> str:
    """A line that opens to all problems; "" where there are none."""
    if not problems:
        return ""
    count = f"{len(problems)} sound{'s' * (len(problems) > 1)}"
    lines = "".join(f"<li>{escape(line)}</li>" for line in problems)
    return f'<details class="clapjax"><summary>{count} {what}</summary><ul>{lines}</ul></details>'


def _legend(how: str) -> str:
    return f'<p class="clapjax-how">{escape(how)} {HOW}</p>'


def _shades(*shown: OverTime) -> Callable[[np.ndarray], np.ndarray]:
    """Of cosines the squares of their shares of the highest one that is shown, or of WEAK."""
    rows = [row for one in shown for row in one.rows.values()]
    highest = max((float(row.max()) for row in rows), default=0.0)
    return lambda cosines: np.square(np.maximum(cosines, 0) / max(highest, WEAK))


def _place(span: tuple[float, float]) -> str:
    return "" if span[0] == 0 else f", {clock(span[0])} to {clock(span[1])}"
