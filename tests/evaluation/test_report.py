"""The page of results: what it shows, that it is whole, escaped and loads nothing."""

import base64
import dataclasses
import io
import os
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile

from clapjax.evaluation import figures, report
from clapjax.evaluation.result import Metric, Result, Said, Shown, Sound
from clapjax.evaluation.statistics import compare

EVIL = '<script>alert("1")</script> & $x_1$ \u72ac'
RATE = 8000  # Hz


def results(folder, model="temporal", seed=0) -> list[Result]:
    """Of every kind that the page shows, with names that must be escaped."""
    rng = np.random.default_rng(seed)
    told = {"source": EVIL, "step": 7, "fingerprint": "abc", "command": f"clapjax eval {EVIL}"}
    margin = rng.normal(0.2, 0.1, 400)
    (folder / "items").mkdir(exist_ok=True)
    sounds = []
    for name in ("right", "wrong"):
        file = folder / "items" / f"{name}.flac"
        soundfile.write(file, rng.integers(-3000, 3000, 2 * RATE).astype(np.int16), RATE)
        said = (Said(EVIL, 0.7125, True), Said("caption", 0.2875, False))
        sounds.append(Sound(EVIL, name == "wrong", said, f"items/{name}.flac"))
    label = np.array(["dog", "dog", EVIL, EVIL, "rain"])
    predicted = np.array(["dog", EVIL, EVIL, "dog", "rain"])
    return [
        Result(
            model,
            EVIL,
            "t_classify",
            400,
            0.5,
            {"text_to_audio": Metric(0.975 if seed else 0.512, 0.5, 0.99)},
            told,
            {
                "id": np.arange(400).astype(str),
                "margin": margin,
                "right": margin > (0.0 if seed else 0.2),
                "group": np.arange(400) // 4,
            },
            (Shown("worst margin", tuple(sounds)),),
        ),
        Result(model, EVIL, "t_classify", 20, 0.5, {"text_to_audio/events=3": Metric(1, 0.8, 1)}),
        Result(
            model,
            EVIL,
            "retrieval",
            287,
            1 / 287,
            {
                "text_to_audio/R@1": Metric(0.3125, 0.25, 0.375),
                "text_to_audio/median_rank": Metric(3.0 - seed, 1, 4),
            },
        ),
        Result(
            model,
            EVIL,
            "zero_shot",
            5,
            1 / 3,
            {"accuracy": Metric(0.6, 0.2, 0.9)},
            told,
            {"label": label, "predicted": predicted, "rank": 1 + (label != predicted)},
        ),
    ]


def full_case(folder) -> dict:
    curves = [{"step": s, "loss": 5 / (1 + s), "learning_rate": 1e-4} for s in range(0, 3000, 2)]
    curves += [{"step": 3000, "note": "no loss here", "loss": float("nan")}]
    found = results(folder) + results(folder, EVIL, seed=1)
    return {
        "found": [(folder, result) for result in found],
        "curves": {"temporal": curves, EVIL: curves[:9]},
    }


def _bare(folder) -> list:
    """Of retrieval alone, which has no picture."""
    return [(folder, result) for result in results(folder) if result.task == "retrieval"]


