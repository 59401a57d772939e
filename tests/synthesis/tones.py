"""Recordings that are pure tones, which a spectrum tells apart."""

import numpy as np

from clapjax.data.sources.clip import Clip, Recording

RATE = 8_000
FRAME = 160  # samples; 50 Hz from line to line
TONES = {f"tone {name}": 500.0 * number for number, name in enumerate("abcdef", 1)}


def tone(label: str, take: int, seconds: float = 5.0, pulse: float = 0.0) -> Recording:
    """A take of a tone, 1 Hz a take beside its fellows; with `pulse`, only so many s of it."""
    time = np.arange(int(seconds * RATE)) / RATE
    samples = 0.3 * np.sin(2 * np.pi * (TONES[label] + take) * time)
    if pulse:
        samples *= np.abs(time - seconds / 2) < pulse / 2
    clip = Clip(f"{label}-{take}", label, 1, f"{label}-{take}", f"test:{label}-{take}", read=None)
    return Recording(clip, (32767 * samples).astype(np.int16))


BY_LABEL = {label: [tone(label, take) for take in range(3)] for label in TONES}


def heard(audio: np.ndarray) -> dict[str, np.ndarray]:
    """Label to (frames,) bool, in which frames its tone sounds; of tones that sound at all."""
    frames = audio[: audio.size // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(FRAME), axis=1))
    found = {label: spectrum[:, round(hertz / 50)] for label, hertz in TONES.items()}
    found = {label: level > 0.02 * spectrum.max() for label, level in found.items()}
    return {label: frames for label, frames in found.items() if frames.sum() > 5}


def spans(audio: np.ndarray) -> dict[str, tuple[float, float]]:
    """Label to when its tone is heard first and last, in s."""
    places = {label: np.flatnonzero(frames) for label, frames in heard(audio).items()}
    return {k: (v[0] * FRAME / RATE, (v[-1] + 1) * FRAME / RATE) for k, v in places.items()}
