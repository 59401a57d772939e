"""BLAT's loop in small: captions made from audio and tags, and CLAP models that learn from them.

    clapjax bootstrap --workdir W
    clapjax bootstrap --config configs/bootstrap.py:esc10 --config.source.path=ESC10 --workdir W

Recordings of fold 1 have captions, those of folds 2 and 3 tags alone; fold 4 judges. FILE:PART is
the config of a part, as of any `clapjax train`: `captioned` and `rest` of the records, `captioner`,
`tagger` and `clap` of what is trained; FILE:DATA-PART on other data than the embedded sounds.
Hardware: two CPU cores.
"""

from clapjax.cli.config import base_config, check_argument, shrink

PARTS = ("captioned", "rest", "captioner", "tagger", "clap")
DATA = ("runlocal", "esc10", "sounds")  # the first one: a smoke run of seconds


def get_config(arg: str = ""):
    """The config of PART, DATA-PART, or DATA for its `clap`."""
    data, _, part = arg.rpartition("-")
    if part in DATA:
        data, part = part, ""
    check_argument(data, *DATA)
    check_argument(part, *DATA, *PARTS)
    config = base_config()
    config.optimizer.kind = "muon"
    config.optimizer.learning_rate = 1.6e-3
    config.steps = {"captioner": 600, "tagger": 240}.get(part, 360)
    config.checkpoint_every = 180
    # Judged when all are trained.
    config.evaluation.tasks = ()
    config.model.htsat.time_stripes = 0
    config.model.htsat.freq_stripes = 0
    config.source.sounds_per_fold = 20
    config.synthesis.level_jitter_db = 6.0
    if part == "captioner":
        config.task = "captioning"
        config.captioning.guidance_dropout = 0.1
        config.captioning.audio_dropout = 0.15
    elif part == "tagger":
        config.task = "tagging"
    elif part in ("clap", ""):
        config.loss.temporal_weight = 0.0  # there are no wrong orders of what a captioner says
        config.loss.mask_same_events = True
    if data == "esc10":
        config.source.kind = "esc50"
        config.source.path = "data/ESC-10"
    if data == "runlocal":
        shrink(config)
    elif part == "rest":
        config.synthesis.train_mixtures = 3000
        config.synthesis.crops_per_recording = 3
    else:
        config.synthesis.train_mixtures = 400
        config.synthesis.crops_per_recording = 1
    config.source.train_folds = (2, 3) if part == "rest" else (1,)
    return config
