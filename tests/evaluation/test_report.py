import base64
import io
import json
import os
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from clapjax.evaluation import figures, report

EVIL = '<script>alert("1")</script> & $x_1$ \u72ac'
RESULTS = {
    "t_classify": {"text_to_audio": 0.975, "audio_to_text": None, "n": 400, "n_audio": 0},
    "esc": {
        "retrieval": {
            "text_to_audio": {"R@1": 0.3125, "R@5": 0.6, "R@10": 0.8125, "mAP@10": 0.44},
            "audio_to_text": {"R@1": 0.25, "R@5": 0.5, "R@10": 0.75, "mAP@10": 0.4},
            "n_audio": 16,
            "n_text": 16,
        }
    },
    "zero_shot": {
        "accuracy": 0.625,
        "mean_per_class_recall": 0.7,
        "n": 8,
        "confusion": [[3, 2], [1, 2]],
        "per_class": {"dog": {"recall": 0.6, "n": 5}, EVIL: {"recall": 0.6667, "n": 3}},
    },
}


def full_case(seed=0):
    rng = np.random.default_rng(seed)
    curves = [
        {"step": s, "loss": 5 / (1 + s), "temporal_loss": 0.7, "learning_rate": 1e-4}
        for s in range(0, 3000, 2)
    ]
    log_mel = rng.uniform(-100, 20, (1001, 64))
    example = {"log_mel": log_mel, "caption": EVIL, "seconds": 10.0, "title": EVIL}
    return {
        "title": EVIL,
        "results": RESULTS,
        "curves": [*curves, {"step": 3000, "note": "no loss here", "loss": float("nan")}],
        "margins": {"text_to_audio": rng.normal(0.2, 0.1, 400), "audio_to_text": np.zeros(0)},
        "similarity": {
            "values": rng.uniform(-1, 1, (6, 6)),
            "rows": [EVIL] * 6,
            "columns": [f"caption {i}" for i in range(6)],
        },
        "confusion": [[3, 2], [1, 2]],
        "class_names": ["dog", EVIL],
        "examples": [
            {**example, "score": 0.7125, "right_order": True},
            {**example, "score": 0.2875, "right_order": False},
        ],
        "config": {"seed": 7, "note": EVIL},
        "comparison": [
            {"model": EVIL, "T-Classify text-to-audio": 0.512, "loss": 0.25},
            {"model": "temporal", "T-Classify text-to-audio": 0.975, "extra": 3},
        ],
    }


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
        if self.stack and self.stack[-1] != "style":
            self.texts.append(data)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    report.write_report(path, **full_case())
    return Page(path)


@pytest.mark.parametrize(
    "text",
    [
        "T-Classify text to audio 97.5 % 400 pairs, chance 50 %",
        "T-Classify audio to text – 0 pairs",
        "esc Retrieval text to audio R@1 31.2 % R@10 81.2 %, mAP@10 44.0 %",
        "esc Retrieval audio to text R@1 25.0 % R@10 75.0 %, mAP@10 40.0 %",
        "Zero-shot accuracy 62.5 % 8 clips, chance 50 %",
        "Zero-shot mean per class recall 70.0 %",
        "temporal 97.5 % – 3",
        "51.2 % 0.25 –",
        "right order, cosine 0.713",
        "wrong order, cosine 0.287",
        '"seed": 7',
        "caption 5",
    ],
)
def test_numbers_shown(page, text):
    assert text in page.text


def test_best_of_a_column_is_bold(page):
    assert "<b>97.5 %</b></td>" in page.html
    assert "<b>51.2 %</b>" not in page.html


def test_histogram_states_the_accuracy_of_its_margins(page):
    right = np.mean(full_case()["margins"]["text_to_audio"] > 0)
    assert f"text to audio: {100 * right:.1f} % right" in page.text


def test_user_text_is_escaped(page):
    assert "script" not in page.tags
    assert "<script" not in page.html.lower()
    assert page.text.count(EVIL) >= 8  # title twice, tables, lists, ticks, captions, config


def test_every_picture_and_its_sentence(page):
    assert page.tags.count("svg") == 7  # losses, rate, margins, similarity, confusion, 2 clips
    assert page.html.count('class="how"') == 7 + 1  # and the comparison
    assert "Not shown" not in page.text
    for svg in re.findall(r"<svg.*?</svg>", page.html, re.S):
        ElementTree.fromstring(svg)


