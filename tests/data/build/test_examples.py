"""Records of clips as they are: orders of strong labels, windows of long recordings."""

import numpy as np
import pytest

from clapjax.audio.files import AudioError
from clapjax.data.build.config import SourceConfig
from clapjax.data.build.examples import DirectExamples, choose_texts
from clapjax.data.schema import Example
from clapjax.data.sources.clip import Clip, Rejected, TimedEvent

RATE = 8000
LEVELS = (0.1, -70.0)  # s, dB
A_THEN_B = (TimedEvent(0.5, 2.0, "Bark"), TimedEvent(3.0, 4.0, "Male speech, man speaking"))


def _clip(seconds: float = 5.0, events: tuple[TimedEvent, ...] = (), **fields) -> Clip:
    generator = np.random.default_rng(0)
    samples = generator.uniform(-0.5, 0.5, round(seconds * RATE)).astype(np.float32)
    labels = tuple(dict.fromkeys(event.label for event in events))
    values = {"id": "set-1", "label": "", "fold": None, "group": "g", "source": "set:1"}
    values |= {"read": _reader(samples), "labels": labels, "events": events}
    return Clip(**(values | fields))


def _reader(samples: np.ndarray):
    """Reads all, or `seconds` from `start` on, and keeps how much was read at once."""

    def read(rate: int, start: float = 0.0, seconds: float | None = None) -> np.ndarray:
        first = round(start * rate)
        last = samples.size if seconds is None else first + round(seconds * rate)
        read.most = max(getattr(read, "most", 0), samples[first:last].size)
        return samples[first:last]

    return read


def _make(clip: Clip, seed: int = 0) -> Example:
    (made,) = DirectExamples(RATE, *LEVELS, seed)(clip)
    return made


def _said(caption: str, *words: str) -> tuple[str, ...]:
    """The words in the order in which a caption names them."""
    places = [caption.lower().index(word) for word in words]
    return tuple(words[i] for i in np.argsort(places))


def test_timed_events_are_told_in_their_order():
    example = _make(_clip(events=A_THEN_B))
    assert example.events == ("Bark", "Male speech, man speaking")
    assert example.labels == ("Bark", "Male speech, man speaking")
    assert example.provenance == "template" and not example.problems()
    assert len(example.captions) == len(example.negative_captions) == 4
    pairs = zip(example.captions, example.negative_captions, strict=True)
    for caption, negative in pairs:
        assert _said(caption, "bark", "male speech") == _said(negative, "bark", "male speech")[::-1]
        assert sorted(caption.lower()) == sorted(negative.lower())


def test_whichever_way_the_table_lists_them():
    example = _make(_clip(events=A_THEN_B[::-1], labels=("Bark", "Male speech, man speaking")))
    assert example.events == ("Bark", "Male speech, man speaking")
    assert example.captions == _make(_clip(events=A_THEN_B)).captions


def test_what_sounds_together_has_no_wrong_order():
    example = _make(_clip(events=(TimedEvent(0, 4, "Rain"), TimedEvent(1, 3, "Bark"))))
    assert example.events == ("Bark + Rain",) and example.negative_captions == ()
    links = (" while ", " as ", " over ", " together with ", " at the same time as ")
    assert all(any(link in caption for link in links) for caption in example.captions)


def test_pairs_move_together_and_a_background_stays():
    events = (
        TimedEvent(0, 9, "Music"), TimedEvent(0.5, 3, "Rain"), TimedEvent(1, 2, "Bark"),
        TimedEvent(5, 7, "Siren"),
    )  # fmt: skip
    example = _make(_clip(10.0, events))
    assert example.events == ("Bark + Music + Rain", "Music + Siren")
    for text in example.captions + example.negative_captions:
        assert text.endswith(", with music in the background")
        assert _said(text, "bark", "siren", "rain")[1] != "siren"
    for caption, negative in zip(example.captions, example.negative_captions, strict=True):
        assert _said(caption, "bark", "siren") == _said(negative, "bark", "siren")[::-1]


