"""Captions of event sequences from templates: the right order, and a wrong one (T-CLAP 2.3)."""

import numpy as np

# How one event is named inside a caption.
EVENT_FORMS = ("{}", "{}", "the sound of {}", "a sound of {}")

# {a} sounds before {b}, whichever is said first.
TWO_EVENTS = (
    "{a} followed by {b}",
    "{a}, followed by {b}",
    "{a} and then {b}",
    "{a} then {b}",
    "{a}, then {b}",
    "first {a}, then {b}",
    "{a} and after that {b}",
    "{a} before {b}",
    "{a} precedes {b}",
    "{b} after {a}",
    "{b} follows {a}",
    "{b} preceded by {a}",
    "after {a}, {b}",
    "before {b}, {a}",
)

# Connectives that chain three or more events in the order in which they sound.
CHAINS = (" followed by ", " and then ", ", then ", " then ", " before ")

ONE_EVENT = (
    "{}",
    "the sound of {}",
    "this is a sound of {}.",
    "a sound of {}",
    "a recording of {}",
    "{} can be heard",
)


def sequence_caption(events: tuple[str, ...], generator: np.random.Generator) -> str:
    """A caption that tells two or more events in the order in which they sound.

    Args:
      events: plain-word names, first sounding first.
      generator: chooses the wording.

    Raises:
      ValueError: fewer than two events.
    """
    if len(events) < 2:
        raise ValueError(f"sequence_caption: needs two events or more, got {events}")
    return _fill(events, _draw_wording(len(events), generator))


def _draw_wording(count: int, generator: np.random.Generator) -> tuple[str, str]:
    """(event form, template with {0}..{count-1} in sounding order)."""
    form = EVENT_FORMS[generator.integers(len(EVENT_FORMS))]
    if count == 2:
        template = TWO_EVENTS[generator.integers(len(TWO_EVENTS))]
        return form, template.replace("{a}", "{0}").replace("{b}", "{1}")
    if generator.random() < 0.2:  # backwards: the last event is said first
        return form, " after ".join(f"{{{i}}}" for i in reversed(range(count)))
    links = [CHAINS[generator.integers(len(CHAINS))] for _ in range(count - 1)]
    return form, "{0}" + "".join(f"{link}{{{i}}}" for i, link in enumerate(links, start=1))


def _fill(events: tuple[str, ...], wording: tuple[str, str]) -> str:
    form, template = wording
    caption = template.format(*(form.format(event) for event in events))
    return caption[0].upper() + caption[1:]


def order_captions(
    events: tuple[str, ...], count: int, generator: np.random.Generator
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Positive captions of a sequence, and as many with the same events in a wrong order.

    As in T-CLAP, a negative is its positive's sentence with the events exchanged; so neither a
    connective nor a template tells right from wrong.

    Args:
      events: distinct plain-word names, first sounding first.
      count: captions of each kind.
      generator: chooses wordings and wrong orders.

    Returns:
      (positive captions, negative captions).

    Raises:
      ValueError: fewer than two events, or the same event twice.
    """
    if len(events) < 2 or len(set(events)) != len(events):
        raise ValueError(f"order_captions: needs two or more distinct events, got {events}")
    wordings = [_draw_wording(len(events), generator) for _ in range(count)]
    positives = tuple(_fill(events, wording) for wording in wordings)
    negatives = tuple(_fill(wrong_order(events, generator), wording) for wording in wordings)
    return positives, negatives


def wrong_order(events: tuple, generator: np.random.Generator) -> tuple:
    """Another order of two or more distinct items, drawn uniformly from those that differ."""
    while True:
        order = generator.permutation(len(events))
        if (order != np.arange(len(events))).any():
            return tuple(events[i] for i in order)


def event_captions(event: str, count: int, generator: np.random.Generator) -> tuple[str, ...]:
    """`count` different captions (at most six) of a single event."""
    chosen = generator.permutation(len(ONE_EVENT))[:count]
    captions = (ONE_EVENT[i].format(event) for i in chosen)
    return tuple(caption[0].upper() + caption[1:] for caption in captions)
