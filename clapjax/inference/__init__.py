"""Embeddings, zero-shot labels and search with a trained model."""

from clapjax.inference.captioner import Caption, Captioner
from clapjax.inference.clap import Clap
from clapjax.inference.labels import TEMPLATE
from clapjax.inference.tagger import Tagger

__all__ = ["TEMPLATE", "Caption", "Captioner", "Clap", "Tagger"]
