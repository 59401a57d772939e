"""Writes the notebooks, NAME.ipynb, from their texts, NAME.py (jupytext's percent format).

    python notebooks/make.py

Edit the texts, and then run this. The badge and the first cell, which all have, are rewritten in
the texts as well: the first cell is first_cell.py. So are the addresses of the badges in PAGES.
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
PAGES = ("README.md", "docs/notebooks.md")  # that have a badge for each notebook
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def texts() -> list[Path]:
    """The notebooks' texts, in their order."""
    return sorted(HERE.glob("[0-9]_*.py"))


def address(name: str) -> str:
    """Where Colab opens the notebook NAME."""
    return f"{COLAB}/github/{REPOSITORY}/blob/{BRANCH}/notebooks/{name}.ipynb"


def badge(name: str) -> str:
    """Markdown of a button that opens the notebook NAME in Colab."""
    return f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({address(name)})"


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


def make_page(page: Path) -> str:
    """What a page with badges should hold."""
    badges = rf"{re.escape(COLAB)}/github/[^)\s]+/notebooks/(\w+)\.ipynb"
    return re.sub(badges, lambda found: address(found[1]), page.read_text("utf-8"))


def wanted() -> dict[Path, str]:
    """What every file should hold that is written here."""
    files = {HERE.parent / page: make_page(HERE.parent / page) for page in PAGES}
    for text in texts():
        files |= make(text)
    return files


def main() -> int:
    """Writes what differs, and says of how many files that was."""
    changed = 0
    for file, told in wanted().items():
        if not file.exists() or file.read_text("utf-8") != told:
            file.write_text(told, "utf-8")
            changed += 1
    print(f"{changed} files changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
