"""Supervised tuning of a model on labelled clips (docs/finetuning.md); what `finetune` takes.

    clapjax finetune --model M --benchmark esc50=ESC-50 --out R

The model's own configuration counts, but for the stripes of SpecAugment here. With no other file,
steps, warm-up and loss follow from the clips; a file named as `--config configs/finetune.py` has
them itself.
Hardware: two CPU cores.
"""

from clapjax.cli.config import base_config, check_argument, shrink


def get_config(arg: str = ""):
    """`:runlocal` shrinks everything to a smoke run of seconds."""
    check_argument(arg, "runlocal")
    config = base_config()
    config.task = "tagging"
    config.batch_size = 16
    config.keep_last = 1
    config.log_every = 50
    config.optimizer.kind = "muon"
    config.optimizer.learning_rate = 1e-3
    config.tagging.mixup = 0.5
    config.tagging.shift = True
    for encoder in (config.model.htsat, config.model.pann):
        encoder.time_stripes = encoder.freq_stripes = 2
    if arg == "runlocal":
        shrink(config)
    return config
