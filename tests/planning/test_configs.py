"""Every config's "Hardware" lines are what `clapjax plan` prints for it."""

import ast
import re

import pytest

from clapjax.cli.config import load_config
from clapjax.experiment import make_task
from clapjax.planning.chips import GIB, hardware
from clapjax.planning.plan import plan
from clapjax.training.mesh import micro_batches
from tests.conftest import REPO

LINE = re.compile(
    r"^    (\S+): (\d+) x (\d+) rows a device, ([\d.]+) of ([\d.]+) GiB "
    r"\((compiled|counted)\), fits$",
    re.MULTILINE,
)
CONFIGS = sorted(path.name for path in (REPO / "configs").glob("*.py"))
PLANNED = ("blat.py", "captioner.py", "laion_clap.py", "large_batch.py", "t_clap.py", "tagger.py")


def lines(name: str) -> list[tuple[str, ...]]:
    """(hardware, parts, rows, GiB, limit, how) of each line in a config's docstring."""
    return LINE.findall(
        ast.get_docstring(ast.parse((REPO / "configs" / name).read_text()), clean=True)
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_each_says_what_it_needs(name):
    text = (REPO / "configs" / name).read_text()
    if name in PLANNED:
        assert {hardware(line[0]).platform for line in lines(name)} == {"tpu", "gpu"}
    else:
        assert "Hardware: two CPU cores." in text


@pytest.mark.parametrize("name", PLANNED)
def test_the_table_says_the_same(name):
    config = load_config(f"configs/{name}", [])
    table = (REPO / "docs" / "planning.md").read_text()
    for device, parts, rows, used, limit, how in lines(name):
        found = hardware(device)
        assert micro_batches(config, found.devices) == int(parts)
        assert config.batch_size == int(parts) * int(rows) * found.devices
        assert f"{found.bytes / GIB:.2f}" == limit and float(used) <= float(limit)
        cells = device, f"{parts} x {rows}", used, limit, how, "yes"
        assert f"| configs/{name} | {config.batch_size:,} | {' | '.join(cells)} |" in table


def test_the_count_is_still_that():
    """One line is counted again; what compiles takes minutes, and the model is the same."""
    (line,) = [
        line for line in lines("laion_clap.py") if line[5] == "counted" and line[0] == "h100"
    ]
    config = load_config("configs/laion_clap.py", [])
    report = plan(config, make_task, hardware(line[0]), brief=True)
    assert report["fits"] and report["bytes"] / GIB == pytest.approx(float(line[3]), rel=0.02)
