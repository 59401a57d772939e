"""A model ready to use: embeddings of audio and text, similarity, zero-shot classification."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping

import jax
import numpy as np
from scipy.special import expit

from clapjax.audio.files import AudioError
from clapjax.data.tokenizer import tokenize
from clapjax.inference.batches import in_batches
from clapjax.inference.forward import Functions, frame_samples, functions
from clapjax.inference.hear import default_long, hear, make_cutter
from clapjax.inference.inputs import Audio, each_input
from clapjax.inference.joined import Parts, mean_direction, only, stitch
from clapjax.inference.labels import NEUTRAL, TEMPLATE, class_names, fill_templates, probabilities
from clapjax.inference.pieces import Cutter, static_length
from clapjax.inference.place import Place, describe_model, find_place
from clapjax.inference.telling import warn
from clapjax.models.clap import cast_kernels, compute_dtype
from clapjax.models.config import ClapConfig
from clapjax.plain import check_count

SHORTEST_TEXT = 16  # tokens; longer texts are padded to a power of two of these
TEXTS_AT_ONCE = 256  # through the tokenizer
TOWERS = ("audio", "text")


class Clap:
    """A model ready to embed: configuration, variables and tokenizer.

    The same input gives the same embedding, bit for bit, alone or among others: nothing is random,
    and what an input is padded to depends on its own length alone. Memory is bounded whatever the
    number of inputs, which may come from an iterator.

    Audio that is longer than a clip (`long=`):
      "truncate": its middle. The default of models that hear one clip.
      "windows": all of it, a clip every `hop` seconds; the mean of the unit vectors, renormalised.
      "fusion": all of it, shrunk to a clip, and a chunk from the front, the middle and the back.
        Only of models with feature fusion, whose default it is.
      "whole": all of it as it is. Only of models that hear any length (BLAT), whose default it is.
    """

    def __init__(
        self,
        config: ClapConfig,
        variables: dict,
        tokenizer,
        batch_size: int = 16,
        forward: Mapping[str, Callable] | None = None,
        *,
        place: Place | None = None,
    ):
        """Of a model with one tower only, `variables` hold that and the logit scales.

        `place` says on which device it computes, and how (`clapjax.inference.place.find_place`).

        With `forward` it embeds by these functions of (variables, arrays), "audio" and "text", on
        the devices on which its variables are (`clapjax.training.rows.make_forward`);
        `batch_size` is then that of all of them together.
        """
        check_count(batch_size, "batch_size")
        self.config = config
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.place = place = place or find_place()
        # As `clapjax.inference.forward` has them; None of a model on several devices.
        self.functions: Functions | None = None
        if forward is not None:
            self._variables = self._compute = variables
            self._audio, self._text = forward["audio"], forward["text"]
            self._devices = len(jax.tree.leaves(variables)[0].sharding.device_set)
            return
        self._devices = 1
        platform = place.device.platform
        dtype = compute_dtype(place.at_work(config), platform)
        self._variables = jax.device_put(variables, place.device)
        # Cast once and not at each call; float32 kernels are the same arrays.
        self._compute = {**self._variables, "params": cast_kernels(self.params, dtype)}
        self.functions = functions(config, dtype, platform, place.exact)
        self._audio, self._frames, self._text = self.functions

    def __repr__(self) -> str:
        size = f"{self.config.projection_size} dimensions"
        lost = [f"no {one} tower" for one in TOWERS if f"{one}_projection" not in self.params]
        return describe_model(self, self.place, size, *lost)

    @property
    def params(self) -> dict:
        """The parameters, as a nested dict of arrays."""
        return self._variables["params"]

    @property
    def variables(self) -> dict:
        """{"params", "batch_stats"}."""
        return self._variables

    @property
    def scale(self) -> float:
        """What makes logits of cosines."""
        return float(np.exp(np.asarray(self.params["logit_scale_a"])))

    @property
    def dtype(self) -> str:
        """What matrix products run in: "float32" or "bfloat16"."""
        return compute_dtype(self.place.at_work(self.config), self.place.device.platform).name

    @property
    def mesh(self) -> jax.sharding.Mesh | None:
        """The devices that its variables are spread over; None: one device."""
        return getattr(jax.tree.leaves(self.variables)[0].sharding, "mesh", None)

    @property
    def clip_seconds(self) -> float:
        """What the model hears at once: the length of a window."""
        return self.config.audio.clip_samples / self.config.audio.sample_rate

    @property
    def default_long(self) -> str:
        """What `long=None` stands for."""
        return default_long(self.config)

    # --- audio ------------------------------------------------------------------------------

    def embed_audio(
        self,
        audio: Iterable[Audio] | Audio,
        sampling_rate: int | None = None,
        *,
        long: str | None = None,
        hop: float | None = None,
    ) -> np.ndarray:
        """Embeds clips.

        Args:
          audio: one recording, or an iterable of them. A path; the bytes of a file, or a file open
            in binary mode, which is read whole; an array of numpy, JAX or torch, (T,), or (T,
            channels), or (channels, T), of float in [-1, 1], int16 or int32; that with its rate, as
            (rate, array), (array, rate) or {"array", "sampling_rate"}; {"bytes"} or {"path"}. One
            array (N, T) is refused, for it may be N clips or N channels: give `list(x)`.
          sampling_rate: Hz of the arrays that come without; the model's own rate, with a warning,
            where it is not given.
          long: see the class; None is the model's `default_long`.
          hop: seconds, for long="windows"; a clip (no overlap) where it is not given.

        Returns:
          (N, D) float32, unit length.

        Raises:
          AudioError: an input that is missing, broken, empty or of the wrong kind.
          ValueError: no such `long`, or one that this model has not; or no audio tower.
        """
        rows: dict[int, np.ndarray] = {}
        for index, found in self.each_audio(audio, sampling_rate, long=long, hop=hop):
            if isinstance(found, AudioError):
                raise found
            rows[index] = found
        return self._stack(rows)

    def each_audio(
        self,
        audio: Iterable[Audio] | Audio,
        sampling_rate: int | None = None,
        *,
        long: str | None = None,
        hop: float | None = None,
    ) -> Iterator[tuple[int, np.ndarray | AudioError]]:
        """`embed_audio` one by one: (number of the input, its (D,) embedding or its error).

        A broken input does not stop the others. Inputs of another length may come first.
        """
        heard = self._hear(self._audio, self._cutter(sampling_rate, long, hop), audio)
        return (
            (index, found if isinstance(found, AudioError) else mean_direction(found[1]))
            for index, found in heard
        )

    def embed_windows(
        self, audio: Audio, hop: float | None = None, *, sampling_rate: int | None = None
    ) -> Parts:
        """Embeds the stretches of a recording of any length.

        Args:
          audio: one path, file or array, as for `embed_audio`.
          hop: seconds from the start of a window to that of the next one, at most a clip (no
            overlap), which is the default.
          sampling_rate: Hz of an array.

        Returns:
          (times (N, 2) float64: start and end in seconds, embeddings (N, D) float32, unit length).
          Every window is a clip long; the last one ends with the recording. What is shorter than a
          clip is one window.

        Raises:
          AudioError, ValueError: as `embed_audio`.
        """
        return only(self.each_windows([audio], hop, sampling_rate=sampling_rate))

    def each_windows(
        self, audio: Iterable[Audio], hop: float | None = None, *, sampling_rate: int | None = None
    ) -> Iterator[tuple[int, Parts | AudioError]]:
        """`embed_windows` of many: (number of the input, its windows or its error)."""
        return self._hear(self._audio, self._cutter(sampling_rate, "windows", hop), audio)

    def embed_frames(self, audio: Audio, sampling_rate: int | None = None) -> Parts:
        """Embeds each step of time that the encoder tells apart, of a recording of any length.

        A frame is a place, not a cut: it has heard the clip in which it lies.

        Args:
          audio: one path, file or array, as for `embed_audio`.
          sampling_rate: Hz of an array.

        Returns:
          (times (N, 2) float64: start and end in seconds, evenly spaced, embeddings (N, D) float32,
          unit length).

        Raises:
          AudioError, ValueError: as `embed_audio`.
        """
        cutter = self._cutter(sampling_rate, "windows", None)
        clip = np.zeros((1, self.config.audio.clip_samples), np.float32), np.zeros(1, np.int32)
        per_clip = jax.eval_shape(self._frames, self._compute, *clip).shape[1]
        step = frame_samples(self.config, per_clip)
        cutter = dataclasses.replace(cutter, hop=round(per_clip * step), grid=step)
        times, windows = only(self._hear(self._frames, cutter, [audio]))
        return stitch(times, windows, step / self.config.audio.sample_rate)

    def _cutter(self, sampling_rate: int | None, long: str | None, hop: float | None) -> Cutter:
        """How inputs are cut, checked."""
        self.require("audio")
        return make_cutter(self.config, sampling_rate, long, hop)

    def _hear(self, function, cutter: Cutter, audio) -> Iterator:
        """`hear` by a compiled function of the model."""
        function = functools.partial(function, self._compute)
        inputs, workers = each_input(audio), self.place.workers
        return hear(function, cutter, inputs, self.batch_size, self._devices, workers)

    # --- text -------------------------------------------------------------------------------

    def embed_text(self, texts: Iterable[str] | str) -> np.ndarray:
        """Embeds captions.

        One warning says how many were longer than the model's limit, and cut; another one how many
        were empty, which has an embedding like any text.

        Args:
          texts: one caption or several.

        Returns:
          (N, D) float32, unit length.

        Raises:
          TypeError: something that is not text.
          ValueError: no text tower.
        """
        self.require("text")
        if isinstance(texts, bytes) or not isinstance(texts, Iterable):
            raise TypeError(f"embed_text: expected a string or several, not {type(texts)}")
        texts = [texts] if isinstance(texts, str) else list(texts)
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"text {index}: expected a string, not {type(text)}")
        empty = [index for index, text in enumerate(texts) if not text.strip()]
        if empty:
            warn(f"{len(empty)} of {len(texts)} texts are empty; the first is text {empty[0]}")
        cut: list[int] = []
        rows = dict(
            in_batches(
                self._tokens(texts, cut),
                functools.partial(self._text, self._compute),
                lambda length: self.batch_size,
            )
        )
        if cut:
            warn(
                f"{len(cut)} of {len(texts)} texts are longer than the model's "
                f"{self.config.text.max_length} tokens and were cut; the first is text {cut[0]}"
            )
        return self._stack(rows)

    def _tokens(self, texts: list[str], cut: list[int]) -> Iterator:
        """(index, (ids (L,), mask (L,))) of each text; the indices of texts cut go to `cut`."""
        limit = self.config.text.max_length
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            part = texts[start : start + TEXTS_AT_ONCE]
            ids, mask = tokenize(self.tokenizer, part, limit)
            counts = mask.sum(axis=1)
            full = np.flatnonzero(counts == limit)
            if full.size:
                whole = self.tokenizer([part[i] for i in full], verbose=False)["input_ids"]
                longer = np.array([len(tokens) > limit for tokens in whole])
                cut += (start + full[longer]).tolist()
            for row, count in enumerate(counts):
                length = min(limit, static_length(count, SHORTEST_TEXT))
                yield start + row, (ids[row, :length], mask[row, :length])

    # --- both -------------------------------------------------------------------------------

    def similarity(self, audio: np.ndarray, text: np.ndarray) -> np.ndarray:
        """Cosine of (N, D) audio and (M, D) text embeddings: (N, M) float32."""
        return np.asarray(audio, np.float32) @ np.asarray(text, np.float32).T

    def classify(
        self,
        audio: Iterable[Audio] | Audio,
        labels: Iterable[str],
        template: str | Iterable[str] = TEMPLATE,
        *,
        multi_label: bool = False,
        sampling_rate: int | None = None,
        long: str | None = None,
        hop: float | None = None,
    ) -> list[dict[str, float]]:
        """Zero-shot classification.

        Args:
          audio, sampling_rate, long, hop: as for `embed_audio`.
          labels: class names, put into the template with spaces for underscores.
          template: a caption with one {}, or several of them, whose mean counts.
          multi_label: each label for itself, as several may be there, or none. The probability is
            that of its caption rather than one that names nothing ("something" in the template), or
            of a model trained with the sigmoid loss its own. It is not calibrated: what is there at
            which score `clapjax eval` measures.

        Returns:
          For each clip, {label: probability}, most probable first: softmax of the scaled cosines.

        Raises:
          ValueError: no labels, one of them twice or no name, a single one without `multi_label`
            (it would always have 100 %), or a template without a place for the label.
        """
        names = class_names(labels)
        template = template if isinstance(template, str) else list(template)
        text = self.embed_labels(names, template)
        against = self.embed_labels([NEUTRAL], template) if multi_label else None
        heard = self.embed_audio(audio, sampling_rate, long=long, hop=hop)
        return self.rank(heard, text, names, against)

    def embed_labels(
        self, labels: Iterable[str], template: str | Iterable[str] = TEMPLATE
    ) -> np.ndarray:
        """(C, D) embeddings of class names in a template or several; errors as `classify`."""
        names = class_names(labels)
        prompts = fill_templates(names, template)  # (C, P)
        rows = self.embed_text([text for texts in prompts for text in texts])
        return np.stack([mean_direction(part) for part in np.split(rows, len(names))])

    def rank(
        self,
        audio: np.ndarray,
        text: np.ndarray,
        labels: Iterable[str],
        against: np.ndarray | None = None,
    ) -> list[dict[str, float]]:
        """{label: probability} of (N, D) audio, most probable first.

        Args:
          audio: embeddings.
          text: (C, D), of `embed_labels`.
          labels: C names.
          against: (1, D), of `embed_labels([NEUTRAL])`: each label for itself, as `classify` has
            it with `multi_label`.

        Raises:
          ValueError: one label, and nothing to tell it from.
        """
        labels = list(labels)
        logits = self.scale * self.similarity(audio, text)  # (N, C)
        if against is None:
            found = probabilities(logits)
        elif "logit_bias" in self.params:
            found = expit(logits + float(np.asarray(self.params["logit_bias"])))
        else:
            found = expit(logits - self.scale * self.similarity(audio, against))
        return [
            {labels[i]: float(row[i]) for i in np.argsort(-row, kind="stable")} for row in found
        ]

    def save(self, folder: str | os.PathLike, layout: str | None = None) -> None:
        """Writes the model as a folder: `clapjax.save`."""
        import clapjax

        clapjax.save(self, folder, layout)

    def require(self, tower: str) -> None:
        """Raises ValueError where there is no "audio" or "text" tower."""
        if f"{tower}_projection" not in self.params:
            raise ValueError(
                f"this model was loaded without its {tower} tower; load it with towers='both'"
            )

    def _stack(self, rows: dict[int, np.ndarray]) -> np.ndarray:
        if not rows:
            return np.zeros((0, self.config.projection_size), np.float32)
        return np.stack([rows[index] for index in range(len(rows))])
