"""The page as a stranger uses it: the command is started, and Debian's chromium does the rest.

Screenshots of the three jobs are left in the folder CLAPJAX_SCREENSHOTS names, else in pytest's.
"""

import os
import re
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="the extra `app` is not installed")
pytest.importorskip("playwright", reason="playwright, which drives the browser, is not installed")

import clapjax
from benchmarks.app_picture import CHROMIUM, opened, search, served
from clapjax.app import listening
from clapjax.app.library import find, make_library
from tests.app.conftest import LONG
from tests.inference.tiny import make_workdir

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")

FIGURE = "figure.clapjax:visible"
# Plays a little: (s where it began, s now, how far the line has gone in the picture, s in all).
PLAYED = """async figure => {
  const audio = figure.querySelector("audio");
  await audio.play();
  const begun = audio.currentTime;
  while (audio.currentTime < begun + 0.2 && !audio.ended) await new Promise(requestAnimationFrame);
  audio.pause();
  await new Promise(requestAnimationFrame);
  const line = figure.querySelector(".cursor").getAttribute("transform");
  return [begun, audio.currentTime, +line.match(/-?[0-9][0-9.]*/)[0], audio.duration];
}"""


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return make_workdir(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def model(workdir):
    return clapjax.load(workdir)


@pytest.fixture(scope="module")
def library(model, sounds, tmp_path_factory):
    """What the page has, made anew."""
    files = sorted(map(str, sounds.rglob("*.wav")))
    return make_library(model, files, tmp_path_factory.mktemp("table"), lambda: None)


@pytest.fixture(scope="module")
def page(workdir, sounds, quick_env):
    """The page, on which nothing was done yet."""
    with (
        served("--model", workdir, sounds, env=quick_env) as (address, said),
        opened(address) as (page, strangers),
    ):
        yield page
        page.context.close()
        assert not strangers  # nothing of the page comes from elsewhere
        assert any("broken.wav" in line for line in said)


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    folder = os.environ.get("CLAPJAX_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)


def shoot(page, file: Path) -> None:
    """Of all that the page shows: more than a blank one has."""
    page.screenshot(path=file, full_page=True)
    assert file.stat().st_size > 20_000


def choose(page, title: str) -> None:
    """The sound of the tab that is open."""
    box = page.get_by_label("A sound", exact=True).locator("visible=true")
    box.click()
    box.fill(title)
    page.get_by_role("option", name=title).click()


def test_find_a_sound_hear_it_see_when_it_sounds(page, model, library, shots):
    search(page, "a dog barks")
    query = model.embed_text("a dog barks")[0]
    expected = find(library, query, 5)
    shown = page.locator(FIGURE)
    assert shown.count() == len(expected) == 4
    for figure, hit in zip(shown.all(), expected, strict=True):
        words = figure.locator("figcaption").inner_text()
        assert words.startswith(library.title(hit.name)) and f"{hit.score:.3f}" in words
        _, vectors = listening.listen_between(model, hit.name, hit.start, hit.end)
        peak = f"{(vectors @ query).max():.2f}"
        assert figure.locator("svg text", has_text=peak).count()
    where = [hit.name for hit in expected].index(next(n for n in library.names if "long" in n))
    for number in {0, where}:  # of ten minutes the second that was found
        begun, now, line, seconds = shown.nth(number).evaluate(PLAYED)
        assert begun == 0 and now > 0.1 and line > 10 and seconds <= 1.01
    picture = shown.first.locator("svg")
    box = picture.bounding_box()
    left, right = (float(picture.get_attribute(f"data-{side}")) for side in ("left", "right"))
    middle = (left + right) / 2 / 900 * box["width"]
    picture.click(position={"x": middle, "y": 20})
    seconds = shown.first.evaluate(
        "f => (f.querySelector('audio').pause(), f.querySelector"
        "('audio').currentTime / f.querySelector('audio').duration)"
    )
    assert 0.45 < seconds <= 1  # of the whole; it goes on playing
    shoot(page, shots / "find.png")
    page.get_by_text("1 sound left out: cannot be heard").click()
    assert page.get_by_text(re.compile(r"broken\.wav: ")).is_visible()


def test_find_the_like_of_a_sound(page, sounds):
    page.get_by_role("button", name="or find the like of a sound").click()
    with page.expect_response("**/upload*"):
        page.locator("input[type=file]").first.set_input_files(sounds / "one.wav")
    page.wait_for_timeout(1000)  # until the page has taken note of it
    page.get_by_role("button", name="Find the like", exact=True).click()
    page.locator(FIGURE, has_text="like this sound").first.wait_for()
    assert page.locator(FIGURE).first.locator("figcaption").inner_text().startswith("one.wav")


def test_what_is_heard_in_ten_minutes(page, model, library, shots):
    page.get_by_role("tab", name="What is heard?").click()
    choose(page, "long.wav")
    page.get_by_label("Labels").fill("dog, rain,siren")
    page.get_by_role("button", name="Listen", exact=True).click()
    figure = page.locator(FIGURE)
    figure.wait_for()
    long = next(name for name in library.names if "long" in name)
    whole = model.classify([long], ["dog", "rain", "siren"], long="windows")[0]
    for label, share in whole.items():
        assert figure.locator("svg text", has_text=f"{label} {100 * share:.0f} %").count() == 1
    assert len(figure.inner_html()) < 200_000  # the page has a picture of it, and no more
    assert figure.locator("svg text", has_text="10:00").count() == 1
    figure.evaluate("f => { f.querySelector('audio').currentTime = 500 }")
    begun, now, _, seconds = figure.evaluate(PLAYED)
    assert seconds == pytest.approx(LONG, abs=0.01) and begun >= 500 and now > begun
    shoot(page, shots / "heard.png")


def test_which_order(page, model, library, shots):
    page.get_by_role("tab", name="Which order?").click()
    choose(page, "two.wav")
    page.get_by_label("One caption").fill("a dog barks, then rain falls")
    page.get_by_role("button", name="Write the other order").click()
    other = page.get_by_label("Another")
    page.wait_for_function("box => box.value", arg=other.element_handle())
    captions = "a dog barks, then rain falls", "rain falls, then a dog barks"
    assert other.input_value() == captions[1]
    page.get_by_role("button", name="Which one?").click()
    page.get_by_text("The model prefers").wait_for()
    two = next(name for name in library.names if "two" in name)
    found = listening.prefer(model, two, captions)
    best = captions[0 if found.first else 1]
    assert page.locator("p.clapjax b").inner_text() == best
    said = page.locator("p.clapjax").inner_text()
    assert f"{100 * max(found.probabilities):.0f} % against" in said
    for row in found.over_time.rows:
        assert page.locator(f"{FIGURE} svg text", has_text=row).count()
    shoot(page, shots / "order.png")


def test_what_goes_wrong_is_said_on_the_page(page):
    page.get_by_label("Another").fill("a dog barks, then rain falls")
    page.get_by_role("button", name="Which one?").click()
    page.get_by_text("two different captions are needed").first.wait_for()
    page.get_by_role("tab", name="Find a sound").click()
    page.get_by_label("What does it sound like?").fill("  ")
    page.get_by_role("button", name="Find", exact=True).click()
    page.get_by_text("nothing to look for").first.wait_for()
