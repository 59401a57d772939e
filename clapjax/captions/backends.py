"""A mixture of backends over many captions."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from clapjax.captions.rules import rules
from clapjax.captions.rules.rules import Negatives
from clapjax.captions.tables import Texts
from clapjax.data.tables import text_key

BACKENDS = ("rules", "openai", "transformers")


@dataclass(frozen=True)
class Negated:
    """A caption with its temporal negatives, or the reason why there are none."""

    caption: str
    negative_captions: tuple[str, ...]
    provenance: str  # "rules", "llm:<model>"
    reason: str | None = None


def parse_mixture(text: str) -> dict[str, float]:
    """ "rules" or "rules:0.5,openai:0.5" to shares that sum to 1.

    Raises:
      ValueError: an unknown backend, one named twice, or a share that is no positive number.
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, colon, share = part.strip().partition(":")
        if name not in BACKENDS:
            raise ValueError(f"no backend {name!r}; there are {', '.join(BACKENDS)}")
        if name in shares:
            raise ValueError(f"backend {name!r} is named twice in {text!r}")
        try:
            shares[name] = float(share) if colon else 1.0
        except ValueError as error:
            raise ValueError(f"backend {name}: {share!r} is no number") from error
        if not 0 < shares[name] < float("inf"):
            raise ValueError(f"backend {name}: the share must be positive, not {share}")
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def choose(caption: str, shares: dict[str, float], seed: int) -> str:
    """The backend of a caption: a function of seed and caption, by shares."""
    digest = hashlib.sha256(f"{seed}\0backend\0{caption}".encode()).digest()
    point = int.from_bytes(digest[:8]) / 2**64
    for name, share in shares.items():
        point -= share
        if point < 0:
            return name
    return name  # the last one, where rounding left a crumb


def by_rules(captions: Iterable[str], count: int, seed: int) -> Iterator[Negatives]:
    """The `rules` backend over captions."""
    return (rules.negate(caption, count, seed) for caption in captions)


def negate_all(
    captions: list[str],
    shares: dict[str, float],
    seed: int,
    run: dict[str, Callable[[list[str]], Iterable[Negatives]]],
    provenances: dict[str, str],
) -> Iterator[Negated]:
    """Sends every caption to its backend.

    Args:
      captions: all of them.
      shares: see `parse_mixture`.
      seed: with each caption, decides which backend it goes to.
      run: a backend's captions to their outcomes, in order.
      provenances: what to write for each backend.

    Yields:
      The outcomes in the order of the captions; a mixture once its last backend is through.
    """
    if len(shares) == 1:
        (name,) = shares
        for caption, done in zip(captions, run[name](captions), strict=True):
            yield _negated(caption, done, provenances[name])
        return
    chosen = [choose(caption, shares, seed) for caption in captions]
    outcomes: list[Negatives | None] = [None] * len(captions)
    for name in shares:
        places = [i for i, backend in enumerate(chosen) if backend == name]
        for i, done in zip(places, run[name]([captions[i] for i in places]), strict=True):
            outcomes[i] = done
    for caption, name, done in zip(captions, chosen, outcomes, strict=True):
        yield _negated(caption, done, provenances[name])


def _negated(caption: str, done: Negatives, provenance: str) -> Negated:
    return Negated(caption, done.negatives, provenance, done.reason)


def join_rows(rows: Sequence[Texts], outcomes: Iterable[Negated]) -> Iterator[dict]:
    """The rows of a table with their negatives: those of all captions of a row together.

    Args:
      rows: with captions.
      outcomes: of each caption of each row, in order.

    Yields:
      See clapjax/captions/tables.py; with a reason where a row has no negative.
    """
    outcomes = iter(outcomes)
    for row in rows:
        kinds: dict[str, str] = {}
        reasons, captions = [], set(map(text_key, row.captions))
        for _, done in zip(row.captions, outcomes, strict=False):
            reasons.append(done.reason or "its negatives are captions of the same clip")
            for text in done.negative_captions:
                if text_key(text) not in captions:
                    kinds.setdefault(text, done.provenance)
        full = replace(row, negatives=tuple(kinds), kinds=(*row.kinds, *kinds.values()))
        yield full.to_row(None if kinds else "; ".join(dict.fromkeys(reasons)))
