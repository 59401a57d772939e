"""Tiny models, made once and compiled quickly; what one test compiles, the next ones find."""

import jax
import pytest

from tests.inference.tiny import CONFIGS, make_clap, make_tokenizer, make_workdir


@pytest.fixture(scope="package", autouse=True)
def _compiled_once(tmp_path_factory):
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
def tokenizer(tmp_path_factory):
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="package")
def claps(tokenizer) -> dict:
    """A model of each kind of CONFIGS."""
    return {kind: make_clap(kind, tokenizer) for kind in CONFIGS}


@pytest.fixture(scope="package")
def clap(claps):
    """The one that hears clips only."""
    return claps["plain"]


@pytest.fixture(scope="package")
def workdir(tmp_path_factory):
    return make_workdir(tmp_path_factory.mktemp("run"))
