"""Beam search and nucleus sampling beside plain float64 numpy, on random models."""

import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clapjax.models.config import DecodingConfig
from clapjax.models.decoding import Rules, allowed, beam_search, draw

END, WIDTH = 1, 6


class Recurrent:
    """A random recurrent network, so that what comes next depends on all that was said."""

    def __init__(self, seed: int, rows: int, words: int):
        generator = np.random.default_rng(seed)
        self.start = generator.normal(size=(rows, WIDTH))
        self.turn = generator.normal(size=(WIDTH, WIDTH))
        self.say = generator.normal(size=(words, WIDTH))
        self.out = 1.5 * generator.normal(size=(WIDTH, words))

    def step(self, state, parents, tokens, place):
        if parents is not None:
            state = jnp.take_along_axis(state, parents[..., None], axis=1)
        state = jnp.tanh(state @ self.turn + jnp.asarray(self.say, jnp.float32)[tokens])
        return state @ self.out, state

    def first(self, sentences: int):
        """(logits of the first word, state with room for so many sentences)."""
        start = jnp.asarray(self.start, jnp.float32)[:, None]
        return start @ self.out, jnp.repeat(start, sentences, axis=1)

    def log_p(self, row: int, said) -> np.ndarray:
        """(V,) float64 of what comes behind these tokens."""
        state = self.start[row]
        for token in said:
            state = np.tanh(state @ self.turn + self.say[token])
        logits = state @ self.out
        return logits - np.log(np.exp(logits).sum())


def may(rules: Rules, said: tuple, words: int) -> list[int]:
    """The words that may come next, by the letter."""
    found = []
    for word in range(words):
        longer = (*said, word)
        # With 0 there are none.
        grams = list(zip(*(longer[i:] for i in range(rules.no_repeat)), strict=False))
        if (
            word not in rules.never
            and (len(said) < rules.max_length - 1 or word == END)
            and (len(said) >= rules.min_length or word != END)
            and (not grams or grams[-1] not in grams[:-1])
        ):
            found.append(word)
    return found


def every(model: Recurrent, row: int, rules: Rules, words: int) -> dict[tuple, float]:
    """All sentences of a row with the sums of their log probabilities."""
    found, open_ = {}, {(): 0.0}
    while open_:
        said, total = open_.popitem()
        log_p = model.log_p(row, said)
        for word in may(rules, said, words):
            more = {(*said, word): total + log_p[word]}
            (found if word == END else open_).update(more)
    return found


def search(model: Recurrent, row: int, rules: Rules, words: int, settings: DecodingConfig):
    """[(sentence, log probability)] of (diverse) beam search, all places without a stop."""
    width = settings.beams // settings.groups
    live = [{(): (0.0, 0.0)} for _ in range(settings.groups)]  # sentence: (score, sum)
    kept: list[list] = [[] for _ in live]
    for place in range(rules.max_length):
        said = np.zeros(words)
        for group, beams in enumerate(live):
            more = {}
            for sentence, (score, total) in beams.items():
                log_p = model.log_p(row, sentence)
                for word in may(rules, sentence, words):
                    cost = settings.diversity * said[word]
                    more[*sentence, word] = (score + log_p[word] - cost, total + log_p[word])
            length = (place + 1) ** settings.length_penalty
            kept[group] += [(a / length, s, b) for s, (a, b) in more.items() if s[-1] == END]
            kept[group] = sorted(kept[group], reverse=True)[:width]
            rest = {s: x for s, x in more.items() if s[-1] != END}
            live[group] = dict(sorted(rest.items(), key=lambda item: -item[1][0])[:width])
            said += np.bincount([s[-1] for s in live[group]], minlength=words)
    best = sorted(itertools.chain(*kept), reverse=True)[: settings.count]
    return [(sentence, total) for _, sentence, total in best]


def sentence(tokens) -> tuple:
    """Up to the end, which must be there; behind it nothing else is."""
    tokens = tuple(int(token) for token in tokens)
    at = tokens.index(END)
    assert set(tokens[at:]) == {END}
    return tokens[: at + 1]


def run(model: Recurrent, rules: Rules, settings: DecodingConfig, seed: int = 0):
    sampled = settings.nucleus or settings.beams == 1
    logits, state = model.first(settings.count if sampled else settings.beams)
    if not sampled:
        return jax.jit(lambda: beam_search(model.step, state, logits, rules, settings))()
    keys = np.stack([np.full(len(logits), seed), np.arange(len(logits))], axis=1).astype(np.uint32)
    return jax.jit(lambda: draw(model.step, state, logits, rules, settings, keys))()


@pytest.mark.parametrize(("penalty", "least", "repeat"), [(0.0, 1, 0), (2.0, 0, 2), (0.7, 2, 1)])
def test_enough_beams_are_an_exhaustive_search(penalty, least, repeat):
    words, rules = 5, Rules(END, (3,), least, 5, repeat)
    model = Recurrent(0, 3, words)
    settings = DecodingConfig(beams=90, count=7, length_penalty=penalty)
    tokens, total = run(model, rules, settings)
    for row in range(3):
        all_of = every(model, row, rules, words)
        assert max(len(s) for s in all_of) == 5 - (repeat == 1)  # of 3 words other than the end
        best = sorted(all_of, key=lambda s: -all_of[s] / len(s) ** penalty)[:7]
        assert [sentence(one) for one in tokens[row]] == best
        np.testing.assert_allclose(total[row], [all_of[s] for s in best], atol=1e-5)


