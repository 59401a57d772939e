"""`clapjax.load`: a model from a workdir, from another project, or from the Hugging Face hub."""

import os
from collections.abc import Sequence
from dataclasses import replace

import jax
from jax.sharding import PartitionSpec

from clapjax.compilation import compilation_cache as keep_compiled
from clapjax.data.config import DataConfig
from clapjax.data.tokenizer import load_tokenizer
from clapjax.experiment import is_workdir, load_experiment
from clapjax.inference import Captioner, Clap, Tagger
from clapjax.interop.load import load_any, load_tagger
from clapjax.interop.tagger import PretrainedTagger
from clapjax.losses.config import LossConfig
from clapjax.models.config import DecodingConfig
from clapjax.tasks import captioning, contrastive, tagging
from clapjax.tasks.task import Setting
from clapjax.tasks.texts import FROM_MODEL, adapt_to_tokenizer, workdir_model
from clapjax.training.config import MeshConfig
from clapjax.training.mesh import make_mesh, replicated
from clapjax.training.rows import make_forward

TOWERS = {"both": None, "audio": "audio", "text": "text"}
KINDS = {"tagging": "tagger", "captioning": "captioner"}
OTHER = {"audio": "text_", "text": "audio_"}  # how the parameters of the other tower begin


def load(
    model: str | os.PathLike,
    batch_size: int = 16,
    towers: str = "both",
    tokenizer: str | os.PathLike | None = None,
    compilation_cache: bool = True,
    *,
    task: str | None = None,
    labels: Sequence[str] | str | os.PathLike | None = None,
) -> Clap | Tagger | Captioner:
    """Loads a trained model.

    Args:
      model: a clapjax workdir (its newest checkpoint is taken) or export; a Hugging Face folder or
        hub id; a LAION-CLAP .pt file; a BLAT folder; a tagger of PANNs or HTS-AT. Folders and files
        may be in a bucket.
      batch_size: clips embedded at once.
      towers: "both", or "audio" or "text" to read and keep that one only.
      tokenizer: hub id or folder, in place of the model's own.
      compilation_cache: keep what JAX compiles from here on, of all this process, in a folder (see
        `clapjax.compilation_cache`): the next process that embeds need not compile.
      task: "tagging" for the tagger that a checkpoint of LAION-CLAP or BLAT has beside its towers;
        None: what the model is in the first place.
      labels: of a tagger that clapjax has not trained, whose checkpoint does not name them: names,
        or a file of them (`clapjax.interop.tagger.label_names`). None: those of AudioSet's
        class_labels_indices.csv, where it lies beside the checkpoint, else numbers from 0 on.

    Returns:
      A `clapjax.inference.Clap` with embed_audio, embed_text, similarity, classify and params; of
      a tagger, or the workdir of a tagging run, a `clapjax.inference.Tagger` with tag and labels,
      of a captioning run a `clapjax.inference.Captioner` with caption.

    Raises:
      FileNotFoundError: a workdir without a checkpoint.
      ValueError: a model that cannot be found, read or represented (`CheckpointError`), or an
        unknown `towers` or `task`, or the text tower of a tagger or captioner; labels that do not
        go with the model.
    """
    if task not in (None, "tagging"):
        raise ValueError(f"load: task must be 'tagging' or None, not {task!r}")
    if towers not in TOWERS:
        raise ValueError(f"load: towers must be one of {', '.join(TOWERS)}, not {towers!r}")
    tower = TOWERS[towers]
    if compilation_cache:
        keep_compiled()
    if not is_workdir(model):
        tags = task == "tagging" or labels is not None
        found = load_tagger(model, labels) if tags else load_any(model, tokenizer, tower)
        if not isinstance(found, PretrainedTagger):
            return Clap(*found, batch_size)
        if tower == "text":
            raise ValueError(f"{model}: a tagger, which has no text tower")
        return Tagger(*found, batch_size)
    experiment = load_experiment(model)
    if labels is not None:
        raise ValueError(f"{model}: a run of clapjax, which knows its labels; leave them out")
    if task not in (None, experiment.task):
        raise ValueError(f"{model}: a run of the {experiment.task} task, which is no tagger")
    if experiment.task != "contrastive":
        if tower == "text":
            kind = KINDS[experiment.task]
            raise ValueError(f"{model}: a {kind}, which has no text tower")
        variables = read_checkpoint(model)
    if experiment.task == "tagging":
        settings = tagging.workdir_settings(experiment.tagging, model)
        return Tagger(experiment.model, settings, variables, batch_size)
    if experiment.task == "captioning":
        name = experiment.data.tokenizer
        settings, own_tokenizer = captioning.workdir_settings(experiment.captioning, name, model)
        return Captioner(experiment.model, settings, own_tokenizer, variables, batch_size)
    if tokenizer is None:
        config, own_tokenizer = workdir_model(experiment.model, experiment.data.tokenizer, model)
    else:
        own_tokenizer = load_tokenizer(tokenizer)
        config = adapt_to_tokenizer(experiment.model, own_tokenizer)
    variables = read_checkpoint(model, OTHER.get(tower))
    return Clap(config, variables, own_tokenizer, batch_size)


def read_checkpoint(workdir: str | os.PathLike, without: str | None = None) -> dict:
    """The variables of `clapjax.training.checkpoint.load_variables`.

    Raises:
      ImportError: there is no Orbax; what to do is said.
    """
    try:
        from clapjax.training.checkpoint import load_variables
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{workdir}: a run's checkpoints are read with Orbax, and {error.name} is not here: "
            "pip install 'clapjax[train]'; or `clapjax export` the run where that is installed",
            name=error.name,
        ) from error
    return load_variables(workdir, without)[0]


def on_all_devices(
    model: Clap | Tagger | Captioner, decoding: DecodingConfig | None = None
) -> Clap | Tagger | Captioner:
    """A loaded model on all devices of this process, each of which takes `model.batch_size` clips.

    What is computed does not depend on their number, bit for bit.

    Args:
      model: on one device.
      decoding: how a captioner chooses its words; None: as its run was configured.
    """
    mesh = make_mesh(MeshConfig(), jax.local_devices())
    config, data = model.config, DataConfig(tokenizer=FROM_MODEL)
    if isinstance(model, Captioner):
        settings = replace(model.settings, decoding=decoding or model.settings.decoding)
        task = captioning.captioning(config, settings, data, model.tokenizer)
        parts = config, settings, model.tokenizer
    elif isinstance(model, Tagger):
        task, parts = tagging.tagging(config, model.settings), (config, model.settings)
    else:
        loss = LossConfig(kind="sigmoid" if config.logit_bias else "softmax")
        task = contrastive.contrastive(config, loss, data, model.tokenizer)
    variables = jax.device_put(model.variables, replicated(mesh))
    whole = jax.tree.map(lambda _: PartitionSpec(), variables["params"])
    forward = make_forward(task, Setting(mesh), whole)
    size = model.batch_size * mesh.size
    if isinstance(model, Clap):
        return Clap(config, variables, model.tokenizer, size, forward)
    return type(model)(*parts, variables, size, forward)
