"""What a host must read for a step, and what a data set takes, in each form of records."""

from clapjax.audio.config import AudioConfig
from clapjax.data.forms import KINDS

NETWORK = 12.5e9  # bytes per second of a host at 100 Gbit/s
TEXT_BYTES = 500  # of a record, beside its sound
# Bytes of FLAC beside those of PCM, between the 0.43 of ESC-10 and the 0.57 of the embedded sounds;
# and CPU-seconds that a clip of 10 s takes in a build: `python -m benchmarks.forms`.
FLAC_SHARE = 0.5
BUILD_SECONDS = {"pcm": 0.04, "flac": 0.05, "mel": 0.075}
CORES = 32  # of a machine that builds


def clip_bytes(audio: AudioConfig) -> dict[str, int]:
    """Bytes of a record of one clip in each form; of FLAC, about."""
    pcm = 2 * audio.clip_samples
    mel = 2 * audio.frames * audio.mel_bins
    sizes = {"pcm": pcm, "flac": round(FLAC_SHARE * pcm), "mel": mel}
    return {kind: sizes[kind] + TEXT_BYTES for kind in KINDS}


def reading(audio: AudioConfig, clips_per_second: float, hosts: int, copies: float = 1.0) -> dict:
    """Bytes that each host must read for a pace.

    Args:
      audio: of the model.
      clips_per_second: of all hosts.
      hosts: that share the batch.
      copies: sounds of a row, on average; more than 1 with sounds in a wrong order.

    Returns:
      Form to {"clip_bytes", "bytes_per_second" of a host, "fits": whether NETWORK carries that}.
    """
    found = {}
    for kind, size in clip_bytes(audio).items():
        rate = copies * size * clips_per_second / hosts
        found[kind] = {"clip_bytes": size, "bytes_per_second": rate, "fits": rate <= NETWORK}
    return found


def build_hours(hours: float, kind: str, machines: int = 1) -> float:
    """Hours that machines of CORES take to build so many hours of audio."""
    return 360 * hours * BUILD_SECONDS[kind] / (CORES * machines) / 3600


def reading_lines(found: dict, hosts: int) -> list[str]:
    """`reading` for people."""
    lines = [f"each of {hosts} hosts must read for that, of records that hold"]
    for kind, one in found.items():
        fits = "can" if one["fits"] else "cannot"
        lines.append(
            f"  {kind:<5}{one['clip_bytes']:>9,} bytes a clip: "
            f"{one['bytes_per_second'] / 1e9:8.3f} GB/s, a host at 100 Gbit/s {fits}"
        )
    return lines
