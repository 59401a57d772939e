"""Mix-up in time: crops, joins, and mixtures of pure tones whose order a spectrum reads back."""

import dataclasses

import numpy as np
import pytest

from clapjax.data.sources.clip import Clip, Recording
from clapjax.synthesis.mixup import (
    MixupConfig,
    crop_sounding,
    draw_mixture,
    join,
    keyed_generator,
    mixture,
    single_event,
)

RATE = 8_000
TONES = {"tone a": 500.0, "tone b": 1000.0, "tone c": 1500.0, "tone d": 2000.0, "tone e": 2500.0}
CONFIG = MixupConfig(
    train_mixtures=1,
    test_mixtures=1,
    min_events=2,
    max_events=2,
    clip_seconds=10.0,
    min_event_seconds=2.5,
    max_event_seconds=5.0,
    max_gap_seconds=0.4,
    max_crossfade_seconds=0.2,
    level_jitter_db=6.0,
    captions=4,
)
THREE = dataclasses.replace(CONFIG, min_events=3, max_events=3)


def _tone(label: str, seconds: float = 5.0, amplitude: float = 0.5, index: int = 0) -> Recording:
    time = np.arange(int(seconds * RATE)) / RATE
    samples = amplitude * np.sin(2 * np.pi * TONES[label] * time)
    name = f"{label}-{index}".replace(" ", "_")
    clip = Clip(name, label, fold=1, group=name, source=f"test:{name}", read=lambda rate: samples)
    return Recording(clip, (samples * 32767).astype(np.int16))


BY_LABEL = {label: [_tone(label, index=i) for i in range(2)] for label in TONES}


def _heard(audio: np.ndarray) -> tuple[tuple[str, ...], dict[str, int], dict[str, float]]:
    """(labels in order of first frame, frames of each, level of each) of an int16 mixture."""
    frames = audio[: audio.size // 160 * 160].reshape(-1, 160).astype(np.float64)
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(160), axis=1))  # 50 Hz apart
    labels = list(TONES)
    bins = [round(TONES[label] / 50) for label in labels]
    loudest = spectrum[:, bins].argmax(1)
    sounding = spectrum[:, bins].max(1) > 1e-3 * spectrum.max()
    tracks = {label: np.flatnonzero(sounding & (loudest == i)) for i, label in enumerate(labels)}
    tracks = {label: where for label, where in tracks.items() if where.size}
    for where in tracks.values():
        assert np.ptp(where) < where.size + 1  # an event sounds in one piece
    order = tuple(sorted(tracks, key=lambda label: tracks[label][0]))
    peaks = np.abs(frames).max(1)  # their median is the tone's amplitude, cross-fades or not
    levels = {label: float(np.median(peaks[tracks[label]])) for label in order}
    return order, {label: tracks[label].size for label in order}, levels


def _draw(index: int, config: MixupConfig = CONFIG, seed: int = 0, by_label=None):
    by_label = BY_LABEL if by_label is None else by_label
    return draw_mixture(by_label, RATE, config, seed, "train", index, negative_audio=True)


@pytest.mark.parametrize("config", [CONFIG, THREE], ids=["two", "three"])
@pytest.mark.parametrize("index", range(12))
def test_audio_holds_the_events_in_their_order(config, index):
    example = _draw(index, config)
    order, frames, levels = _heard(example.audio)
    assert order == example.events
    assert len(set(order)) == config.max_events
    assert example.labels == tuple(sorted(example.events))
    assert not example.problems()

    wrong, wrong_frames, wrong_levels = _heard(example.negative_audio)
    assert wrong != order and sorted(wrong) == sorted(order)
    assert example.negative_audio.size == example.audio.size
    for label in order:  # the same segments: as long (but for cross-fades) and as loud
        assert wrong_frames[label] == pytest.approx(frames[label], abs=12)
        assert wrong_levels[label] == pytest.approx(levels[label], rel=0.01)
    if len(order) == 2:
        assert wrong == order[::-1]


def test_negative_audio_is_the_very_same_segments():
    """Without cross-fades, sample for sample."""
    config = dataclasses.replace(CONFIG, max_crossfade_seconds=0.0, max_gap_seconds=0.0)
    for index in range(5):
        example = _draw(index, config)
        size = example.audio.size
        cuts = [
            c
            for c in range(1, size)
            if (example.audio[c:] == example.negative_audio[: size - c]).all()
        ]
        assert any((example.audio[:c] == example.negative_audio[size - c :]).all() for c in cuts)


