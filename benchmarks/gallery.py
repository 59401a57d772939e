"""The pictures of docs/gallery.md, taken of pages that clapjax wrote, in Debian's chromium.

    python -m benchmarks.gallery order=B/report.html models=B/report.html --out docs/gallery

NAME=PAGE is a picture and the page that it is a part of; PARTS has the headings of the parts.
Needs requirements-test.txt and `apt-get install chromium`.
"""

import argparse
from pathlib import Path

from benchmarks.app_picture import browser, make_small

WIDTH = 1150  # CSS pixels of the page
HEIGHT = 780  # of a picture, at most
# By the picture's name, what the heading of the part holds; of several parts the first one counts.
PARTS = {
    "order": "T-Classify text-to-audio",
    "retrieval": "retrieval: asked for",
    "models": "Results",
    "captions": "train-",
    "mixtures": "test-mixture-",
}


def take(page, address: str, heading: str, file: Path) -> None:
    """Saves the picture of a part of a page.

    Raises:
      ValueError: no part has that heading.
    """
    page.goto(address)
    parts = page.locator("section", has=page.locator("h2", has_text=heading))
    if not parts.count():
        raise ValueError(f"{address} has no part {heading!r}")
    box = parts.first.bounding_box()  # the page is not scrolled
    page.screenshot(path=file, clip=box | {"height": min(box["height"], HEIGHT)}, full_page=True)
    make_small(file)


def main() -> None:
    """Takes the pictures that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="+", metavar="NAME=PAGE", help=f"NAME: {', '.join(PARTS)}")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with browser(WIDTH, 1000) as page:
        for name, _, file in (item.partition("=") for item in args.pages):
            take(page, Path(file).resolve().as_uri(), PARTS[name], args.out / f"{name}.png")


if __name__ == "__main__":
    main()
