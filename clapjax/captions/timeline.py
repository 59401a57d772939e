"""What labelled stretches of time say about order: steps one after the other, and backgrounds."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clapjax.data.sources.clip import TimedEvent

PAUSE = 0.5  # s; a shorter one does not part two events of one label
SHARED = 0.5  # events sound together that share more than this part of the shorter one
JOINER = " + "  # between the labels of one entry of a record's `events`


@dataclass(frozen=True)
class Timeline:
    """What sounds, in order; of a step, all sounds together."""

    steps: tuple[tuple[str, ...], ...]  # labels, sorted within a step
    background: tuple[str, ...] = ()  # labels that sound across several steps: in none of them
    entries: tuple[str, ...] = ()  # of a record's `events`: the steps with their backgrounds


def entry(labels: Sequence[str]) -> str:
    """How `events` names what sounds together: "rain + siren", in alphabetical order."""
    return JOINER.join(sorted(set(labels)))


def find_steps(events: Sequence[TimedEvent]) -> Timeline | None:
    """The order of timed events; None where they are too entangled to have one.

    An event that sounds together with two others, which sound one after the other, is a background
    to them. Without backgrounds, to sound together is transitive; so the rest falls into steps.

    Args:
      events: in any order; those without a length count for nothing.
    """
    events = _merged(events)
    if not events:
        return None
    start = np.array([event.start for event in events])
    end = np.array([event.end for event in events])
    length = end - start
    shared = np.minimum(end[:, None], end) - np.maximum(start[:, None], start)  # (N, N) s
    together = shared > SHARED * np.minimum(length[:, None], length)
    np.fill_diagonal(together, False)
    partners = together.sum(1)
    pairs = ((together.astype(int) @ together) * together).sum(1)  # of partners that are together
    background = {e.label for e, n, p in zip(events, partners, pairs, strict=True) if p < n * n - n}

    kept = [i for i, event in enumerate(events) if event.label not in background]
    groups: dict[int, list[int]] = {}
    for i in kept:
        groups.setdefault(next((j for j in kept if j < i and together[i, j]), i), []).append(i)
    steps, entries, placed = [], [], set()
    for members in groups.values():  # in the order of their first onsets
        step = tuple(sorted({events[i].label for i in members}))
        span = TimedEvent(start[members].min(), end[members].max(), "")
        behind = {e.label for e in events if e.label in background and _meet(e, span)}
        placed |= behind
        if not steps or steps[-1] != step:
            steps.append(step)
        entries.append(entry((*step, *behind)))
    if not steps or placed != background:
        return None
    entries = tuple(name for name, _ in itertools.groupby(entries))
    return Timeline(tuple(steps), tuple(sorted(background)), entries)


def _merged(events: Sequence[TimedEvent]) -> list[TimedEvent]:
    """By onset, with stretches of one label that overlap or almost touch made one."""
    merged: list[TimedEvent] = []
    last: dict[str, int] = {}
    for event in sorted(events, key=lambda event: (event.start, event.end, event.label)):
        if not event.end > event.start:
            continue
        i = last.get(event.label)
        if i is not None and event.start <= merged[i].end + PAUSE:
            end = max(event.end, merged[i].end)
            merged[i] = TimedEvent(merged[i].start, end, event.label)
        else:
            last[event.label] = len(merged)
            merged.append(event)
    return merged


def _meet(a: TimedEvent, b: TimedEvent) -> bool:
    return min(a.end, b.end) > max(a.start, b.start)


def wrong_orders(steps: Sequence[tuple[str, ...]]) -> list[tuple[int, ...]]:
    """The orders of steps that are wrong for certain, whatever is repeated in them.

    In such an order two labels have exchanged their places that, as often as they sound, always do
    so one before the other; and no step stands beside its like.

    Args:
      steps: labels of each, first sounding first; a handful, as all orders are looked at.

    Returns:
      Indices of the steps, first said first; none where nothing can be exchanged.
    """
    right = _precedences(steps)
    found = []
    for order in itertools.permutations(range(len(steps))):
        said = [steps[i] for i in order]
        beside = any(a == b for a, b in itertools.pairwise(said))
        if not beside and any((b, a) in right for a, b in _precedences(said)):
            found.append(order)
    return found


def _precedences(steps: Sequence[tuple[str, ...]]) -> set[tuple[str, str]]:
    """(a, b) where all of a sounds before any of b."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for i, step in enumerate(steps):
        for label in step:
            first.setdefault(label, i)
            last[label] = i
    return {(a, b) for a in last for b in first if last[a] < first[b]}