def test_same_arguments_same_bytes():
    first, again = _draw(3), _draw(3)
    assert first.audio.tobytes() == again.audio.tobytes()
    assert first.negative_audio.tobytes() == again.negative_audio.tobytes()
    for name in ("id", "captions", "negative_captions", "events", "source"):
        assert getattr(first, name) == getattr(again, name)


def test_order_of_the_classes_in_the_table_does_not_matter():
    backwards = dict(reversed(BY_LABEL.items()))
    assert _draw(3, by_label=backwards).audio.tobytes() == _draw(3).audio.tobytes()


def test_seed_split_and_index_each_change_the_mixture():
    def draw(seed, split, index):
        return draw_mixture(BY_LABEL, RATE, CONFIG, seed, split, index, negative_audio=False)

    keys = [(0, "train", 0), (1, "train", 0), (0, "test", 0), (0, "train", 1), (256, "train", 0)]
    assert len({draw(*key).audio.tobytes() for key in keys}) == len(keys)


def test_keyed_generator_depends_on_every_part_of_the_key():
    keys = [(0, "a", 1), (0, "a", 2), (0, "b", 1), (1, "a", 1), (0, "a", 11), (0, "a1", 1)]
    draws = [keyed_generator(*key).integers(2**62) for key in keys]
    assert len(set(draws)) == len(keys)
    assert draws == [keyed_generator(*key).integers(2**62) for key in keys]


def test_pairs_are_drawn_evenly_and_never_of_one_class():
    short = {label: [_tone(label, 0.05)] for label in TONES}
    config = dataclasses.replace(CONFIG, captions=1)
    events = [_draw(i, config, by_label=short).events for i in range(400)]
    assert all(a != b for a, b in events)
    assert len(set(events)) == 20
    firsts = np.unique([a for a, _ in events], return_counts=True)[1]
    assert firsts.min() > 50 and firsts.max() < 110


def test_number_of_events_covers_its_range():
    config = dataclasses.replace(CONFIG, max_events=4, captions=1)
    counts = [len(_draw(i, config).events) for i in range(40)]
    assert set(counts) == {2, 3, 4}
    two_classes = {label: BY_LABEL[label] for label in ("tone a", "tone b")}
    assert len(_draw(0, config, by_label=two_classes).events) == 2


def test_recordings_of_one_class_are_refused():
    with pytest.raises(ValueError, match="distinct events"):
        mixture(
            BY_LABEL["tone a"],
            RATE,
            CONFIG,
            np.random.default_rng(0),
            id="x",
            negative_audio=False,
        )


def test_captions_negatives_and_provenance():
    example = _draw(0)
    assert len(example.captions) == len(example.negative_captions) == CONFIG.captions
    assert example.provenance == "template" and example.sample_rate == RATE
    first, second = (f"test:{event.replace(' ', '_')}-" for event in example.events)
    assert example.source.startswith(first) and f" + {second}" in example.source
    silent = draw_mixture(BY_LABEL, RATE, CONFIG, 0, "train", 0, negative_audio=False)
    assert silent.negative_audio is None
    assert silent.audio.tobytes() == example.audio.tobytes()  # not a matter of what is asked for


@pytest.mark.parametrize("clip_seconds", [10.0, 6.0, 3.0])
def test_never_longer_than_the_clip(clip_seconds):
    config = dataclasses.replace(CONFIG, clip_seconds=clip_seconds, max_events=4, captions=1)
    sizes = [_draw(i, config).audio.size for i in range(40)]
    assert max(sizes) <= clip_seconds * RATE
    assert min(sizes) > 0.4 * clip_seconds * RATE


def test_durations_gaps_and_crossfades_stay_in_their_ranges():
    sizes = np.array([_draw(i).audio.size / RATE for i in range(200)])
    assert sizes.min() >= 2 * 2.5 - 0.2 - 1e-3
    assert sizes.max() <= 10.0
    assert sizes.max() - sizes.min() > 3.0
    apart = [np.flatnonzero(_draw(i).audio) for i in range(60)]
    silences = np.array([np.diff(where).max() / RATE for where in apart])  # longest run of zeros
    assert silences.max() <= 0.4 + 1e-3 and 0.2 < (silences > 0.01).mean() < 0.95


def test_full_scale_recordings_never_clip():
    loud = {label: [_tone(label, amplitude=1.0)] for label in TONES}
    minus = np.where(np.arange(5 * RATE) % 16 < 8, -32768, 32767).astype(np.int16)
    loud["tone a"] = [dataclasses.replace(loud["tone a"][0], samples=minus)]
    for index in range(30):
        example = _draw(index, by_label=loud)
        for samples in (example.audio, example.negative_audio):
            assert samples.dtype == np.int16
            assert np.abs(samples.astype(int)).max() <= 0.99 * 32767 + 1