def test_embedded_pictures_decode(page):
    pictures = [link for link in page.links if link.startswith("data:")]
    sizes = []
    for link in pictures:
        head, data = link.split(",", 1)
        assert head == "data:image/png;base64"
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        image.load()
        sizes.append(image.size)
    assert sizes == [(6, 6), (2, 2), (334, 64), (334, 64)]  # 1001 frames, three to a column


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


def test_same_data_gives_the_same_file(page, tmp_path):
    report.write_report(tmp_path / "again.html", **full_case())
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page.html


def test_colours_follow_the_page(page):
    assert "prefers-color-scheme: dark" in page.html
    assert figures.INK not in page.html
    assert "currentColor" in page.html
    assert not re.search(r"(fill|stroke): (#000000|black)", page.html)


def test_absent_data_is_said_to_be_absent(tmp_path):
    report.write_report(
        tmp_path / "r.html", title="t", results={}, margins={"text_to_audio": []}, confusion=[]
    )
    page = Page(tmp_path / "r.html")
    for title in ("Headline numbers", "Loss curves", "T-Classify margins", "Confusion of classes"):
        assert f"{title} Not shown" in page.text
    assert page.text.count("Not shown") == 7
    assert "svg" not in page.tags


def test_large_inputs_stay_below_3_mb(tmp_path):
    rng = np.random.default_rng(0)
    case = full_case()
    noise = rng.uniform(-80, 0, (6000, 128))
    case["examples"] = [{**case["examples"][0], "log_mel": noise}] * 40
    case["curves"] = [{"step": s, "loss": v} for s, v in enumerate(rng.normal(size=50_000))]
    captions = ["a dog barks, then a man speaks"] * 64
    values = rng.normal(size=(64, 64))
    case["similarity"] = {"values": values, "rows": captions, "columns": captions}
    case["confusion"] = rng.integers(0, 9, (527, 527))
    case["class_names"] = [f"AudioSet class {i}" for i in range(527)]
    report.write_report(tmp_path / "r.html", **case)
    assert os.path.getsize(tmp_path / "r.html") < 3e6


def points(svg):
    """Vertices of the longest path of a chart."""
    paths = [re.findall(r"[ML] (\S+) (\S+)", d) for d in re.findall(r' d="([^"]*)"', svg)]
    return np.array(max(paths, key=len), float)


def test_curves_thin_out_by_means_and_later_rows_win(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(report.figures, "line_chart", lambda t, s, y: seen.update(s) or "")
    rows = [{"step": s, "loss": 1.0} for s in (0, 10, 20)] + [{"step": 10, "loss": 2.0}]
    report.write_report(tmp_path / "r.html", title="t", results={}, curves=rows)
    assert seen == {"loss": ([0, 10, 20], [1.0, 2.0, 1.0])}
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": ["dog"]}, "confusion: .* for 1 class names"),
        ({"margins": {"text_to_audio": [np.nan]}}, "text_to_audio: expected a finite 1-D"),
        ({"similarity": {"values": np.eye(2), "rows": ["a"], "columns": ["b"]}}, "similarity"),
        ({"examples": [{"log_mel": np.zeros(3)}]}, "log_mel: expected a finite 2-D"),
        ({"examples": [{"log_mel": np.zeros((0, 64))}]}, "log_mel: expected a finite 2-D"),
    ],
)
def test_bad_input_leaves_the_old_file(tmp_path, change, message):
    path = tmp_path / "r.html"
    path.write_text("old")
    with pytest.raises(ValueError, match=message):
        report.write_report(path, **(full_case() | change))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["r.html"]


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        report.write_results(path, {"a": 1})
    with pytest.raises(OSError, match="No space"):
        report.write_report(path, title="t", results={})
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_results_are_readable_json(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")
    report.write_results(path, RESULTS)
    assert json.loads(path.read_text()) == RESULTS
    assert path.read_text().startswith('{\n  "t_classify"')


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_results_refuse_nan(tmp_path, bad):
    path = tmp_path / "results.json"
    with pytest.raises(ValueError, match=r"results.json: 'T-Classify by seed 1' is (nan|inf)"):
        report.write_results(path, {"t_classify": {"by_seed": [0.5, bad]}})
    with pytest.raises(TypeError, match="float32"):
        report.write_results(path, {"loss": np.float32(1)})
    assert os.listdir(tmp_path) == []
