"""`clapjax config`."""

import dataclasses
from dataclasses import dataclass

import pytest

from clapjax.cli.fields import describe, meanings
from clapjax.cli.main import main
from clapjax.experiment import Experiment
from clapjax.training.config import TrainConfig


def test_every_field_of_a_config_has_a_meaning():
    bare = [path for path, _, _, meaning in describe(Experiment(), Experiment()) if not meaning]
    assert bare == []


@dataclass(frozen=True)
class Base:
    """Nothing."""

    # Behind a blank line this would be of nothing.

    size: int = 1  # m, "as # is"
    # Above,
    # in two lines.
    name: str = "# none"
    several: tuple[str, ...] = (
        "a",  # not of the field
        "b",
    )  # behind


@dataclass(frozen=True)
class Further(Base):
    """Something."""

    bare: float = 0.5
    name: str = "x"  # anew


def test_meanings_are_the_comments_above_and_behind():
    assert meanings(Base) == {
        "size": 'm, "as # is"',
        "name": "Above, in two lines.",
        "several": "behind",
    }
    assert meanings(Further) == meanings(Base) | {"bare": "", "name": "anew"}


def test_it_prints_every_field_once(capsys):
    assert main(["config"]) == 0
    lines = capsys.readouterr().out.splitlines()
    printed = [line.partition(" = ")[0] for line in lines if not line.startswith(" ")]
    assert len(printed) == len(set(printed))
    assert {name for name in printed if "." not in name} == {
        one.name
        for one in dataclasses.fields(Experiment)
        if not dataclasses.is_dataclass(getattr(Experiment(), one.name))
    }
    at = lines.index("steps = 1000")
    assert lines[at + 1].strip() == meanings(TrainConfig)["steps"]


def test_values_of_a_config_beside_the_defaults(capsys):
    arguments = ["config", "--config", "configs/folder.py", "source.kind", "model.text.max_length"]
    assert main([*arguments, "--config.model.text.max_length=40"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert lines == [
        "model.text.max_length = 40  (default: 24)",
        "source.kind = 'folder'  (default: 'sounds')",
    ]


@pytest.mark.parametrize("arguments", [["config", "modle"], ["config", "model.tex"]])
def test_no_such_field(arguments, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"clapjax config: no field is called {arguments[1]}\n"
