"""The demo: order and zero-shot on 24 classes of embedded, synthesised sounds.

    clapjax demo

or by hand:

    clapjax records build --config configs/demo.py --data_dir data/demo
    clapjax train --config configs/demo.py --data_dir data/demo --workdir runs/demo
    clapjax eval --data_dir data/demo --workdir runs/demo

Hardware: two CPU cores.
"""

from clapjax.cli.config import base_config, check_argument, shrink


def get_config(arg: str = ""):
    """`:runlocal` shrinks everything to a smoke run of seconds."""
    check_argument(arg, "runlocal")
    config = base_config()
    config.steps = 800
    config.checkpoint_every = 400
    config.optimizer.kind = "muon"
    config.optimizer.learning_rate = 1.6e-3
    # Order pairs, and a louder loss than the paper's 0.5 (docs/order.md).
    config.loss.order_pairs = 2
    config.loss.temporal_weight = 3.0
    config.loss.temporal_ramp_steps = 200
    config.loss.mask_same_events = True
    # Sounds are made to order here: more of them serve better than augmented ones.
    config.model.htsat.time_stripes = 0
    config.model.htsat.freq_stripes = 0
    config.model.text.max_length = 16  # tokens; its longest caption has 15
    config.source.sounds_per_fold = 20
    config.synthesis.train_mixtures = 4000
    config.synthesis.train_negative_audio = True
    config.synthesis.crops_per_recording = 3
    config.synthesis.level_jitter_db = 6.0
    if arg == "runlocal":
        shrink(config)
    return config
