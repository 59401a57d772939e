"""Sentences from a model that tells how probable each next word is: searched for, or drawn.

Nothing here knows the model: `step` takes its state on. Shapes: B clips, K sentences of each, V
words, L places of a sentence; G groups of W beams are K = G W sentences.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from clapjax.models.config import DecodingConfig

# (state, parents (B, K) int32: of which sentence each one is the continuation, None: of itself;
# tokens (B, K) int32; the place () of these in the sentence) to (logits (B, K, V) of the next
# place, state).
Step = Callable[[Any, jax.Array | None, jax.Array, jax.Array], tuple[jax.Array, Any]]


class Rules(NamedTuple):
    """What a sentence must be."""

    end: int  # the token that ends it
    never: tuple[int, ...]  # tokens that it has not
    min_length: int  # tokens before the end, at least
    max_length: int  # L: tokens with the end, at most
    no_repeat: int = 0  # so many tokens do not come twice in the same order; 0: they may


def allowed(rules: Rules, tokens: jax.Array, place: jax.Array, words: int) -> jax.Array:
    """Which words may stand at a place behind sentences (..., L): (..., V) bool.

    At the last place none but the end.
    """
    word = jnp.arange(words)
    ends = word == rules.end
    may = jnp.where(place == rules.max_length - 1, ends, True)
    may &= (place >= rules.min_length) | ~ends
    may &= ~jnp.isin(word, jnp.array(rules.never, jnp.int32))
    size, length = rules.no_repeat, rules.max_length
    may = jnp.broadcast_to(may, (*tokens.shape[:-1], words))
    if size < 1 or size > length:
        return may
    starts = jnp.arange(length - size + 1)
    last = jnp.take(tokens, place - size + 1 + jnp.arange(size - 1), axis=-1, mode="clip")
    windows = jnp.stack(  # (..., starts, size - 1)
        [tokens[..., start : start + size - 1] for start in range(length - size + 1)], axis=-2
    )
    again = (windows == last[..., None, :]).all(axis=-1) & (starts + size - 1 < place)
    follows = tokens[..., size - 1 :]  # (..., starts): what came behind each
    repeated = (follows[..., None] == word) & again[..., None]
    return may & ~repeated.any(axis=-2)


def beam_search(
    step: Step,
    state: Any,
    logits: jax.Array,
    rules: Rules,
    settings: DecodingConfig,
) -> tuple[jax.Array, jax.Array]:
    """The sentences with the highest sums of log probabilities over length ** length_penalty.

    At each place the W best unfinished sentences go on, and the W best finished ones are kept. It
    ends where no unfinished one can become better than those, which makes a search with as many
    beams as there are sentences exhaustive. With groups each has beams and kept sentences of its
    own, and counts a word less by `diversity` for each beam of the groups before it that says it
    there.

    Args:
      step, state: the model, with room for K = settings.beams sentences of each clip.
      logits: (B, 1, V) of the first word.
      rules: what a sentence must be.
      settings: beams, groups, diversity, length_penalty, count.

    Returns:
      (tokens (B, count, L) int32, best first, `end` from where each ends; the sums of their log
      probabilities (B, count), which are -inf where there are not so many sentences).
    """
    rows, _, words = logits.shape
    groups, width = settings.groups, settings.beams // settings.groups
    length = rules.max_length

    def over(values: jax.Array, place) -> jax.Array:
        """Sums at sentences of place + 1 tokens to what they count."""
        return values / (place + 1.0) ** settings.length_penalty

    def choose(group: int, found: dict, log_p: jax.Array, may: jax.Array, said: jax.Array, place):
        """One group's next beams, and which of them it is kept: see `search`."""
        score, total = found["score"][:, group], found["total"][:, group]  # (B, W)
        penalised = jnp.where(may, log_p - settings.diversity * said[:, None], -jnp.inf)
        scores = score[..., None] + penalised  # (B, W, V)
        totals = total[..., None] + log_p
        finished = over(scores[..., rules.end], place)
        kept_score, best = jax.lax.top_k(
            jnp.concatenate([found["kept_score"][:, group], finished], axis=1), width
        )
        tokens = found["tokens"][:, group]  # behind place they are all `end`
        kept_tokens = _take(jnp.concatenate([found["kept_tokens"][:, group], tokens], axis=1), best)
        kept_total = _take(
            jnp.concatenate([found["kept_total"][:, group], totals[..., rules.end]], axis=1), best
        )
        flat = scores.at[..., rules.end].set(-jnp.inf).reshape(rows, -1)
        score, index = jax.lax.top_k(flat, width)
        parent, token = index // words, index % words
        tokens = _take(tokens, parent).at[:, :, place].set(token)
        said = said + jnp.sum(jax.nn.one_hot(token, words) * jnp.isfinite(score)[..., None], axis=1)
        chosen = {
            "score": score,
            "total": _take(totals.reshape(rows, -1), index),
            "tokens": tokens,
            "kept_score": kept_score,
            "kept_tokens": kept_tokens,
            "kept_total": kept_total,
            "parent": parent + group * width,
        }
        return chosen, said

    def search(carry: tuple) -> tuple:
        place, found, logits, state = carry
        log_p = jax.nn.log_softmax(logits).reshape(rows, groups, width, words)
        may = allowed(rules, found["tokens"], place, words)
        said, parts = jnp.zeros_like(log_p[:, 0, 0]), []
        for group in range(groups):
            part, said = choose(group, found, log_p[:, group], may[:, group], said, place)
            parts.append(part)
        found = jax.tree.map(lambda *x: jnp.stack(x, axis=1), *parts)
        parents = found.pop("parent").reshape(rows, -1)
        tokens = jax.lax.dynamic_index_in_dim(found["tokens"], place, axis=-1, keepdims=False)
        logits, state = step(state, parents, tokens.reshape(rows, -1), place)
        return place + 1, found, logits, state

    def goes_on(carry: tuple) -> jax.Array:
        place, found, *_ = carry
        hope = over(found["score"].max(axis=-1), length - 1)  # were the rest certain
        return (place < length) & jnp.any(hope > found["kept_score"].min(axis=-1))

    zero = jnp.zeros_like(logits, shape=(rows, groups, width))
    alone = jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf)  # all begin as one sentence
    tokens = jnp.full_like(zero, rules.end, jnp.int32, shape=(rows, groups, width, length))
    found = {
        "score": zero + alone,
        "total": zero,
        "tokens": tokens,
        "kept_score": zero - jnp.inf,
        "kept_tokens": tokens,
        "kept_total": zero - jnp.inf,
    }
    logits = jnp.repeat(logits, groups * width, axis=1)
    _, found, *_ = jax.lax.while_loop(goes_on, search, (jnp.int32(0), found, logits, state))
    score, best = jax.lax.top_k(found["kept_score"].reshape(rows, -1), settings.count)
    total = _take(found["kept_total"].reshape(rows, -1), best)
    return _take(found["kept_tokens"].reshape(rows, -1, length), best), jnp.where(
        jnp.isfinite(score), total, -jnp.inf
    )


