"""A model that compiles in seconds, and steps that are compiled once for all tests."""

import dataclasses

import jax
import pytest

from clapjax.experiment import Experiment
from tests.training.tiny import tiny_config, train


@pytest.fixture(scope="package")
def tiny() -> Experiment:
    """One second of sound at 16 kHz, one pair of Swin blocks, one text layer; nothing random."""
    return tiny_config()


@pytest.fixture(scope="package")
def whole(tiny, demo_records, tmp_path_factory):
    """(workdir, final state, calls of `evaluate`) of six steps without a break."""
    workdir, calls = tmp_path_factory.mktemp("whole"), []

    def evaluate(forward, variables, step):
        words = variables["params"]["text_encoder"]["word"]["embedding"].shape[0]
        calls.append((step, sorted(variables), words))
        return {"score": float(step)}

    config = dataclasses.replace(tiny, eval_every=4)
    state = train(config, data_dir=demo_records, workdir=workdir, evaluate=evaluate)
    return workdir, jax.device_get(state), calls
