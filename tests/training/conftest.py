"""A model that compiles in seconds, and steps that are compiled once for all tests."""

import pytest

from clapjax.experiment import Experiment
from tests.training.tiny import tiny_config


@pytest.fixture(scope="package")
def tiny() -> Experiment:
    """One second of sound at 16 kHz, one pair of Swin blocks, one text layer; nothing random."""
    return tiny_config()
