"""Tiny models, made once and compiled quickly; what one test compiles, the next ones find."""

import pytest

from tests.inference.tiny import CONFIGS, make_clap, make_tokenizer, make_workdir


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
