# %% [markdown] tags=["badge"]
# badge

# %% [markdown]
# # 5. Captions from audio
#
# BLAT writes captions for sounds that have tags alone, by a captioner that hears the sound and is
# guided by its tags. A small captioner is trained here, and says what it hears.
#
# Runtime: any (CPU, GPU, TPU). In all TOTAL_5 on two CPU cores after the first cell; each cell says its
# part.

# %% tags=["install"]
install

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
# BUILD_5 and TRAIN_5, unless you have one. It ends with its scores on held-out sounds: CIDEr-D, and of
# how many captions all events are named, and are in order; with n and 95 % intervals.
if not MODEL:
    MODEL = f"{WORK}/runs/captioner"
    run(f"records build --config {RECORDS} --data_dir {WORK}/data")
    run(
        f"train --config {CONFIG} --config.steps={STEPS} --config.eval_every=0 "
        f"--data_dir {WORK}/data --workdir {MODEL}"
    )
captioner = clapjax.load(MODEL)

# %% [markdown]
# ## What it hears

# %%
# CAPTION_5, most of it compiling: by the sound alone, and told what sounds, one after the other.
from pathlib import Path

import numpy as np
from IPython.display import Audio, display

from clapjax.synthesis.sounds import render

RATE = 16_000  # Hz, of what is synthesised
PAIRS = (("dog bark", "rain"), ("church bell", "siren"), ("footsteps", "door knock"))
if FOLDER:
    KNOWN = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff"}
    files = sorted(file for file in Path(FOLDER).rglob("*") if file.suffix.lower() in KNOWN)
    told = {str(file): (file, TAGS, "") for file in files}
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
# GENERATE_5: a table of captions of the held-out sounds, guided by their tags, as BLAT has them.
run(f"captions generate {WORK}/data:test --model {MODEL} --guidance tags --out {WORK}/captions")
table = next(Path(WORK, "captions").glob("*.jsonl"))
print(*table.read_text().splitlines()[:3], sep="\n")

# %% [markdown]
# `clapjax bootstrap` walks the whole way, from a captioner to CLAP models that learned of its
# captions, in hours ([docs/bootstrap.md](../docs/bootstrap.md)).
