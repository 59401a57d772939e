"""The report in a real browser, where there is one: it fits, follows the dark, and plays."""

import json
import re
import shutil
import subprocess

import pytest

from clapjax.evaluation import report
from tests.evaluation.test_report import full_case, results

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")

# Leaves what it finds as the only text of the page.
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
  table.querySelectorAll("th")[1].click();
  const found = {
    seconds, width: innerWidth, needed: root.scrollWidth,
    back: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.querySelector("svg text")).fill,
    sorted: [...table.tBodies[0].rows].map(row => Number(row.cells[1].textContent)),
  };
  document.body.replaceChildren(JSON.stringify(found));
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


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [500, 1280])
def test_it_fits_and_plays(page, tmp_path, width, dark):
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *(f"--user-data-dir={tmp_path}", f"--window-size={width},2000"),
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            *("--virtual-time-budget=20000", "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-1000:]
    found = json.loads(re.search(r"<body>(\{.*?\})</body>", done.stdout, re.S).group(1))
    assert found["width"] == width and found["needed"] <= width
    assert len(found["seconds"]) == 6 and all(abs(s - 2) < 0.01 for s in found["seconds"])
    assert found["sorted"] == sorted(found["sorted"])
    back, ink = (sum(map(int, re.findall(r"\d+", found[name])[:3])) for name in ("back", "ink"))
    assert (back < 200 and ink > 500) if dark else (back > 600 and ink < 200)