def draw(
    step: Step,
    state: Any,
    logits: jax.Array,
    rules: Rules,
    settings: DecodingConfig,
    keys: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Sentences drawn word by word from the nucleus; with one of 0 the likeliest word each time.

    The nucleus are the likeliest words, as few as have its probability together.

    Args:
      step, state: the model, with room for K = settings.count sentences of each clip.
      logits: (B, 1, V) of the first word.
      rules: what a sentence must be.
      settings: nucleus, temperature, count.
      keys: (B, 2) uint32, key data of each clip: its sentences depend on no other clip.

    Returns:
      (tokens (B, count, L) int32, `end` from where each ends; the sums of their log probabilities
      in the model (B, count)).
    """
    rows, _, words = logits.shape
    count, length = settings.count, rules.max_length
    keys = jax.random.wrap_key_data(keys, impl="threefry2x32")

    def extend(carry: tuple) -> tuple:
        place, tokens, total, ended, logits, state = carry
        log_p = jax.nn.log_softmax(logits)
        may = allowed(rules, tokens, place, words)
        scaled = jax.nn.log_softmax(jnp.where(may, log_p / settings.temperature, -jnp.inf))
        scaled, word = jax.lax.top_k(scaled, words)
        before = jnp.cumsum(jnp.exp(scaled), axis=-1) - jnp.exp(scaled)
        nucleus = (before < settings.nucleus) | (jnp.arange(words) == 0)
        if settings.nucleus:
            place_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, place)
            noise = jax.vmap(lambda key: jax.random.gumbel(key, (count, words)))(place_keys)
            scaled = scaled + noise
        rank = jnp.argmax(jnp.where(nucleus, scaled, -jnp.inf), axis=-1)
        token = jnp.take_along_axis(word, rank[..., None], axis=-1)
        token = jnp.where(ended[..., None], rules.end, token)
        more = jnp.take_along_axis(log_p, token, axis=-1)[..., 0]
        total = total + jnp.where(ended, 0.0, more)
        token = token[..., 0]
        tokens = tokens.at[:, :, place].set(token)
        logits, state = step(state, None, token, place)
        return place + 1, tokens, total, ended | (token == rules.end), logits, state

    def goes_on(carry: tuple) -> jax.Array:
        place, _, _, ended, *_ = carry
        return (place < length) & ~ended.all()

    total = jnp.zeros_like(logits, shape=(rows, count))
    tokens = jnp.full_like(total, rules.end, jnp.int32, shape=(rows, count, length))
    carry = jnp.int32(0), tokens, total, total > 0, jnp.repeat(logits, count, axis=1), state
    _, tokens, total, *_ = jax.lax.while_loop(goes_on, extend, carry)
    return tokens, total


def _take(x: jax.Array, index: jax.Array) -> jax.Array:
    """(B, N, ...) at (B, M) of its second axis: (B, M, ...)."""
    return jnp.take_along_axis(x, index.reshape(*index.shape, *[1] * (x.ndim - 2)), axis=1)
