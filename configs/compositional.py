r"""Compositional retrieval in small: each query has one clip among many that differ in one thing.

    clapjax records build --config configs/compositional.py --data_dir data/mini
    clapjax eval --model runs/demo --benchmark mini=data/mini --out results

Of the embedded sounds of configs/demo.py that are held out; of any other labelled source with
--config.source.kind and --config.source.path (docs/order.md). To judge models, not to train them.
Hardware: two CPU cores.
"""

from clapjax.cli.config import base_config, check_argument, shrink


def get_config(arg: str = ""):
    """`:runlocal` is of the few sounds of a smoke run."""
    check_argument(arg, "runlocal")
    config = base_config()
    if arg == "runlocal":
        shrink(config)
        config.synthesis.update(queries=2, distractors=2)
    else:
        config.source.sounds_per_fold = 20
    config.source.mode = "compositional"
    config.evaluation.tasks = ("compositional",)
    return config
