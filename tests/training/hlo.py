"""What a compiled program says between devices, read from its HLO text."""

import math
import re
from typing import NamedTuple

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


class Collective(NamedTuple):
    """One instruction; `elements` of its results together."""

    kind: str
    types: tuple[str, ...]
    elements: int
    looped: bool  # it runs once for each turn of a loop


def collectives(text: str) -> list[Collective]:
    """All collectives of a compiled module's `as_text()`."""
    bodies = dict(re.findall(r"^(?:ENTRY )?%?([\w.-]+) [^\n]*\{\n(.*?)^\}", text, re.M | re.S))
    assert bodies, "not HLO"
    looped, ahead = set(), re.findall(r"body=%?([\w.-]+)", text)
    while ahead:
        name = ahead.pop()
        if name not in looped:
            looped.add(name)
            ahead += re.findall(r"(?:body|condition|calls|to_apply)=%?([\w.-]+)", bodies[name])
    found = []
    for name, body in bodies.items():
        for line in body.splitlines():
            match = re.match(rf"\s*(?:ROOT )?\S+ = (.*?) ({'|'.join(KINDS)})(?:-start)?\(", line)
            if match:
                shapes = re.findall(r"(\w+)\[([\d,]*)\]", match[1])
                elements = sum(math.prod(map(int, filter(None, s.split(",")))) for _, s in shapes)
                types = tuple(sorted({kind for kind, _ in shapes}))
                found.append(Collective(match[2], types, elements, name in looped))
    return found