def test_levels_move_both_ways_within_the_jitter():
    quiet = {label: [_tone(label, amplitude=0.1)] for label in TONES}
    levels = [x for i in range(60) for x in _heard(_draw(i, by_label=quiet).audio)[2].values()]
    decibels = 20 * np.log10(np.array(levels) / (0.1 * 32767))
    assert -6.1 < decibels.min() < -4 and 4 < decibels.max() < 6.1
    assert abs(decibels.mean()) < 1.2
    still = dataclasses.replace(CONFIG, level_jitter_db=0.0)
    levels = _heard(_draw(0, still, by_label=quiet).audio)[2].values()
    np.testing.assert_allclose(list(levels), 0.1 * 32767, rtol=0.01)


@pytest.mark.parametrize("config", [CONFIG, THREE], ids=["two", "three"])
@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.4])
def test_recordings_shorter_than_an_event_are_used_whole(config, seconds):
    short = {label: [_tone(label, seconds)] for label in TONES}
    for index in range(8):
        example = _draw(index, config, by_label=short)
        events = len(example.events)
        spread = (events - 1) * RATE
        assert -0.2 * spread <= example.audio.size - events * seconds * RATE <= 0.4 * spread
        assert _heard(example.audio)[0] == example.events
        assert example.negative_audio.size == example.audio.size


@pytest.mark.parametrize("case", range(60))
def test_crop_holds_the_loudest_moment(case):
    """A burst of 0.15 s anywhere in noise: at least its loudest frame is always inside."""
    generator = np.random.default_rng(case)
    size = int(generator.integers(RATE, 6 * RATE))
    size -= size % 400  # whole frames of 0.05 s
    length = int(generator.integers(RATE // 4, size))
    samples = generator.integers(-300, 300, size).astype(np.int16)
    burst = int(generator.integers(0, size - 1200))
    samples[burst : burst + 1200] = 20_000
    crop = crop_sounding(samples, length, RATE, generator)
    assert crop.size == length and crop.dtype == np.int16
    assert (crop == 20_000).sum() >= 400
    starts = np.flatnonzero(np.lib.stride_tricks.sliding_window_view(samples, 64)[:, 0] == crop[0])
    assert any(np.array_equal(samples[s : s + length], crop) for s in starts)


def test_crop_falls_everywhere_that_holds_the_moment():
    """Uniform over the allowed starts: the burst lies early, late and between."""
    samples = np.zeros(4 * RATE, np.int16)
    samples[2 * RATE : 2 * RATE + 400] = 10_000
    at = []
    for seed in range(300):
        crop = crop_sounding(samples, RATE, RATE, np.random.default_rng(seed))
        assert (crop == 10_000).sum() == 400
        at.append(int(crop.argmax()))
    assert min(at) < 200 and max(at) > RATE - 400 - 200
    assert np.mean(at) == pytest.approx((RATE - 400) / 2, rel=0.1)


@pytest.mark.parametrize("place", [0, 4 * RATE - 400])
def test_crop_at_the_edges_of_the_recording(place):
    samples = np.zeros(4 * RATE, np.int16)
    samples[place : place + 400] = 10_000
    for seed in range(20):
        crop = crop_sounding(samples, RATE, RATE, np.random.default_rng(seed))
        assert crop.size == RATE and (crop == 10_000).sum() == 400


def test_short_recording_comes_back_whole():
    samples = np.arange(100, dtype=np.int16)
    for length in (100, 101, 5000):
        crop = crop_sounding(samples, length, RATE, np.random.default_rng(0))
        np.testing.assert_array_equal(crop, samples)


def test_join_with_gaps():
    parts = [np.full(5, 1.0), np.full(4, 2.0), np.full(3, 3.0)]
    assert join(parts, [2, 0]).tolist() == [1] * 5 + [0, 0] + [2] * 4 + [3] * 3
    assert join(parts[:1], []).tolist() == [1] * 5


@pytest.mark.parametrize("overlap", [1, 2, 7, 50])
def test_cross_fade_has_equal_gain_and_the_right_length(overlap):
    """A constant stays constant; the first segment fades out while the second fades in."""
    ones = np.ones(50)
    joined = join([ones, ones, ones], [-overlap, -overlap])
    assert joined.size == 150 - 2 * overlap
    np.testing.assert_allclose(joined, 1.0, atol=1e-12)
    faded = join([ones, np.zeros(60)], [-overlap])
    assert faded.size == 110 - overlap
    np.testing.assert_array_equal(faded[: 50 - overlap], 1.0)
    np.testing.assert_array_equal(faded[50:], 0.0)
    ramp = faded[50 - overlap : 50]
    np.testing.assert_allclose(ramp, 1 - ramp[::-1], atol=1e-12)
    assert (np.diff(ramp) < 0).all()


def test_cross_fade_does_not_click():
    """From +1 to -1 over 400 samples: no step larger than a raised cosine's steepest."""
    joined = join([np.ones(1000), -np.ones(1000)], [-400])
    assert np.abs(np.diff(joined)).max() <= np.pi / 400 * 1.001


def test_cross_fade_longer_than_a_segment_uses_all_of_it():
    joined = join([np.ones(10), np.ones(100)], [-30])
    assert joined.size == 100
    np.testing.assert_allclose(joined, 1.0, atol=1e-12)


def test_join_needs_one_gap_between_each_two():
    with pytest.raises(ValueError):
        join([np.ones(3), np.ones(3)], [0, 0])


def test_single_event_samples():
    """Sample 0 is the whole recording; the others are crops, each of its own."""
    recording = _tone("tone b", 8.0)
    whole = single_event(recording, RATE, CONFIG, 0, "train", 0)
    np.testing.assert_array_equal(whole.audio, recording.samples)
    crops = [single_event(recording, RATE, CONFIG, 0, "train", i) for i in range(1, 9)]
    assert len({crop.audio.tobytes() for crop in crops}) == 8
    for example in [whole, *crops]:
        assert example.labels == example.events == ("tone b",) and not example.problems()
        assert all("tone b" in caption.lower() for caption in example.captions)
        assert example.negative_audio is None and not example.negative_captions
        assert _heard(example.audio)[0] == ("tone b",)
    sizes = [crop.audio.size / RATE for crop in crops]
    assert 2.5 - 1e-3 <= min(sizes) < max(sizes) <= 5.0
    again = single_event(recording, RATE, CONFIG, 0, "train", 3)
    assert again.audio.tobytes() == crops[2].audio.tobytes() and again.captions == crops[2].captions


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"min_events": 1}, "min_events"),
        ({"min_events": 3}, "max_events, not 3, 2"),
        ({"min_event_seconds": 0.0}, "min_event_seconds"),
        ({"min_event_seconds": 6.0}, "max_event_seconds"),
        ({"max_crossfade_seconds": 1.3}, "max_crossfade_seconds"),
        ({"captions": 0}, "captions"),
        ({"train_mixtures": 0}, "train_mixtures"),
        ({"test_mixtures": 0}, "test_mixtures"),
    ],
)
def test_config_errors_name_the_setting(change, reason):
    with pytest.raises(ValueError, match=f"synthesis: .*{reason}"):
        dataclasses.replace(CONFIG, **change)


