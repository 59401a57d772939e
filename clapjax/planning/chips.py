"""Chips by their makers' data sheets, and what slices and machines of them are called."""

import math
import re
from dataclasses import dataclass

GIB, MIB = 2**30, 2**20
# What JAX takes of a GPU's memory unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.
GPU_SHARE = 0.75


@dataclass(frozen=True)
class Chip:
    """Peaks of one JAX device: products without sparsity and with float32 sums, memory, links."""

    flops: float  # per second
    memory: float  # bytes per second
    links: float | None = (
        None  # bytes per second that it sends to its neighbours, where planned for
    )
    dtype: str = "bfloat16"  # of the products


# By device kind, from cloud.google.com/tpu/docs/system-architecture-tpu-vm.
TPUS = {
    "TPU v2": Chip(22.5e12, 350e9, 62e9),
    "TPU v3": Chip(61.5e12, 450e9, 82e9),
    "TPU v4": Chip(275e12, 1228e9, 300e9),
    "TPU v5 lite": Chip(197e12, 819e9, 200e9),
    "TPU v5": Chip(459e12, 2765e9, 600e9),
    "TPU v6 lite": Chip(918e12, 1640e9, 448e9),
    "TPU7x": Chip(1153e12, 3690e9, 600e9),
}

# By the first pattern that is found in the device's kind. From NVIDIA's data sheets; the GeForce
# cards from the white papers of their architectures.
GPUS = (
    (r"(?<!G)B200", Chip(2250e12, 8000e9)),
    (r"GH200 480GB", Chip(989e12, 4000e9)),
    (r"H200 NVL", Chip(835e12, 4800e9)),
    (r"(?<!G)H200", Chip(989e12, 4800e9, 450e9)),
    (r"H100 NVL", Chip(835e12, 3900e9)),
    (r"H100 PCIe", Chip(756e12, 2000e9)),
    (r"H100( SXM\d?)?( 80GB HBM3)?$", Chip(989e12, 3350e9, 450e9)),
    (r"A100-SXM.*80GB", Chip(312e12, 2039e9, 300e9)),
    (r"A100.*80GB", Chip(312e12, 1935e9)),
    (r"A100.*40GB", Chip(312e12, 1555e9, 300e9)),
    (r"A40$", Chip(149.7e12, 696e9)),
    (r"A30$", Chip(165e12, 933e9)),
    (r"A10G$", Chip(70e12, 600e9)),
    (r"A10$", Chip(125e12, 600e9)),
    (r"L40S$", Chip(362e12, 864e9)),
    (r"L40$", Chip(181e12, 864e9)),
    (r"L4$", Chip(121e12, 300e9)),
    # Tensor cores that came before bfloat16.
    (r"T4$", Chip(65e12, 320e9, dtype="float16")),
    (r"V100S", Chip(130e12, 1134e9, dtype="float16")),
    (r"V100-SXM", Chip(125e12, 900e9, dtype="float16")),
    (r"V100", Chip(112e12, 900e9, dtype="float16")),
    (r"RTX 5090$", Chip(209.5e12, 1792e9)),
    (r"RTX 4090$", Chip(165.2e12, 1008e9)),
    (r"RTX 3090$", Chip(71e12, 936e9)),
    (r"RTX 6000 Ada", Chip(364e12, 960e9)),
    (r"RTX A6000", Chip(154.8e12, 768e9)),
)


def datasheet(kind: str) -> Chip | None:
    """The data sheet of a `jax.Device.device_kind`; None where it is not known.

    A slice of a GPU (MIG) has none: its share of the peaks is not in its name.
    """
    if kind in TPUS:
        return TPUS[kind]
    if "MIG" in kind:
        return None
    return next((found for pattern, found in GPUS if re.search(pattern, kind)), None)


@dataclass(frozen=True)
class Generation:
    """TPUs of one generation, as JAX and the cloud see them."""

    kind: str  # of a device
    gib: float  # of HBM that a program may take on a device, as libtpu 0.0.42 says
    counts_cores: bool  # whether an accelerator type counts TensorCores, two a chip, or chips
    split: bool  # whether a TensorCore, and not a chip, is a device
    shapes: tuple[str, ...]  # of the slices that an accelerator type names


SQUARES = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
CUBES = (
    *("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16"),
    *("8x16x16", "16x16x16"),
)
GENERATIONS = {
    "v2": Generation("TPU v2", 7.48, True, True, ("2x2", "4x4", "8x8", "8x16", "16x16")),
    "v3": Generation(
        "TPU v3", 15.48, True, True, ("2x2", "4x4", "8x8", "8x16", "16x16", "16x32", "32x32")
    ),
    "v4": Generation("TPU v4", 30.75, True, False, CUBES[:-1]),
    "v5e": Generation("TPU v5 lite", 15.75, False, False, SQUARES),
    "v5p": Generation("TPU v5", 95.74, True, False, CUBES),
    "v6e": Generation("TPU v6 lite", 31.25, False, False, SQUARES),
    "tpu7x": Generation("TPU7x", 94.75, False, True, CUBES),
}
CLOUD = {"v5litepod": "v5e"}  # what Google Cloud calls it: what everybody does

