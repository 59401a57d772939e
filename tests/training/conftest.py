"""A model that compiles in seconds, and steps that are compiled once for all tests."""

import jax
import pytest

from clapjax.experiment import Experiment
from tests.training.tiny import tiny_config


@pytest.fixture(scope="package", autouse=True)
def _compiled_quickly(tmp_path_factory):
    """Little optimisation; and runs of the same model find each other's compiled steps."""
    settings = {  # name: (here, JAX's default)
        "jax_disable_most_optimizations": (True, False),
        "jax_compilation_cache_dir": (str(tmp_path_factory.mktemp("compiled")), None),
        "jax_persistent_cache_min_compile_time_secs": (0.2, 1.0),
    }
    for name, (here, _) in settings.items():
        jax.config.update(name, here)
    yield
    for name, (_, default) in settings.items():
        jax.config.update(name, default)


@pytest.fixture(scope="package")
def tiny() -> Experiment:
    """One second of sound at 16 kHz, one pair of Swin blocks, one text layer; nothing random."""
    return tiny_config()
