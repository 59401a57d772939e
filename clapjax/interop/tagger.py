"""Audio taggers of PANNs and HTS-AT, alone or as LAION-CLAP and BLAT keep them in their towers."""

import dataclasses
import functools
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clapjax.data.sources.common import read_rows
from clapjax.interop import laion
from clapjax.interop.errors import CheckpointError
from clapjax.interop.layout import Row, join_all, pairs_of, shapes_of
from clapjax.interop.tables import TAGGER_IGNORED, audio_rows
from clapjax.models.config import ClapConfig
from clapjax.models.tagger import init_tagger
from clapjax.plain import read_lines
from clapjax.tasks.tagging import TaggingConfig

HEADS = ("fc_audioset", "tscam_conv")  # names of the heads of PANNs and HTS-AT
NAMES = "class_labels_indices.csv"  # AudioSet's table of its labels


class PretrainedTagger(NamedTuple):
    """A tagger that is ready to apply."""

    config: ClapConfig  # of which the audio encoder counts
    settings: TaggingConfig  # its labels and its head
    variables: dict  # {"params", "batch_stats"} of float32 numpy arrays


def find_head(tensors: dict[str, np.ndarray]) -> str | None:
    """The name of a tagging head, with what stands before it; None: there is none."""
    weights = [name.removesuffix(".weight") for name in tensors if name.endswith(".weight")]
    return next((name for name in weights if name.rpartition(".")[2] in HEADS), None)


def read_tagger(
    tensors: dict[str, np.ndarray],
    file: Path,
    labels: Sequence[str] | str | os.PathLike | None = None,
    config: ClapConfig | None = None,
) -> PretrainedTagger:
    """The tagger of a checkpoint.

    `Cnn14_DecisionLevelMax` and `-Avg` of PANNs have the weights of a Cnn14 and are another model,
    which cannot be told: they are taken for a Cnn14, and their probabilities are wrong.

    Args:
      tensors: all that the checkpoint holds, by name.
      file: whence they are.
      labels: as `label_names` has them.
      config: of the audio encoder; None: it is found from the weights.

    Raises:
      CheckpointError: there is no tagging head, or the weights are those of no known model.
      ValueError: the labels cannot be read, or are not as many as the head tells apart.
    """
    head = find_head(tensors)
    if head is None:
        raise CheckpointError(f"{file}: no tagging head in it ({' or '.join(HEADS)})")
    prefix = head.removesuffix(head.rpartition(".")[2])
    own = laion.AUDIO if prefix.endswith(laion.AUDIO) else ""
    before = prefix.removesuffix(own)
    tensors = {n.removeprefix(before): x for n, x in tensors.items() if n.startswith(prefix)}
    head = head.removeprefix(before)
    if config is None:
        config = _find_config(tensors, own)
    kind = "token_semantic" if config.audio_encoder == "htsat" else "linear"
    count = np.size(tensors.get(f"{head}.bias", ()))
    if not count:
        raise CheckpointError(f"{file}: no {head}.bias, which would tell how many labels there are")
    shapes = shapes_of(functools.partial(init_tagger, config, count, head_kind=kind))
    pairs = pairs_of([*audio_rows(config, own), Row("head", head)], shapes)
    variables = join_all(pairs, tensors, TAGGER_IGNORED, file)
    settings = TaggingConfig(label_names(labels, file, count), head=kind)
    return PretrainedTagger(config, settings, variables)


def _find_config(tensors: dict[str, np.ndarray], prefix: str) -> ClapConfig:
    try:
        config = ClapConfig(**laion.find_audio(tensors, prefix))
    except (ValueError, ArithmeticError, IndexError) as error:
        raise CheckpointError(f"no tagger that is known; {error}") from error
    if prefix or config.audio_encoder == "htsat":
        return config
    # PANNs hear audio as long as it is, as BLAT has it of them.
    return dataclasses.replace(config, pann=dataclasses.replace(config.pann, pooling="length"))


def label_names(
    labels: Sequence[str] | str | os.PathLike | None, file: Path, count: int
) -> tuple[str, ...]:
    """The names of what a head tells apart, which no checkpoint has.

    Args:
      labels: the names; or a file of them, a name on each line or, called *.csv, a table like
        AudioSet's class_labels_indices.csv with the columns index and display_name. None: that
        table, where it lies beside the checkpoint, else numbers from 0 on.
      file: the checkpoint.
      count: of the labels.

    Raises:
      ValueError: the file cannot be read, or there are more or fewer names, or one twice.
    """
    if labels is None:
        labels = file.parent / NAMES
        if not labels.is_file():
            return tuple(map(str, range(count)))
    source = "labels"
    if isinstance(labels, str | os.PathLike):
        source, labels = os.fspath(labels), _read_names(Path(labels))
    if len(labels) != count:
        raise ValueError(f"{source}: {len(labels)} names; {file} tells {count} labels apart")
    if twice := [name for name, times in Counter(labels).items() if times > 1]:
        raise ValueError(f"{source}: {twice[0]!r} is there twice")
    return tuple(labels)


def _read_names(file: Path) -> list[str]:
    if file.suffix != ".csv":
        return read_lines(file)
    rows = list(read_rows(file, ("index", "display_name")))
    for number, row in enumerate(rows):
        if row["index"] != str(number):
            raise ValueError(f"{file}: index {row['index']!r} where {number} is due")
    return [row["display_name"] for row in rows]
