"""README and docs: links lead to files, pages are in README's index, pictures are few and small."""

import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
README = REPO / "README.md"
DOCS = sorted((REPO / "docs").glob("*.md"))
CODE = re.compile(r"```.*?```", re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)")
HERE = re.compile(r"https://colab\.research\.google\.com/github/[^/]+/[^/]+/blob/[^/]+/")
PICTURES = 300_000  # bytes of all of them


@pytest.mark.parametrize("page", [README, *DOCS], ids=lambda page: page.name)
def test_links_lead_to_files(page):
    """Of this repository, as a badge of Colab's names it, or beside the page."""
    for link in LINK.findall(CODE.sub("", page.read_text("utf-8"))):
        if HERE.match(link):
            assert (REPO / HERE.sub("", link)).is_file(), link
        elif not link.startswith("https:"):
            assert (page.parent / link).exists(), link


def test_every_page_is_in_the_index():
    named = set(LINK.findall(README.read_text("utf-8")))
    assert [page.name for page in DOCS if f"docs/{page.name}" not in named] == []


def test_pictures_are_shown_and_small():
    told = "".join(page.read_text("utf-8") for page in (README, *DOCS))
    pictures = [file for file in (REPO / "docs").rglob("*") if file.suffix in (".png", ".svg")]
    assert [file.name for file in pictures if f"{file.name})" not in told] == []
    assert sum(file.stat().st_size for file in pictures) < PICTURES
