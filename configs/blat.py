"""BLAT (Xu et al., 2023): Cnn14 and BERT-medium from captions that a captioner wrote.

    clapjax captions generate D --model C && clapjax records annotate DATA D --captions D.captions/*
    clapjax train --config configs/blat.py --data_dir DATA --workdir runs/blat
    clapjax train --config configs/blat.py:human --model runs/blat --data_dir H --workdir runs/human

Hardware, as `clapjax plan --count` has it (docs/planning.md):

    v5e-16: 1 x 8 rows a device, 5.20 of 15.75 GiB (counted), fits
    h100: 1 x 128 rows a device, 34.23 of 59.74 GiB (counted), fits

The settings are those of the group's contrastive recipe (DCASE2022T6_CLAP): Adam at 1e-4, batches
of 128, random cuts of 10 s, chosen by retrieval. BLAT's own schedule is not published.
docs/bootstrap.md walks this way in small.
"""

from clapjax.cli.config import base_config, check_argument, plain, shrink
from clapjax.models.presets import blat_clap


def get_config(arg: str = ""):
    """`:human` tunes a model on what people wrote; `:runlocal` is a smoke run of seconds."""
    check_argument(arg, "runlocal", "human")
    config = base_config()
    config.batch_size = 128
    config.steps = 200_000
    config.log_every = 100
    config.checkpoint_every = 1000
    config.model = plain(blat_clap())
    config.model.text.max_length = 30
    config.data.tokenizer = "prajjwal1/bert-medium"
    config.data.text_augment_selection = "captioner"
    config.loss.temporal_weight = 0.0
    config.optimizer.learning_rate = 1e-4
    config.optimizer.warmup_steps = 10_000
    config.optimizer.b2 = 0.999
    config.optimizer.weight_decay = 0.0
    config.source.kind = "audioset"
    config.source.path = "data/audioset"
    config.source.mode = "direct"
    config.evaluation.tasks = ()  # no one has written captions for it
    if arg == "human":
        human(config)
    elif arg == "runlocal":
        shrink(config)
    return config


def human(config):
    """AudioCaps, with the words of the model that it starts from."""
    config.steps = 7_500
    config.eval_every = 500
    config.keep_best = "retrieval/text_to_audio/mAP@10"
    config.data.tokenizer = "model"
    config.data.text_augment_selection = "all"
    config.optimizer.warmup_steps = 1000
    config.source.kind = "audiocaps"
    config.source.path = "data/audiocaps"
    config.evaluation.tasks = ("retrieval",)
