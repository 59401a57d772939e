"""The report in a real browser, where there is one: it fits, follows the dark, and plays."""

import base64
import json
import re
import shutil
import subprocess
import threading

import pytest

from clapjax.evaluation import report
from tests.evaluation.test_report import full_case, results

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")

# Says what it finds on the console.
PROBE = """
<script>
addEventListener("load", async () => {
  const plays = sound => new Promise(done => {
    sound.oncanplaythrough = () => done(sound.duration);
    sound.onerror = () => done(0);
    sound.preload = "auto";
    sound.load();
  });
  const seconds = await Promise.all([...document.querySelectorAll("audio")].map(plays));
  document.querySelectorAll("details").forEach(box => box.open = true);
  const root = document.documentElement, table = document.querySelector("table.sort");
  const first = document.querySelector(".scroll");
  table.querySelectorAll("th")[1].click();
  const found = {
    seconds, width: innerWidth, needed: root.scrollWidth,
    hidden: first.scrollWidth - first.clientWidth,
    back: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.querySelector("svg text")).fill,
    sorted: [...table.tBodies[0].rows].map(row => Number(row.cells[1].textContent)),
  };
  console.log(`FOUND ${btoa(JSON.stringify(found))} END`);
});
</script>
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Of three models, with the probe in it."""
    folder = tmp_path_factory.mktemp("browser")
    case = full_case(folder)
    case["found"] += [(folder, result) for result in results(folder, "control", seed=2)]
    report.write_report(folder / "report.html", **case)
    html = (folder / "report.html").read_text().replace("</body>", f"{PROBE}</body>")
    (folder / "report.html").write_text(html)
    return folder / "report.html"


def _look(page, folder, width: int, dark: bool) -> dict:
    """What the probe finds; sounds are decoded in real time, for which --dump-dom does not wait."""
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
        *(f"--user-data-dir={folder}", f"--window-size={width},2000", "--enable-logging=stderr"),
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        *("--remote-debugging-port=0", page.as_uri()),  # so that it stays
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as browser:
        limit = threading.Timer(120, browser.kill)
        limit.start()
        lines = []
        for line in browser.stderr:
            lines.append(line)
            if match := re.search(r"FOUND (\S+) END", line):
                browser.terminate()
                limit.cancel()
                return json.loads(base64.b64decode(match[1]))
    raise AssertionError("".join(lines)[-2000:])


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [500, 1280])
def test_it_fits_and_plays(page, tmp_path, width, dark):
    found = _look(page, tmp_path, width, dark)
    assert found["width"] == width and found["needed"] <= width
    assert found["hidden"] <= 0  # all three models' numbers are seen without scrolling
    assert len(found["seconds"]) == 6 and all(abs(s - 2) < 0.01 for s in found["seconds"])
    assert found["sorted"] == sorted(found["sorted"])
    back, ink = (sum(map(int, re.findall(r"\d+", found[name])[:3])) for name in ("back", "ink"))
    assert (back < 200 and ink > 500) if dark else (back > 600 and ink < 200)
