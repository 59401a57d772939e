"""Embeddings, similarity and zero-shot classification with a trained model."""

import functools
import os
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from clapjax.audio.files import AudioError, read_audio, to_mono_at_rate
from clapjax.audio.fill import fill, truncate
from clapjax.data.tokenizer import tokenize
from clapjax.models.clap import Clap as ClapModule
from clapjax.models.clap import compute_dtype, embed_waveform
from clapjax.models.config import ClapConfig

MAX_CHANNELS = 32  # columns of a (T, channels) array, as in clapjax.audio.files
TEMPLATE = "This is a sound of {}."


class Clap:
    """A model ready to embed: configuration, variables and tokenizer.

    The same input gives the same embedding, alone or among others: nothing is random, and batches
    are padded to one size.
    """

    def __init__(self, config: ClapConfig, variables: dict, tokenizer, batch_size: int = 16):
        self.config = config
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        device = jax.local_devices()[0]
        self._variables = jax.device_put(variables, device)
        model = ClapModule(config, compute_dtype(config, device.platform))
        self._audio = jax.jit(
            functools.partial(embed_waveform, model, double=device.platform != "tpu")
        )
        self._text = jax.jit(functools.partial(model.apply, method="text"))

    @property
    def params(self) -> dict:
        """The parameters, as a nested dict of arrays."""
        return self._variables["params"]

    def embed_audio(
        self,
        audio: Sequence[str | os.PathLike | np.ndarray] | str | os.PathLike | np.ndarray,
        sampling_rate: int | None = None,
    ) -> np.ndarray:
        """Embeds clips; a clip longer than the model's is cut in the middle.

        Args:
          audio: paths, or arrays (T,) or (T, channels) of float in [-1, 1] or int16; one of them,
            or a sequence. A single array with more than 32 columns is a batch (N, T).
          sampling_rate: Hz of the arrays; the model's own rate where it is not given.

        Returns:
          (N, D) float32, unit length.

        Raises:
          AudioError: an input that is missing, broken, empty or of the wrong kind.
        """
        if isinstance(audio, np.ndarray):
            single = audio.ndim < 2 or (audio.ndim == 2 and audio.shape[1] <= MAX_CHANNELS)
        else:
            single = isinstance(audio, str | os.PathLike) or not isinstance(audio, Sequence)
        if single:
            audio = [audio]
        rate = self.config.audio.sample_rate if sampling_rate is None else sampling_rate
        chunks = []
        for start in range(0, len(audio), self.batch_size):
            rows = [
                self._waveform(item, rate, start + i)
                for i, item in enumerate(audio[start : start + self.batch_size])
            ]
            batch = self._padded(np.stack(rows))
            chunks.append(np.asarray(self._audio(self._variables, batch))[: len(rows)])
        return self._stack(chunks)

    def _waveform(self, item, rate: int, index: int) -> np.ndarray:
        """One input as (clip_samples,) float32."""
        audio = self.config.audio
        if isinstance(item, str | os.PathLike):
            samples = read_audio(item, audio.sample_rate)
        elif isinstance(item, np.ndarray):
            samples = to_mono_at_rate(item, rate, audio.sample_rate, name=f"audio {index}")
        else:
            raise AudioError(f"audio {index}: expected a path or an array, not {type(item)}")
        return fill(truncate(samples, audio.clip_samples), audio.clip_samples, audio.fill)

    def embed_text(self, texts: Sequence[str] | str) -> np.ndarray:
        """Embeds captions; text beyond the model's limit is cut.

        Args:
          texts: one caption or several.

        Returns:
          (N, D) float32, unit length.

        Raises:
          TypeError: something that is not text.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"text {index}: expected a string, not {type(text)}")
        chunks = []
        for start in range(0, len(texts), self.batch_size):
            part = texts[start : start + self.batch_size]
            ids, mask = tokenize(self.tokenizer, part, self.config.text.max_length)
            rows = self._text(self._variables, self._padded(ids), self._padded(mask))
            chunks.append(np.asarray(rows)[: len(part)])
        return self._stack(chunks)

    def similarity(self, audio: np.ndarray, text: np.ndarray) -> np.ndarray:
        """Cosine of (N, D) audio and (M, D) text embeddings: (N, M) float32."""
        return np.asarray(audio, np.float32) @ np.asarray(text, np.float32).T

    def classify(
        self,
        audio,
        labels: Sequence[str],
        template: str = TEMPLATE,
        sampling_rate: int | None = None,
    ) -> list[dict[str, float]]:
        """Zero-shot classification.

        Args:
          audio: as for `embed_audio`.
          labels: class names, put into the template.
          template: a caption with one {}.
          sampling_rate: Hz of array inputs.

        Returns:
          For each clip, {label: probability}, most probable first: softmax of the scaled cosines.

        Raises:
          ValueError: no labels, one of them twice, or a template without a place for the label.
        """
        if isinstance(labels, str) or not labels or len(set(labels)) != len(labels):
            raise ValueError("classify: labels must be a list of different class names")
        if "{}" not in template:
            raise ValueError(f"classify: template {template!r} has no {{}}")
        text = self.embed_text([template.replace("{}", label) for label in labels])
        scale = float(np.exp(np.asarray(self.params["logit_scale_a"])))
        logits = scale * self.similarity(self.embed_audio(audio, sampling_rate), text)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = weights / weights.sum(axis=1, keepdims=True)
        return [
            {labels[i]: float(row[i]) for i in np.argsort(-row, kind="stable")}
            for row in probabilities
        ]

    def _padded(self, rows: np.ndarray) -> jnp.ndarray:
        """(n, ...) to (batch_size, ...) by repeating the last row: one compiled shape for all."""
        missing = self.batch_size - len(rows)
        return jnp.asarray(np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]))

    def _stack(self, chunks: list[np.ndarray]) -> np.ndarray:
        empty = np.zeros((0, self.config.projection_size), np.float32)
        return np.concatenate(chunks) if chunks else empty
