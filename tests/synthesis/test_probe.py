"""The order probe: nothing of it can be in a mixture for training."""

import itertools
import re
import string

import numpy as np
import pytest

from clapjax.captions import templates, unseen
from clapjax.data.schema import PROBE
from clapjax.synthesis.mixup import MixupConfig, choose_classes, draw_mixture, most_classes
from clapjax.synthesis.probe import SENTENCES, draw_probe, kept_apart, probe_parts
from tests.synthesis.tones import BY_LABEL, RATE, TONES, spans

CONFIG = MixupConfig(captions=2, probe_mixtures=1)
LABELS = sorted(TONES)
TRAINED = (*templates.TWO_EVENTS, *templates.TWO_STEPS)
UNSEEN = [t for part in SENTENCES.values() for told in part.values() for t in told]


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.replace("{a}", "").replace("{b}", "").lower()))


def skeleton(text: str) -> str:
    """A sentence without what its events are, and without their order."""
    return re.sub(r"\{\w\}", "e", text).lower()


@pytest.mark.parametrize("size", range(2, 12))
def test_pairs_that_are_kept_apart(size):
    labels = list(string.ascii_lowercase[:size])
    partner = kept_apart(reversed(labels), seed=3)
    assert partner == kept_apart(labels, seed=3)
    assert len(partner) == size // 2 * 2  # all but one, where their number is odd
    assert all(partner[partner[label]] == label != partner[label] for label in partner)
    assert len({tuple(kept_apart(labels, seed).items()) for seed in range(9)}) > 1 or size == 2
    most = most_classes(labels, partner)
    assert most == size - size // 2
    seen = set()
    for seed in range(200):
        chosen = choose_classes(labels, most, partner, np.random.default_rng(seed))
        assert len(set(chosen)) == most
        seen |= {frozenset(pair) for pair in itertools.combinations(chosen, 2)}
    allowed = {frozenset(p) for p in itertools.combinations(labels, 2) if partner.get(p[0]) != p[1]}
    assert seen == allowed  # every other pair is mixed


def test_nothing_is_kept_apart_without_a_probe():
    """Then classes are drawn as they always were."""
    chosen = choose_classes(LABELS, 3, {}, np.random.default_rng(5))
    assert chosen == [LABELS[i] for i in np.random.default_rng(5).permutation(6)[:3]]
    args = (BY_LABEL, RATE, CONFIG, 0, "train", 4)
    plain = draw_mixture(*args, negative_audio=False)
    again = draw_mixture(*args, negative_audio=False, partner={})
    assert plain.audio.tobytes() == again.audio.tobytes() and plain.captions == again.captions


def test_no_sentence_of_the_probe_is_one_of_training():
    known = set.union(*map(words, (*TRAINED, *templates.CHAINS, *templates.EVENT_FORMS)))
    for told in unseen.CONNECTIVES.values():
        assert all(words(template) - known for template in told)
    assert not {skeleton(t) for t in UNSEEN} & {skeleton(t) for t in TRAINED}
    assert len({skeleton(t) for t in UNSEEN}) == len(UNSEEN) == 20


def test_half_of_the_sentences_name_the_last_event_first():
    for part in SENTENCES.values():
        assert len(part["forwards"]) == len(part["backwards"])
        assert all(t.index("{a}") < t.index("{b}") for t in part["forwards"])
        assert all(t.index("{b}") < t.index("{a}") for t in part["backwards"])


@pytest.mark.parametrize(("part", "count"), probe_parts(LABELS, kept_apart(LABELS, 0)))
def test_mixtures_of_the_probe(part, count):
    partner = kept_apart(LABELS, 0)
    for index in range(4):
        example = draw_probe(
            BY_LABEL, RATE, CONFIG, 0, "test_probe", index, part=part, count=count, partner=partner
        )
        assert not example.problems() and len(example.events) == count
        told = f":{('forwards', 'backwards')[index % 2]}" if part in SENTENCES else ""
        assert example.provenance == f"{PROBE}{part}{told}"
        for audio, same in ((example.audio, True), (example.negative_audio, False)):
            found = spans(audio)
            order = tuple(sorted(found, key=lambda label: found[label][0]))
            assert (order == example.events) == same and sorted(order) == sorted(example.events)
        mixed = any(partner[a] == b for a, b in itertools.combinations(example.events, 2))
        assert mixed == (part == "pair")
        for caption in example.captions:
            places = [caption.lower().index(label) for label in example.events]
            if told:
                assert (places == sorted(places)) == (told == ":forwards")
            sentence = re.sub("((a|the) sound of )?tone .", "e", caption.lower())
            assert (sentence in {skeleton(t) for t in UNSEEN}) == bool(told)


def test_parts_that_there_are_classes_for():
    assert probe_parts(LABELS, kept_apart(LABELS, 0)) == [
        ("pair", 2),
        ("connective", 2),
        ("paraphrase", 2),
        ("events", 3),
    ]
    ten = list(string.ascii_lowercase[:10])
    assert probe_parts(ten, kept_apart(ten, 0))[-2:] == [("events", 4), ("events", 5)]
    assert probe_parts(["a", "c"], {"a": "b", "b": "a"}) == [("connective", 2), ("paraphrase", 2)]


def test_too_few_classes_for_a_probe():
    two = {label: BY_LABEL[label] for label in LABELS[:2]}
    with pytest.raises(ValueError, match="2, pairs of which synthesis.probe_mixtures keeps apart"):
        draw_mixture(
            two, RATE, CONFIG, 0, "train", 0, negative_audio=False, partner=kept_apart(two, 0)
        )
