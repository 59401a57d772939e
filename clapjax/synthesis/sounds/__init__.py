"""Sound events synthesised with numpy: the audio of the demo, which needs no sound file."""

import difflib
from collections.abc import Sequence
from zlib import crc32

import numpy as np
from scipy.signal import lfilter

from clapjax.synthesis.sounds import animals, machines, nature, objects
from clapjax.synthesis.sounds.dsp import decay, log_uniform, white_noise

__all__ = ["SOUND_CLASSES", "render"]

_SYNTHESIZERS = {
    "dog bark": animals.dog_bark,
    "rooster crow": animals.rooster_crow,
    "cat meow": animals.cat_meow,
    "cricket chirp": animals.cricket_chirp,
    "bird song": animals.bird_song,
    "frog croak": animals.frog_croak,
    "siren": machines.siren,
    "engine": machines.engine,
    "car horn": machines.car_horn,
    "helicopter": machines.helicopter,
    "telephone ring": machines.telephone_ring,
    "clock tick": machines.clock_tick,
    "keyboard typing": machines.keyboard_typing,
    "steam hiss": machines.steam_hiss,
    "rain": nature.rain,
    "wind": nature.wind,
    "thunder": nature.thunder,
    "water drops": nature.water_drops,
    "church bell": objects.church_bell,
    "door knock": objects.door_knock,
    "whistle": objects.whistle,
    "applause": objects.applause,
    "footsteps": objects.footsteps,
    "glass break": objects.glass_break,
}
SOUND_CLASSES: tuple[str, ...] = tuple(_SYNTHESIZERS)

_SHORTEST_SECONDS = 0.25  # shorter requests are cut from a render of this length
_LONGEST_SECONDS = 600
_FADE_SECONDS = 0.008


def render(name: str, seed: int | Sequence[int], seconds: float, sample_rate: int) -> np.ndarray:
    """One sound event of the class `name`, different for each `seed`.

    Args:
        name: one of SOUND_CLASSES.
        seed: one or several non-negative integers; the same arguments give the same bytes.
        seconds: length, above 0 and at most 600.
        sample_rate: samples per second, 8000 to 48000.

    Returns:
        Mono waveform, (round(seconds * sample_rate),) float32, peak 0.3 to 0.95, without DC,
        faded at both ends.

    Raises:
        ValueError: unknown name, or a length, sample rate or seed outside these ranges.
    """
    if name not in _SYNTHESIZERS:
        close = difflib.get_close_matches(name, SOUND_CLASSES, n=1, cutoff=0.0)[0]
        raise ValueError(f"unknown sound class {name!r}; the closest is {close!r}")
    if not 8000 <= sample_rate <= 48000:
        raise ValueError(f"sample_rate must be 8000 to 48000 Hz, not {sample_rate}")
    if not 0 < seconds <= _LONGEST_SECONDS or round(seconds * sample_rate) < 1:
        raise ValueError(f"seconds must be above 0 and at most {_LONGEST_SECONDS}, not {seconds}")
    seeds = [seed] if isinstance(seed, int | np.integer) else list(seed)
    rng = np.random.default_rng([*seeds, crc32(name.encode())])
    sound = _SYNTHESIZERS[name](rng, max(seconds, _SHORTEST_SECONDS), sample_rate)
    sound = _recorded(rng, sound, sample_rate)
    return _finished(rng, sound[: round(seconds * sample_rate)], sample_rate)


def _recorded(rng: np.random.Generator, sound: np.ndarray, rate: int) -> np.ndarray:
    """`sound` (T,) as some microphone hears it: background noise, no DC, a tilted spectrum."""
    # noise that falls by 6 dB an octave from a corner at 100 to 4000 Hz
    corner = log_uniform(rng, 100, 4000)
    hiss = decay(white_noise(rng, len(sound), rate), 1 / (2 * np.pi * corner), rate)
    level = 10 ** (rng.uniform(-55, -32) / 20) * np.abs(sound).max() / hiss.std()
    # two first-order filters in one: a cut below 20 Hz, and what lies above 1 kHz times `treble`
    treble = 10 ** (rng.uniform(-5, 5) / 20)
    cut, shelf = np.exp(-2 * np.pi * np.array([20, 1000]) / rate)
    numerator = np.convolve([1, -1], [1 - shelf + treble * shelf, -treble * shelf])
    return lfilter(numerator, np.convolve([1, -cut], [1, -shelf]), sound + level * hiss)


def _finished(rng: np.random.Generator, sound: np.ndarray, rate: int) -> np.ndarray:
    """`sound` (T,) faded at both ends, without its mean, at a random peak, as float32."""
    count = len(sound)
    fade = max(1, min(round(_FADE_SECONDS * rate), count // 2))
    window = np.ones(count)  # (T,)
    ramp = np.arange(fade) / fade  # (fade,) starts at 0
    window[:fade] = ramp
    window[count - fade :] = ramp[::-1]
    # taking the window's shape away keeps the ends at zero
    sound = window * sound
    sound -= window * (sound.sum() / max(window.sum(), 1e-9))
    peak = max(np.abs(sound).max(), 1e-9)
    return (sound * (rng.uniform(0.3, 0.95) / peak)).astype(np.float32)
