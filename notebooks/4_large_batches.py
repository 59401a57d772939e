# %% [markdown] tags=["badge"]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/clapjax/clapjax/blob/main/notebooks/4_large_batches.ipynb)

# %% [markdown]
# # 4. Large batches
#
# A contrastive loss of N pairs has N x N logits. What the ring saves, what a pod would need, and
# how one chip trains a batch that does not fit.
#
# Runtime: any (CPU, GPU, TPU). The first line of each cell says how long it takes on two CPU cores,
# in all 3 min after the first cell.

# %% tags=["install"]
# 2 min on Colab, once: installs clapjax for the chip that is here, before JAX is imported.
import glob
import importlib
import importlib.util
import logging
import os
import shlex
import shutil
import subprocess
import sys

# Or the folder of a checkout.
SOURCE = os.environ.get("CLAPJAX_SOURCE", "git+https://github.com/clapjax/clapjax")


def accelerator():
    """The extra of clapjax for the chip that is here; "" for a CPU."""
    if importlib.util.find_spec("libtpu") or glob.glob("/dev/vfio/[0-9]*"):
        return "tpu"
    asked = ["nvidia-smi", "--query-gpu=driver_version,compute_cap", "--format=csv,noheader"]
    told = subprocess.run(asked, capture_output=True, text=True) if shutil.which(asked[0]) else None
    if told is None or told.returncode:
        return ""
    driver, capability = told.stdout.splitlines()[0].split(",")
    # CUDA 13 needs a new driver, and has left Volta behind.
    new = int(driver.split(".")[0]) >= 580 and float(capability) >= 7.5
    return "cuda13" if new else "cuda12"


def install():
    """Brings clapjax, and the JAX and Flax that it needs, which are newer than Colab's."""
    if "jax" in sys.modules:
        raise RuntimeError("JAX is imported already: Runtime > Restart session, then this first")
    extras = ",".join(filter(None, ["train", accelerator()]))
    wanted = f"{SOURCE}[{extras}]" if os.path.isdir(SOURCE) else f"clapjax[{extras}] @ {SOURCE}"
    pip = [sys.executable, "-m", "pip"]
    # Its files would mix with those of tensorflow-cpu, which clapjax takes.
    subprocess.run([*pip, "uninstall", "--quiet", "--yes", "tensorflow"], check=True)
    print(wanted)
    subprocess.run([*pip, "install", "--quiet", wanted], check=True)
    importlib.invalidate_caches()


if importlib.util.find_spec("clapjax") is None:
    install()

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
logging.getLogger("absl").setLevel(logging.CRITICAL)  # TFDS and Orbax tell much of themselves

import clapjax
from clapjax.cli.main import main
from clapjax.memory import keep_memory

keep_memory()


def run(command):
    """`clapjax COMMAND`, in this process: a TPU serves one only."""
    if main(shlex.split(command)):
        raise RuntimeError(f"clapjax {command}: what is wrong stands above")


import jax

print(f"clapjax {clapjax.__version__}, JAX {jax.__version__} on {jax.devices()[0].device_kind}")

# %% tags=["parameters"]
# 0 s.
BATCHES = (2048, 8192)  # pairs; on a GPU or TPU 16_384 as well, of which the matrix alone has 1 GiB
TILE = 1024  # rows and columns that the ring looks at at once
SIZE = 512  # of an embedding
POD, POD_CONFIG = "v5e-256", "configs/large_batch.py"  # 65,536 pairs on 256 chips
CONFIG = "configs/demo.py"  # what this chip trains
BATCH = 256  # of it
ROWS = (0, 64, 16)  # that are in memory at once; 0: all

# %% [markdown]
# ## Ring against plain loss
#
# The same number and the same gradient. Temporaries are what the compiler sets aside for both.

# %%
# 30 s.
import time

import jax.numpy as jnp
import numpy as np

from clapjax.losses.config import LossConfig
from clapjax.losses.contrastive import make_contrastive
from clapjax.training.config import MeshConfig
from clapjax.training.mesh import BATCH_AXES, make_mesh


def unit(generator, rows):
    """(rows, SIZE) float32 embeddings of length 1."""
    x = generator.normal(size=(rows, SIZE)).astype(np.float32)
    return jnp.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


mesh, generator = make_mesh(MeshConfig()), np.random.default_rng(0)
print(f"{'pairs':>8} {'loss':<6}{'value':>10}{'temporaries MiB':>17}{'s':>9}")
for rows in BATCHES:
    audio, text, gradients = unit(generator, rows), unit(generator, rows), {}
    for form in ("plain", "ring"):
        loss = make_contrastive(LossConfig(implementation=form, tile=TILE), mesh, BATCH_AXES)
        step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
        compiled = step.lower(audio, text, jnp.float32(14.3)).compile()
        jax.block_until_ready(compiled(audio, text, jnp.float32(14.3)))
        start = time.perf_counter()
        value, gradients[form] = jax.block_until_ready(compiled(audio, text, jnp.float32(14.3)))
        seconds = time.perf_counter() - start
        mib = compiled.memory_analysis().temp_size_in_bytes / 2**20
        print(f"{rows:>8,} {form:<6}{value:>10.6f}{mib:>17.1f}{seconds:>9.3f}")
    for plain, ring in zip(gradients["plain"], gradients["ring"], strict=True):
        apart = jnp.abs(plain - ring).max() / jnp.abs(plain).max()
        print(f"{'':>8} gradients differ by {apart:.1e} of the largest")

# %% [markdown]
# ## Plan a pod
#
# Needs no pod: a training step is traced, and its memory counted. `clapjax plan` without `--count`
# compiles it for the TPU (docs/planning.md).

# %%
# 40 s, in a process of its own, which takes no chip.
plan = ["plan", "--config", POD_CONFIG, "--topology", POD, "--count"]
told = subprocess.run([sys.executable, "-m", "clapjax", *plan], capture_output=True, text=True)
print(told.stdout or told.stderr)

# %% [markdown]
# ## Micro-batches on one chip
#
# A batch in parts: each row still meets all others in the loss. Fewer rows in memory at once, for a
# second forward pass.

# %%
# 2 min.
for rows in ROWS:
    print(f"--- rows_per_device={rows}")
    run(
        f"plan --config {CONFIG} --config.batch_size={BATCH} --config.rows_per_device={rows} "
        "--steps 3"
    )
