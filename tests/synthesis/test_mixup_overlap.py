"""Mixtures in which events sound together, in rooms and before noise, of pure tones."""

import dataclasses
import hashlib
import itertools
import re

import numpy as np
import pytest
import soundfile

from clapjax.captions.templates import order_captions, together_captions
from clapjax.data.sources.clip import Clip, Recording
from clapjax.synthesis.loudness import loudness
from clapjax.synthesis.mixup import MixupConfig, draw_mixture
from clapjax.synthesis.segments import lay_over

RATE = 8_000
TONES = {"tone a": 500.0, "tone b": 1000.0, "tone c": 1500.0, "tone d": 2000.0, "tone e": 2500.0}
PLAIN = MixupConfig(captions=2)
OVERLAP = dataclasses.replace(PLAIN, overlap_share=1.0, max_events=5)


def _tone(label: str, seconds: float = 6.0, amplitude: float = 0.3) -> Recording:
    time = np.arange(int(seconds * RATE)) / RATE
    samples = (amplitude * 32767 * np.sin(2 * np.pi * TONES[label] * time)).astype(np.int16)
    clip = Clip(label, label, fold=1, group=label, source=f"test:{label}", read=None)
    return Recording(clip, samples)


BY_LABEL = {label: [_tone(label)] for label in TONES}


def _draw(index: int, config: MixupConfig, *, seed: int = 0, by_label=BY_LABEL, wrong=True):
    return draw_mixture(by_label, RATE, config, seed, "train", index, negative_audio=wrong)


def _spans(audio: np.ndarray) -> dict[str, tuple[float, float]]:
    """Label to when its tone is heard, in s."""
    frames = audio[: audio.size // 160 * 160].reshape(-1, 160).astype(np.float64)
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(160), axis=1))  # 50 Hz apart
    spans = {}
    for label, hertz in TONES.items():
        heard = np.flatnonzero(spectrum[:, round(hertz / 50)] > 0.02 * spectrum.max())
        if heard.size > 3:
            spans[label] = (heard[0] * 0.02, (heard[-1] + 1) * 0.02)
    return spans


def _check_order(audio: np.ndarray, steps: list[list[str]]) -> None:
    spans = _spans(audio)
    assert sorted(spans) == sorted(label for step in steps for label in step)
    for early, late in itertools.pairwise(steps):
        for a, b in itertools.product(early, late):
            assert spans[a][1] <= spans[b][0] + 0.2 + 0.05, (steps, spans)  # but for the cross-fade
    for step in steps:
        if len(step) == 2:
            short, long = sorted((spans[label] for label in step), key=lambda s: s[1] - s[0])
            assert long[0] - 0.03 <= short[0] and short[1] <= long[1] + 0.03


@pytest.mark.parametrize("index", range(25))
def test_audio_captions_and_events_say_the_same(index):
    example = _draw(index, OVERLAP)
    steps = [entry.split(" + ") for entry in example.events]
    labels = [label for step in steps for label in step]
    assert 2 <= len(set(labels)) == len(labels) <= 5
    assert example.labels == tuple(sorted(labels))
    assert max(map(len, steps)) == 2 and all(step == sorted(step) for step in steps)
    assert not example.problems() and example.audio.size <= 10 * RATE
    _check_order(example.audio, steps)
    for caption in example.captions:
        assert _told(caption, TONES) == [set(step) for step in steps], caption
    if len(steps) == 1:
        assert example.negative_captions == () and example.negative_audio is None
        return
    assert example.negative_audio.size == example.audio.size
    spans = _spans(example.negative_audio)
    said = sorted(steps, key=lambda step: min(spans[label][0] for label in step))
    assert said != steps
    _check_order(example.negative_audio, said)


# What may stand between two mentions, and whether the one said first sounds first.
LINKS = {
    "followed by": True, "preceded by": False, "and after that": True, "before": True,
    "after": False, "and then": True, "then": True, "precedes": True, "follows": False,
}  # fmt: skip
AT_ONCE = ("while", "as", "over", "together with", "at the same time as", "and")


