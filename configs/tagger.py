"""A tagger of AudioSet: Cnn14 as PANNs trained it (Kong et al., 2020), all labels equally often.

    clapjax plan --config configs/tagger.py --topology v5e-16 --count
    clapjax train --config configs/tagger.py --data_dir data/audioset --workdir runs/tagger

Hardware, as `clapjax plan --count` has it (docs/planning.md):

    v5e-16: 1 x 2 rows a device, 3.20 of 15.75 GiB (counted), fits
    h100: 1 x 32 rows a device, 10.17 of 59.74 GiB (counted), fits

Published are Adam at 1e-3 that does not decay, batches of 32 and 600,000 steps, mix-up of log-mels
and of 64 clips into 32; here of waveforms, 32 into 32, and with a cosine decay. configs/tagging.py
is for the embedded sounds, on two CPU cores.
"""

from clapjax.cli.config import base_config, check_argument, plain, shrink
from clapjax.models.presets import blat_clap


def get_config(arg: str = ""):
    """`:runlocal` is a smoke run of seconds."""
    check_argument(arg, "runlocal")
    config = base_config()
    config.task = "tagging"
    config.batch_size = 32
    config.steps = 600_000
    config.log_every = 100
    config.checkpoint_every = 2000
    config.eval_every = 20_000
    config.keep_best = "tagging/mAP"
    config.model = plain(blat_clap())  # whose Cnn14 is that of PANNs, at 32 kHz
    config.tagging.balanced = True
    config.tagging.mixup = 1.0
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 0
    config.optimizer.b2 = 0.999
    config.optimizer.weight_decay = 0.0
    config.optimizer.clip_norm = 0.0
    config.source.kind = "audioset"
    config.source.path = "data/audioset"
    config.source.mode = "direct"
    if arg == "runlocal":
        shrink(config)
    return config
