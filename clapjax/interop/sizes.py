"""What the shapes of a checkpoint's weights tell about the model."""

import dataclasses

import numpy as np

from clapjax.interop.errors import CheckpointError
from clapjax.models.config import TextConfig

HEAD_SIZE = 64  # of all published text encoders; the weights do not show it


class Shapes(dict):
    """Shapes by name; asking for one that is missing is an error that names it."""

    @classmethod
    def of(cls, tensors: dict[str, np.ndarray]) -> "Shapes":
        """The shapes of tensors."""
        return cls({name: value.shape for name, value in tensors.items()})

    def __missing__(self, name: str):
        raise CheckpointError(f"no {name}, which would tell what model this is")

    def count(self, name: str, first: int = 0) -> int:
        """How many there are of a name with a number in it, "blocks.{}.weight", from `first` on."""
        return next(i for i in range(len(self) + 1) if name.format(first + i) not in self)


def bert_config(shapes: Shapes, prefix: str, preset: TextConfig, max_length: int) -> TextConfig:
    """A preset with the sizes of the BERT or RoBERTa whose weights stand under `prefix`.

    Raises:
      CheckpointError: they are not all there.
      ValueError: they do not go together, or with `max_length`.
    """
    layer = f"{prefix}.encoder.layer.{{}}.intermediate.dense.weight"
    vocab_size, width = shapes[f"{prefix}.embeddings.word_embeddings.weight"]
    return dataclasses.replace(
        preset,
        vocab_size=vocab_size,
        hidden_size=width,
        layers=shapes.count(layer),
        heads=max(1, width // HEAD_SIZE),
        intermediate_size=shapes[layer.format(0)][0],
        max_positions=shapes[f"{prefix}.embeddings.position_embeddings.weight"][0],
        type_vocab_size=shapes[f"{prefix}.embeddings.token_type_embeddings.weight"][0],
        max_length=max_length,
    )