def test_what_comes_again_has_no_certain_wrong_order():
    events = (TimedEvent(0, 1, "Bark"), TimedEvent(2, 3, "Rain"), TimedEvent(4, 5, "Bark"))
    example = _make(_clip(events=events))
    assert example.events == ("Bark", "Rain", "Bark") and example.negative_captions == ()
    assert all(caption.lower().count("bark") == 2 for caption in example.captions)


def test_more_than_a_caption_can_tell():
    events = tuple(TimedEvent(2.0 * i, 2.0 * i + 1, label) for i, label in enumerate("abcdef"))
    example = _make(_clip(12.0, events))
    assert example.captions == ("The sounds of a, b, c, d, e and f",)
    assert example.negative_captions == () and example.events == tuple("abcdef")


def test_published_captions_stay():
    example = _make(_clip(events=A_THEN_B, captions=("A dog and a man",)))
    assert (example.captions, example.negative_captions) == (("A dog and a man",), ())
    assert example.events == ("Bark", "Male speech, man speaking")
    augmented = _clip(events=A_THEN_B, augmented=("T5",))
    assert _make(augmented).captions == ("T5",)


def test_wording_depends_on_seed_and_id():
    clips = [_clip(events=A_THEN_B), _clip(events=A_THEN_B, id="set-2")]
    drawn = {(seed, i): _make(clip, seed=seed) for seed in (0, 1) for i, clip in enumerate(clips)}
    assert len({(e.captions, e.negative_captions) for e in drawn.values()}) == 4
    assert _make(clips[0], seed=1).captions == drawn[1, 0].captions


@pytest.mark.parametrize(
    ("fields", "texts"),
    [
        (
            {"captions": ("Human",), "augmented": ("T5", "more"), "labels": ("dog",)},
            (("Human", "T5", "more"), (), "human;keyword;keyword"),
        ),
        ({"captions": ("Human",)}, (("Human",), (), "human")),
        ({"augmented": ("T5",), "labels": ("dog",)}, (("T5",), (), "keyword")),
        (
            {"labels": ("dog", "rain", "sea_waves")},
            (("The sounds of dog, rain and sea waves",), (), "template"),
        ),
        (
            {
                "captions": ("a", "b"),
                "negative_captions": ("c",),
                "provenance": "human;llm:x;rules",
            },
            (("a", "b"), ("c",), "human;llm:x;rules"),
        ),
        (
            {"captions": ("a",), "negative_captions": ("c",), "augmented": ("T5",)},
            (("a", "T5"), ("c",), "human;keyword;human"),
        ),
    ],
)
def test_all_texts_are_kept_those_published_first(fields, texts):
    clip = _clip(**fields)
    assert choose_texts(clip) == texts
    example = _make(clip)
    assert (example.captions, example.negative_captions, example.provenance) == texts
    assert not example.problems() and example.origin == "g"


def _windows(clip: Clip, seconds: float, hop: float = 0.0) -> list:
    return list(DirectExamples(RATE, *LEVELS, 0, seconds, hop)(clip))


@pytest.mark.parametrize(
    ("seconds", "hop", "starts"),
    [
        (2.0, 0.0, [0, 2, 4]),
        (2.0, 1.5, [0, 1.5, 3]),
        (4.0, 1.0, [0, 1]),
        (1.0, 2.0, [0, 2, 4]),  # with gaps
        (4.95, 0.0, [0]),  # what is left is too short
    ],
)
def test_windows_are_the_recording_in_parts(seconds, hop, starts):
    clip = _clip(captions=("A caption",), labels=("Bark",))
    whole = _make(clip).audio
    found = _windows(clip, seconds, hop)
    assert [example.id for example in found] == [f"set-1@{start:.3f}" for start in starts]
    for example, start in zip(found, starts, strict=True):
        first = round(start * RATE)
        part = whole[first : first + round(seconds * RATE)]
        np.testing.assert_array_equal(example.audio, part)
        assert example.captions == ("A caption",) and example.labels == ("Bark",)
        assert example.source == f"set:1@{start:.3f}"


