"""Benchmarks and models whose answers are known."""

from types import SimpleNamespace

import numpy as np

from clapjax.audio.files import AudioError
from clapjax.evaluation.benchmarks import Benchmark, Judged
from clapjax.evaluation.embed import Embedded

RATE = 8000  # Hz


def unit(*shape, seed=0):
    x = np.random.default_rng(seed).normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def benchmark(clips, sounds=None, name="set", data="f") -> Benchmark:
    """Clips whose sounds are [number, number], negated in a wrong order."""

    def default(rate, first=0):
        for index, clip in enumerate(clips[first:], first):
            yield index, False, np.full(2, index, np.int16)
            if clip.negative_audio:
                yield index, True, np.full(2, -index, np.int16)

    return Benchmark(name, "path", "test", data, tuple(clips), sounds or default)


def embedded(clips: list[Judged], audio, texts: dict, negative=None, others=None) -> Embedded:
    """As if a model had given these embeddings; `negative` is {clip: (D,)}.

    `others` is {path: embedded}.
    """
    negative, others = negative or {}, others or {}
    audio = np.asarray(audio, np.float32)
    return Embedded(
        "model",
        benchmark(clips),
        audio,
        np.array(list(negative.values()), np.float32).reshape(-1, audio.shape[1]),
        np.array(list(negative), np.int64),
        lambda wanted: np.array([texts[text] for text in wanted], np.float32),
        lambda other: others[other.path],
        {"data": "f", "split": "test"},
    )


class Numbers:
    """Hears a sound as the angle of its number; reads "3" as that of 3. Counts what it does."""

    def __init__(self, fails=(), stops_at=None):
        self.config = SimpleNamespace(audio=SimpleNamespace(sample_rate=RATE))
        self.heard, self.read, self.fails, self.stops_at = [], [], set(fails), stops_at

    def _row(self, number):
        return np.array([np.cos(number / 100), np.sin(number / 100)], np.float32)

    def each_audio(self, audio, *, sampling_rate, long=None, hop=None):
        for place, samples in enumerate(audio):
            number = int(np.asarray(samples)[0])
            if number == self.stops_at:
                raise KeyboardInterrupt
            self.heard.append(number)
            yield place, AudioError("broken") if number in self.fails else self._row(number)

    def embed_text(self, texts):
        self.read += texts
        return np.stack([self._row(float(text)) for text in texts])
