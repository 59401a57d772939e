"""Queries among distractors: what sounds, and when, read back from the audio."""

import dataclasses
import itertools
import re

import numpy as np
import pytest

from clapjax.data.schema import PROBE
from clapjax.synthesis.compositional import KINDS, LASTS, count_queries, draw_query, scenes
from clapjax.synthesis.mixup import MixupConfig
from clapjax.synthesis.segments import PAUSE, sustain
from tests.synthesis.tones import BY_LABEL, FRAME, RATE, TONES, heard, spans, tone

CONFIG = MixupConfig(queries=6, distractors=4)


def draw(kind, number, by_label=BY_LABEL, seed=0):
    return list(draw_query(by_label, RATE, CONFIG, seed, "test", number, kind=kind))


def told(example) -> dict[str, tuple[float, float]]:
    """What `source` tells: label to when it sounds, in s."""
    parts = [re.fullmatch(r"test:(tone .)-\d@(.+)-(.+)", p) for p in example.source.split(" + ")]
    return {part[1]: (float(part[2]), float(part[3])) for part in parts}


def together(example) -> float:
    """Part of the shorter event of two in which both sound."""
    one, other = (heard(example.audio)[label] for label in example.labels)
    return (one & other).sum() / min(one.sum(), other.sum())


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_every_clip_holds_what_its_record_says(kind, number):
    right, *wrong = draw(kind, number)
    assert len(wrong) == CONFIG.distractors
    for place, example in enumerate([right, *wrong]):
        assert not example.problems() and example.provenance == f"{PROBE}{kind}"
        assert example.id == f"test/{kind}/{number:04d}/{place:02d}"
        assert example.audio.size == CONFIG.clip_seconds * RATE  # length tells nothing
        assert example.negative_captions == (right.captions if place else ())
        found = spans(example.audio)
        assert tuple(sorted(found)) == example.labels  # nothing else has any energy
        for label, times in told(example).items():
            assert found[label] == pytest.approx(times, abs=2.1 * FRAME / RATE)
        steps = [entry.split(" + ") for entry in example.events]
        for early, late in itertools.pairwise(steps):
            assert max(told(example)[x][1] for x in early) <= min(told(example)[x][0] for x in late)
        for step in steps:
            assert len(step) < 2 or together(example) > 0.95
        assert len(steps) < 2 or together(example) == 0
        said = {label for label in TONES if label in example.captions[0].lower()}
        if kind == "negation" and not place:
            assert said == {*wrong[0].labels} > {*example.labels}
        else:
            assert said == {*example.labels}


def test_sounds_of_a_moment_overlap_all_the_same():
    """A bark and a knock in five seconds of silence each."""
    short = {label: [tone(label, take, pulse=0.2) for take in range(3)] for label in TONES}
    for number in range(8):
        for example in draw("overlap", number, short):
            if len(example.events) == 1:
                assert together(example) > 0.75  # not where a repetition fades


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("kind", KINDS)
def test_distractors_differ_in_that_alone(kind, number):
    right, *wrong = draw(kind, number)
    for other in wrong:
        assert other.captions != right.captions
        if kind == "order":
            assert other.events == right.events[::-1] and len(right.events) == 2
        if kind == "overlap":
            assert other.labels == right.labels
            assert {len(other.events), len(right.events)} == {1, 2}
            assert (len(right.events) == 1) == (number % 2 == 0)
        if kind == "duration":
            assert other.labels == right.labels
            shares = [
                np.ptp(next(iter(told(x).values()))) / CONFIG.clip_seconds for x in (right, other)
            ]
            (low, high), (least, most) = LASTS if shares[0] > shares[1] else LASTS[::-1]
            assert low - 0.01 <= shares[0] <= high and least - 0.01 <= shares[1] <= most
            assert ("long" in right.captions[0] or "on and on" in right.captions[0]) == (
                shares[0] > 0.5
            )
        if kind == "negation":
            (alone,) = right.labels
            assert alone in other.labels and len(other.labels) == 2 and len(other.events) == 1
            (absent,) = {*other.labels} - {alone}
            assert re.search(f"(but no|without|and no) .*{absent}", right.captions[0].lower())
        if kind == "mix":
            assert len({*other.labels} & {*right.labels}) == 1
            assert len(right.events) == len(other.events) == 1
    if kind == "overlap" and number % 2 == 0:
        assert len({other.events for other in wrong}) == 2  # either first
    if kind == "mix":
        assert len({other.labels for other in wrong}) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_distractor_is_of_the_same_recordings(kind):
    for number in range(6):
        right, first, *others = draw(kind, number)
        shared = set(right.origin.split(";")) & set(first.origin.split(";"))
        assert len(shared) == {"mix": 1, "negation": 1, "duration": 1}.get(kind, 2)
    assert len({other.source for other in others}) == len(others)


@pytest.mark.parametrize("kind", KINDS)
def test_no_query_comes_twice(kind):
    labels = list(TONES)
    count = count_queries(kind, len(labels), 1000)
    assert count == {"duration": 36}.get(kind, 30)
    assert count_queries(kind, len(labels), 7) == 7
    asked = [scenes(kind, number, labels, 2, 0)[0] for number in range(count)]
    contents = {(s.steps, s.lasts, s.caption) for s in asked}
    assert len(contents) == count
    assert [scenes(kind, n, labels, 2, 1)[0] for n in range(count)] != asked


def test_same_arguments_same_bytes():
    for kind in KINDS:
        for one, other in zip(
            draw(kind, 1), draw(kind, 1, dict(reversed(BY_LABEL.items()))), strict=True
        ):
            assert one.audio.tobytes() == other.audio.tobytes()
            assert dataclasses.replace(one, audio=other.audio) == other
    assert draw("mix", 1, seed=1)[0].captions != draw("mix", 1)[0].captions


@pytest.mark.parametrize("pulse", [0.15, 1.0])
def test_a_long_sound_of_a_short_recording_has_no_pause(pulse):
    """A bark in five seconds of silence goes on when it is to be long."""
    samples = tone("tone a", 0, pulse=pulse).samples / 32767
    for length in (RATE // 2, 7 * RATE):
        long = sustain(samples, length, RATE)
        assert long.size == length
        quiet = np.flatnonzero(np.abs(long) > 0.01)
        assert np.diff(quiet, prepend=0, append=length).max() < PAUSE * RATE
