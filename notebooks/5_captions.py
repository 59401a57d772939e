# %% [markdown] tags=["badge"]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/clapjax/clapjax/blob/main/notebooks/5_captions.ipynb)

# %% [markdown]
# # 5. Captions from audio
#
# BLAT writes captions for sounds that have tags alone, by a captioner that hears the sound and is
# guided by its tags. A small captioner is trained here, and says what it hears.
#
# Runtime: any (CPU, GPU, TPU). The first line of each cell says how long it takes on two CPU cores,
# in all 9 min after the first cell.

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
FOLDER = ""  # of your sounds, as "/content/sounds"; "": some that are synthesised here
TAGS = ()  # what sounds in each of them, as ("dog bark", "rain")
MODEL = ""  # a workdir of a captioner of yours; "": a small one, which is trained here
WORK = "clapjax_work"  # for all that is made here
RECORDS, CONFIG = "configs/demo.py", "configs/captioner.py:demo"
STEPS = 1000

# %% [markdown]
# ## Train a captioner

# %%
# 6 min; 1 min where you have one, for the records, which the last cell needs.
run(f"records build --config {RECORDS} --data_dir {WORK}/data")
if not MODEL:
    MODEL = f"{WORK}/runs/captioner"
    run(
        f"train --config {CONFIG} --config.steps={STEPS} --config.evaluation.tasks='()' "
        f"--data_dir {WORK}/data --workdir {MODEL}"
    )
    # Its scores on held-out sounds, with n and 95 % intervals: CIDEr-D and others, and in how many
    # captions all events are named, and are in order.
    run(f"eval --model {MODEL} --benchmark held_out={WORK}/data --out {WORK}/captioning")
captioner = clapjax.load(MODEL)

# %% [markdown]
# ## What it hears

# %%
# 15 s, most of it compiling: by the sound alone, and told what sounds, one after the other.
from pathlib import Path

import numpy as np
from IPython.display import Audio, display

from clapjax.synthesis.sounds import render

RATE = 16_000  # Hz, of what is synthesised
PAIRS = (("dog bark", "rain"), ("church bell", "siren"), ("footsteps", "door knock"))
if FOLDER:
    KNOWN = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff"}
    files = sorted(file for file in Path(FOLDER).rglob("*") if file.suffix.lower() in KNOWN)
    told = {str(file): (str(file), TAGS, "") for file in files}
else:
    told = {
        f"{a}, then {b}": (
            np.concatenate([render(name, 2026, 2.0, RATE) for name in (a, b)]),
            (a, b),
            "sequential",
        )
        for a, b in PAIRS
    }
for name, (sound, tags, order) in told.items():
    print(name)
    display(Audio(sound, rate=RATE))
    (alone,) = captioner.caption(sound, RATE)
    print(f"  by ear: {alone!r}")
    if tags:
        (guided,) = captioner.caption(sound, RATE, tags=tags, order=order)
        print(f"  guided: {guided!r}")

# %% [markdown]
# ## Captions for a collection, and a CLAP model that learns of them

# %%
# 1 min: a table of captions of the held-out sounds, guided by their tags, as BLAT has them.
run(f"captions generate {WORK}/data:test --model {MODEL} --guidance tags --out {WORK}/captions")
table = next(Path(WORK, "captions").glob("*.jsonl"))
print(*table.read_text().splitlines()[:3], sep="\n")

# %% [markdown]
# `clapjax bootstrap` walks the whole way, from a captioner to CLAP models that learned of its
# captions, in hours (docs/bootstrap.md).
