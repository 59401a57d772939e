"""The demo: order and zero-shot on 24 classes of embedded, synthesised sounds.

    clapjax demo

or by hand:

    clapjax records build --config configs/demo.py --data_dir data/demo
    clapjax train --config configs/demo.py --data_dir data/demo --workdir runs/demo
    clapjax eval --config configs/demo.py --data_dir data/demo --workdir runs/demo

Hardware: two CPU cores.
"""

from clapjax.cli.config import base_config, shrink


def get_config(arg: str = ""):
    """`:runlocal` shrinks everything to a smoke run of seconds."""
    config = base_config()
    config.steps = 1200
    config.checkpoint_every = 400
    config.optimizer.learning_rate = 8e-4
    # From scratch the paper's 0.5 is too quiet to be heard (docs/order.md).
    config.loss.temporal_weight = 3.0
    config.loss.temporal_ramp_steps = 400
    config.loss.mask_same_events = True
    config.source.sounds_per_fold = 12
    config.synthesis.train_mixtures = 3000
    config.synthesis.crops_per_recording = 4
    if arg == "runlocal":
        shrink(config)
    return config
