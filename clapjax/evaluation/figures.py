"""How the report looks: its style sheet, and charts as inline SVG in the page's own colours."""

import io
import re
import warnings
from html import escape

import numpy as np

INK = "#123456"  # stands for the page's text colour: becomes currentColor in the SVG
COLOURS = ("#3b82f6", "#f0803c", "#22a06b", "#a35ce0", "#d6409f", "#8a8f98")
WIDTH = 5.6  # inches; about 400 CSS pixels, so that text stays readable on a phone
MOST_NAMES = 60  # of a table of mistakes
POINTS = 400  # of a curve, and columns of a spectrogram: more than the page has pixels for

STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #60666f; --page: #f4f5f7;
  --card: #fff; --line: #dfe2e6; --good: #177a4e; --bad: #b3341f }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #9aa1ab; --page: #121417;
  --card: #1b1e23; --line: #30353c; --good: #4cc38a; --bad: #ff8a70 } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--page);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0 1rem }
h2 { font-size: 1.05rem; margin: 0 0 .6rem }
.grid { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)) }
.cards { display: grid; gap: 1rem; margin: 0 0 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 9rem), 1fr)) }
section, .card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: 1rem; min-width: 0 }
.wide { grid-column: 1 / -1 }
section:has(.absent) { align-self: start }
.card p, .how, .absent { margin: 0; color: var(--soft); font-size: .875rem }
.card b { display: block; font-size: 1.5rem; line-height: 1.3; white-space: nowrap }
.how, .absent { margin-top: .6rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
.scroll > table { width: 100% }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: right;
  overflow-wrap: normal }
th:first-child, td:first-child { text-align: left }
td:nth-child(n+4) { white-space: nowrap }
svg { display: block; width: 100%; height: auto; max-width: 40rem; margin: 0 auto }
svg * { stroke-linejoin: round; stroke-linecap: butt }
blockquote { margin: .4rem 0; font-size: .95rem }
.good { color: var(--good) } .bad { color: var(--bad) }
ol { margin: .5rem 0 0; padding-left: 1.8rem; font-size: .875rem }
pre { overflow-x: auto; font-size: .8rem; margin: .6rem 0 0 }
summary { cursor: pointer; font-weight: 600 }
h3 { font-size: .9rem; margin: .6rem 0 .2rem; font-weight: 600 }
audio { width: 100%; margin: .3rem 0 }
table.sort th { cursor: pointer }
@media (max-width: 40rem) { body, section, .card { padding: .5rem } table { font-size: .75rem }
  th, td { padding: .3rem .2rem } th:nth-child(n+4) { overflow-wrap: anywhere; white-space: normal }
  .interval { display: block; font-weight: 400; font-size: .7rem } }
"""
# Sorts the rows of a table of class "sort" by the column whose head is clicked, then backwards.
SORT = """
document.querySelectorAll("table.sort th").forEach((head, column) => head.onclick = () => {
  const body = head.closest("table").tBodies[0], at = head.cellIndex;
  const value = row => row.cells[at].textContent, number = row => parseFloat(value(row));
  const rows = [...body.rows].sort((a, b) => isNaN(number(a)) || isNaN(number(b))
    ? value(a).localeCompare(value(b)) : number(a) - number(b));
  if (body.dataset.by === String(at)) { rows.reverse(); delete body.dataset.by }
  else body.dataset.by = at;
  body.append(...rows);
});
"""


def _draw(label, draw, height) -> str:
    """Calls draw(axes) on a new figure, returns it as an <svg> element that fills its parent."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "the report's pictures need matplotlib: pip install matplotlib"
        ) from error
    ink = dict.fromkeys(
        ["text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"], INK
    )
    style = {"svg.fonttype": "none", "svg.hashsalt": label, "font.size": 11, "grid.alpha": 0.15}
    svg = io.StringIO()
    with matplotlib.rc_context({**style, **ink, "grid.color": INK}), warnings.catch_warnings():
        # The browser sets the text in its own fonts, so what DejaVu Sans lacks does not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        bare = dict.fromkeys(["Creator", "Date", "Format", "Type"])
        figure.savefig(svg, format="svg", transparent=True, metadata=bare)
    return _inline(svg.getvalue(), label)


def _inline(svg, label) -> str:
    """Matplotlib's SVG file as an element of an HTML page: no prolog, size, fonts or stray ids."""
    box = re.search(r'viewBox="[^"]*"', svg).group()
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    body = re.sub(r"<defs>\s*<style.*?</defs>", "", body, count=1, flags=re.S)
    body = re.sub(r' id="(?:[\w.]+_\d+|image\w+)"', "", body)
    body = re.sub(r"font-family: [^;\"]*", "font-family: inherit", body)
    body = body.replace("xlink:href", "href").replace(INK, "currentColor")
    return f'<svg role="img" aria-label="{escape(label)}" {box}>{body}'


def _legend(axes, columns) -> None:
    """A frameless legend above the axes; its texts are taken as they are, `$` included."""
    legend = axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)


