"""LAION-CLAP (Wu et al., ICASSP 2023): HTSAT-tiny and RoBERTa-base from pairs of sound and caption.

    clapjax plan --config configs/laion_clap.py --topology v5e-16
    clapjax train --config configs/laion_clap.py --data_dir data/pairs --workdir runs/laion_clap

Hardware, as `clapjax plan` has it (docs/planning.md):

    v5e-16: 4 x 36 rows a device, 12.75 of 15.75 GiB (compiled), fits
    h100: 64 x 36 rows a device, 12.04 of 59.74 GiB (counted), fits

Any other with its own `--config.batch_size`: a device encodes at most `rows_per_device` at once.
Data: records at 48 kHz (docs/sources.md). LAION-CLAP had 630 k pairs and ran 45 epochs, 12,300
steps. Expect its published figures only from its data, and from its pretrained HTSAT, which
`--config.init_from` takes out of a checkpoint of it.
"""

from clapjax.cli.config import base_config, check_argument, plain, shrink
from clapjax.models.presets import laion_clap


def get_config(arg: str = ""):
    """`:fusion` hears long clips by feature fusion; `:runlocal` is a smoke run of seconds."""
    check_argument(arg, "runlocal", "fusion")
    config = base_config()
    config.seed = 3407
    config.batch_size = 2304  # published: 24 GPUs x 96
    config.steps = 12_300  # 45 epochs of 630 k pairs
    config.log_every = 50
    config.checkpoint_every = 1000
    config.keep_best = "retrieval/text_to_audio/mAP@10"  # published: of its top checkpoints too
    config.eval_every = 1000
    config.rows_per_device = 36  # fit a chip of 16 GB
    config.data.tokenizer = "roberta-base"
    fusion = "aff_2d" if arg == "fusion" else "none"
    config.model = plain(laion_clap("htsat-tiny", "roberta-base", fusion))
    config.loss.temporal_weight = 0.0
    # Published: Adam, not AdamW; 3200 steps of warm-up that begin above 0; no clipping.
    config.optimizer.learning_rate = 1e-4
    config.optimizer.warmup_steps = 3200
    config.optimizer.warmup_offset = 1
    config.optimizer.b2 = 0.999
    config.optimizer.weight_decay = 0.0
    config.optimizer.clip_norm = 0.0
    config.source.kind = "folder"
    config.source.path = "data/sounds"
    config.source.mode = "direct"
    config.evaluation.tasks = ("retrieval",)
    if arg == "runlocal":
        shrink(config)
    return config
