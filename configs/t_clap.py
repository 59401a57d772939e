r"""T-CLAP (Yuan et al., 2024, arXiv 2404.17806): LAION-CLAP tuned to hear the order of sounds.

    clapjax plan --config configs/t_clap.py --topology v5e:2x4
    clapjax train --config configs/t_clap.py --data_dir data/autoacd --workdir runs/t_clap
    clapjax eval --config configs/t_clap.py --data_dir data/audiocaps --workdir runs/t_clap \
        "--config.evaluation.tasks=('t_classify','retrieval')"

Hardware: TPU v5e-8 or one 40 GB GPU. Data at 48 kHz (docs/sources.md): Auto-ACD, positive captions
only, is most of each batch; AudioCaps and Clotho with `clapjax captions negate`, and ESC-50 mixed
up, have negatives and are mixed in. Starts from LAION-CLAP. Expect T-Classify to leave 50 %, where
LAION-CLAP is, within the first thousand steps (docs/order.md).
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
    config.micro_batches = (config.get_ref("batch_size") + 767) // 768
    config.init_from = "laion/clap-htsat-unfused"  # published: from LAION-CLAP
    config.data.tokenizer = "roberta-base"
    # Published: at a ratio within each batch, which the paper's text has lost.
    config.data.mixture = ("data/audiocaps=0.1", "data/clotho=0.05", "data/esc50_mixup=0.1")
    config.model = plain(laion_clap("htsat-tiny", "roberta-base"))
    config.loss.temporal_weight = 0.5  # published: lambda
    config.optimizer.learning_rate = 1e-5  # not from the paper
    config.optimizer.warmup_steps = 1000  # not from the paper
    config.optimizer.weight_decay = 0.0  # not from the paper
    config.source.kind = "autoacd"
    config.source.path = "data/Auto-ACD"
    config.evaluation.tasks = ("retrieval",)
    config.evaluation.template = "A sound of {}"  # published
    if arg == "runlocal":
        shrink(config)
    return config
