"""The order probe: test mixtures such as training on the same records cannot have seen.

Pairs of classes that are in no mixture but the probe's, connectives and sentences that no template
has, and more events than two.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping

from clapjax.captions.unseen import CONNECTIVES, PARAPHRASES
from clapjax.data.schema import PROBE, Example
from clapjax.data.sources.clip import Recording
from clapjax.synthesis.mixup import (
    MixupConfig,
    choose_classes,
    keyed_generator,
    mix_classes,
    most_classes,
)

SENTENCES = {"connective": CONNECTIVES, "paraphrase": PARAPHRASES}
EVENTS = (3, 4, 5)  # of the part "events"


def kept_apart(labels: Iterable[str], seed: int) -> dict[str, str]:
    """Pairs of classes that no mixture but the probe's has: each class to the other of its pair.

    A class is in one pair at most, so that it is mixed with all others.
    """
    labels = sorted(set(labels))
    order = keyed_generator(seed, "probe").permutation(len(labels)).tolist()
    pairs = [(labels[a], labels[b]) for a, b in zip(order[::2], order[1::2], strict=False)]
    return dict(pairs) | {b: a for a, b in pairs}


def probe_parts(labels: list[str], partner: Mapping[str, str]) -> list[tuple[str, int]]:
    """(part, events of a mixture) of all that can be asked of these classes."""
    most = most_classes(labels, partner)
    parts = [("pair", 2)] * any(partner.get(label) in labels for label in labels)
    parts += [(part, 2) for part in SENTENCES if most >= 2]
    return parts + [("events", count) for count in EVENTS if count <= most]


def draw_probe(
    by_label: dict[str, list[Recording]],
    sample_rate: int,
    config: MixupConfig,
    seed: int,
    split: str,
    index: int,
    *,
    part: str,
    count: int,
    partner: Mapping[str, str],
) -> Example:
    """Mixture number `index` of a part of the probe: a pure function of its arguments.

    Args:
      by_label: recordings of each class that is heard in training.
      sample_rate, config, seed, split, index: as for `draw_mixture`.
      part, count: of `probe_parts`.
      partner: of `kept_apart`.
    """
    generator = keyed_generator(seed, split, part, count, index)
    what, templates = f"{PROBE}{part}", ()
    if part in SENTENCES:  # told forwards and backwards in turn
        told = list(SENTENCES[part])[index % 2]
        what, templates = f"{what}:{told}", SENTENCES[part][told]
    labels = sorted(by_label.keys() - set(config.background_labels))
    if part == "pair":
        pairs = [p for p in itertools.combinations(labels, 2) if partner.get(p[0]) == p[1]]
        pair = pairs[generator.integers(len(pairs))]
        chosen = [pair[i] for i in generator.permutation(2)]
    else:
        chosen = choose_classes(labels, count, partner, generator)
    return mix_classes(
        by_label,
        chosen,
        sample_rate,
        dataclasses.replace(config, overlap_share=0.0),
        generator,
        id=f"{split}-{part}-{count}-{index:07d}",
        negative_audio=True,
        templates=templates,
        provenance=what,
    )
