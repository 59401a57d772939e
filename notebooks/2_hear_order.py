# %% [markdown] tags=["badge"]
# badge

# %% [markdown]
# # 2. Hear order
#
# "A dog barks, then it rains" or the other way round? Published CLAP models cannot tell. Two small
# models are trained here: one with order pairs and the temporal loss, and a control without them.
#
# Runtime: any (CPU, GPU, TPU). In all TOTAL_2 on two CPU cores after the first cell; each cell says its
# part. It is `clapjax demo` step by step ([docs/order.md](../docs/order.md)).

# %% tags=["install"]
install

# %% tags=["parameters"]
# 0 s. Fewer steps are quicker; 800 are those of `clapjax demo`.
CONFIG = "configs/demo.py"
STEPS = 800
WORK = "clapjax_work"  # for all that is made here

# %% [markdown]
# ## Sounds, and captions in a right and a wrong order

# %%
# BUILD_2: synthesises the records.
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
# TRAIN_2: with order.
train = f"train --config {CONFIG} --config.steps={STEPS} --config.evaluation.tasks='()'"
run(f"{train} --data_dir {WORK}/data --workdir {WORK}/runs/temporal")

# %%
# CONTROL_2: without.
ALONE = "--config.loss.temporal_weight=0 --config.loss.order_pairs=0"
run(f"{train} {ALONE} --data_dir {WORK}/data --workdir {WORK}/runs/control")

# %% [markdown]
# ## What they hear in held-out sounds
#
# T-Classify: is the caption in the right order closer than the one in the wrong order? With n,
# chance and 95 % intervals.

# %%
# EVAL_2.
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
# ASK_2, most of it compiling.
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
