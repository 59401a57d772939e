"""The embedded sound set as a source of labelled recordings: nothing to download."""

import functools

import numpy as np

from clapjax.data.sources.clip import Clip
from clapjax.synthesis.sounds import SOUND_CLASSES, render


def list_sounds(seed: int, folds: tuple[int, ...], per_fold: int, seconds: float) -> list[Clip]:
    """Lists the procedurally synthesised recordings of each class.

    Args:
      seed: another seed gives other recordings.
      folds: fold numbers; recordings of different folds are never the same.
      per_fold: recordings of each class in a fold.
      seconds: length of each.
    """
    return [
        Clip(
            id=f"{name.replace(' ', '_')}-{fold}-{index}",
            label=name,
            fold=fold,
            group=f"{name}-{fold}-{index}",
            source=f"sounds:{name}-{fold}-{index}",
            read=functools.partial(_render, name, (seed, fold, index), seconds),
            labels=(name,),
        )
        for name in SOUND_CLASSES
        for fold in folds
        for index in range(per_fold)
    ]


def _render(name: str, seed: tuple[int, ...], seconds: float, sample_rate: int) -> np.ndarray:
    return render(name, seed, seconds, sample_rate)
