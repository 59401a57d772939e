"""A run that starts from a model: its configuration and tokenizer are that model's own."""

import os
import re
from collections.abc import Iterable
from dataclasses import replace

from clapjax.data.paths import as_path
from clapjax.data.tokenizer import load_tokenizer
from clapjax.experiment import Experiment, is_workdir, load_experiment
from clapjax.interop.load import load_any
from clapjax.interop.tagger import PretrainedTagger
from clapjax.models.config import ClapConfig, TextConfig
from clapjax.plain import from_dict, to_dict
from clapjax.tasks.texts import FROM_MODEL, workdir_model, workdir_tokenizer
from clapjax.training.checkpoint import latest_step

# What of a model may be set beside `init_from`: nothing that its parameters were learnt with, but
# what is random in training, how much is heard and read, the type of products, and parts to add.
ADAPTABLE = re.compile(
    r"(htsat|pann|text)\.(\w*dropout|drop_path|(time|freq)_(stripes|width))"
    r"|audio\.(clip_samples|fill)|text\.max_length|compute_dtype"
    r"|fusion\.\w+|logit_bias|logit_bias_init|mlp_transforms"
    r"|decoder\.\w*dropout"
)
# Of a ClapConfig, what its text tower and the space of its embeddings are.
OF_TEXT = ("text", "projection_size", "projection", "projection_act", "normalize_eps")
OF_AUDIO = ("audio", "audio_encoder", "htsat", "pann", "fusion")  # fields of a ClapConfig
LONGEST_TEXT = TextConfig().max_length  # of models whose only limit is their table of positions


def resolve(
    experiment: Experiment, given: Iterable[str] = (), workdir: str | os.PathLike | None = None
) -> tuple[Experiment, object | None]:
    """Takes the model's configuration and tokenizer from `init_from`, where that is set.

    What the experiment says of its model does not count then, but for the fields in `given`, for
    the heads that its loss needs, and with `init_tower` for the other tower. A workdir with a
    checkpoint knows all of it, so that a run goes on though its model has vanished.

    Args:
      experiment: the settings.
      given: fields that were set by hand, as "model.text.dropout", "data.tokenizer"; the latter is
        for checkpoints that have no tokenizer, or must have the same vocabulary.
      workdir: of the run.

    Returns:
      (the experiment as it is to be trained; the tokenizer that its workdir is to keep, None where
      it has one, or the task needs none).

    Raises:
      ValueError: the model cannot be read, a given field is one that it was learnt with, or the
        tokenizer is another model's.
    """
    source, given = experiment.init_from, set(given)
    if not source:
        return experiment, None
    if workdir is not None and latest_step(workdir) is not None:
        begun = load_experiment(workdir)
        model, tokenizer, name = begun.model, None, begun.data.tokenizer
        decoder = begun.captioning.decoder
    else:
        model, tokenizer = _read(experiment, "data.tokenizer" in given)
        name = experiment.data.tokenizer if tokenizer is None else FROM_MODEL
        own = experiment.task == "captioning" and tokenizer is not None
        decoder = (load_experiment(source) if own else experiment).captioning.decoder
        if experiment.init_tower:
            if tokenizer is None:
                raise ValueError(f"init_tower: {source} has no text tower")
            own = {name: getattr(model, name) for name in OF_TEXT}
            model = replace(experiment.model, **own)
    decoder = _adapted(decoder, experiment.captioning.decoder, given, source, "captioning.decoder")
    model = replace(
        _adapted(model, experiment.model, given, source),
        logit_bias=model.logit_bias or experiment.model.logit_bias,
        mlp_transforms=model.mlp_transforms or experiment.model.mlp_transforms,
    )
    data = replace(experiment.data, tokenizer=name)
    captioning = replace(experiment.captioning, decoder=decoder)
    return replace(experiment, model=model, data=data, captioning=captioning), tokenizer


def _read(experiment: Experiment, named: bool) -> tuple[ClapConfig, object | None]:
    """Configuration and tokenizer of the model of `init_from`; None where the task takes none.

    From task to task only the audio encoder is taken; `named` says that the tokenizer was set by
    hand.
    """
    source, task = experiment.init_from, experiment.task
    tokenizer = experiment.data.tokenizer if named else None
    if is_workdir(source):
        if latest_step(source) is None:
            raise ValueError(
                f"{source}: a run without a checkpoint yet, to start from; train it first"
            )
        trained = load_experiment(source)
        if task == "tagging" or (task == "captioning" and trained.task != task):
            return trained.model, None
        if trained.task != task:
            return _heard_by(trained.model, experiment.model), None
        if task == "captioning":
            model, own = trained.model, workdir_tokenizer(trained.data.tokenizer, source)
        else:
            model, own = workdir_model(trained.model, trained.data.tokenizer, source)
    else:
        found = load_any(source, tokenizer)
        if isinstance(found, PretrainedTagger):
            return _heard_by(found.config, experiment.model), None
        model, _, used = found
        shorter = min(model.text.max_length, LONGEST_TEXT)
        model = replace(model, text=replace(model.text, max_length=shorter))
        if task != "contrastive":
            return model, None
        own = used if tokenizer is None else _own_tokenizer(source) or used
    if tokenizer is not None and load_tokenizer(tokenizer).get_vocab() != own.get_vocab():
        raise ValueError(
            f"data.tokenizer: {tokenizer} has other words than the tokenizer of {source}, which "
            "comes with the model; leave the field out"
        )
    return model, own


def _heard_by(theirs: ClapConfig, own: ClapConfig) -> ClapConfig:
    """A model's config with another one's audio encoder."""
    return replace(own, **{name: getattr(theirs, name) for name in OF_AUDIO})


def _own_tokenizer(source: str):
    """The tokenizer that lies with a model; None where there is none, as in a .pt file."""
    try:
        return None if as_path(source).is_file() else load_tokenizer(source)
    except ValueError:
        return None


def _adapted(theirs, asked, given: set[str], source: str, group: str = "model"):
    """A model's config, or its decoder's, with the given fields of the one that was asked for."""
    values, wanted = to_dict(theirs), to_dict(asked)
    for path in sorted(given):
        if not path.startswith(f"{group}."):
            continue
        field = path.removeprefix(f"{group}.")
        *parents, name = field.split(".")
        there, new = values, wanted
        for parent in parents:
            there, new = there[parent], new[parent]
        if there[name] != new[name] and not ADAPTABLE.fullmatch(path.partition(".")[2]):
            raise ValueError(
                f"{path} is {there[name]!r} in {source}, whose parameters were learnt with it, not "
                f"{new[name]!r}; leave the field out"
            )
        there[name] = new[name]
    return from_dict(type(theirs), values, group)
