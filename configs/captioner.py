"""A captioner: the frames of Cnn14 under the decoder of CNext-trans, guided by tags.

    clapjax plan --config configs/captioner.py --topology v5e-16 --count
    clapjax train --config configs/captioner.py --data_dir data/captions --workdir runs/captioner

Hardware, as `clapjax plan --count` has it (docs/planning.md):

    v5e-16: 1 x 32 rows a device, 10.70 of 15.75 GiB (counted), fits
    h100: 4 x 128 rows a device, 43.02 of 59.74 GiB (counted), fits

`--model M` starts it from the audio encoder of a CLAP model; `:demo` is one for the records of
configs/demo.py, on two CPU cores.
"""

from clapjax.cli.config import base_config, check_argument, plain, shrink
from clapjax.models.presets import blat_clap, decoder_preset


def get_config(arg: str = ""):
    """`:demo` trains on the embedded sounds; `:runlocal` is a smoke run of seconds."""
    check_argument(arg, "runlocal", "demo")
    config = base_config()
    config.task = "captioning"
    config.keep_best = "captioning/CIDEr-D"
    if arg == "demo":
        return demo(config)
    # Published of CNext-trans: 400 epochs of AudioCaps and Clotho, AdamW 5e-4 with weight decay 2,
    # label smoothing 0.1, mix-up 0.4.
    config.batch_size = 512
    config.rows_per_device = 128
    config.steps = 40_000
    config.log_every = 50
    config.checkpoint_every = 1000
    config.eval_every = 2000
    config.data.vocab_size = 5000
    config.model = plain(blat_clap())
    config.captioning.decoder = plain(decoder_preset("cnext-trans"))
    config.captioning.mixup = 0.4
    config.optimizer.warmup_steps = 1000
    config.optimizer.weight_decay = 2.0
    config.source.kind = "audiocaps"
    config.source.path = "data/audiocaps"
    config.source.mode = "direct"
    if arg == "runlocal":
        shrink(config)
    return config


def demo(config):
    """Sounds as in configs/demo.py, a small encoder and decoder."""
    config.steps = 1000
    config.checkpoint_every = 500
    config.eval_every = 500
    config.optimizer.learning_rate = 8e-4
    config.model.htsat.time_stripes = 0
    config.model.htsat.freq_stripes = 0
    config.source.sounds_per_fold = 20
    config.synthesis.train_mixtures = 4000
    config.synthesis.crops_per_recording = 3
    config.synthesis.level_jitter_db = 6.0
    return config
