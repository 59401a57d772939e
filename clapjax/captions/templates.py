"""Captions of event sequences from templates: the right order, and a wrong one (T-CLAP 2.3).

A sequence has steps, one after the other. A step is one event, or several that sound together:
these have no order, and no caption is wrong for saying them the other way round.
"""

from collections.abc import Sequence

import numpy as np

from clapjax.captions.keywords import join_labels, plain_label
from clapjax.captions.timeline import Timeline, wrong_orders

Step = str | tuple[str, ...]  # what sounds at once: names in plain words

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

# The same where {a} or {b} may itself be "rain while siren": commas hold together what belongs so.
TWO_STEPS = (
    "{a}, followed by {b}",
    "{a}, and then {b}",
    "{a}, then {b}",
    "first {a}, then {b}",
    "{a}, and after that {b}",
    "{a}, before {b}",
    "{b}, after {a}",
    "{b}, preceded by {a}",
    "after {a}, {b}",
    "before {b}, {a}",
)

# Connectives of what sounds together; either may be said first.
TOGETHER = (" while ", " as ", " over ", " together with ", " at the same time as ")

ONE_EVENT = (
    "{}",
    "the sound of {}",
    "this is a sound of {}.",
    "a sound of {}",
    "a recording of {}",
    "{} can be heard",
)


def _draw_wording(
    steps: Sequence[Step], generator: np.random.Generator, templates: Sequence[str] = ()
) -> tuple[str, tuple[str, ...]]:
    """(template with {} for each step, {0} sounding first; what is said of each step)."""
    form = EVENT_FORMS[generator.integers(len(EVENT_FORMS))]
    template = _draw_template(steps, generator, templates)
    return template, tuple(_phrase(step, form, generator) for step in steps)


def _draw_template(
    steps: Sequence[Step], generator: np.random.Generator, templates: Sequence[str]
) -> str:
    apart = any(_is_several(step) for step in steps)
    if len(steps) == 2:
        templates = templates or (TWO_STEPS if apart else TWO_EVENTS)
        template = templates[generator.integers(len(templates))]
        return template.replace("{a}", "{0}").replace("{b}", "{1}")
    if generator.random() < 0.2:  # backwards: the last event is said first
        after = ", after " if apart else " after "
        return after.join(f"{{{i}}}" for i in reversed(range(len(steps))))
    links = [CHAINS[generator.integers(len(CHAINS))] for _ in steps[1:]]
    if apart:
        links = [f", {link.lstrip(', ')}" for link in links]
    return "{0}" + "".join(f"{link}{{{i}}}" for i, link in enumerate(links, start=1))


def _is_several(step: Step) -> bool:
    return not isinstance(step, str) and len(step) > 1


def _phrase(step: Step, form: str, generator: np.random.Generator) -> str:
    """ "rain", or "the sound of rain while the sound of siren and the sound of wind"."""
    if not _is_several(step):
        return form.format(step if isinstance(step, str) else step[0])
    first, *others = (form.format(step[i]) for i in generator.permutation(len(step)))
    return first + TOGETHER[generator.integers(len(TOGETHER))] + " and ".join(others)


def _fill(template: str, phrases: Sequence[str], background: tuple[str, ...] = ()) -> str:
    caption = template.format(*phrases)
    if background:
        caption += f", with {join_labels(background)} in the background"
    return caption[0].upper() + caption[1:]


def order_captions(
    events: tuple[Step, ...],
    count: int,
    generator: np.random.Generator,
    templates: Sequence[str] = (),
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Positive captions of a sequence, and as many with the same events in a wrong order.

    As in T-CLAP, a negative is its positive's sentence with the events exchanged; so neither a
    connective nor a template tells right from wrong. What sounds together moves together, in the
    same words.

    Args:
      events: distinct plain-word names, first sounding first; a tuple of them where several sound
        together.
      count: captions of each kind.
      generator: chooses wordings and wrong orders.
      templates: of two steps, with {a}, which sounds first, and {b}; none: those of training.

    Returns:
      (positive captions, negative captions).

    Raises:
      ValueError: fewer than two events, one after the other, or the same event twice.
    """
    names = [name for step in events for name in ((step,) if isinstance(step, str) else step)]
    if len(events) < 2 or len(set(names)) != len(names):
        raise ValueError(f"order_captions: needs two or more distinct events, got {events}")
    wordings = [_draw_wording(events, generator, templates) for _ in range(count)]
    positives = tuple(_fill(*wording) for wording in wordings)
    negatives = tuple(_fill(words, wrong_order(said, generator)) for words, said in wordings)
    return positives, negatives


def together_captions(
    events: tuple[str, ...],
    count: int,
    generator: np.random.Generator,
    background: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """`count` captions of events that sound together; no order of them is wrong."""
    forms = [EVENT_FORMS[generator.integers(len(EVENT_FORMS))] for _ in range(count)]
    return tuple(_fill("{}", [_phrase(events, form, generator)], background) for form in forms)


def timeline_captions(
    timeline: Timeline, count: int, generator: np.random.Generator
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Captions of a real recording's order, where events may come again.

    Args:
      timeline: its steps and what sounds behind them.
      count: captions of each kind.
      generator: chooses wordings and wrong orders.

    Returns:
      (positive captions, negative captions: none where no order is wrong for certain).
    """
    labels = {label for step in timeline.steps for label in step} | set(timeline.background)
    name = spoken(sorted(labels))
    steps = [tuple(name[label] for label in step) for step in timeline.steps]
    behind = tuple(name[label] for label in timeline.background)
    if len(steps) == 1:
        return together_captions(steps[0], count, generator, behind), ()
    wordings = [_draw_wording(steps, generator) for _ in range(count)]
    positives = tuple(_fill(*wording, behind) for wording in wordings)
    orders = wrong_orders(timeline.steps)
    if not orders:
        return positives, ()
    negatives = []
    for template, phrases in wordings:
        order = orders[generator.integers(len(orders))]
        negatives.append(_fill(template, [phrases[i] for i in order], behind))
    return positives, tuple(negatives)


def spoken(labels: Sequence[str]) -> dict[str, str]:
    """Label to its name in a sentence; the labels themselves where two would get one name."""
    names = {label: plain_label(label) for label in labels}
    return names if len(set(names.values())) == len(names) else {label: label for label in labels}


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
