"""The notebooks: in step with their texts, runnable in small, and installed as Colab wants it."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from benchmarks.colab import (
    NOTEBOOKS,
    OWN,
    SMALL,
    execute,
    find,
    first_cell,
    kernel,
    parameters,
    printed,
    small,
    times,
)

REPO = Path(__file__).resolve().parents[2]
NAMES = sorted(file.stem for file in NOTEBOOKS.glob("*.ipynb"))
LINK = re.compile(r"\]\(([^)#]+)")
BADGE = re.compile(r"badge\.svg\)\]\(https://[^/]+/github/(\w+/\w+)/blob/main/notebooks/([^)]+)")


@pytest.fixture(scope="module")
def make(request):
    """notebooks/make.py as a module."""
    sys.path.insert(0, str(NOTEBOOKS))
    request.addfinalizer(lambda: sys.path.remove(str(NOTEBOOKS)))
    import make

    return make


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """ran(1): what that notebook prints with small settings.

    All run in one folder, as records and runs cost what they cost.
    """
    place = tmp_path_factory.mktemp("notebooks")
    env = {"PYTHONPATH": str(REPO), "JAX_PLATFORMS": "cpu"}

    def run(number: int) -> str:
        (notebook,) = find([number])
        with kernel(sys.executable, env) as manager:
            found = execute(notebook, small(notebook), place, manager)
        print(times(notebook.name, found))
        return printed(found)

    return run


def shares(told: str, words: str) -> list[float]:
    """The numbers in percent behind some words."""
    return [float(x) for x in re.findall(rf"{words}:? ([\d.]+) ?%", told)]


def test_texts_and_notebooks_are_in_step(make):
    """`python notebooks/make.py` would change nothing; nothing is printed in what is kept."""
    assert [text.stem for text in make.texts()] == NAMES and len(NAMES) == 5
    for file, wanted in make.wanted().items():
        assert file.read_text("utf-8") == wanted, f"run python notebooks/make.py: {file.name}"
    for name in NAMES:
        cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4).cells
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def test_one_setting_moves_the_repository(make, monkeypatch):
    """Nothing that make.py writes tells another address than REPOSITORY; every page has a badge of
    each notebook."""
    old = make.REPOSITORY
    monkeypatch.setattr(make, "REPOSITORY", "someone/else")
    for file, told in make.wanted().items():
        assert f"/{old}" not in told, file.name
        if file.suffix == ".md":
            assert BADGE.findall(told) == [("someone/else", f"{name}.ipynb") for name in NAMES]


def test_links_name_files_that_exist(make):
    """A notebook's badge, and the pages that it names."""
    root = f"{make.COLAB}/github/{make.REPOSITORY}/blob/{make.BRANCH}/"
    for name in NAMES:
        cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4).cells
        told = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        opened = [link.removeprefix(root) for link in LINK.findall(told) if link.startswith(root)]
        assert opened == [f"notebooks/{name}.ipynb"] and (REPO / opened[0]).is_file()
        for page in re.findall(r"docs/\w+\.md", told):  # links to them would lead nowhere in Colab
            assert (REPO / page).is_file(), page


def test_each_cell_says_how_long_it_takes():
    """In its first line; and every small setting is of some notebook."""
    known = set()
    for name in NAMES:
        notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4)
        known |= parameters(notebook)[1]
        for cell in notebook.cells:
            if cell.cell_type == "code":
                assert re.match(r"# [\d.]+ (s|min)\b", cell.source), cell.source[:80]
    assert known >= SMALL.keys() | {key for own in OWN.values() for key in own}


DRIVERS = {  # what nvidia-smi says -> the extra; None: there is no nvidia-smi, or no GPU
    None: "train",
    "570.86.15, 7.5": "train,cuda12",
    "580.65.06, 9.0": "train,cuda13",
    "580.65.06, 7.0": "train,cuda12",
}


@pytest.mark.parametrize("told", DRIVERS)
def test_first_cell_chooses_the_extra(told, tmp_path, monkeypatch):
    """By the driver, and of those that setup.py has; JAX must not have been imported."""
    assert wanted_by(first_cell(), told, False, monkeypatch) == f"[{DRIVERS[told]}]"
    assert wanted_by(first_cell(), told, True, monkeypatch) == "[train,tpu]"
    extras = re.findall(r'"(\w+)": (?:\[|lines)', (REPO / "setup.py").read_text())
    assert {"train", "tpu", "cuda12", "cuda13"} <= set(extras) and "cuda" not in extras
    with pytest.raises(RuntimeError, match="Restart session"):
        wanted_by(first_cell(), told, False, monkeypatch, jax=True)


def wanted_by(code: str, told: str | None, tpu: bool, monkeypatch, jax: bool = False) -> str:
    """The extras that the first cell has pip install."""
    asked = []

    def call(command, **_):
        asked.append(command)
        return subprocess.CompletedProcess(command, told is None, f"{told}\n", "")

    def find_spec(name):
        return "there" if name == "libtpu" and tpu else None

    class Found(Exception):
        """Ends the cell behind its installation."""

    def stop():
        raise Found

    with monkeypatch.context() as patch:
        patch.setenv("CLAPJAX_SOURCE", str(REPO))
        patch.setattr("subprocess.run", call)
        patch.setattr("shutil.which", lambda name: name)
        patch.setattr("importlib.util.find_spec", find_spec)
        patch.setattr("importlib.invalidate_caches", stop)
        if not jax:
            patch.delitem(sys.modules, "jax", raising=False)
        with pytest.raises(Found):
            exec(compile(code, "first cell", "exec"), {})
    (wanted,) = [command[-1] for command in asked if "install" in command]
    return wanted.removeprefix(str(REPO))


def test_search_and_label(ran):
    told = ran(1)
    assert "'church bell', of 96 sounds:" in told and told.count(".wav") >= 9
    (right,) = shares(told, "right")
    assert right * 96 / 100 == pytest.approx(round(right * 96 / 100), abs=0.05)
    assert "n=96, chance 4.2%" in told


def test_hear_order(ran):
    told = ran(2)
    for model in ("temporal", "control"):
        assert re.search(rf"{model} on demo: T-Classify", told), told
    assert "| demo | T-Classify | text-to-audio |" in told
    assert len(re.findall(r"(right|wrong): -?[\d.]+ 'dog bark, then rain'", told)) == 4


def test_fine_tune(ran):
    told = ran(3)
    assert "60 sounds in" in told
    assert "| own | retrieval | text-to-audio R@1 | 30 |" in told


def test_large_batches(ran):
    told = ran(4)
    plain, ring = (float(re.search(rf"64 {form} +([\d.]+)", told)[1]) for form in ("plain", "ring"))
    assert plain == pytest.approx(ring, abs=2e-6) and plain > 0
    apart = float(re.search(r"gradients differ by (\S+) of", told)[1])
    assert apart < 1e-5
    assert "8 x TPU v5 lite" in told and told.count("clips/s") >= 2


def test_captions(ran):
    told = ran(5)
    assert re.search(r"captioner on held_out: captioning .*CIDEr-D .*\(n=\d", told), told
    assert told.count("by ear: ") == told.count("guided: ") == 3
    assert '"guidance"' in told
