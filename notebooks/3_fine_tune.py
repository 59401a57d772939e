# %% [markdown] tags=["badge"]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/clapjax/clapjax/blob/main/notebooks/3_fine_tune.ipynb)

# %% [markdown]
# # 3. Fine-tune on your folder, or on a Hugging Face data set
#
# A model learns your own words for your own sounds, and is judged on recordings that it has not
# heard, before and after.
#
# Runtime: any (CPU, GPU, TPU); for a published model a GPU or TPU. The first line of each cell says
# how long it takes on two CPU cores, in all 6 min after the first cell.

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
# A folder with sounds and one table of captions beside them (docs/your_own_sounds.md); "": one that
# is made here.
FOLDER = ""
# Or a data set of huggingface.co, as "owner/name": parquet files with the columns `audio` and
# `caption`, `text` or `labels`.
DATASET = ""
# What to start from, as "laion/clap-htsat-unfused"; "": a small model, which is trained here first.
MODEL = ""
STEPS = 200
LEARNING_RATE = 5e-4  # of the small model; 1e-4 suits a published one
TAKES = 4  # of each pair of sounds in the folder that is made here, to train on
WORK = "clapjax_work"  # for all that is made here
CONFIG = "configs/demo.py"  # of the small model
MODEL_STEPS = 300

# %% [markdown]
# ## The sounds and their captions

# %%
# 20 s for the folder that is made here: two sounds in a row, told by someone who knows them.
import csv
import itertools
from pathlib import Path

import numpy as np
import soundfile
from IPython.display import Audio, display

from clapjax.synthesis.sounds import render

OWN_WORDS = {
    "dog bark": "Rex wants in",
    "telephone ring": "the office calls",
    "door knock": "here is the parcel",
    "clock tick": "grandfather's heirloom",
    "car horn": "the taxi waits",
    "church bell": "Saint Mary on Sunday",
}


def make_folder(folder, rate=16_000):
    """Sounds in wav files, and sounds.csv with a caption and the split of each."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [("file", "caption", "split")]
    for pair, take in itertools.product(itertools.permutations(OWN_WORDS, 2), range(TAKES + 1)):
        split = "train" if take else "test"  # the first take is held out
        file = f"{'-'.join(pair)}-{take}.wav".replace(" ", "_")
        sound = np.concatenate([render(name, (2026, take), 2.0, rate) for name in pair])
        soundfile.write(folder / file, sound, rate)
        rows.append((file, ", then ".join(OWN_WORDS[name] for name in pair), split))
    with open(folder / "sounds.csv", "w", newline="") as table:
        csv.writer(table).writerows(rows)
    print(f"{len(rows) - 1} sounds in {folder}; the last one: {rows[-1][1]!r}")
    display(Audio(str(folder / rows[-1][0])))


kind = "folder"
if DATASET:
    from huggingface_hub import snapshot_download

    kind = "parquet"
    FOLDER = snapshot_download(DATASET, repo_type="dataset", allow_patterns="*.parquet")
elif not FOLDER:
    FOLDER = f"{WORK}/own_sounds"
    make_folder(Path(FOLDER))

# %% [markdown]
# ## The model to start from

# %%
# 4 min for the small model; else 0 s.
if not MODEL:
    MODEL = f"{WORK}/runs/temporal"
    run(f"records build --config {CONFIG} --data_dir {WORK}/data")
    run(
        f"train --config {CONFIG} --config.steps={MODEL_STEPS} "
        f"--config.evaluation.tasks='()' --data_dir {WORK}/data --workdir {MODEL}"
    )

# %% [markdown]
# ## Tune it

# %%
# 1 min: makes records of the folder, and trains. A table without a split has a tenth held out.
OWN = f"{WORK}/{Path(DATASET or FOLDER).name} {Path(MODEL).name}"  # another of them: another run
run(
    f"train --config configs/folder.py --config.source.kind={kind} --config.source.path='{FOLDER}' "
    f"--model '{MODEL}' --config.steps={STEPS} --config.optimizer.learning_rate={LEARNING_RATE} "
    f"--data_dir '{OWN}/records' --workdir '{OWN}/run' --config.evaluation.tasks='()'"
)

# %% [markdown]
# ## Before and after
#
# Each held-out caption looks for its sound, and each sound for its captions. R@5: the right one is
# among the first five. With n, chance and 95 % intervals.

# %%
# 20 s.
run(
    f"eval --model before='{MODEL}' after='{OWN}/run' --benchmark own='{OWN}/records' "
    f"--out '{OWN}/judged' --config.evaluation.tasks=\"('retrieval',)\""
)
run(f"report --markdown '{OWN}/judged'")

# %% [markdown]
# The run is a model like any other: `clapjax.load(f"{OWN}/run")` searches and labels, and `clapjax
# export` writes it for others (docs/your_own_sounds.md).
