"""The log-mel of `clapjax.audio.mel`, on the host: for records that hold it."""

import numpy as np
import scipy.fft

from clapjax.audio.config import AudioConfig
from clapjax.audio.fill import fill
from clapjax.audio.mel import AMIN, mel_filters

BLOCK = 512  # frames whose spectra are in memory at once


def host_log_mel(samples: np.ndarray, config: AudioConfig) -> np.ndarray:
    """The log-mel that a model hears of a clip, of the whole of it.

    Args:
      samples: (T,) int16, T > 0; a clip that is shorter than the model's is filled first.
      config: the front end.

    Returns:
      (max(T, clip_samples) // hop_length + 1, mel_bins) float16 dB. FFTs are in float64, powers in
      float32, as `log_mel` has them.
    """
    window, hop, half = config.window_length, config.hop_length, config.window_length // 2
    waveform = fill(samples, config.clip_samples, config.fill)
    waveform = np.pad((waveform / np.float32(32767)).astype(np.float64), half, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(waveform, window)[::hop]
    hann, filters = np.hanning(window + 1)[:-1], mel_filters(config)
    found = np.empty((len(frames), config.mel_bins), np.float32)
    for start in range(0, len(frames), BLOCK):
        spectrum = scipy.fft.rfft(frames[start : start + BLOCK] * hann)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        found[start : start + BLOCK] = power.astype(np.float32) @ filters
    return (10 * np.log10(np.maximum(found, AMIN))).astype(np.float16)
