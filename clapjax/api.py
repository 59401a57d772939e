"""`clapjax.load` and `save`: models of workdirs, of other projects, of the Hugging Face hub."""

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
from clapjax.inference.pieces import THREADS
from clapjax.inference.place import Place, find_place
from clapjax.interop.export import best_layout, write_model
from clapjax.interop.load import Pretrained, load_any, load_tagger
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
    *,
    batch_size: int = 16,
    towers: str = "both",
    tokenizer: str | os.PathLike | None = None,
    device: jax.Device | str | None = None,
    dtype: str | type | None = None,
    step: int | None = None,
    revision: str | None = None,
    workers: int = THREADS,
    task: str | None = None,
    labels: Sequence[str] | str | os.PathLike | None = None,
    compilation_cache: bool = True,
) -> Clap | Tagger | Captioner:
    """Loads a trained model.

    Args:
      model: a clapjax workdir (its newest checkpoint is taken) or export; a Hugging Face folder or
        hub id; a LAION-CLAP .pt file; a BLAT folder; a tagger of PANNs or HTS-AT. Folders and files
        may be in a bucket.
      batch_size: clips embedded at once.
      towers: "both", or "audio" or "text" to read and keep that one only.
      tokenizer: hub id or folder, in place of the model's own.
      device: a `jax.Device` or its name, "cpu", "gpu", "tpu" or "gpu:1"; None: the first one.
      dtype: what matrix products run in, "float32" or "bfloat16"; None: bfloat16 on GPUs and TPUs
        and float32 on CPUs, unless the model's configuration says otherwise. Embeddings are float32
        always. "float32" has all of its bits on every device.
      step: of a workdir, the checkpoint of that step.
      revision: of a hub id, the branch, tag or commit.
      workers: threads that decode audio.
      task: "tagging" for the tagger that a checkpoint of LAION-CLAP or BLAT has beside its towers;
        None: what the model is in the first place.
      labels: of a tagger that clapjax has not trained, whose checkpoint does not name them: names,
        or a file of them (`clapjax.interop.tagger.label_names`). None: those of AudioSet's
        class_labels_indices.csv, where it lies beside the checkpoint, else numbers from 0 on.
      compilation_cache: keep what JAX compiles from here on, of all this process, in a folder (see
        `clapjax.compilation_cache`): the next process that embeds need not compile.

    Returns:
      A `clapjax.Clap` with embed_audio, embed_text, similarity, classify and save; of a tagger, or
      the workdir of a tagging run, a `clapjax.Tagger` with tag and labels, of a captioning run a
      `clapjax.Captioner` with caption. Two models of one configuration compile once.

    Raises:
      FileNotFoundError: a workdir without a checkpoint, or without that of `step`.
      ValueError: a model that cannot be found, read or represented (`CheckpointError`), or an
        unknown `towers` or `task`, or the text tower of a tagger or captioner; labels that do not
        go with the model; a device, type, step or revision that there is not.
    """
    if task not in (None, "tagging"):
        raise ValueError(f"load: task must be 'tagging' or None, not {task!r}")
    if towers not in TOWERS:
        raise ValueError(f"load: towers must be one of {', '.join(TOWERS)}, not {towers!r}")
    tower, place = TOWERS[towers], find_place(device, dtype, workers)
    if compilation_cache:
        keep_compiled()
    if is_workdir(model):
        if labels is not None:
            raise ValueError(f"{model}: a run of clapjax, which knows its labels; leave them out")
        if revision is not None:
            raise ValueError(f"{model}: a run of clapjax, which has steps and no revision")
        return _load_run(model, batch_size, tower, tokenizer, place, step, task)
    if step is not None:
        raise ValueError(f"{model}: no run of clapjax, which step={step} is of")
    if task == "tagging" or labels is not None:
        found = load_tagger(model, labels, revision)
    else:
        found = load_any(model, tokenizer, tower, revision)
    if not isinstance(found, PretrainedTagger):
        return Clap(*found, batch_size, place=place)
    if tower == "text":
        raise ValueError(f"{model}: a tagger, which has no text tower")
    return Tagger(*found, batch_size, place=place)


def _load_run(
    workdir: str | os.PathLike,
    batch_size: int,
    tower: str | None,
    tokenizer: str | os.PathLike | None,
    place: Place,
    step: int | None,
    task: str | None,
) -> Clap | Tagger | Captioner:
    """`load` of the workdir of a training run."""
    experiment = load_experiment(workdir)
    if task not in (None, experiment.task):
        raise ValueError(f"{workdir}: a run of the {experiment.task} task, which is no tagger")
    model, name = experiment.model, experiment.data.tokenizer
    if experiment.task != "contrastive":
        if tower == "text":
            kind = KINDS[experiment.task]
            raise ValueError(f"{workdir}: a {kind}, which has no text tower")
        variables = read_checkpoint(workdir, step=step)
    if experiment.task == "tagging":
        settings = tagging.workdir_settings(experiment.tagging, workdir)
        return Tagger(model, settings, variables, batch_size, place=place)
    if experiment.task == "captioning":
        settings, own = captioning.workdir_settings(experiment.captioning, name, workdir)
        return Captioner(model, settings, own, variables, batch_size, place=place)
    if tokenizer is None:
        config, tokenizer = workdir_model(model, name, workdir)
    else:
        tokenizer = load_tokenizer(tokenizer)
        config = adapt_to_tokenizer(model, tokenizer)
    variables = read_checkpoint(workdir, OTHER.get(tower), step)
    return Clap(config, variables, tokenizer, batch_size, place=place)


def read_checkpoint(
    workdir: str | os.PathLike, without: str | None = None, step: int | None = None
) -> dict:
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
    return load_variables(workdir, without, step)[0]


def save(model: Clap, folder: str | os.PathLike, layout: str | None = None) -> None:
    """Writes a model as a folder, which `load` reads back: its weights bit for bit.

    Args:
      model: with both towers.
      folder: a new one; it appears only when everything in it is written.
      layout: "hf", which `transformers.ClapModel` reads too, or "clapjax", for any model and all of
        its settings; None: "hf" where transformers can represent the model.

    Raises:
      CheckpointError: "hf" was asked for and transformers cannot represent the model, of which all
        that it cannot is said; or the folder exists.
      ValueError: one tower only, no such layout, or a tagger or captioner.
    """
    if not isinstance(model, Clap):
        raise ValueError(f"{folder}: {model!r} has no layout but the workdir of its run")
    for tower in ("audio", "text"):
        model.require(tower)
    pretrained = Pretrained(model.config, jax.device_get(model.variables), model.tokenizer)
    write_model(folder, pretrained, to=layout or best_layout(model.config))


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
    config, data = model.place.at_work(model.config), DataConfig(tokenizer=FROM_MODEL)
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
        return Clap(config, variables, model.tokenizer, size, forward, place=model.place)
    return type(model)(*parts, variables, size, forward, place=model.place)
