"""Models of a fraction of a second: random weights, clips of one second at 8 kHz."""

import dataclasses
import functools
from pathlib import Path

import jax
import numpy as np

from clapjax.audio.config import AudioConfig
from clapjax.data.tokenizer import load_tokenizer, train_tokenizer
from clapjax.experiment import Experiment, save_experiment
from clapjax.inference import Clap
from clapjax.models.captioner import init_captioner
from clapjax.models.clap import init_variables
from clapjax.models.config import (
    ClapConfig,
    DecoderConfig,
    DecodingConfig,
    FusionConfig,
    HTSATConfig,
    PANNConfig,
    TextConfig,
    with_vocabulary,
)
from clapjax.models.tagger import init_tagger
from clapjax.tasks.captioning import CaptioningConfig
from clapjax.tasks.tagging import TaggingConfig, keep_labels
from clapjax.tasks.texts import adapt_to_tokenizer
from clapjax.training import checkpoint
from clapjax.training.state import TrainState

RATE = CLIP = 8000
SMALL = ClapConfig(
    audio=AudioConfig(
        sample_rate=RATE,
        clip_samples=CLIP,
        window_length=256,
        hop_length=160,
        mel_bins=16,
        fmax=3900.0,
    ),
    htsat=HTSATConfig(
        spec_size=32, embed_dim=16, depths=(2,), heads=(2,), window_size=4, init_std=0.0
    ),
    text=TextConfig(
        hidden_size=32,
        layers=1,
        heads=2,
        intermediate_size=32,
        max_positions=26,
        max_length=24,
        init_std=0.0,
    ),
    projection_size=8,
)
CONFIGS = {
    "plain": SMALL,
    "fused": dataclasses.replace(SMALL, fusion=FusionConfig("aff_2d")),
    "any_length": dataclasses.replace(
        SMALL, audio_encoder="cnn6", pann=PANNConfig(base_width=4, pooling="length")
    ),
}
CAPTIONS = ["a dog barks and then a man speaks", "rain falls on a tin roof", "sound of a siren"]


def make_tokenizer(folder: Path):
    """A small tokenizer, saved and read back."""
    train_tokenizer(CAPTIONS, folder, 280)
    return load_tokenizer(folder)


def make_variables(config: ClapConfig, seed: int) -> dict:
    """`draw_variables` of a CLAP model."""
    return draw_variables(functools.partial(init_variables, config), seed)


def draw_variables(init, seed: int) -> dict:
    """Random weights and statistics; drawn with numpy, as compiling Flax's `init` takes seconds.

    `init`: from a key to fresh variables, of which the shapes are taken.
    """
    generator = np.random.default_rng(seed)

    def draw(path, leaf) -> np.ndarray:
        name = path[-1].key
        if name.startswith("logit_scale"):
            return np.float32(2.66)
        if name in ("scale", "var"):
            return generator.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        fan_in = np.prod(leaf.shape[:-1]) if name == "kernel" else 4.0
        return generator.normal(0, fan_in**-0.5, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(init, jax.random.key(0)))


def make_clap(kind: str, tokenizer, seed: int = 0, batch_size: int = 4) -> Clap:
    """One of CONFIGS with random weights."""
    config = with_vocabulary(CONFIGS[kind], len(tokenizer), tokenizer.pad_token_id)
    return Clap(config, make_variables(config, seed), tokenizer, batch_size)


def make_workdir(folder: Path, seed: int = 0) -> Path:
    """What `clapjax train` with CONFIGS["plain"] leaves, as far as `clapjax.load` reads it."""
    experiment = Experiment(model=SMALL, seed=seed)
    save_experiment(experiment, folder)
    config = adapt_to_tokenizer(SMALL, make_tokenizer(folder / "tokenizer"))
    state = TrainState(step=np.int32(1), opt_state=(), **make_variables(config, seed))
    with checkpoint.open_manager(folder) as manager:
        checkpoint.save(manager, 1, state, {})
    return folder


def make_tagging_workdir(folder: Path, labels: tuple[str, ...], loss: str = "bce") -> Path:
    """What `clapjax train` leaves of a tagger with the encoder of CONFIGS["plain"]."""
    settings = TaggingConfig(loss=loss)
    experiment = Experiment(task="tagging", model=SMALL, tagging=settings)
    save_experiment(experiment, folder)
    keep_labels(TaggingConfig(labels), "train", "", folder)
    variables = draw_variables(functools.partial(init_tagger, SMALL, len(labels)), 0)
    state = TrainState(step=np.int32(1), opt_state=(), **variables)
    with checkpoint.open_manager(folder) as manager:
        checkpoint.save(manager, 1, state, {})
    return folder


DECODER = DecoderConfig(
    hidden_size=16,
    layers=1,
    heads=2,
    intermediate_size=16,
    guidance_length=16,
    max_length=6,
    dropout=0.0,
    init_std=0.0,
)


def make_captioning_workdir(folder: Path, **decoding) -> Path:
    """What `clapjax train` leaves of a captioner with the encoder of CONFIGS["plain"].

    What is heard and told is louder than the word before, which would else come again and again.
    """
    settings = CaptioningConfig(DECODER, DecodingConfig(**decoding))
    save_experiment(Experiment(task="captioning", model=SMALL, captioning=settings), folder)
    words = len(make_tokenizer(folder / "tokenizer"))
    sizes = dataclasses.replace(DECODER, vocab_size=words)
    variables = draw_variables(functools.partial(init_captioner, SMALL, sizes), 0)
    for name in ("output", "memory_output"):
        variables["params"]["decoder"]["layers"][name]["kernel"] *= 8
    state = TrainState(step=np.int32(1), opt_state=(), **variables)
    with checkpoint.open_manager(folder) as manager:
        checkpoint.save(manager, 1, state, {})
    return folder


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """(T,) float32 whose loudness wanders, so that no two stretches sound the same."""
    generator = np.random.default_rng(seed)
    knots = np.arange(0, samples + 2000, 2000)
    loudness = np.interp(np.arange(samples), knots, generator.uniform(0.01, 0.4, knots.size))
    return (generator.normal(0, 1, samples) * loudness).astype(np.float32)
