"""A captioner ready to use: what a recording sounds like, in words."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from clapjax.audio.files import AudioError
from clapjax.inference.batches import in_batches
from clapjax.inference.clap import Clap
from clapjax.inference.forward import in_float32
from clapjax.inference.hear import make_cutter
from clapjax.inference.inputs import Audio, each_input
from clapjax.inference.pieces import Failure, stream
from clapjax.inference.place import Place, describe_model, find_place
from clapjax.models.config import ClapConfig, DecodingConfig
from clapjax.plain import check_count
from clapjax.tasks.captioning import CaptioningConfig, caption_clips
from clapjax.tasks.guidance import (
    Marks,
    caption_text,
    find_marks,
    guidance_ids,
    guidance_text,
)
from clapjax.tasks.task import Setting


class Caption(NamedTuple):
    """What a captioner says of a recording."""

    text: str
    log_probability: float  # the sum over its tokens
    similarity: float | None = None  # cosine to the recording, where a CLAP model has ranked


class Told(NamedTuple):
    """A recording, and what its captions depend on besides."""

    audio: Audio
    guidance: str = ""  # of `clapjax.tasks.guidance.guidance_text`
    key: tuple[int, int] = (0, 0)  # numbers of 32 bits, for words that are drawn


class Captioner:
    """A model that a run of the captioning task has trained, ready to write.

    As with `Clap`, the same input gives the same captions, alone or among others, and `long=` says
    how audio is heard that is longer than a clip: "truncate", "fusion" or "whole".
    """

    def __init__(
        self,
        config: ClapConfig,
        settings: CaptioningConfig,
        tokenizer,
        variables: dict,
        batch_size: int = 16,
        forward: Mapping[str, Callable] | None = None,
        *,
        place: Place | None = None,
    ):
        """`settings` has the tokenizer's vocabulary; `place` is as of `Clap`.

        With `forward` it computes by that function, "caption", as the captioning task has it, on
        the devices on which its variables are (`clapjax.training.rows.make_forward`), and decodes
        as `settings` has it alone.
        """
        check_count(batch_size, "batch_size")
        words = variables["params"]["decoder"]["word"]["embedding"].shape[0]
        if len(tokenizer) != words:
            raise ValueError(f"the tokenizer has {len(tokenizer)} tokens, and the model {words}")
        self.config, self.settings, self.tokenizer = config, settings, tokenizer
        self.batch_size = batch_size
        self._forward = forward and forward["caption"]
        self.place = place = place or find_place()
        if forward is None:
            variables = jax.device_put(variables, place.device)
        self.variables = variables
        self._devices = len(jax.tree.leaves(variables)[0].sharding.device_set)

    def __repr__(self) -> str:
        return describe_model(self, self.place, f"{len(self.tokenizer)} tokens")

    def caption(
        self,
        audio: Iterable[Audio] | Audio,
        sampling_rate: int | None = None,
        *,
        tags: Sequence[str] | Sequence[Sequence[str]] = (),
        **options,
    ) -> list[str]:
        """A caption of each recording.

        Args:
          audio, sampling_rate: as `Clap.embed_audio` has them.
          tags: labels of what sounds, which guide the words: of all inputs, or a sequence of them
            for each input.
          options: of `each`.

        Returns:
          N captions, of each recording the best one.

        Raises:
          AudioError: an input that is missing, broken, empty or of the wrong kind.
          ValueError: as `each`.
        """
        found: dict[int, str] = {}
        for index, captions in self.each(audio, sampling_rate, tags=tags, **options):
            if isinstance(captions, AudioError):
                raise captions
            found[index] = captions[0].text if captions else ""
        return [found[index] for index in range(len(found))]

    def each(
        self,
        audio: Iterable[Audio] | Audio,
        sampling_rate: int | None = None,
        *,
        tags: Sequence[str] | Sequence[Sequence[str]] = (),
        order: str | Sequence[str] = "",
        style: str | Sequence[str] = "",
        decoding: DecodingConfig | None = None,
        seed: int = 0,
        long: str | None = None,
        rank: Clap | None = None,
    ) -> Iterator[tuple[int, list[Caption] | AudioError]]:
        """Captions of recordings one by one; a broken input does not stop the others.

        Args:
          audio, sampling_rate, tags: as `caption` has them.
          order: how the events follow one another, of `clapjax.tasks.guidance.ORDERS`, "" if that
            is not known; it guides as the tags do. Of all inputs, or of each.
          style: the data set whose captions are written like, "" for none in particular. Of all
            inputs, or of each.
          decoding: how words are chosen; None: as the run was configured.
          seed: of words that are drawn; with it and the number of the input they are the same.
          long: see the class.
          rank: a CLAP model by whose cosine to the recording the captions are put in order. The
            inputs are then gone through twice.

        Yields:
          (number of the input, up to `decoding.count` different captions, the best one first, or
          its error). Inputs of another length may come first.

        Raises:
          ValueError: no such `long` or one that this model has not, or settings that it cannot
            decode with.
        """
        if rank is not None:
            audio = list(each_input(audio))

        def inputs() -> Iterator[Told]:
            for index, item in enumerate(each_input(audio)):
                told = order if isinstance(order, str) else order[index]
                like = style if isinstance(style, str) else style[index]
                text = guidance_text(tags_of(tags, index), told, like)
                yield Told(item, text, (seed % 2**32, index % 2**32))

        said = self.write(inputs(), sampling_rate, decoding, long)
        if rank is None:
            yield from said
            return
        said = dict(said)
        for index, heard in rank.each_audio(audio, sampling_rate):
            found = said.pop(index)
            if isinstance(found, AudioError) or isinstance(heard, AudioError):
                yield index, found if isinstance(found, AudioError) else heard
            else:
                yield index, ranked([found], [heard], rank)[0]

    def write(
        self,
        inputs: Iterable[Told],
        sampling_rate: int | None = None,
        decoding: DecodingConfig | None = None,
        long: str | None = None,
    ) -> Iterator[tuple[int, list[Caption] | AudioError]]:
        """`each` of inputs that are told one by one; captions in the order of the model itself."""
        if long == "windows":
            raise ValueError("long='windows': a caption is of one clip; cut the recording yourself")
        cutter = make_cutter(self.config, sampling_rate, long)
        run = self._function(self.settings.decoding if decoding is None else decoding)
        waiting: dict[int, Told] = {}  # without their audio

        @functools.lru_cache(maxsize=4096)
        def tokens(guidance: str) -> tuple[np.ndarray, np.ndarray]:
            ids, real = guidance_ids(self.tokenizer, [guidance], self.settings.decoder)
            return ids[0], real[0]

        def audio() -> Iterator[Audio]:
            for index, told in enumerate(inputs):
                waiting[index] = told._replace(audio=b"")
                yield told.audio

        def rows() -> Iterator:
            for part in stream(cutter, audio(), self.place.workers):
                told = waiting.pop(part.index)
                if isinstance(part, Failure):
                    yield part, None
                else:
                    key = np.array(told.key, np.uint32)
                    length = np.int32(part.length)
                    yield part, (part.samples, length, *tokens(told.guidance), key)

        def at_once(length: int) -> int:
            clips = self.batch_size // self._devices * self.config.audio.clip_samples // length
            return self._devices * max(1, clips)

        for part, found in in_batches(rows(), functools.partial(run, self.variables), at_once):
            if isinstance(part, Failure):
                yield part.index, part.error
                continue
            captions = {}
            for ids, total in zip(*(x.tolist() for x in found), strict=True):
                text = caption_text(self.tokenizer, ids)
                if np.isfinite(total) and text:
                    captions.setdefault(text, Caption(text, total))
            yield part.index, list(captions.values())

    def _function(self, decoding: DecodingConfig) -> Callable:
        """A function of (variables, arrays of a batch) to tokens and log probabilities."""
        if self._forward is not None:
            if decoding != self.settings.decoding:
                raise ValueError("decoding: this model decodes as its run was configured")
            return self._forward
        config, place, marks = self.config, self.place, find_marks(self.tokenizer)
        settings = place.at_work(config), self.settings, decoding, marks
        return _compiled(*settings, place.device, place.exact)


@functools.lru_cache(maxsize=8)
def _compiled(
    config: ClapConfig,
    settings: CaptioningConfig,
    decoding: DecodingConfig,
    marks: Marks,
    device: jax.Device,
    exact: bool,
) -> Callable:
    """The function of a configuration; what one captioner compiles, others of it find."""
    where = Setting(jax.sharding.Mesh(np.array([device]), ("data",)))
    settings = config, settings, decoding, marks
    function = functools.partial(caption_clips, *settings, setting=where)
    return jax.jit(in_float32(function) if exact else function)


def tags_of(tags: Sequence[str] | Sequence[Sequence[str]], index: int) -> Sequence[str]:
    """The tags of an input, from those of all or of each.

    Raises:
      ValueError: there are tags of each input, but not so many; or one string for a list.
    """
    if isinstance(tags, str):
        raise ValueError(f"tags: a list of names, not {tags!r}")
    if not len(tags) or isinstance(tags[0], str):
        return tags
    if index >= len(tags):
        raise ValueError(f"tags: there are {len(tags)} lists of them, and more inputs")
    return tags[index]


def ranked(
    captions: Sequence[list[Caption]], heard: Sequence[np.ndarray], clap: Clap
) -> list[list[Caption]]:
    """The captions of some recordings with their cosines, of each recording the closest first.

    Args:
      captions: of N recordings.
      heard: N embeddings (D,) of them.
      clap: whose they are.
    """
    texts = [one.text for some in captions for one in some]
    rows = iter(clap.embed_text(texts))
    found = []
    for some, audio in zip(captions, heard, strict=True):
        cosines = [float(clap.similarity(audio[None], next(rows)[None])[0, 0]) for _ in some]
        scored = [one._replace(similarity=x) for one, x in zip(some, cosines, strict=True)]
        found.append(sorted(scored, key=lambda one: -one.similarity))
    return found
