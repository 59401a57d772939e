"""Tagging on the embedded sounds: which of 24 events a clip holds, one alone or two in a mixture.

    clapjax records build --config configs/tagging.py --data_dir data/demo
    clapjax train --config configs/tagging.py --data_dir data/demo --workdir runs/tagging

The records are those of configs/demo.py. `--config.tagging.loss=ce` suits clips with one label, and
`--config.tagging.labels="('dog bark', 'rain')"` names the labels; else all of the training split
count. The model is the audio encoder of `config.model` under a linear head. For AudioSet there is
configs/tagger.py.
Hardware: two CPU cores.
"""

from clapjax.cli.config import base_config, check_argument, shrink


def get_config(arg: str = ""):
    """`:runlocal` shrinks everything to a smoke run of seconds."""
    check_argument(arg, "runlocal")
    config = base_config()
    config.task = "tagging"
    config.steps = 600
    config.checkpoint_every = 300
    config.eval_every = 200
    config.keep_best = "tagging/mAP"
    config.optimizer.learning_rate = 8e-4
    config.model.htsat.time_stripes = 0
    config.model.htsat.freq_stripes = 0
    config.source.sounds_per_fold = 20
    config.synthesis.train_mixtures = 4000
    config.synthesis.crops_per_recording = 3
    config.synthesis.level_jitter_db = 6.0
    if arg == "runlocal":
        shrink(config)
    return config
