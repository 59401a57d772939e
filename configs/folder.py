r"""Your own sounds: a folder of audio with a table of captions or labels (docs/your_own_sounds.md).

    clapjax train --config configs/folder.py --config.source.path=my_sounds \
        --data_dir data/mine --workdir runs/mine

makes the records, trains, and evaluates on what is held out. `--model M` starts from a model, which
brings its own configuration and tokenizer. Without one the model is small, and of a form that
`clapjax export` writes for transformers. `--config.steps=N` is how long.
Hardware: two CPU cores.
"""

from clapjax.cli.config import base_config, check_argument, shrink


def get_config(arg: str = ""):
    """`:runlocal` shrinks everything to a smoke run of seconds."""
    check_argument(arg, "runlocal")
    config = base_config()
    config.source.kind = "folder"
    config.source.path = "data/my_sounds"
    config.source.held_out_share = 0.1  # where the table has no split to judge on
    config.loss.temporal_weight = 0.0  # own captions have no wrong orders, or else set it
    config.optimizer.learning_rate = 1e-4
    config.batch_size = 16
    config.eval_every = 200
    config.evaluation.zero_shot_split = "test"
    # 10 s at 16 kHz; no convolutional stem, no time segments: what transformers has.
    config.model.htsat.update(
        patch_size=8, patch_stride=8, conv_stem=(), stem_fold=1, time_segments=1
    )
    config.model.htsat.update(embed_dim=96, depths=(2, 2), heads=(4, 8))
    config.model.text.update(max_length=77, max_positions=79)
    if arg == "runlocal":
        shrink(config)
    return config
