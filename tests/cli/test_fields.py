"""`clapjax config`."""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from clapjax.cli.config import load_config
from clapjax.cli.fields import describe, meanings
from clapjax.cli.main import main
from clapjax.experiment import Experiment
from clapjax.plain import closest
from clapjax.training.config import TrainConfig


def test_every_field_of_a_config_has_a_meaning():
    bare = [path for path, _, _, meaning in describe(Experiment(), Experiment()) if not meaning]
    assert bare == []


@pytest.mark.parametrize(
    ("field", "meant"),
    [
        ("optimizer.lr", "optimizer.learning_rate"),
        ("lr", "optimizer.learning_rate"),
        ("optimiser.lr", "optimizer.learning_rate"),
        ("optimizer.learningrate", "optimizer.learning_rate"),
        ("optimizer.wd", "optimizer.weight_decay"),
        ("stepz", "steps"),
        ("batchsize", "batch_size"),
        ("data.batch_size", "batch_size"),
        ("temporal_weight", "loss.temporal_weight"),
        ("modle.text.dropout", "model.text.dropout"),
        ("epochs", None),
        ("zzz", None),
    ],
)
def test_the_field_that_was_meant(field, meant):
    known = [path for path, *_ in describe(Experiment(), Experiment())]
    assert closest(field, known) == meant


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


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("this is no Python", "invalid syntax"),
        ("import no_such_module", "No module named 'no_such_module' (line 1)"),
        ("\n1 / 0", "division by zero (line 2)"),
        ("def get_config(arg):\n    raise RuntimeError('no room')", "no room (line 2)"),
        ("def get_config(arg):\n    raise RuntimeError", "RuntimeError (line 2)"),
        (
            "def get_config(arg):\n    return {'steps': 3}",
            "get_config returns {'steps': 3}, no Conf",
        ),
        (
            "from clapjax.cli.config import base_config\n"
            "def get_config(arg):\n    config = base_config()\n    config.optimizer = 3",
            "Could not override field 'optimizer'",
        ),
    ],
)
def test_whatever_a_config_file_raises_is_one_line(tmp_path, body, why):
    file = tmp_path / "mine.py"
    file.write_text(body)
    with pytest.raises(ValueError, match=re.escape(why)) as caught:
        load_config(f"{file}:x", [])
    assert str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("file", sorted(Path("configs").glob("*.py")), ids=lambda file: file.stem)
def test_a_variant_that_a_config_has_not_is_an_error(file):
    """Fails where `demo.py:runloca` trains the whole demo."""
    with pytest.raises(ValueError, match="no variant 'runloca'; there are runlocal"):
        load_config(f"{file}:runloca", [])
