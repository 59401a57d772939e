# %% [markdown] tags=["badge"]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/clapjax/clapjax/blob/main/notebooks/2_hear_order.ipynb)

# %% [markdown]
# # 2. Hear order
#
# "A dog barks, then it rains", or the other way round? T-CLAP found that published CLAP models
# cannot tell (arXiv 2404.17806). Two small models are trained here: one with order pairs and the
# temporal loss, and a control without them.
#
# Runtime: any (CPU, GPU, TPU). The first line of each cell says how long it takes on two CPU cores,
# in all 11 min after the first cell. It is `clapjax demo` step by step (docs/order.md).

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
# 0 s. Fewer steps are quicker; 800 are those of `clapjax demo`.
CONFIG = "configs/demo.py"
STEPS = 800
WORK = "clapjax_work"  # for all that is made here

# %% [markdown]
# ## Sounds, and captions in a right and a wrong order

# %%
# 1 min: synthesises the records.
run(f"records build --config {CONFIG} --data_dir {WORK}/data")

# %%
# 1 s: two sounds, one after the other, in both orders.
import numpy as np
from IPython.display import Audio, display

from clapjax.synthesis.sounds import render

RATE = 16_000  # Hz
FIRST, SECOND = "dog bark", "rain"
parts = {name: render(name, 2026, 2.0, RATE) for name in (FIRST, SECOND)}
sounds = {
    f"{a}, then {b}": np.concatenate([parts[a], parts[b]])
    for a, b in ((FIRST, SECOND), (SECOND, FIRST))
}
for caption, sound in sounds.items():
    print(caption)
    display(Audio(sound, rate=RATE))

# %% [markdown]
# ## Train both

# %%
# 5 min: with order.
train = f"train --config {CONFIG} --config.steps={STEPS} --config.evaluation.tasks='()'"
run(f"{train} --data_dir {WORK}/data --workdir {WORK}/runs/temporal")

# %%
# 4 min: without.
ALONE = "--config.loss.temporal_weight=0 --config.loss.order_pairs=0"
run(f"{train} {ALONE} --data_dir {WORK}/data --workdir {WORK}/runs/control")

# %% [markdown]
# ## What they hear in held-out sounds
#
# T-Classify: is the caption in the right order closer than the one in the wrong order? With n,
# chance and 95 % intervals.

# %%
# 1 min.
run(
    f"eval --model {WORK}/runs/temporal {WORK}/runs/control --benchmark demo={WORK}/data "
    f"--out {WORK}/order"
)

# %%
# 1 s: the same as a table.
run(f"report --markdown {WORK}/order")

# %% [markdown]
# ## The two sounds from above

# %%
# 10 s, most of it compiling.
models = {name: clapjax.load(f"{WORK}/runs/{name}") for name in ("temporal", "control")}
for heard, sound in sounds.items():
    print(f"heard: {heard}")
    display(Audio(sound, rate=RATE))
    for name, model in models.items():
        audio, text = model.embed_audio(sound, RATE), model.embed_text(list(sounds))
        cosines = model.similarity(audio, text)[0]
        told = "; ".join(f"{x:.3f} {caption!r}" for x, caption in zip(cosines, sounds, strict=True))
        right = list(sounds)[cosines.argmax()] == heard
        print(f"  {name:9}{'right' if right else 'wrong'}: {told}")
