"""Embeddings, zero-shot labels and search with a trained model."""

from clapjax.inference.clap import TEMPLATE, Clap

__all__ = ["TEMPLATE", "Clap"]