def test_every_number_of_the_config_is_finite():
    floats = [name for name, value in vars(CONFIG).items() if isinstance(value, float)]
    assert "max_gap_seconds" in floats and len(floats) > 10
    for name in floats:
        for value in (float("nan"), float("inf"), -float("inf")):
            with pytest.raises(ValueError, match=f"synthesis.{name} must be a finite number"):
                dataclasses.replace(CONFIG, **{name: value})


def test_crop_sees_the_last_partial_frame():
    samples = np.zeros(5 * 16_000 + 700, np.int16)
    samples[-600:] = 20_000
    assert crop_sounding(samples, 40_000, 16_000, np.random.default_rng(0)).max() == 20_000


def test_too_few_classes_are_named():
    with pytest.raises(ValueError, match="classes"):
        draw_mixture(
            {"tone a": BY_LABEL["tone a"]}, RATE, CONFIG, 0, "train", 0, negative_audio=False
        )


def test_length_does_not_depend_on_order():
    # the first segment is shorter than the cross-fade asked for
    parts, gaps = [np.ones(1600), np.ones(48_000), np.ones(48_000)], [-3200, -800]
    orders = [(0, 1, 2), (1, 2, 0), (2, 1, 0)]
    assert len({join([parts[i] for i in order], gaps).size for order in orders}) == 1


def test_events_do_not_click_at_a_gap():
    steady = Recording(BY_LABEL["tone a"][0].clip, np.full(5 * RATE, 1000, np.int16))
    other = Recording(BY_LABEL["tone b"][0].clip, np.full(5 * RATE, 1000, np.int16))
    apart = dataclasses.replace(CONFIG, max_crossfade_seconds=0.0, max_gap_seconds=0.2)
    made = mixture(
        [steady, other], RATE, apart, np.random.default_rng(1), id="x", negative_audio=False
    )
    steps = np.abs(np.diff(np.pad(made.audio.astype(int), 1)))
    assert steps.max() < 0.2 * np.abs(made.audio).max()
