"""clapjax: train and serve language-audio (CLAP) models in JAX."""

__version__ = "0.1.0"


def __getattr__(name: str):
    # Lazily, so that `import clapjax` stays quick and imports no TensorFlow.
    if name == "load":
        from clapjax.api import load

        return load
    if name == "Index":
        from clapjax.inference.index import Index

        return Index
    if name == "compilation_cache":
        from clapjax.compilation import compilation_cache

        return compilation_cache
    raise AttributeError(f"module 'clapjax' has no attribute {name!r}")
