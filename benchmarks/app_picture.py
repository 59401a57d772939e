"""The picture of `clapjax app` in the docs, taken from the page in Debian's chromium.

    python -m benchmarks.app_picture --model W --esc10 ESC10 --text "a dog barks" --out docs/app.png

W: a run on ESC-10, as B/e of `clapjax bootstrap --config configs/bootstrap.py:esc10
--config.source.path=ESC10 --workdir B`; of the folder ESC10 the fold is searched that such a run
does not learn from. Needs requirements-test.txt and `apt-get install chromium`. The tests drive the
page by the same functions.
"""

import argparse
import contextlib
import csv
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

CHROMIUM = shutil.which("chromium")
MINUTES = 10  # in which a page begins


@contextlib.contextmanager
def served(*arguments: str, **options) -> Iterator[tuple[str, list[str]]]:
    """`clapjax app` in a process with `options`: its address, and what it says on stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "clapjax", "app", *map(str, arguments), f"--port={port}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    said: list[str] = []
    with subprocess.Popen(command, **pipes) as process:
        errors = threading.Thread(target=lambda: said.extend(process.stderr))
        errors.start()
        limit = threading.Timer(60 * MINUTES, process.kill)
        limit.start()
        try:
            address = process.stdout.readline().strip()
            limit.cancel()
            if not address.startswith("http://127.0.0.1:"):
                process.kill()
                errors.join()
                raise RuntimeError("".join(said)[-2000:] or "the page did not begin")
            yield address, said
        finally:
            limit.cancel()
            process.terminate()
            process.wait()
            errors.join()


@contextlib.contextmanager
def browser(width: int, height: int) -> Iterator:
    """An empty page of chromium, as Playwright has it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = chromium.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(180_000)
        yield page
        chromium.close()


@contextlib.contextmanager
def opened(address: str, width: int = 1200, height: int = 1000) -> Iterator[tuple]:
    """(`clapjax app` in a browser; addresses elsewhere that it asked for)."""
    strangers: list[str] = []

    def look(request) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            strangers.append(request.url)

    with browser(width, height) as page:
        page.on("request", look)
        page.goto(address)
        page.get_by_role("tab").first.wait_for()
        yield page, strangers


def search(page, text: str) -> None:
    """Types and waits for the answers."""
    page.get_by_label("What does it sound like?").fill(text)
    page.get_by_role("button", name="Find", exact=True).click()
    page.locator("figure.clapjax").first.wait_for()


def link(model: Path, esc10: Path, folder: Path, fold: str = "4") -> None:
    """Short names in a folder: the model as clap, a fold below ESC-10 by the names of classes."""
    (folder / "clap").symlink_to(model.absolute())
    (folder / "ESC-10").mkdir()
    with (esc10 / "meta.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["fold"] == fold]
    for row in rows:
        source = (esc10 / "audio" / row["filename"]).absolute()
        (folder / "ESC-10" / f"{row['category']} {source.name}").symlink_to(source)


def make_small(file: Path) -> None:
    """Leaves a picture 128 colours, and prints its size."""
    Image.open(file).convert("RGB").quantize(128).save(file, optimize=True)
    print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Takes the picture of a search: down to the end of its second answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--esc10", required=True, help="folder of meta.csv and audio/")
    parser.add_argument("--text", required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        link(Path(args.model), Path(args.esc10), Path(folder))
        here = {"cwd": folder, "env": os.environ | {"PYTHONPATH": os.getcwd()}}
        address, _ = stack.enter_context(served("--model", "clap", "ESC-10", **here))
        page, _ = stack.enter_context(opened(address, 1000, 1000))
        search(page, args.text)
        page.wait_for_timeout(1000)
        box = page.locator("figure.clapjax").nth(1).bounding_box()
        sides = {"x": box["x"] - 20, "width": box["width"] + 40}
        page.screenshot(path=args.out, clip=sides | {"y": 0, "height": box["y"] + box["height"]})
    make_small(Path(args.out))


if __name__ == "__main__":
    main()
