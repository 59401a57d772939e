"""Pictures of a sound for a page: its spectrogram, and rows of values below it, as inline SVG."""

import base64
import io
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from html import escape

import numpy as np
from PIL import Image

from clapjax.app.library import readable
from clapjax.app.listening import OverTime
from clapjax.audio.config import AudioConfig
from clapjax.audio.files import float_to_int16, read_blocks
from clapjax.audio.host_mel import host_log_mel
from clapjax.audio.mel import mel_filters

COLUMNS = 600  # of a picture, whatever the length of the sound
AT_ONCE = 2**18  # samples whose spectrum is in memory
DECIBELS = 80  # below the loudest that are shown
# Places of the colour map "magma" of matplotlib.
MAGMA = ("000004", "180f3d", "440f76", "721f81", "9e2f7f", "cd4071", "f1605d", "fd9668", "fcfdbf")
HOT = (0xF0, 0x80, 0x3C)  # of a row where its value is highest
WIDTH, LEFT, RIGHT = 900, (70, 260), 60  # units of the SVG: all, and margins with words on rows
LETTER = 7.2  # of these units
TALL, ROW, AXIS = 130, 24, 22  # heights: the spectrogram, a row, the time axis
MOST_LETTERS = 34  # of what fits beside a row


def picture(
    mel: np.ndarray,
    hertz: np.ndarray,
    span: tuple[float, float],
    shown: OverTime,
    colour: Callable[[np.ndarray], np.ndarray],
) -> str:
    """A spectrogram, and below it a row of colour for each of some values over time.

    Args:
      mel: (columns, mels) dB, evenly spaced in time.
      hertz: (mels,) where each band lies, ascending.
      span: start and end of the sound, in s.
      shown: the rows.
      colour: of values how strong their colour is, in 0..1.

    Returns:
      An <svg> element of class "clapjax", which has the span in data-start and data-end.
    """
    left = round(np.clip(LETTER * max(map(len, shown.rows), default=0) + 20, *LEFT))
    right = WIDTH - RIGHT
    wide, height = right - left, TALL + ROW * len(shown.rows) + AXIS
    parts = [_image(_coloured(mel), left, 0, wide, TALL)]
    for khz in (0.5, 2, 8):
        if hertz[0] < 1000 * khz < hertz[-1]:
            place = np.interp(1000 * khz, hertz, np.arange(len(hertz)) + 0.5) / len(hertz)
            parts.append(_text(left - 6, TALL * (1 - place) + 4, f"{khz:g} kHz", "end", "soft"))
    if shown.rows:
        levels = np.stack([sampled(shown.times, row, span) for row in shown.rows.values()])
        parts.append(
            _image(_heat(np.clip(colour(levels), 0, 1)), left, TALL, wide, ROW * len(levels))
        )
    for number, (name, row) in enumerate(shown.rows.items()):
        low = TALL + ROW * (number + 0.68)
        short = name if len(name) <= MOST_LETTERS else name[: MOST_LETTERS - 1] + "…"
        parts.append(_text(left - 6, low, short, "end", title=name))
        parts.append(_text(right + 6, low, f"{row.max():.2f}", "start", "soft", "the highest"))
        line = TALL + ROW * number
        parts.append(f'<path class="line" d="M{left} {line}H{right}"/>')
    for second, said in ticks(*span):
        x = left + wide * (second - span[0]) / (span[1] - span[0])
        parts.append(_text(x, height - 6, said, "middle", "soft"))
    parts.append(f'<path class="cursor" d="M{left} 0V{height - AXIS}"/>')
    said = "spectrogram" + "".join(f", {name}" for name in shown.rows)
    return (
        f'<svg class="clapjax" role="img" aria-label="{escape(said)}" viewBox="0 0 {WIDTH} '
        f'{height}" data-start="{span[0]:.3f}" data-end="{span[1]:.3f}" data-left="{left}" '
        f'data-right="{right}">{"".join(parts)}</svg>'
    )