class Page(HTMLParser):
    """Tags, ids, references and the visible text; checks that every element is closed."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.ids, self.links, self.texts, self.stack = [], [], [], [], []
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)
        self.close()
        assert self.stack == []
        self.text = re.sub(r"\s+", " ", " ".join(self.texts))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [v for k, v in attrs.items() if k in ("href", "src", "xlink:href")]
        if tag != "meta":
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack and self.stack[-1] not in ("style", "script"):
            self.texts.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def page(folder):
    report.write_report(folder / "report.html", **full_case(folder))
    return Page(folder / "report.html")


@pytest.mark.parametrize(
    "text",
    [
        "T-Classify text-to-audio 400 50 % 51.2 % [50.0, 99.0] 97.5 % [50.0, 99.0]",
        "retrieval text-to-audio R@1 287 0.348 % 31.2 % [25.0, 37.5]",
        "retrieval text-to-audio median rank 287 3.0 [1.0, 4.0] 2.0 [1.0, 4.0]",
        "zero-shot accuracy 5 33.3 % 60.0 % [20.0, 90.0]",
        "T-Classify text-to-audio events=3 20 50 % 100.0 % [80.0, 100.0]",
        "right, 0.713",
        "wrong, 0.287",
        f"dog {EVIL} 1 50 %",  # half of the dogs
        f"temporal {EVIL} T-Classify, zero-shot {EVIL} 7 abc – – – – – clapjax eval {EVIL}",
    ],
)
def test_numbers_shown(page, text):
    assert text in page.text


def test_best_of_a_row_is_bold_and_the_lowest_rank_is_best(page):
    def bold(value: str, interval: str) -> str:
        return f'<b>{value} <span class="interval">{interval}'

    assert bold("97.5 %", "[50.0, 99.0]") in page.html
    assert bold("51.2 %", "[50.0, 99.0]") not in page.html
    assert bold("2.0", "[1.0, 4.0]") in page.html and bold("3.0", "[1.0") not in page.html


def test_models_are_compared_on_the_same_items(page, folder):
    one, other = (r.items for _, r in full_case(folder)["found"] if "margin" in r.items)
    found = compare(one["right"], other["right"], groups=one["group"])
    assert found["p"] < 0.01 and found["difference"] < -0.2
    interval = f"[{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"
    expected = f"{EVIL} 400 {100 * found['difference']:+.1f} % {interval} {found['p']:.2g}"
    assert expected in page.text


def test_results_come_first_and_curves_are_folded_away(page):
    results, curves = page.html.index("<h2>Results"), page.html.index("<summary>Training")
    assert results == page.html.index("<h2>") < curves
    assert page.html.index("<svg") > results
    assert "loss (nats)" in page.html[curves:] and "loss (nats)" not in page.html[:curves]


def test_histogram_states_the_accuracy_of_its_margins(page, folder):
    for _, result in full_case(folder)["found"]:
        if "margin" in result.items:
            right = 100 * np.mean(result.items["margin"] > 0)
            assert f"{result.model}: {right:.1f} % right" in page.text


def test_user_text_is_escaped(page):
    assert page.tags.count("script") == 1  # which sorts tables
    assert "<script>alert" not in page.html
    assert page.text.count(EVIL) >= 8  # title twice, tables, ticks, captions, command


def test_every_picture_is_well_formed(page):
    # Margins, two tables of mistakes, two examples of two sounds, loss and rate.
    assert page.tags.count("svg") == 1 + 2 + 4 + 2
    for svg in re.findall(r"<svg.*?</svg>", page.html, re.S):
        ElementTree.fromstring(svg)


def test_mistakes_are_shown_and_what_is_right_is_not():
    labels, names = np.array(["a"] * 90 + ["b"] * 3), ["a", "b"]
    svg = figures.mistakes("x", labels, np.array(["a"] * 88 + ["b"] * 5), names)
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert "2" in texts and "88" not in texts and "3" not in texts


def test_every_example_plays(page, folder):
    players = [link for link in page.links if link.startswith("data:audio/flac;base64,")]
    assert page.tags.count("audio") == len(players) == 4
    found = [soundfile.read(io.BytesIO(base64.b64decode(p.split(",")[1])))[0] for p in players]
    expected = [soundfile.read(folder / "items" / f"{name}.flac")[0] for name in ("right", "wrong")]
    for left, right in zip(found, expected * 2, strict=True):
        np.testing.assert_array_equal(left, right)


def test_nothing_is_loaded_from_outside(page):
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert not {"link", "iframe", "object", "img"} & set(page.tags)
    assert "url(#" in page.html and not re.search(r"url\((?!#)", page.html)
    assert "@import" not in page.html
    rest = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page.html)
    assert "http://" not in rest and "https://" not in rest


def test_ids_are_unique_and_references_resolve(page):
    assert len(page.ids) == len(set(page.ids))
    used = [link[1:] for link in page.links if link[0] == "#"]
    used += re.findall(r"url\(#(\w+)\)", page.html)
    assert set(used) <= set(page.ids)


def test_same_data_gives_the_same_file(page, folder):
    report.write_report(folder / "again.html", **full_case(folder))
    assert (folder / "again.html").read_text(encoding="utf-8") == page.html


def test_colours_follow_the_page(page):
    assert "prefers-color-scheme: dark" in page.html
    assert figures.INK not in page.html
    assert "currentColor" in page.html
    assert not re.search(r"(fill|stroke): (#000000|black)", page.html)


def test_what_was_not_measured_is_one_line(tmp_path, page):
    assert "Not measured" not in page.text
    report.write_report(tmp_path / "r.html", _bare(tmp_path), {})
    bare = Page(tmp_path / "r.html")
    assert "Not measured: T-Classify, zero-shot." in bare.text
    assert bare.text.count("Not measured") == 1 and "svg" not in bare.tags
    assert "Training" not in bare.text


def test_large_inputs_stay_below_5_mb(folder, monkeypatch):
    rng, found = np.random.default_rng(0), []
    monkeypatch.setattr(figures, "sound_picture", lambda *_: "<svg></svg>" + " " * 30_000)
    names = np.array([f"AudioSet class {i}" for i in range(527)])
    label, predicted = names[rng.integers(0, 527, (2, 20_000))]
    for _, result in full_case(folder)["found"]:
        if result.task == "zero_shot":
            items = {"label": label, "predicted": predicted, "rank": 1 + (label != predicted)}
            result = dataclasses.replace(result, items=items)
        if result.examples:
            result = dataclasses.replace(result, examples=result.examples * 40)
        found.append((folder, result))
    curves = [{"step": s, "loss": v} for s, v in enumerate(rng.normal(size=20_000))]
    report.write_report(folder / "large.html", found, {"temporal": curves})
    assert os.path.getsize(folder / "large.html") < 5e6
    assert Page(folder / "large.html").tags.count("audio") == 2 * report.EXAMPLES


def points(svg):
    """Vertices of the longest path of a chart."""
    paths = [re.findall(r"[ML] (\S+) (\S+)", d) for d in re.findall(r' d="([^"]*)"', svg)]
    return np.array(max(paths, key=len), float)


def test_curves_thin_out_by_means_and_later_rows_win(folder, monkeypatch):
    seen = {}
    monkeypatch.setattr(report.figures, "line_chart", lambda t, s, y: seen.update(s) or "")
    rows = [{"step": s, "loss": 1.0} for s in (0, 10, 20)] + [{"step": 10, "loss": 2.0}]
    report.write_report(folder / "r.html", _bare(folder), {"m": rows})
    assert seen == {"m": ([0, 10, 20], [1.0, 2.0, 1.0])}
    monkeypatch.undo()
    # An alternating -1, 1 averages out; picking every k-th row would shift the curve.
    steps = np.arange(80_000)
    wave = np.sin(steps / 5000)
    drawn = [
        points(figures.line_chart("x", {"loss": (steps, values)}, "loss"))
        for values in (wave, wave + np.tile([-1, 1], 40_000))
    ]
    assert len(drawn[0]) > 50
    np.testing.assert_allclose(drawn[0], drawn[1], atol=1e-3)


def test_histogram_counts_a_tie_as_wrong():
    svg = figures.margin_histogram("x", {"a": np.array([0.0, 0.0, 0.0, 1.0])})
    zero = float(re.search(r'd="M (\S+) \S+ \nL \1 \S+ \n?"[^>]*stroke-dasharray', svg).group(1))
    bars = points(svg)
    assert bars[bars[:, 1] == bars[:, 1].min(), 0].max() == pytest.approx(zero, abs=1e-3)


def test_failed_write_leaves_the_old_file(folder, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        report.write_report(path, _bare(folder), {})
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]
