"""Tokenizers that the tests of all layouts share."""

from pathlib import Path

import pytest

from tests.interop.tokenizers import write_bert, write_roberta


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def roberta(tmp_path_factory) -> Path:
    return write_roberta(tmp_path_factory.mktemp("roberta"))


@pytest.fixture(scope="session")
def bert(tmp_path_factory) -> Path:
    return write_bert(tmp_path_factory.mktemp("bert"))
