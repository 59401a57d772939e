"""clapjax: train and serve language-audio (CLAP) models in JAX."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clapjax.api import load, save
    from clapjax.audio.files import AudioError
    from clapjax.compilation import compilation_cache
    from clapjax.inference import Caption, Captioner, Clap, Tagger
    from clapjax.inference.index import Index
    from clapjax.interop.errors import CheckpointError

__version__ = "0.1.0"

# Imported when they are asked for, so that `import clapjax` stays quick and imports no JAX.
_PLACES = {
    "AudioError": "audio.files",
    "Caption": "inference",
    "Captioner": "inference",
    "CheckpointError": "interop.errors",
    "Clap": "inference",
    "Index": "inference.index",
    "Tagger": "inference",
    "compilation_cache": "compilation",
    "load": "api",
    "save": "api",
}
__all__ = [
    "AudioError",
    "Caption",
    "Captioner",
    "CheckpointError",
    "Clap",
    "Index",
    "Tagger",
    "__version__",
    "compilation_cache",
    "load",
    "save",
]


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f"module 'clapjax' has no attribute {name!r}")
    return getattr(importlib.import_module(f"clapjax.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