def test_more_beams_than_there_are_sentences():
    """What is not there has no probability, and does not push out what is."""
    rules = Rules(END, (), 0, 2)
    model = Recurrent(1, 2, 3)
    tokens, total = run(model, rules, DecodingConfig(beams=8, count=8))
    for row in range(2):
        all_of = every(model, row, rules, 3)  # the end, and two words before it
        assert {sentence(one) for one in tokens[row][:3]} == set(all_of)
        assert np.isneginf(total[row][3:]).all() and np.isfinite(total[row][:3]).all()


@pytest.mark.parametrize(
    ("beams", "groups", "diversity", "penalty", "repeat"),
    [(3, 1, 0.0, 1.0, 0), (4, 1, 0.0, 0.5, 2), (6, 3, 1.0, 1.0, 0), (4, 2, 0.3, 0.0, 0)],
)
def test_beams_are_those_of_a_plain_search(beams, groups, diversity, penalty, repeat):
    words, rules = 11, Rules(END, (0, 4), 1, 8, repeat)
    model = Recurrent(beams, 10, words)
    settings = DecodingConfig(
        beams=beams, groups=groups, diversity=diversity, length_penalty=penalty, count=beams
    )
    tokens, total = run(model, rules, settings)
    for row in range(10):
        expected = search(model, row, rules, words, settings)
        assert [sentence(one) for one in tokens[row]] == [s for s, _ in expected]
        np.testing.assert_allclose(total[row], [x for _, x in expected], atol=2e-5)


def test_one_beam_is_greedy():
    """And so is a nucleus of almost nothing."""
    words, rules = 11, Rules(END, (0,), 1, 8, 2)
    model = Recurrent(5, 4, words)
    tokens, total = run(model, rules, DecodingConfig(beams=1))
    tiny, _ = run(model, rules, DecodingConfig(nucleus=1e-6))
    np.testing.assert_array_equal(tokens, tiny)
    for row in range(4):
        said, expected = (), 0.0
        while not said or said[-1] != END:
            log_p = model.log_p(row, said)
            word = max(may(rules, said, words), key=lambda word: log_p[word])
            said, expected = (*said, word), expected + log_p[word]
        assert sentence(tokens[row, 0]) == said
        assert total[row, 0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("nucleus", "temperature"), [(1.0, 1.0), (0.7, 1.5)])
def test_draws_are_distributed_as_the_nucleus_is(nucleus, temperature):
    words, rules, count = 4, Rules(END, (0,), 0, 3), 4000
    model = Recurrent(2, 2, words)
    settings = DecodingConfig(nucleus=nucleus, temperature=temperature, count=count)
    tokens, total = run(model, rules, settings)

    def chances(row: int, said: tuple) -> dict[int, float]:
        """Of each word that may come next."""
        there = may(rules, said, words)
        p = np.exp(model.log_p(row, said)[there] / temperature)
        p, kept, mass = p / p.sum(), np.zeros(len(p)), 0.0
        for at in np.argsort(-p):
            if mass < nucleus:
                kept[at] = p[at]
            mass += p[at]
        return dict(zip(there, kept / kept.sum(), strict=True))

    for row in range(2):
        all_of = every(model, row, rules, words)
        found = Counter(sentence(one) for one in tokens[row])
        for said, log_p in all_of.items():
            p = np.prod([chances(row, said[:at])[word] for at, word in enumerate(said)])
            assert abs(found[said] / count - p) <= 4.5 * np.sqrt(p * (1 - p) / count)
            for at in [i for i, one in enumerate(tokens[row][:50]) if sentence(one) == said]:
                assert total[row, at] == pytest.approx(log_p, abs=1e-5)
        if nucleus < 1:
            assert 1 < len(found) < len(all_of)


def test_what_a_clip_draws_depends_on_its_key_alone():
    model, rules = Recurrent(3, 3, 9), Rules(END, (), 1, 6)
    settings = DecodingConfig(nucleus=0.9, count=5)
    tokens, _ = run(model, rules, settings, seed=7)
    model.start = model.start[1:2]
    logits, state = model.first(5)
    alone, _ = draw(model.step, state, logits, rules, settings, np.array([[7, 1]], np.uint32))
    np.testing.assert_array_equal(alone[0], tokens[1])
    other, _ = draw(model.step, state, logits, rules, settings, np.array([[8, 1]], np.uint32))
    assert (np.asarray(other) != np.asarray(alone)).any()


def test_what_may_come_next_by_the_letter():
    generator = np.random.default_rng(0)
    for size in (1, 2, 3):
        rules = Rules(END, (5,), 2, 7, size)
        for place in range(7):
            said = generator.choice([0, 2, 3], size=place)
            tokens = np.full(7, END)
            tokens[:place] = said
            found = jax.jit(allowed, static_argnums=(0, 3))(rules, jnp.array(tokens), place, 6)
            assert np.flatnonzero(found).tolist() == may(rules, tuple(said), 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beams": 4, "groups": 3}, "decoding.beams 4 do not divide into 3 groups"),
        ({"count": 4}, "decoding.count: 3 beams do not give 4 captions"),
        ({"nucleus": 1.2}, "decoding.nucleus must be in 0 .. 1, not 1.2"),
        ({"length_penalty": -1.0}, "decoding.length_penalty must be >= 0, not -1.0"),
        ({"min_length": 5, "max_length": 5}, "decoding.max_length 5 must be above min_length 5"),
    ],
)
def test_settings_that_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DecodingConfig(**changes)