def spectrogram(
    path: str, span: tuple[float, float], config: AudioConfig
) -> tuple[np.ndarray, np.ndarray]:
    """What a model's front end makes of a stretch of a sound, which is never whole in memory.

    Args:
      path: of a file.
      span: start and end in s.
      config: the front end.

    Returns:
      ((up to COLUMNS, mels) float32 dB: the loudest of each column's frames, (mels,) Hz).

    Raises:
      AudioError: the sound cannot be read.
    """
    source, name = readable(path)
    seconds, rate = span[1] - span[0], config.sample_rate
    blocks = read_blocks(source, rate, start=span[0], seconds=seconds, name=name)
    frames = max(1, math.ceil(seconds * rate / config.hop_length / COLUMNS))  # of a column
    size = frames * config.hop_length
    config = replace(config, clip_samples=1)  # nothing is to be filled
    found = []
    for samples in _pieces(blocks, size * max(1, AT_ONCE // size)):
        padded = np.pad(samples, (0, max(0, config.window_length - samples.size)))
        mel = host_log_mel(float_to_int16(padded), config).astype(np.float32)
        mel = mel[: math.ceil(samples.size / config.hop_length)]
        found.append(np.maximum.reduceat(mel, np.arange(0, len(mel), frames)))
    hertz = mel_filters(config).argmax(axis=0) * rate / config.window_length
    return np.concatenate(found)[:COLUMNS], hertz


def sampled(times: np.ndarray, row: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """(COLUMNS,) values at even steps of a span: each of the stretch whose middle is nearest."""
    middles = times.mean(axis=1)
    step = (span[1] - span[0]) / COLUMNS
    moments = span[0] + step * (np.arange(COLUMNS) + 0.5)
    return row[np.searchsorted((middles[1:] + middles[:-1]) / 2, moments)]


def ticks(start: float, end: float) -> list[tuple[float, str]]:
    """(s, what is said of it) along a time axis: some ten at most."""
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600, 7200)
    step = next((one for one in steps if end - start <= 8 * one), (end - start) / 8)
    places = step * np.arange(math.ceil(start / step - 1e-6), math.floor(end / step + 1e-6) + 1)
    return [(float(place), clock(float(place), step)) for place in places]


def clock(second: float, step: float = 0.1) -> str:
    """A moment in words: "3 s", "0.4 s", "2:05"."""
    if second < 60:
        return f"{second:.0f} s" if step >= 1 else f"{second:.1f} s"
    return f"{int(second) // 60}:{int(second) % 60:02}"


def _pieces(blocks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same samples, so many at a time, the last ones fewer."""
    held = np.zeros(0, np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        while held.size > size:
            yield held[:size]
            held = held[size:]
    yield held


def _coloured(mel: np.ndarray) -> Image.Image:
    """The loudest DECIBELS of (columns, mels) dB, low bands below, in the colours of MAGMA."""
    level = np.clip((mel.T[::-1] - mel.max()) / DECIBELS + 1, 0, 1)
    places = np.array([list(bytes.fromhex(colour)) for colour in MAGMA], float)  # (9, 3)
    at = np.linspace(0, 1, len(places))
    palette = np.stack([np.interp(np.linspace(0, 1, 256), at, c) for c in places.T], axis=1)
    image = Image.fromarray((255 * level).astype(np.uint8)).convert("P")
    image.putpalette(palette.astype(np.uint8).tobytes())
    return image


def _heat(levels: np.ndarray) -> Image.Image:
    """(rows, COLUMNS) in 0..1 as shades of HOT, through which the page is seen."""
    pixels = np.empty((*levels.shape, 4), np.uint8)
    pixels[..., :3], pixels[..., 3] = HOT, 255 * levels
    return Image.fromarray(pixels)


def _image(image: Image.Image, x: float, y: float, width: float, height: float) -> str:
    png = io.BytesIO()
    image.save(png, "PNG", optimize=True)
    data = base64.b64encode(png.getvalue()).decode()
    return (
        f'<image x="{x}" y="{y}" width="{width}" height="{height}" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{data}"/>'
    )


def _text(x: float, y: float, said: str, anchor: str, kind: str = "", title: str = "") -> str:
    more = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">'
        f"{more}{escape(said)}</text>"
    )