def _told(caption: str, names) -> list[set[str]]:
    """The steps of a caption in the order in which it says that they sound; commas part them."""
    text = re.sub(r"\b(?:the|a) sound of ", "", caption.lower())
    found = re.split(f"({'|'.join(names)})", text)
    opening, said, links = found[0].strip(), found[1::2], [x.strip() for x in found[2::2]]
    assert links.pop() == ""
    steps, directions = [{said[0]}], set()
    for link, name in zip(links, said[1:], strict=True):
        if link in AT_ONCE:
            steps[-1].add(name)
        else:
            steps.append({name})
            directions.add(LINKS.get(link.removeprefix(",").strip(), link))
    if opening in ("before", "after"):
        assert directions == {","}
        return steps if opening == "after" else steps[::-1]
    assert opening in ("", "first") and len(directions) <= 1
    return steps if True in directions or not directions else steps[::-1]


NAMES = ("dog", "rain", "sea waves", "chainsaw", "clock tick", "rooster")


@pytest.mark.parametrize("sizes", [(2, 1), (1, 2), (2, 2), (1, 2, 1), (2, 1, 2), (1, 1, 3)])
def test_no_negative_is_a_rearrangement_of_what_sounds_together(sizes):
    generator = np.random.default_rng(0)
    wordings = set()
    for _ in range(150):
        names = [NAMES[i] for i in generator.permutation(len(NAMES))]
        events = tuple(tuple(names.pop() for _ in range(size)) for size in sizes)
        right = [set(step) for step in events]
        positives, negatives = order_captions(events, 3, generator)
        for caption, negative in zip(positives, negatives, strict=True):
            assert _told(caption, NAMES) == right, caption
            wrong = _told(negative, NAMES)
            assert wrong != right, (caption, negative)
            assert sorted(map(sorted, wrong)) == sorted(map(sorted, right))
            assert sorted(negative.lower()) == sorted(caption.lower())  # the very same words
            wordings.add(re.sub("|".join(NAMES), "EVENT", caption.lower()))
    assert len(wordings) > 60


def test_together_captions_say_either_first():
    generator = np.random.default_rng(0)
    captions = together_captions(("dog", "rain"), 400, generator)
    assert all(_told(caption, NAMES) == [{"dog", "rain"}] for caption in captions)
    first = np.mean([c.lower().index("dog") < c.lower().index("rain") for c in captions])
    assert first == pytest.approx(0.5, abs=0.08)
    assert {link for link in AT_ONCE[:-1] if any(f" {link} " in c for c in captions)} == set(
        AT_ONCE[:-1]
    )


def test_the_same_event_twice_in_a_step_is_refused():
    with pytest.raises(ValueError, match="distinct events"):
        order_captions((("dog", "rain"), "dog"), 1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="needs two or more"):
        order_captions((("dog", "rain"),), 1, np.random.default_rng(0))


def test_share_of_overlaps():
    half = dataclasses.replace(OVERLAP, overlap_share=0.5, min_events=3)
    short = {label: [_tone(label, 0.1)] for label in TONES}
    events = [_draw(i, half, by_label=short, wrong=False).events for i in range(200)]
    overlapping = [any(" + " in entry for entry in example) for example in events]
    assert np.mean(overlapping) == pytest.approx(0.5, abs=0.1)
    counts = {len(" + ".join(example).split(" + ")) for example in events}
    assert counts == {3, 4, 5}


@pytest.mark.parametrize("difference", [0.0, 4.0])
def test_a_pair_differs_little_in_loudness(difference):
    first, second = _tone("tone a", 2).samples / 32767, _tone("tone d", 2, 0.01).samples / 32767
    found = []
    for seed in range(30):
        both = lay_over(first, second, RATE, difference, np.random.default_rng(seed))
        assert both.size == 2 * RATE and np.abs(both).max() <= 0.99 + 1e-6
        added = both - first * (both @ first) / (first @ first)  # what is not tone a
        found.append(loudness(added, RATE) - loudness(both - added, RATE))
    assert np.abs(found).max() <= difference + 0.01
    assert max(found) - min(found) >= 1.5 * difference