# Name to (device kind, MiB of memory as nvidia-smi has it).
MACHINES = {
    "a100": ("NVIDIA A100-SXM4-40GB", 40_960),
    "a100-80gb": ("NVIDIA A100-SXM4-80GB", 81_920),
    "h100": ("NVIDIA H100 80GB HBM3", 81_559),
    "h200": ("NVIDIA H200", 143_771),
}


@dataclass(frozen=True)
class Hardware:
    """Devices that a step is planned for."""

    name: str  # as it was asked for
    kind: str  # `jax.Device.device_kind`
    devices: int
    bytes: int  # that a program may take on one
    topology: str = ""  # of a slice, as libtpu has it: "v5e:4x4"; "": a GPU
    slices: int = 1

    @property
    def hosts(self) -> int:
        """Machines that they are in: of eight GPUs, or of four TPU chips, eight where one suffices.

        (cloud.google.com/tpu/docs: a v5e or v6e slice of up to eight chips may be one machine.)
        """
        if self.platform == "gpu":
            return -(-self.devices // 8)
        short = self.topology.partition(":")[0]
        chips = self.devices // self.slices // (2 if GENERATIONS[short].split else 1)
        alone = 8 if short in ("v5e", "v6e") else 4
        return self.slices * (1 if chips <= alone else -(-chips // 4))

    @property
    def platform(self) -> str:
        """ "tpu" or "gpu"."""
        return "tpu" if self.topology else "gpu"

    @property
    def options(self) -> dict:
        """What `jax.experimental.topologies.get_topology_desc` must be told besides."""
        sizes = [int(x) for x in self.topology.partition(":")[2].split("x")]
        told = {"num_slices": self.slices} if self.slices > 1 else {}
        if math.prod(sizes) < 4:  # less than a host
            told["chips_per_host_bounds"] = (*sizes, 1)[:3]
        if self.topology.startswith("v4:"):
            told["chip_config_name"] = "megacore"  # one device a chip, as on the machine
        return told


def hardware(name: str) -> Hardware:
    """Devices by name.

    Args:
      name: a slice by its topology ("v5e:4x4") or by the cloud's accelerator type ("v5litepod-16",
        "v6e-16", and "v5p-64", which counts TensorCores and has 32 chips), several slices
        ("2xv5e:16x16"), a GPU ("h100") or several of them ("h100x8").

    Raises:
      ValueError: no such hardware; the message lists what there is.
    """
    if match := re.fullmatch(r"([a-z]\d+(?:-80gb)?)(?:x([1-9]\d*))?", name.lower()):
        gpu, count = match.groups()
        if gpu in MACHINES:
            kind, size = MACHINES[gpu]
            return Hardware(name, kind, int(count or 1), int(GPU_SHARE * size * MIB))
    match = re.fullmatch(
        r"(?:([1-9]\d*)x)?([a-z]\w*)(?:-([1-9]\d*)|:([1-9]\d*(?:x[1-9]\d*){1,2}))", name.lower()
    )
    if match is None or CLOUD.get(match[2], match[2]) not in GENERATIONS:
        raise ValueError(
            f"no hardware {name!r}; there are TPUs ({', '.join(GENERATIONS)}) as v5e:4x4, "
            f"v5litepod-16, v5p-64 or 2xv5e:16x16, and GPUs ({', '.join(MACHINES)}) as h100x8"
        )
    slices, short, size, shape = match.groups()
    short = CLOUD.get(short, short)
    generation = GENERATIONS[short]
    if size:
        shape = _shape(name, short, generation, int(size))
    devices = math.prod(map(int, shape.split("x"))) * (2 if generation.split else 1)
    count = int(slices or 1)
    topology = f"{short}:{shape}"
    return Hardware(
        name, generation.kind, devices * count, int(generation.gib * GIB), topology, count
    )


def _shape(name: str, short: str, generation: Generation, size: int) -> str:
    """The shape of the slice that an accelerator type names."""
    each = 2 if generation.counts_cores else 1
    shapes = {each * math.prod(map(int, x.split("x"))): x for x in generation.shapes}
    if size not in shapes:
        known = ", ".join(f"{short}-{count}" for count in shapes)
        raise ValueError(
            f"{name}: not an accelerator type; there are {known}. Name another shape by its "
            f"topology, as {short}:{generation.shapes[-2]}"
        )
    return shapes[size]
