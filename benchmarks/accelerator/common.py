"""What every section is given: the devices, the sizes, the time that is left."""

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import jax

from clapjax.data.config import DataConfig
from clapjax.losses.config import LossConfig
from clapjax.models.config import ClapConfig
from clapjax.models.presets import blat_clap, decoder_preset, laion_clap, small_clap
from clapjax.tasks.captioning import CaptioningConfig, captioning
from clapjax.tasks.contrastive import contrastive
from clapjax.tasks.task import Task
from clapjax.training.config import OptimizerConfig, TrainConfig


@dataclass(frozen=True)
class Run(TrainConfig):
    """What is trained, without the rest of an experiment and what that imports."""

    task: str = "contrastive"  # or "captioning"
    model: ClapConfig = field(default_factory=small_clap)
    loss: LossConfig = field(default_factory=LossConfig)
    captioning: CaptioningConfig = field(default_factory=CaptioningConfig)


def task_of(config: Run) -> Task:
    """What a run learns; also of an Experiment."""
    if config.task == "captioning":
        return captioning(config.model, config.captioning, DataConfig())
    return contrastive(config.model, config.loss, DataConfig())


@dataclass(frozen=True)
class Setup:
    """The devices and the sizes of a run; the defaults are those of an accelerator."""

    devices: tuple[jax.Device, ...]
    config: Run  # model, loss and optimiser of the training step
    captioner: Run  # likewise, and with the rows of a device that are tried first
    first_rows: int | None = None  # of a device, tried first; None: what memory seems to allow
    most_rows: int = 16_384  # of a device
    micro_batches: int = 8  # parts of the large batch
    embed_batches: tuple[int, ...] = (32, 128, 512)
    attention_batch: int = 256
    loss_batches: tuple[int, ...] = (8192, 32_768)
    caption_batch: int = 128
    copy_bytes: int = 2**30
    repeats: int = 5  # of what is timed; the median counts


@dataclass(frozen=True)
class Skipped:
    """What a section yields in place of a row that it left out."""

    what: str
    why: str = "out of time"


@dataclass(frozen=True)
class Clock:
    """The moment when a section's time is over, on `time.monotonic`."""

    end: float

    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()


def make_setup(quick: bool, devices: Sequence[jax.Device]) -> Setup:
    """The published model at sizes for an accelerator, or (`quick`) all of it tiny.

    A CPU has no memory limit that a search could run into without harm, so it gets one small batch.
    """
    devices = tuple(devices)
    if quick:
        small = (4, 4, 2, (4, 16), 2, (256,), 4, 2**26)
        return Setup(devices, tiny_run(), tiny_captioner_run(), *small)
    if devices[0].platform == "cpu":
        captioner = dataclasses.replace(captioner_run(), rows_per_device=4)
        return Setup(devices, full_run(), captioner, 4, 4, 2, (4, 16), 4, (2048,), 4, 2**28)
    return Setup(devices, full_run(), captioner_run())


def full_run() -> Run:
    """Model, loss and optimiser of configs/laion_clap.py.

    Written down here once more, for a bare machine may have JAX and Flax, and nothing else.
    """
    return Run(
        steps=12_300,
        model=laion_clap("htsat-tiny", "roberta-base"),
        loss=LossConfig(temporal_weight=0.0),
        optimizer=OptimizerConfig(
            learning_rate=1e-4,
            warmup_steps=3200,
            warmup_offset=1,
            b2=0.999,
            weight_decay=0.0,
            clip_norm=0.0,
        ),
    )


def captioner_run() -> Run:
    """Model, task and optimiser of configs/captioner.py, likewise."""
    decoder = dataclasses.replace(decoder_preset("cnext-trans"), vocab_size=5000)
    return Run(
        task="captioning",
        steps=40_000,
        rows_per_device=128,
        model=blat_clap(),
        captioning=CaptioningConfig(decoder=decoder, mixup=0.4),
        optimizer=OptimizerConfig(warmup_steps=1000, weight_decay=2.0),
    )


def tiny_run() -> Run:
    """The same run with a model that compiles in seconds."""
    small = small_clap()
    htsat = dataclasses.replace(small.htsat, embed_dim=16, heads=(2,), conv_stem=(8, 8, 16))
    text = dataclasses.replace(
        small.text, hidden_size=32, layers=1, heads=2, intermediate_size=64, dropout=0.1
    )
    model = dataclasses.replace(small, htsat=htsat, text=text, projection_size=32)
    return dataclasses.replace(full_run(), model=model)


def tiny_captioner_run() -> Run:
    """`captioner_run` with the audio encoder of `tiny_run` and a small decoder."""
    decoder = dataclasses.replace(decoder_preset("small"), hidden_size=32, layers=1, heads=2)
    settings = dataclasses.replace(captioner_run().captioning, decoder=decoder)
    return dataclasses.replace(
        captioner_run(), model=tiny_run().model, captioning=settings, rows_per_device=4
    )


def median_seconds(work: Callable, repeats: int, warm_up: int = 1) -> float:
    """Median time of a call, until its result is there; the first `warm_up` do not count."""
    seconds = []
    for _ in range(warm_up + repeats):
        start = time.perf_counter()
        jax.block_until_ready(work())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[warm_up:])


def fits(work: Callable[..., dict], *arguments) -> dict:
    """What `work` returns and "fits": True; or "fits": False where there is not enough memory."""
    try:
        return work(*arguments) | {"fits": True}
    except jax.errors.JaxRuntimeError as error:
        text = str(error).lower().replace("_", " ")
        if "resource exhausted" not in text and "out of memory" not in text:
            raise
        return {"fits": False}
    finally:
        gc.collect()  # what hangs in a cycle keeps its device memory


def memory_stats(device: jax.Device) -> dict:
    """What the device's allocator counts; empty where it does not, as on CPUs."""
    return device.memory_stats() or {}


def program_bytes(compiled) -> int | None:
    """What a compiled program takes on a device, by its compiler; None where that does not tell."""
    used = compiled.memory_analysis()
    if used is None:
        return None
    return (
        used.argument_size_in_bytes
        + used.output_size_in_bytes
        - used.alias_size_in_bytes
        + used.temp_size_in_bytes
    )
