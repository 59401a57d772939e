"""Contrastive training at a very large batch: 65,536 pairs on 256 chips, or any batch anywhere.

    clapjax plan --config configs/large_batch.py --topology v5e-256
    clapjax train --config configs/large_batch.py --data_dir data/pairs --workdir runs/large_batch

Hardware, as `clapjax plan` has it (docs/planning.md):

    v5e-256: 8 x 32 rows a device, 10.50 of 15.75 GiB (compiled), fits
    h100x8: 256 x 32 rows a device, 19.26 of 59.74 GiB (counted), fits

Or less with a smaller `--config.batch_size`; the mesh is eight wide in fsdp, so at least eight
devices, or `--config.mesh.fsdp=1`. The loss is the tiled ring, which never has the matrix of
logits. Not from a paper. `:sigmoid` takes SigLIP's loss. Expect the step time that `clapjax plan`
gives as the least, and more.
"""

import math

from clapjax.cli.config import base_config, check_argument, plain, shrink
from clapjax.models.presets import laion_clap


def get_config(arg: str = ""):
    """`:sigmoid` is the loss of SigLIP; `:runlocal` a smoke run of seconds."""
    check_argument(arg, "runlocal", "sigmoid")
    config = base_config()
    config.batch_size = 65_536
    config.steps = 20_000
    config.log_every = 20
    config.checkpoint_every = 500
    config.rows_per_device = 32  # an eighth of the rows of one of 256 devices
    config.data.tokenizer = "roberta-base"
    config.data.workers = 16
    config.model = plain(laion_clap("htsat-tiny", "roberta-base"))
    config.loss.temporal_weight = 0.0
    config.loss.implementation = "ring"
    config.mesh.fsdp = 8
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 2000
    config.optimizer.b2 = 0.95  # big_vision's for SigLIP: few steps of little noise
    config.optimizer.weight_decay = 1e-4
    config.optimizer.ema = 0.999
    config.source.kind = "folder"
    config.source.path = "data/sounds"
    config.source.mode = "direct"
    config.evaluation.tasks = ("retrieval",)
    if arg == "sigmoid":
        config.loss.kind = "sigmoid"
        config.model.logit_bias = True
        config.model.logit_scale_init = math.log(10.0)
    if arg == "runlocal":
        shrink(config)
    return config
