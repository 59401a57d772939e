"""Front ends and whole models as they were published."""

from clapjax.audio.config import AudioConfig
from clapjax.models.config import ClapConfig, FusionConfig, PANNConfig, htsat_preset, text_preset


def audio_preset(name: str) -> AudioConfig:
    """The front end of LAION-CLAP ("laion", its variants, "laion-fusion") or of BLAT.

    "laion-fusion" is that of torchaudio, which LAION-CLAP makes the four mels of fusion with.
    BLAT pads nothing and cuts nothing; its 10 s here are what it was trained on.
    """
    presets = {
        "laion": AudioConfig(),
        "laion-fusion": AudioConfig(mel_scale="htk", mel_norm="none"),
        "laion-win-1536": AudioConfig(window_length=1536),
        "laion-fmax-18k": AudioConfig(fmax=18_000.0),
        "laion-fmax-8k-20s": AudioConfig(clip_samples=960_000, hop_length=360, fmax=8_000.0),
        "blat-32k": AudioConfig(
            sample_rate=32_000, clip_samples=320_000, hop_length=320, fill="pad"
        ),
        "blat-16k": AudioConfig(
            sample_rate=16_000,
            clip_samples=160_000,
            window_length=512,
            hop_length=160,
            fmax=8_000.0,
            fill="pad",
        ),
    }
    if name not in presets:
        raise ValueError(f"no front end {name!r}; there are {', '.join(presets)}")
    return presets[name]


def laion_clap(
    audio: str = "htsat-tiny", text: str = "roberta-base", fusion: str = "none"
) -> ClapConfig:
    """A LAION-CLAP model.

    Args:
      audio: "htsat-tiny", "htsat-base", "htsat-large", "cnn6", "cnn10" or "cnn14".
      text: "roberta-base", "bert-base" or "clip".
      fusion: FusionConfig.type; the published fusion models have "aff_2d".

    Returns:
      A ClapConfig.
    """
    encoder, _, size = audio.partition("-")
    return ClapConfig(
        audio=audio_preset("laion" if fusion == "none" else "laion-fusion"),
        audio_encoder=encoder,
        htsat=htsat_preset(size or "tiny"),
        text=text_preset(text),
        fusion=FusionConfig(fusion),
    )


def blat_clap(sample_rate: int = 32_000) -> ClapConfig:
    """BLAT: Cnn14 that hears any length, BERT-medium, linear heads; at 32 or 16 kHz."""
    return ClapConfig(
        audio=audio_preset(f"blat-{sample_rate // 1000}k"),
        audio_encoder="cnn14",
        pann=PANNConfig(pooling="length"),
        text=text_preset("bert-medium"),
        projection="linear",
        projection_size=1024,
        normalize_eps=1e-7,
    )
