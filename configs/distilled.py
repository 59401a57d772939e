r"""A small audio tower for small machines, which learns into the space of a large model's texts.

    clapjax train --config configs/distilled.py --model laion/clap-htsat-unfused \
        --config.source.path=my_sounds --data_dir D --workdir runs/small
    clapjax export --workdir runs/small --to stablehlo small-graphs

The text tower and its words are the large model's, and stay as they are (locked-text tuning, Zhai
et al., 2022): indexes of texts, prompts and thresholds serve on. The audio tower is that of
`config.model` here, at its own sample rate; any field of it can be set. A folder of captioned
sounds as in configs/folder.py, or any other source. docs/without_jax.md goes on from there.
Hardware: two CPU cores.
"""

from clapjax.cli.config import base_config, check_argument, shrink


def get_config(arg: str = ""):
    """`:runlocal` shrinks everything to a smoke run of seconds."""
    check_argument(arg, "runlocal")
    config = base_config()
    config.init_from = "laion/clap-htsat-unfused"
    config.init_tower = "text"
    config.optimizer.freeze = ("text_encoder", "text_projection")
    config.optimizer.kind = "muon"
    config.optimizer.learning_rate = 1.6e-3
    config.steps = 2000
    config.source.kind = "folder"
    config.source.path = "data/my_sounds"
    config.source.held_out_share = 0.1  # where the table has no split to judge on
    config.loss.temporal_weight = 0.0  # own captions have no wrong orders, or else set it
    config.evaluation.zero_shot_split = "test"
    if arg == "runlocal":
        shrink(config)
    return config
