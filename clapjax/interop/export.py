"""Models out: a Hugging Face folder where transformers can represent them, else clapjax's own."""

import copy
import json
import os
from pathlib import Path

import numpy as np

from clapjax.data.paths import last_name
from clapjax.inference.store import tell_fingerprints
from clapjax.interop import huggingface
from clapjax.interop.card import model_card
from clapjax.interop.errors import CheckpointError
from clapjax.interop.files import WEIGHTS, new_folder
from clapjax.interop.layout import own_pairs, pair_up, split_all
from clapjax.interop.load import OWN_CONFIG, OWN_FORMAT, Pretrained
from clapjax.interop.tables import transformers_rows
from clapjax.plain import to_dict

LAYOUTS = ("hf", "clapjax")


def write_model(
    folder: str | os.PathLike, model: Pretrained, to: str = "hf", results: str = ""
) -> None:
    """Writes a model as a folder; `load_pretrained` reads either layout back bit for bit.

    Args:
      folder: a new one; it appears only when everything in it is written.
      model: config, variables and tokenizer.
      to: "hf" for `transformers.ClapModel`, "clapjax" for any model.
      results: what `clapjax eval` measured, in Markdown, for the model card.

    Raises:
      CheckpointError: transformers cannot represent the model (the message says what of it), or
        the folder exists.
    """
    if to not in LAYOUTS:
        raise ValueError(f"write_model: layout must be one of {', '.join(LAYOUTS)}, not {to!r}")
    config, tokenizer = model.config, _limited(model.tokenizer, model.config.text.max_length)
    if to == "hf":
        if reasons := huggingface.why_not(config):
            raise CheckpointError(
                f"{folder}: transformers.ClapModel cannot represent this model: "
                f"{'; '.join(reasons)}. Export with --to clapjax"
            )
        tensors = split_all(pair_up(transformers_rows(config), config), model.variables)
        tensors |= huggingface.buffers(config, tensors)
        files = {
            "config.json": huggingface.to_config(config, tokenizer),
            "preprocessor_config.json": huggingface.to_preprocessor(config),
        }
    else:
        tensors = split_all(own_pairs(config), model.variables)
        files = {OWN_CONFIG: {"format": OWN_FORMAT, "model": to_dict(config)}}
    with new_folder(folder) as partial:
        for name, value in files.items():
            (partial / name).write_text(json.dumps(value, indent=2) + "\n")
        tokenizer.save_pretrained(partial)
        (partial / "README.md").write_text(model_card(last_name(folder), config, to, results))
        _save(partial / WEIGHTS, tensors, tell_fingerprints(config, model.variables))


def best_layout(config) -> str:
    """The layout that most programs read: "hf" where transformers can represent the model."""
    return "clapjax" if huggingface.why_not(config) else "hf"


def _limited(tokenizer, max_length: int):
    """A copy that knows the model's limit: other programs pad to what the tokenizer says."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.model_max_length = max_length
    return tokenizer


def _save(file: Path, tensors: dict[str, np.ndarray], told: dict[str, str]) -> None:
    from safetensors.numpy import save_file

    file.touch()
    mode = file.stat().st_mode
    save_file(tensors, file, metadata={"format": "pt"} | told)  # "pt" is what transformers asks for
    file.chmod(mode)  # it is its writer's alone else
