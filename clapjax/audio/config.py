"""Settings of the waveform and its log-mel front end."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AudioConfig:
    """Waveform length and rate, and the log-mel front end of LAION-CLAP.

    The defaults are LAION-CLAP's non-fusion front end (10 s at 48 kHz, librosa's Slaney bank);
    its fusion front end is the same with `mel_scale="htk"` and `mel_norm="none"`.
    """

    sample_rate: int = 48_000  # Hz
    clip_samples: int = 480_000  # samples that the model hears at once
    fill: str = "repeatpad"  # short clips: "repeatpad", "repeat" or "pad"
    window_length: int = 1024  # samples; also the FFT size
    hop_length: int = 480  # samples
    mel_bins: int = 64  # bands of the mel
    fmin: float = 50.0  # Hz
    fmax: float = 14_000.0  # Hz
    mel_scale: str = "slaney"  # "slaney" or "htk"
    mel_norm: str = "slaney"  # "slaney" (unit area) or "none"

    def __post_init__(self):
        for name in ("sample_rate", "clip_samples", "window_length", "hop_length", "mel_bins"):
            if getattr(self, name) < 1:
                raise ValueError(f"audio.{name} must be positive, not {getattr(self, name)}")
        if not 0 <= self.fmin < self.fmax <= self.sample_rate / 2:
            raise ValueError(
                f"audio: need 0 <= fmin < fmax <= sample_rate / 2, not fmin={self.fmin}, "
                f"fmax={self.fmax}, sample_rate={self.sample_rate}"
            )
        for name, known in (
            ("fill", ("repeatpad", "repeat", "pad")),
            ("mel_scale", ("slaney", "htk")),
            ("mel_norm", ("slaney", "none")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"audio.{name} must be one of {known}, not {getattr(self, name)!r}"
                )

    @property
    def frames(self) -> int:
        """Number of log-mel frames of one full clip."""
        return self.clip_samples // self.hop_length + 1
