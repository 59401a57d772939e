"""A model that compiles in seconds, and steps that are compiled once for all tests."""

import jax
import pytest

from clapjax.audio.config import AudioConfig
from clapjax.losses.clap import LossConfig
from clapjax.models.config import ClapConfig, HTSATConfig, TextConfig
from clapjax.training.config import OptimizerConfig, TrainConfig


@pytest.fixture(scope="package", autouse=True)
def _compiled_quickly(tmp_path_factory):
    """Little optimisation; and runs of the same model find each other's compiled steps."""
    settings = {  # name: (here, JAX's default)
        "jax_disable_most_optimizations": (True, False),
        "jax_compilation_cache_dir": (str(tmp_path_factory.mktemp("compiled")), None),
        "jax_persistent_cache_min_compile_time_secs": (0.2, 1.0),
    }
    for name, (here, _) in settings.items():
        jax.config.update(name, here)
    yield
    for name, (_, default) in settings.items():
        jax.config.update(name, default)


@pytest.fixture(scope="package")
def tiny() -> TrainConfig:
    """One second of sound at 16 kHz, one pair of Swin blocks, one text layer; nothing random."""
    audio = AudioConfig(sample_rate=16_000, clip_samples=16_000, hop_length=320, fmax=7600.0)
    htsat = HTSATConfig(
        spec_size=64,
        embed_dim=8,
        depths=(2,),
        heads=(2,),
        drop_path=0.0,
        time_width=1,
        freq_width=1,
    )
    text = TextConfig(
        vocab_size=99,
        hidden_size=16,
        layers=1,
        heads=2,
        intermediate_size=32,
        max_positions=40,
        max_length=16,
        dropout=0.0,
        attention_dropout=0.0,
    )
    return TrainConfig(
        batch_size=8,
        steps=6,
        log_every=2,
        checkpoint_every=3,
        model=ClapConfig(audio, htsat, text, projection_size=16),
        loss=LossConfig(temporal_weight=0.5),
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=1),
    )
