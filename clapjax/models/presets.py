"""Front ends, encoders and whole models: as they were published, and one for training on a CPU."""

from dataclasses import replace

from clapjax.audio.config import AudioConfig
from clapjax.models.config import (
    ClapConfig,
    DecoderConfig,
    FusionConfig,
    HTSATConfig,
    PANNConfig,
    TextConfig,
)


def audio_preset(name: str) -> AudioConfig:
    """The front end of LAION-CLAP ("laion", its variants, "laion-fusion"), of BLAT or of PANNs.

    "laion-fusion" is that of torchaudio, which LAION-CLAP makes the four mels of fusion with.
    BLAT has those of PANNs at 32 and 16 kHz, of which the first is HTS-AT's too; it pads nothing
    and cuts nothing, and its 10 s here are what it was trained on.
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
        "panns-8k": AudioConfig(
            sample_rate=8_000,
            clip_samples=80_000,
            window_length=256,
            hop_length=80,
            fmax=4_000.0,
            fill="pad",
        ),
    }
    if name not in presets:
        raise ValueError(f"no front end {name!r}; there are {', '.join(presets)}")
    return presets[name]


def htsat_preset(name: str) -> HTSATConfig:
    """LAION-CLAP's "tiny", "base" and "large", or "small" for training on a CPU."""
    presets = {
        "tiny": HTSATConfig(),
        "base": HTSATConfig(embed_dim=128, depths=(2, 2, 12, 2)),
        "large": HTSATConfig(embed_dim=256, depths=(2, 2, 12, 2)),
        "small": HTSATConfig(
            spec_size=128,
            patch_size=16,
            patch_stride=16,
            conv_stem=(32, 64, 128),
            stem_fold=2,
            embed_dim=128,
            depths=(2,),
            heads=(4,),
            time_width=24,
            init_std=0.0,
            time_segments=4,
            drop_path=0.0,
        ),
    }
    if name not in presets:
        raise ValueError(f"no HTSAT preset {name!r}; there are {', '.join(presets)}")
    return presets[name]


def text_preset(name: str) -> TextConfig:
    """ "roberta-base", "bert-base" and "clip" as in LAION-CLAP, "bert-medium" as in BLAT, or
    "small" for training on a CPU.
    """
    bert = TextConfig(
        positions="absolute",
        vocab_size=30_522,
        max_positions=512,
        type_vocab_size=2,
        pad_id=0,
        layer_norm_eps=1e-12,
    )
    presets = {
        "roberta-base": TextConfig(),
        "bert-base": bert,
        "bert-medium": replace(
            bert,
            pooling="cls",
            hidden_size=512,
            layers=8,
            heads=8,
            intermediate_size=2048,
            max_length=30,
        ),
        "clip": TextConfig(
            arch="clip",
            positions="absolute",
            pooling="eos",
            vocab_size=49_408,
            hidden_size=512,
            heads=8,
            intermediate_size=2048,
            max_positions=77,
            pad_id=0,
            dropout=0.0,
            attention_dropout=0.0,
            position_init_std=0.01,
        ),
        "small": TextConfig(
            vocab_size=1000,
            hidden_size=128,
            layers=2,
            heads=4,
            intermediate_size=512,
            max_positions=66,
            max_length=24,
            embedding_std=0.05,
            position_init_std=0.1,
            init_std=0.0,
            dropout=0.0,
            attention_dropout=0.0,
        ),
    }
    if name not in presets:
        raise ValueError(f"no text preset {name!r}; there are {', '.join(presets)}")
    return presets[name]


def decoder_preset(name: str) -> DecoderConfig:
    """A captioner's decoder, of the size of CNext-trans ("cnext-trans", Labbé et al., 2024) or of
    Cnn14-trans ("cnn14-trans", Xu et al., 2022), or "small" for training on a CPU.
    """
    presets = {
        "cnext-trans": DecoderConfig(),
        "cnn14-trans": DecoderConfig(layers=2, heads=4, intermediate_size=1024),
        "small": DecoderConfig(
            hidden_size=128,
            layers=2,
            heads=4,
            intermediate_size=512,
            guidance_length=24,
            max_length=16,
            dropout=0.0,
            embedding_std=0.05,
            init_std=0.0,
        ),
    }
    if name not in presets:
        raise ValueError(f"no decoder preset {name!r}; there are {', '.join(presets)}")
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


def small_clap() -> ClapConfig:
    """A model that learns on two CPU cores: 10 s at 16 kHz, 25 frames a second, 64 tokens."""
    audio = AudioConfig(sample_rate=16_000, clip_samples=160_000, hop_length=640, fmax=7_600.0)
    text = text_preset("small")
    return ClapConfig(audio=audio, htsat=htsat_preset("small"), text=text, projection_size=256)
