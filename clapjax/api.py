"""`clapjax.load`: a model from a workdir, from another project, or from the Hugging Face hub."""

import json
import os
from pathlib import Path

from clapjax.data.tokenizer import load_tokenizer
from clapjax.experiment import CONFIG_FILE, load_experiment
from clapjax.inference import Clap, Tagger
from clapjax.interop.load import load_pretrained
from clapjax.tasks.contrastive import adapt_to_tokenizer, workdir_tokenizer
from clapjax.tasks.tagging import workdir_settings
from clapjax.training.checkpoint import FOLDER as CHECKPOINTS
from clapjax.training.checkpoint import load_variables

TOWERS = {"both": None, "audio": "audio", "text": "text"}
OTHER = {"audio": "text_", "text": "audio_"}  # how the parameters of the other tower begin


def load(
    model: str | os.PathLike,
    batch_size: int = 16,
    towers: str = "both",
    tokenizer: str | os.PathLike | None = None,
) -> Clap | Tagger:
    """Loads a trained model.

    Args:
      model: a clapjax workdir (its newest checkpoint is taken) or export; a Hugging Face folder or
        hub id; a LAION-CLAP .pt file; a BLAT folder.
      batch_size: clips embedded at once.
      towers: "both", or "audio" or "text" to read and keep that one only.
      tokenizer: hub id or folder, in place of the model's own.

    Returns:
      A `clapjax.inference.Clap` with embed_audio, embed_text, similarity, classify and params; of
      the workdir of a tagging run a `clapjax.inference.Tagger` with tag and labels.

    Raises:
      FileNotFoundError: a workdir without a checkpoint.
      ValueError: a model that cannot be found, read or represented (`CheckpointError`), or an
        unknown `towers`, or the text tower of a tagger.
    """
    if towers not in TOWERS:
        raise ValueError(f"load: towers must be one of {', '.join(TOWERS)}, not {towers!r}")
    tower = TOWERS[towers]
    if not _is_workdir(Path(model)):
        config, variables, own_tokenizer = load_pretrained(model, tokenizer, tower)
        return Clap(config, variables, own_tokenizer, batch_size)
    experiment = load_experiment(model)
    if experiment.task == "tagging":
        if tower == "text":
            raise ValueError(f"{model}: a tagger, which has no text tower")
        variables, _ = load_variables(model)
        settings = workdir_settings(experiment.tagging, model)
        return Tagger(experiment.model, settings, variables, batch_size)
    if tokenizer is None:
        own_tokenizer = workdir_tokenizer(experiment.data.tokenizer, model)
    else:
        own_tokenizer = load_tokenizer(tokenizer)
    variables, _ = load_variables(model, OTHER.get(tower))
    config = adapt_to_tokenizer(experiment.model, own_tokenizer)
    return Clap(config, variables, own_tokenizer, batch_size)


def _is_workdir(folder: Path) -> bool:
    """Whether a training run was begun here; other projects have a config.json as well."""
    if not (folder / CONFIG_FILE).is_file():
        return False
    if (folder / CHECKPOINTS).is_dir():
        return True
    try:
        fields = json.loads((folder / CONFIG_FILE).read_text())
    except ValueError:
        return False
    return isinstance(fields, dict) and "synthesis" in fields and "steps" in fields
