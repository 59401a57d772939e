"""T-CLAP's ESC-mixed-up experiment on ESC-10 (github.com/karolpiczak/ESC-50, 10 of its classes).

    clapjax records build --config configs/esc10_mixup.py --config.source.path=ESC10 --data_dir D
    clapjax train --config configs/esc10_mixup.py --data_dir D --workdir W
    clapjax eval --data_dir D --workdir W

ESC10 is a folder with meta.csv and audio/. Trains on folds 1-3, evaluates on fold 4.
Hardware: two CPU cores.
"""

from clapjax.cli.config import base_config, check_argument, shrink


def get_config(arg: str = ""):
    """`:runlocal` shrinks everything to a smoke run of seconds."""
    check_argument(arg, "runlocal")
    config = base_config()
    config.steps = 1500
    config.log_every = 50
    config.checkpoint_every = 250
    config.optimizer.kind = "muon"
    config.optimizer.learning_rate = 1.6e-3
    config.optimizer.weight_decay = 0.5  # few recordings: 240
    # Order pairs, and a louder loss than the paper's 0.5 (docs/order.md).
    config.loss.order_pairs = 2
    config.loss.temporal_weight = 3.0
    config.loss.temporal_ramp_steps = 200
    config.loss.mask_same_events = True
    config.synthesis.crops_per_recording = 20
    config.synthesis.train_negative_audio = True
    config.source.kind = "esc50"
    config.source.path = "data/ESC-10"
    if arg == "runlocal":
        shrink(config)
    return config
