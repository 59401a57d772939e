"""What a compiled program does, read from its HLO text: what is sent, and what memory moves."""

import math
import re
from typing import NamedTuple

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BITS = {"pred": 8, "bf16": 16, "c64": 64, "c128": 128}
# Instructions that move nothing: names for what is there, and loops, whose bodies count.
FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional")
SHAPE = re.compile(r"(\w+)\[([\d,]*)\](\{[^}]*\})?")


class Instruction(NamedTuple):
    """One line of a computation."""

    name: str
    result: str  # its type
    opcode: str
    operands: tuple[str, ...]  # of a parameter: its number
    attributes: str  # the rest of the line


class Collective(NamedTuple):
    """One exchange between devices; `elements` and `bytes` of its results together."""

    kind: str
    types: tuple[str, ...]
    elements: int
    bytes: int
    times: int  # how often it runs
    looped: bool  # it stands in the body of a loop


def computations(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """The computations of a compiled module's `as_text()`, and the name of its entry.

    Raises:
      ValueError: the text is not HLO.
    """
    found, entry = {}, None
    blocks = re.findall(r"^(ENTRY )?%?([\w.-]+) [^\n]*\{\n(.*?)^\}", text, re.M | re.S)
    for is_entry, name, body in blocks:
        found[name] = [x for x in map(_instruction, body.splitlines()) if x is not None]
        entry = name if is_entry else entry
    if entry is None:
        raise ValueError("not the text of a compiled module")
    return found, entry


def _instruction(line: str) -> Instruction | None:
    match = re.match(r"\s*(?:ROOT )?%?([\w.-]+) = (.*?) ([\w-]+)\((.*)$", line)
    if match is None:
        return None
    name, result, opcode, rest = match.groups()
    inside, _, attributes = rest.partition(")")
    operands = re.findall(r"%([\w.-]+)", inside) if opcode != "parameter" else [inside]
    return Instruction(name, result, opcode, tuple(operands), attributes)


def runs(
    found: dict[str, list[Instruction]], entry: str, unknown: float = 1
) -> dict[str, tuple[float, bool, bool]]:
    """For each computation that runs: (how often, in a loop, inside of a fusion).

    A loop whose number of turns the compiler does not know has `unknown`.
    """
    seen: dict[str, tuple[int, bool, bool]] = {}
    ahead = [(entry, 1, False, False)]
    while ahead:
        name, times, looped, fused = ahead.pop()
        if name not in found:
            continue
        before = seen.get(name, (0, False, True))
        seen[name] = (before[0] + times, before[1] or looped, before[2] and fused)
        for x in found[name]:
            turns = 1
            if x.opcode == "while":
                known = re.search(r'known_trip_count":\{"n":"(\d+)"', x.attributes)
                turns = int(known[1]) if known else unknown
            for what, called in re.findall(r"(body|condition|calls|to_apply)=%?([\w.-]+)",
                                           x.attributes):  # fmt: skip
                inner = fused or what in ("calls", "to_apply")
                ahead.append((called, times * turns, looped or x.opcode == "while", inner))
            for group in re.findall(r"branch_computations=\{([^}]*)\}", x.attributes):
                for called in re.findall(r"[\w.-]+", group):
                    ahead.append((called, times, looped, fused))
    return seen


def collectives(text: str) -> list[Collective]:
    """All exchanges between devices of a compiled module's `as_text()`."""
    found, entry = computations(text)
    out = []
    for name, (times, looped, _) in runs(found, entry).items():
        for x in found[name]:
            kind = x.opcode.removesuffix("-start")
            if kind not in KINDS:
                continue
            shapes = SHAPE.findall(x.result)
            if x.opcode.endswith("-start") and kind in ("all-gather", "collective-permute"):
                shapes = [shape for shape in shapes if shape[1]]  # without the contexts
                shapes = shapes[len(shapes) // 2 :]  # which follow the operands
            elements = sum(_elements(shape) for _, shape, _ in shapes)
            types = tuple(sorted({kind for kind, _, _ in shapes}))
            size = sum(_bytes(*shape) for shape in shapes)
            out.append(Collective(kind, types, elements, size, times, looped))
    return out


def memory_traffic(text: str, turns: float = 1) -> int:
    """Bytes that one device reads from and writes to its memory in a run, by estimate.

    Each instruction reads its operands and writes its results; of an operand of which a fusion
    takes a slice only the slice counts, and of one that it updates in place only the update. A loop
    that ends when its data does has `turns`.
    """
    found, entry = computations(text)
    total = 0
    for name, (times, _, fused) in runs(found, entry, turns).items():
        if fused:
            continue
        sizes = {x.name: _in_memory(x.result) for x in found[name]}
        total += times * sum(_moved(x, sizes, found) for x in found[name] if x.opcode not in FREE)
    return int(total)


def _moved(x: Instruction, sizes: dict[str, int], found: dict[str, list[Instruction]]) -> int:
    if x.opcode.endswith("-done"):
        return 0
    if x.opcode in ("dynamic-slice", "slice", "gather"):
        return 2 * _in_memory(x.result)
    if x.opcode == "dynamic-update-slice":
        return 2 * sizes.get(x.operands[1], 0)
    called = re.search(r"calls=%?([\w.-]+)", x.attributes)
    if x.opcode != "fusion" or called is None or called[1] not in found:
        return _in_memory(x.result) + sum(sizes.get(name, 0) for name in x.operands)
    body = found[called[1]]
    inner = {y.name: y for y in body}
    parameters = sorted(
        (y for y in body if y.opcode == "parameter"), key=lambda y: int(y.operands[0])
    )
    read, written = 0, _in_memory(x.result)
    for operand, parameter in zip(x.operands, parameters, strict=True):
        users = [y for y in body if parameter.name in y.operands]
        sliced = [y for y in users if y.opcode == "dynamic-slice"]
        updated = [
            y
            for y in users
            if y.opcode == "dynamic-update-slice" and y.operands[0] == parameter.name
        ]
        if users and len(sliced) == len(users):
            read += sum(min(_in_memory(y.result), sizes.get(operand, 0)) for y in sliced)
        elif updated and len(updated) == len(users):
            pieces = (inner[y.operands[1]].result for y in updated if y.operands[1] in inner)
            written += sum(map(_in_memory, pieces)) - sizes.get(operand, 0)
        else:
            read += sizes.get(operand, 0)
    return read + max(written, 0)


def _in_memory(result: str) -> int:
    """Bytes of a type; what the layout puts into on-chip memory, S(1) and up, counts nothing."""
    return sum(
        _bytes(kind, shape, layout)
        for kind, shape, layout in SHAPE.findall(result)
        if not re.search(r"S\([1-9]", layout)
    )


def _elements(shape: str) -> int:
    return math.prod(map(int, filter(None, shape.split(","))))


def _bytes(kind: str, shape: str, _layout: str) -> int:
    digits = re.search(r"\d+", kind)
    bits = BITS.get(kind) or (int(digits[0]) if digits else 0)  # token, opaque: nothing
    return _elements(shape) * bits // 8
