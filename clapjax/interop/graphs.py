"""Models out as StableHLO graphs, which run without JAX (docs/without_jax.md)."""

import contextlib
import json
import math
import os
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

import clapjax
from clapjax.inference.store import fingerprint
from clapjax.interop.files import new_folder
from clapjax.interop.load import Pretrained
from clapjax.models.clap import Clap, any_length, embed_clip, uses_lengths
from clapjax.models.config import ClapConfig
from clapjax.plain import check_count

ABOUT = "graphs.json"
FORMAT = 1


def write_graphs(
    folder: str | os.PathLike, model: Pretrained, batch_size: int = 1, seconds: float | None = None
) -> None:
    """Writes both towers as graphs with the front end and the weights in them, in float32.

    audio.mlir takes "samples" (B, S) float32 in [-1, 1] at the model's rate, and of models with
    feature fusion, or that hear any length, "lengths" (B,) int32; text.mlir takes "ids" and "mask",
    both (B, L) int32. Both give (B, D) float32, unit length: what `Clap.embed_audio` and
    `embed_text` compute on a CPU. Beside them are the tokenizer, and graphs.json with what a
    program has to know of them.

    Args:
      folder: a new one; it appears only when everything in it is written.
      model: config, variables and tokenizer.
      batch_size: B; it is static, for IREE has no FFT of another.
      seconds: S at the model's rate, a clip or more; None: a clip, which is all that most hear.

    Raises:
      CheckpointError: the folder exists.
      ValueError: no such batch; or more seconds than the model hears, or fewer than a clip.
    """
    config, variables, tokenizer = model
    check_count(batch_size, "batch_size")
    samples, longest = _samples(config, seconds), config.text.max_length
    tokens = (batch_size, longest), "int32"
    inputs = {
        "audio": {"samples": ((batch_size, samples), "float32")},
        "text": {"ids": tokens, "mask": tokens},
    }
    if uses_lengths(config):
        inputs["audio"]["lengths"] = ((batch_size,), "int32")
    clap = Clap(config, jnp.float32)

    def audio(samples, lengths=None):
        return embed_clip(clap, True, variables, samples, lengths)

    def text(ids, mask):
        return clap.apply(variables, ids, mask, method="text")

    about = {
        "format": FORMAT,
        "made_with": {"clapjax": clapjax.__version__, "jax": jax.__version__},
        "size": config.projection_size,
        "scale": float(np.exp(variables["params"]["logit_scale_a"])),
        "sample_rate": config.audio.sample_rate,
        "fill": "" if any_length(config) else config.audio.fill,
        "pad_id": tokenizer.pad_token_id,
        "pad_token": tokenizer.pad_token,
    }
    with new_folder(folder) as partial, _no_source_paths():
        tokenizer.save_pretrained(partial)
        for tower, function in (("audio", audio), ("text", text)):
            shapes = [jax.ShapeDtypeStruct(*one) for one in inputs[tower].values()]
            graph = jax.export.export(jax.jit(function), platforms=["cpu"])(*shapes)
            (partial / f"{tower}.mlir").write_bytes(graph.mlir_module_serialized)
            about[tower] = {
                "inputs": {name: list(shape) for name, (shape, _) in inputs[tower].items()},
                "fingerprint": fingerprint(config, variables, tower),
            }
        (partial / ABOUT).write_text(json.dumps(about, indent=2) + "\n")


@contextlib.contextmanager
def _no_source_paths() -> Iterator[None]:
    """Graphs are for other machines: what is lowered within it names no files of this one."""
    name = "jax_traceback_in_locations_limit"
    before = jax.config.jax_traceback_in_locations_limit
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def _samples(config: ClapConfig, seconds: float | None) -> int:
    """What the audio graph hears at once."""
    rate, clip = config.audio.sample_rate, config.audio.clip_samples
    if seconds is None:
        return clip
    samples = round(seconds * rate) if math.isfinite(seconds) else 0
    if samples < clip or (samples > clip and not uses_lengths(config)):
        more = " or more" if uses_lengths(config) else ""
        raise ValueError(f"seconds: this model hears {clip / rate:g} s{more}, not {seconds:g}")
    return samples