@pytest.mark.parametrize("seconds", [0.0, 5.0, 60.0])
def test_what_fits_into_a_window_is_left_alone(seconds):
    clip = _clip(events=A_THEN_B)
    (found,) = _windows(clip, seconds)
    whole = _make(clip)
    assert found.to_record().keys() == whole.to_record().keys()
    for name, value in whole.to_record().items():
        np.testing.assert_array_equal(found.to_record()[name], value)


def test_a_window_tells_what_is_heard_in_it():
    events = (*A_THEN_B, TimedEvent(3.9, 7.0, "Siren"))
    clip = _clip(8.0, events, labels=("Bark", "Male speech, man speaking", "Siren", "Street"))
    first, second, third, fourth = _windows(clip, 2.0)
    assert first.events == ("Bark",) and first.captions == ("The sounds of Bark and Street",)
    assert second.events == ("Male speech, man speaking",)  # 0.1 s of siren are not enough
    assert third.events == fourth.events == ("Siren",)
    assert fourth.labels == ("Siren", "Street")
    both = _windows(clip, 4.0, 1.0)[2]  # from 2 to 6 s
    assert both.events == ("Male speech, man speaking", "Siren")
    assert len(both.negative_captions) == 4


def test_windows_without_anything_are_listed():
    samples = np.concatenate([np.zeros(2 * RATE), np.ones(2 * RATE)]).astype(np.float32)
    events = (TimedEvent(0.0, 1.0, "Bark"),)
    found = _windows(_clip(events=events, read=_reader(samples)), 2.0)
    assert found == [
        Rejected("set:1@0.000", "silent (peak below -70.0 dB)"),
        Rejected("set:1@2.000", "a caption is empty or there is none"),
    ]
    silent = _clip(captions=("x",), read=_reader(0 * samples))  # one line, not one a window
    assert _windows(silent, 2.0) == [Rejected("set:1", "silent (peak below -70.0 dB)")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window_seconds": -1.0}, "must be 0, or at least 0.01 s"),
        ({"window_hop_seconds": 1.0}, "window_hop_seconds needs source.window_seconds"),
        ({"window_seconds": float("inf")}, "window_seconds must be 0, or at least 0.01 s"),
        ({"window_seconds": float("nan")}, "window_seconds must be 0, or at least 0.01 s"),
        # No sample further: the same window for ever. The other ones had one name.
        ({"window_seconds": 1.0, "window_hop_seconds": 1e-9}, "at least 0.01 s, not 1e-09"),
        ({"window_seconds": 10.0, "mode": "mixup"}, "not for mixtures: set .*window_s"),
        ({"held_out_share": 0.1, "mode": "mixup"}, "not for mixtures: set .*held_out"),
        ({"window_seconds": 0.05}, "at least source.min_seconds"),
        ({"window_held_out": True}, "window_held_out needs source.window_seconds"),
        ({"roles": ("dev=test",)}, "'dev=test' is not NAME=train or NAME=held_out"),
    ],
)
def test_bad_windows(change, message):
    with pytest.raises(ValueError, match=message):
        SourceConfig(**({"mode": "direct"} | change))


def test_hours_are_read_window_by_window():
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * 3600 * 50).astype(np.float32)
    clip = _clip(captions=("A caption",), read=_reader(samples))
    found = list(DirectExamples(50, *LEVELS, 0, 10.0)(clip))
    assert len(found) == 720 and found[-1].id == "set-1@7190.000"
    assert clip.read.most == 501


def test_damage_in_the_middle_costs_what_follows():
    def read(rate, start=0.0, seconds=None):
        if start >= 4:
            raise AudioError("damaged")
        return np.ones(round(seconds * rate), np.float32)

    first, second, rest = _windows(_clip(captions=("x",), read=read), 2.0)
    assert (first.id, second.id) == ("set-1@0.000", "set-1@2.000")
    assert rest == Rejected("set:1@4.000", "damaged")
