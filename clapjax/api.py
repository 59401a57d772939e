"""`clapjax.load`: a trained model from a workdir."""

import os
from pathlib import Path

from clapjax.experiment import CONFIG_FILE, load_experiment
from clapjax.inference import Clap
from clapjax.training.checkpoint import load_variables
from clapjax.training.loop import adapt_to_tokenizer, workdir_tokenizer


def load(model: str | os.PathLike, batch_size: int = 16) -> Clap:
    """Loads a trained model.

    Args:
      model: a clapjax workdir; its newest checkpoint is taken.
      batch_size: rows embedded at once.

    Returns:
      A `clapjax.inference.Clap` with embed_audio, embed_text, similarity, classify and params.

    Raises:
      FileNotFoundError: not a workdir, or one without a checkpoint.
    """
    workdir = Path(model)
    if not (workdir / CONFIG_FILE).is_file():
        raise FileNotFoundError(f"{model}: no {CONFIG_FILE} here; not a clapjax workdir")
    config = load_experiment(workdir)
    tokenizer = workdir_tokenizer(config, workdir)
    variables, _ = load_variables(workdir)
    return Clap(adapt_to_tokenizer(config, tokenizer).model, variables, tokenizer, batch_size)