def test_events_come_to_the_target_loudness():
    config = dataclasses.replace(
        PLAIN, normalize_loudness=True, target_lufs=-30.0, level_jitter_db=3.0,
        max_crossfade_seconds=0.0, max_gap_seconds=0.0,
    )  # fmt: skip
    loud = {label: [_tone(label, 4.0, 10 ** -(i / 2))] for i, label in enumerate(TONES)}
    found = []
    for index in range(25):
        example = _draw(index, config, by_label=loud)
        for start, end in _spans(example.audio).values():
            part = example.audio[round(start * RATE) + 400 : round(end * RATE) - 400] / 32767
            found.append(loudness(part, RATE))
    assert -33.2 < min(found) < -32 and -28 < max(found) < -26.8  # over 40 dB of recorded levels


def test_nothing_clips_for_loudness():
    config = dataclasses.replace(OVERLAP, normalize_loudness=True, target_lufs=0.0)
    for index in range(8):
        assert np.abs(_draw(index, config).audio.astype(int)).max() <= 0.99 * 32767 + 1


ROOM = dataclasses.replace(
    PLAIN, reverb_share=1.0, min_reverb_seconds=0.4, max_reverb_seconds=0.4, clip_seconds=12.0
)


def test_a_room_rings_on_and_keeps_the_order():
    dry = dataclasses.replace(PLAIN, clip_seconds=12.0)
    for index in range(6):
        wet, plain = _draw(index, ROOM), _draw(index, dry)
        assert wet.captions == plain.captions and wet.events == plain.events
        assert wet.audio.size == plain.audio.size + 0.4 * RATE == wet.negative_audio.size
        tail = wet.audio[plain.audio.size :].astype(float)
        assert np.square(tail[:400]).mean() > 10 * np.square(tail[1600:2000]).mean() > 0
        spans = _spans(wet.audio)
        assert tuple(sorted(spans, key=lambda label: spans[label][0])) == wet.events