def line_chart(label, series, ylabel) -> str:
    """Curves over training steps.

    Args:
        label: what the picture shows, for screen readers.
        series: {name: (steps, values)}, two (T,) arrays each; a long one is drawn as the means of
            400 equal stretches.
        ylabel: text beside the y axis, with the unit.

    Returns:
        An <svg> element.
    """

    def draw(axes):
        for i, (name, points) in enumerate(series.items()):
            stretches = np.array_split(np.asarray(points, float), min(POINTS, len(points[0])), 1)
            steps, values = np.transpose([part.mean(axis=1) for part in stretches])
            marker = "o" if len(steps) == 1 else None
            colour = COLOURS[i % len(COLOURS)]
            axes.plot(steps, values, color=colour, marker=marker, label=name.lstrip("_"))
        axes.set(xlabel="step", ylabel=ylabel)
        axes.grid(axis="y")
        if len(series) > 1:
            _legend(axes, columns=2)

    return _draw(label, draw, height=3.2)


def margin_histogram(label, margins) -> str:
    """Shares of T-Classify margins, one outline per direction, with a line at zero.

    Args:
        label: what the picture shows, for screen readers.
        margins: {name: (N,) float}, none of them empty.

    Returns:
        An <svg> element.
    """
    limit = max(np.abs(values).max() for values in margins.values()) or 1
    edges = np.linspace(-limit, limit, 41)
    edges[20] = 0  # a bar lies wholly on the right or on the wrong side

    def draw(axes):
        for (name, values), colour in zip(margins.items(), COLOURS, strict=False):
            # Bins of numpy hold their left edge; mirrored, a tie falls on the wrong side.
            count = np.histogram(-values, edges)[0][::-1]
            right = f"{name}: {100 * np.mean(values > 0):.1f} % right"
            axes.stairs(
                100 * count / values.size, edges, fill=True, alpha=0.35, color=colour, label=right
            )
            axes.stairs(100 * count / values.size, edges, color=colour)
        axes.axvline(0, color=INK, linestyle="--", linewidth=1.2)
        axes.set(xlabel="margin (difference of cosines)", ylabel="share of pairs (%)")
        _legend(axes, columns=1)

    return _draw(label, draw, height=3.2)


def mistakes(label, true, predicted, names) -> str:
    """Which classes are taken for which: shaded counts, without those that are right.

    Args:
        label: what the picture shows, for screen readers.
        true, predicted: (N,) class names.
        names: of all classes, at most MOST_NAMES.

    Returns:
        An <svg> element.
    """
    row = {name: number for number, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), int)
    for one, other in zip(true, predicted, strict=True):
        if one != other and other in row:
            counts[row[one], row[other]] += 1
    side = len(names)
    size = float(np.clip(150 / side, 3, 11))  # points; what fits beside a cell

    def draw(axes):
        from matplotlib.colors import LinearSegmentedColormap

        fade = LinearSegmentedColormap.from_list("fade", [COLOURS[1] + "00", COLOURS[1] + "f0"])
        axes.imshow(counts, cmap=fade, vmin=0, interpolation="none")
        axes.set_xticks(range(side), names, rotation=90, fontsize=size, parse_math=False)
        axes.set_yticks(range(side), names, fontsize=size, parse_math=False)
        axes.tick_params(length=0)
        axes.spines[["top", "right"]].set_visible(True)
        axes.set(xlabel="taken for", ylabel="class")
        for i, j in np.argwhere(counts):
            if side <= 30:
                axes.text(j, i, counts[i, j], ha="center", va="center", fontsize=size * 0.9)

    return _draw(label, draw, height=5.2)


def spectrogram(label: str, log_mel: np.ndarray, seconds: float, hertz: np.ndarray) -> str:
    """Log-mel energies over time, the loudest 80 dB.

    Args:
        label: what the picture shows, for screen readers.
        log_mel: (frames, mels) dB; drawn with at most 400 columns, each the maximum of its frames.
        seconds: length of the clip.
        hertz: (mels,) where each band lies, ascending.

    Returns:
        An <svg> element with the picture as an embedded PNG.
    """
    step = -(-len(log_mel) // POINTS)
    image = np.maximum.reduceat(log_mel, np.arange(0, len(log_mel), step)).T  # (mels, columns)
    top = image.max()
    ticks = [khz for khz in (0.5, 1, 2, 4, 8) if hertz[0] < 1000 * khz < hertz[-1]]
    places = np.interp(1000 * np.array(ticks), hertz, np.arange(len(hertz)) + 0.5)

    def draw(axes):
        shown = axes.imshow(
            image - top,
            origin="lower",
            aspect="auto",
            interpolation="none",
            cmap="magma",
            vmin=-80,
            vmax=0,
            extent=(0, seconds, 0, len(image)),
        )
        axes.set_yticks(places, [f"{khz:g}" for khz in ticks])
        axes.set(xlabel="seconds", ylabel="kHz")
        bar = axes.figure.colorbar(shown, label="dB", ticks=[-80, -40, 0])
        bar.solids.set_rasterized(True)  # one picture, not 256 shapes

    return _draw(label, draw, height=2.3)


def sound_picture(label: str, samples: np.ndarray, sample_rate: int) -> str:
    """The `spectrogram` of (T,) int16."""
    from clapjax.audio.config import AudioConfig
    from clapjax.audio.mel import log_mel, mel_filters

    window = min(1024, 2 ** int(np.log2(sample_rate / 20)))
    config = AudioConfig(
        sample_rate=sample_rate,
        clip_samples=samples.size,
        window_length=window,
        hop_length=max(1, window // 2),
        fmax=min(14_000.0, sample_rate / 2),
    )
    padded = np.pad(samples, (0, max(0, window - samples.size)))
    mel = np.asarray(log_mel(padded[None], config)[0])
    hertz = mel_filters(config).argmax(axis=0) * sample_rate / window
    return spectrogram(label, mel, samples.size / sample_rate, hertz)
