"""Writes the notebooks, NAME.ipynb, from their texts, NAME.py (jupytext's percent format).

    python notebooks/make.py

Edit the texts, and then run this. The badge and the first cell, which all have, are rewritten in
the texts as well: the first cell is first_cell.py.
"""

import re
import sys
from pathlib import Path

import jupytext
import nbformat

HERE = Path(__file__).resolve().parent
REPOSITORY = "clapjax/clapjax"  # on GitHub, whence Colab takes notebooks and clapjax: set it here
BRANCH = "main"
COLAB = "https://colab.research.google.com"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def texts() -> list[Path]:
    """The notebooks' texts, in their order."""
    return sorted(HERE.glob("[0-9]_*.py"))


def badge(name: str) -> str:
    """Markdown of a button that opens the notebook NAME in Colab."""
    file = f"{COLAB}/github/{REPOSITORY}/blob/{BRANCH}/notebooks/{name}.ipynb"
    return f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({file})"


def first_cell() -> str:
    """The code that installs clapjax."""
    code = (HERE / "first_cell.py").read_text("utf-8").rstrip()
    return code.replace("REPOSITORY", REPOSITORY)


def make(text: Path) -> dict[Path, str]:
    """What the text of a notebook and its .ipynb should hold, by file."""
    notebook = jupytext.reads(text.read_text("utf-8"), "py:percent")
    shared = {"badge": badge(text.stem), "install": first_cell()}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        for tag in cell.metadata.get("tags", []):
            cell.source = shared.get(tag, cell.source)
    notebook.metadata = nbformat.from_dict(METADATA)
    written = jupytext.writes(notebook, "py:percent")
    # Without the head, which would tell jupytext's version.
    written = re.sub(r"\A# ---\n.*?# ---\n\n", "", written, flags=re.DOTALL)
    return {
        text: written,
        text.with_suffix(".ipynb"): nbformat.writes(notebook) + "\n",
    }


def main() -> int:
    """Writes what differs; returns how many files that were."""
    changed = 0
    for text in texts():
        for file, wanted in make(text).items():
            if not file.exists() or file.read_text("utf-8") != wanted:
                file.write_text(wanted, "utf-8")
                changed += 1
    print(f"{changed} files changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