def test_a_measured_room(tmp_path):
    echo = np.zeros(RATE)
    echo[100], echo[100 + RATE // 2] = 0.8, 0.4
    soundfile.write(tmp_path / "hall.wav", echo, RATE, subtype="FLOAT")
    config = dataclasses.replace(ROOM, impulse_responses=str(tmp_path), level_jitter_db=0.0)
    dry = dataclasses.replace(config, reverb_share=0.0)
    wet, plain = _draw(0, config).audio / 32767, _draw(0, dry).audio / 32767
    wanted = np.pad(plain, (0, RATE - 100 - 1))
    wanted[RATE // 2 :][: plain.size] += 0.5 * plain
    np.testing.assert_allclose(wet, wanted, atol=2e-4)


@pytest.mark.parametrize("kind", ["folder", "labels"])
def test_background_noise(kind, tmp_path):
    """What is added to the mixture is the noise, at a ratio within the limits."""
    limits = {"min_snr_db": 3.0, "max_snr_db": 9.0, "background_share": 1.0}
    if kind == "folder":
        noise = np.random.default_rng(0).normal(0, 0.1, RATE)
        soundfile.write(tmp_path / "street.wav", noise, RATE)
        noisy = dataclasses.replace(PLAIN, background=str(tmp_path), **limits)
        name = "background:street.wav"
    else:
        noisy = dataclasses.replace(PLAIN, background_labels=("tone e", "tone x"), **limits)
        name = "test:tone e"
    ratios = []
    for index in range(12):
        example = _draw(index, noisy)
        assert example.source.split(" + ")[-1] == name
        assert kind == "folder" or "tone e" not in example.labels
        assert example.audio.size == example.negative_audio.size
        # Every tone is a sine of its own; in noise, the rest of the spectrum is the noise.
        spectrum = np.square(np.abs(np.fft.rfft(example.audio / 32767)))
        hertz = np.fft.rfftfreq(example.audio.size, 1 / RATE)
        near = [np.abs(hertz - TONES[label]) < 100 for label in example.events]
        events = np.any(near, axis=0)
        if kind == "folder":  # white: what it has beside the tones, it has under them
            hum = spectrum[~events].mean() * spectrum.size
        else:
            hum = spectrum[~events].sum()
        ratios.append(10 * np.log10((spectrum.sum() - hum) / hum))
    assert 2.5 < min(ratios) < max(ratios) < 9.5 and max(ratios) - min(ratios) > 2


def test_noise_of_labels_that_are_not_there():
    config = dataclasses.replace(PLAIN, background_share=1.0, background_labels=("street",))
    with pytest.raises(ValueError, match="background_labels: no recordings of street; there are"):
        _draw(0, config)


ALL = dataclasses.replace(
    OVERLAP, normalize_loudness=True, reverb_share=0.5, overlap_share=0.5,
    background_share=0.5, background_labels=("tone e",), max_events=4,
)  # fmt: skip


def test_everything_is_keyed():
    for index in range(6):
        first, again, other = _draw(index, ALL), _draw(index, ALL), _draw(index, ALL, seed=1)
        assert first.audio.tobytes() == again.audio.tobytes() != other.audio.tobytes()
        assert first.to_record()["negative_audio"].tobytes() == (
            again.to_record()["negative_audio"].tobytes()
        )
        for name in ("captions", "negative_captions", "events", "source"):
            assert getattr(first, name) == getattr(again, name)
        assert _draw(index, ALL, wrong=False).audio.tobytes() == first.audio.tobytes()


def test_without_new_settings_the_mixtures_are_those_of_old():
    """Shipped results are of these; the numbers are of clapjax before events could overlap."""
    digest, levels = hashlib.sha256(), []
    for index in range(5):
        example = _draw(index, dataclasses.replace(PLAIN, max_events=3))
        texts = (example.id, example.captions, example.negative_captions, example.events)
        sizes = (example.audio.size, example.negative_audio.size, example.labels, example.source)
        digest.update(repr((texts, sizes)).encode())
        levels.append(np.abs(example.audio.astype(float)).mean())
    assert digest.hexdigest()[:16] == "b88942edc9d0ea82"
    assert levels == pytest.approx([5416.84, 3428.67, 4392.01, 9076.58, 4394.15], abs=0.1)


def test_names_with_commas_are_said_as_words():
    by_label = {
        label: [
            dataclasses.replace(recording, clip=dataclasses.replace(recording.clip, label=label))
        ]
        for label, recording in (
            ("Male speech, man speaking", BY_LABEL["tone a"][0]),
            ("Bark", BY_LABEL["tone b"][0]),
        )
    }
    example = _draw(0, PLAIN, by_label=by_label)
    assert example.labels == ("Bark", "Male speech, man speaking")
    assert all("man speaking" not in caption for caption in example.captions)
    assert _told(example.captions[0].lower(), ("male speech", "bark")) == [
        {"bark"} if event == "Bark" else {"male speech"} for event in example.events
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"overlap_share": 1.5}, "synthesis.overlap_share must be in 0..1, not 1.5"),
        ({"reverb_share": -0.1}, "synthesis.reverb_share must be in 0..1"),
        ({"together_db": -1.0}, "synthesis.together_db must be >= 0"),
        ({"target_lufs": 3.0}, "synthesis.target_lufs must be in -70..0, not 3.0"),
        ({"min_reverb_seconds": 0.0}, "min_reverb_seconds <= max_reverb_seconds"),
        ({"min_snr_db": 30.0}, "min_snr_db <= max_snr_db"),
        ({"background_share": 0.5}, "background_share goes with background or background_labels"),
        ({"background": "noise"}, "background_share goes with"),
        (
            {"background_share": 0.5, "background": "noise", "background_labels": ("wind",)},
            "either background or background_labels",
        ),
    ],
)
def test_config_errors_name_the_setting(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        dataclasses.replace(PLAIN, **change)
