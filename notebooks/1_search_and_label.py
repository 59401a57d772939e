# %% [markdown] tags=["badge"]
# badge

# %% [markdown]
# # 1. Search and label your sounds
#
# Ask for a sound in words, and name what each recording holds.
#
# Runtime: any (CPU, GPU, TPU). In all TOTAL_1 on two CPU cores after the first cell; each cell says its
# part. Run all; then set `FOLDER` and `MODEL`, and run again from there.

# %% tags=["install"]
install

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
display(Audio(files[0]))

# %% [markdown]
# ## The model

# %%
# BUILD_1 and TRAIN_1 for the small model; else the time of the download.
ALONE = "--config.loss.temporal_weight=0 --config.loss.order_pairs=0"
if not MODEL:
    MODEL = f"{WORK}/runs/control"
    run(f"records build --config {CONFIG} --data_dir {WORK}/data")
    run(
        f"train --config {CONFIG} {ALONE} --config.steps={STEPS} --config.evaluation.tasks='()' "
        f"--data_dir {WORK}/data --workdir {MODEL}"
    )
clap = clapjax.load(MODEL)
print(clap)

# %% [markdown]
# ## Search

# %%
# EMBED_1, most of it compiling: each sound becomes a vector, once.
vectors = clap.embed_audio(files)


def search(words, top=3):
    """Plays the sounds that are closest to the words."""
    cosines = clap.similarity(vectors, clap.embed_text(words))[:, 0]
    print(f"{words!r}, of {len(files)} sounds:")
    for number in cosines.argsort()[::-1][:top]:
        print(f"  {cosines[number]:.3f}  {files[number].relative_to(FOLDER)}")
        display(Audio(files[number]))


for words in QUERIES:
    search(words)

# %% [markdown]
# A collection of millions, from the command line: `clapjax embed`, `clapjax index` and `clapjax
# search` ([docs/index.md](../docs/index.md)).
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
