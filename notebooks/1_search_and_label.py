# %% [markdown] tags=["badge"]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/clapjax/clapjax/blob/main/notebooks/1_search_and_label.ipynb)

# %% [markdown]
# # 1. Search and label your sounds
#
# Ask for a sound in words, and name what each recording holds.
#
# Runtime: any (CPU, GPU, TPU). The first line of each cell says how long it takes on two CPU cores,
# in all 5 min after the first cell. Run all; then set `FOLDER`, `MODEL`, `LABELS` and `QUERIES`,
# and run again from there. Sounds come into Colab by its folder icon at the left (upload), or from
# your Drive: `from google.colab import drive; drive.mount("/content/drive")`.

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
FOLDER = ""  # of your sounds, as "/content/sounds"; "": 96 that are synthesised here
# "laion/clap-htsat-unfused" has heard most of the world (a download of 0.6 GB); "": a small model,
# which is trained here and knows 24 kinds of sound.
MODEL = ""
LABELS = ()  # what `FOLDER` may hold, as ("dog", "rain")
QUERIES = ("dog bark", "church bell", "rain")
WORK = "clapjax_work"  # for all that is made here
CONFIG = "configs/demo.py"  # of the small model
STEPS = 300

# %% [markdown]
# ## The sounds

# %%
# 10 s: writes the synthesised sounds where you have named no folder.
from pathlib import Path

import soundfile
from IPython.display import Audio, display

from clapjax.synthesis.sounds import SOUND_CLASSES, render

synthesised = not FOLDER
if synthesised:
    FOLDER, LABELS = f"{WORK}/sounds", SOUND_CLASSES
    for name in SOUND_CLASSES:
        Path(FOLDER, name).mkdir(parents=True, exist_ok=True)
        for take in range(4):
            sound = render(name, (2026, take), 2.0, 16_000)  # 2 s that no training has
            soundfile.write(f"{FOLDER}/{name}/{take}.wav", sound, 16_000)
KNOWN = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff"}
files = sorted(file for file in Path(FOLDER).rglob("*") if file.suffix.lower() in KNOWN)
if not files:
    raise FileNotFoundError(f"no sounds in {FOLDER}")
print(f"{len(files)} sounds; one of them:")
display(Audio(str(files[0])))

# %% [markdown]
# ## The model

# %%
# 4 min for the small model, whose records are made and which is trained; else a download.
if not MODEL:
    MODEL = f"{WORK}/runs/temporal"
    run(f"records build --config {CONFIG} --data_dir {WORK}/data")
    run(
        f"train --config {CONFIG} --config.steps={STEPS} --config.evaluation.tasks='()' "
        f"--data_dir {WORK}/data --workdir {MODEL}"
    )
clap = clapjax.load(MODEL)
print(clap)

# %% [markdown]
# ## Search

# %%
# 10 s, most of it compiling: each sound becomes a vector, once.
vectors = clap.embed_audio(files)


def search(words, top=3):
    """Plays the sounds that are closest to the words."""
    cosines = clap.similarity(vectors, clap.embed_text(words))[:, 0]
    print(f"{words!r}, of {len(files)} sounds:")
    for number in cosines.argsort()[::-1][:top]:
        print(f"  {cosines[number]:.3f}  {files[number].relative_to(FOLDER)}")
        display(Audio(str(files[number])))


for words in QUERIES:
    search(words)

# %% [markdown]
# A collection of millions, from the command line: `clapjax embed`, `clapjax index` and `clapjax
# search` (docs/index.md).
#
# ## Labels

# %%
# 5 s: the most probable label of each sound, and of synthesised ones how often it is the right one.
import random

from scipy.stats import binomtest

if LABELS:
    found = [next(iter(labels)) for labels in clap.classify(files, LABELS)]
    for number in random.Random(0).sample(range(len(files)), min(8, len(files))):
        print(f"{files[number].relative_to(FOLDER)}: {found[number]}")
if synthesised:
    right = sum(file.parent.name == label for file, label in zip(files, found, strict=True))
    low, high = binomtest(right, len(files)).proportion_ci(method="wilson")
    print(
        f"right: {right / len(files):.1%} [{low:.1%}, {high:.1%}], n={len(files)}, "
        f"chance {1 / len(LABELS):.1%}"
    )
