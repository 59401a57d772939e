"""The demo: order and zero-shot on 24 classes of embedded, synthesised sounds.

    clapjax demo

or by hand:

    clapjax records build --config configs/demo.py --data_dir data/demo
    clapjax train --config configs/demo.py --data_dir data/demo --workdir runs/demo
    clapjax eval --config configs/demo.py --data_dir data/demo --workdir runs/demo

Hardware: two CPU cores.
"""

from clapjax.cli.config import base_config, shrink


def get_config(arg: str = ""):
    """`:runlocal` shrinks everything to a smoke run of seconds."""
    config = base_config()
    if arg == "runlocal":
        shrink(config)
    return config
