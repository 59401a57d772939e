"""Whether a caption tells what sounds: each event, and in the order in which they sound."""

from collections.abc import Sequence

import numpy as np

from clapjax.captions.keywords import left_out
from clapjax.captions.rules.connectives import sounding_order, split_text
from clapjax.captions.timeline import JOINER
from clapjax.evaluation.result import Metric
from clapjax.evaluation.statistics import interval

# Of our templates, what the rules of captions know no connective in.
VERBS = {" precedes ": " before ", " follows ": " after "}


def tells(caption: str, events: Sequence[str]) -> tuple[bool, bool]:
    """(Each event is named; and in the right order, without any step too many or too few).

    An event is named by a word of its label. Of "rain before siren" the parts are "rain" and
    "siren": what sounds together stands in one part, and what follows in the next one.

    Args:
      caption: a sentence.
      events: at least one, as records have them: of what sounds together "rain + siren".
    """
    steps = [tuple(event.split(JOINER)) for event in events]
    named = left_out(sum(steps, ()), caption) is None
    for verb, connective in VERBS.items():
        caption = caption.replace(verb, connective)
    found = split_text(caption)
    parts = [" ".join(found.segments[at]) for at in sounding_order(found)] if found else [caption]
    in_order = len(parts) == len(steps) and all(
        left_out(step, part) is None for step, part in zip(steps, parts, strict=True)
    )
    return named, in_order


def events_told(
    captions: Sequence[str], events: Sequence[Sequence[str]], groups: np.ndarray | None = None
) -> tuple[dict[str, Metric], dict[str, np.ndarray]]:
    """Shares of captions that name every event, and that tell all of them in order.

    Args:
      captions, events: of n clips, as `tells` has them.
      groups: (n,) recordings that stay together in the intervals.

    Returns:
      (metrics, items: (n,) bool each), "all events" and "all in order".
    """
    told = np.array([tells(*pair) for pair in zip(captions, events, strict=True)])
    items = {"all events": told[:, 0], "all in order": told[:, 1]}
    return {name: interval(x, "mean", groups) for name, x in items.items()}, items
