"""Peak rates by the makers' data sheets."""

import re
from dataclasses import dataclass

from clapjax.planning.plan import CHIPS


@dataclass(frozen=True)
class Sheet:
    """Peaks of one device: matrix products without sparsity and with float32 sums, and memory."""

    flops: float  # per second
    memory: float  # bytes per second
    dtype: str = "bfloat16"  # of the products


# By the first pattern that is found in the device's kind. From NVIDIA's data sheets; the GeForce
# cards from the white papers of their architectures.
GPUS = (
    (r"(?<!G)B200", Sheet(2250e12, 8000e9)),
    (r"GH200 480GB", Sheet(989e12, 4000e9)),
    (r"H200 NVL", Sheet(835e12, 4800e9)),
    (r"(?<!G)H200", Sheet(989e12, 4800e9)),
    (r"H100 NVL", Sheet(835e12, 3900e9)),
    (r"H100 PCIe", Sheet(756e12, 2000e9)),
    (r"H100( SXM\d?)?( 80GB HBM3)?$", Sheet(989e12, 3350e9)),
    (r"A100-SXM.*80GB", Sheet(312e12, 2039e9)),
    (r"A100.*80GB", Sheet(312e12, 1935e9)),
    (r"A100.*40GB", Sheet(312e12, 1555e9)),
    (r"A40$", Sheet(149.7e12, 696e9)),
    (r"A30$", Sheet(165e12, 933e9)),
    (r"A10G$", Sheet(70e12, 600e9)),
    (r"A10$", Sheet(125e12, 600e9)),
    (r"L40S$", Sheet(362e12, 864e9)),
    (r"L40$", Sheet(181e12, 864e9)),
    (r"L4$", Sheet(121e12, 300e9)),
    # Tensor cores that came before bfloat16.
    (r"T4$", Sheet(65e12, 320e9, "float16")),
    (r"V100S", Sheet(130e12, 1134e9, "float16")),
    (r"V100-SXM", Sheet(125e12, 900e9, "float16")),
    (r"V100", Sheet(112e12, 900e9, "float16")),
    (r"RTX 5090$", Sheet(209.5e12, 1792e9)),
    (r"RTX 4090$", Sheet(165.2e12, 1008e9)),
    (r"RTX 3090$", Sheet(71e12, 936e9)),
    (r"RTX 6000 Ada", Sheet(364e12, 960e9)),
    (r"RTX A6000", Sheet(154.8e12, 768e9)),
)


def datasheet(kind: str) -> Sheet | None:
    """The sheet of a `jax.Device.device_kind`; None where it is not known.

    A slice of a GPU (MIG) has none: its share of the peaks is not in its name.
    """
    if kind in CHIPS:
        return Sheet(CHIPS[kind].flops, CHIPS[kind].memory)
    if "MIG" in kind:
        return None
    return next((sheet for pattern, sheet in GPUS if re.search(pattern, kind)), None)
