"""T-CLAP (Yuan et al., 2024, arXiv 2404.17806): LAION-CLAP tuned to hear the order of sounds.

    clapjax plan --config configs/t_clap.py --topology v5e:2x4
    clapjax train --config configs/t_clap.py --data_dir data/t_clap --workdir runs/t_clap

Hardware: TPU v5e-8 or one 40 GB GPU. Data: records at 48 kHz in which some samples have negative
captions: AudioCaps and Clotho with `clapjax captions negate`, ESC-50 mixed up, and Auto-ACD without
any (docs/sources.md). Starts from LAION-CLAP. Expect T-Classify to leave 50 %, where LAION-CLAP is,
within the first thousand steps (docs/order.md).
"""

from clapjax.cli.config import base_config, plain, shrink
from clapjax.models.presets import laion_clap


def get_config(arg: str = ""):
    """`:runlocal` shrinks everything to a smoke run of seconds."""
    config = base_config()
    config.batch_size = 768  # not from the paper
    config.steps = 20_000  # not from the paper
    config.log_every = 50
    config.checkpoint_every = 1000
    config.eval_every = 1000
    config.keep_best = "t_classify/text_to_audio"  # not from the paper
    config.micro_batches = (config.get_ref("batch_size") + 767) // 768
    config.init_from = "laion/clap-htsat-unfused"  # published: from LAION-CLAP
    config.data.tokenizer = "roberta-base"
    config.model = plain(laion_clap("htsat-tiny", "roberta-base"))
    config.loss.temporal_weight = 0.5  # published: lambda
    config.optimizer.learning_rate = 1e-5  # not from the paper
    config.optimizer.warmup_steps = 1000  # not from the paper
    config.optimizer.weight_decay = 0.0  # not from the paper
    config.source.kind = "esc50"  # published: ESC-mixed-up; its test fold stays out
    config.source.path = "data/ESC-50"
    config.source.train_folds = (1, 2, 3, 4)
    config.source.test_folds = (5,)
    config.evaluation.template = "A sound of {}"  # published
    if arg == "runlocal":
        shrink(config)
    return config
