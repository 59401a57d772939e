"""Figures of a data set, and its page."""

import base64
import io
import re
from collections import Counter

import numpy as np
import pytest
import soundfile

from clapjax.cli.main import main
from clapjax.data import records
from clapjax.data.statistics import describe
from clapjax.evaluation.records_page import Chooser
from tests.data.building import RATE, make_example, write_records

TRAIN = [make_example(index) for index in range(6)]
TRAIN += [make_example(7, events=("dog", "rain", "car"))]
TEST = [make_example(index, captions=("A dog barks, followed by rain <b>",)) for index in (10, 11)]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("statistics") / "records"
    return write_records(folder, {"train": TRAIN, "test": TEST})


def test_describe(data_dir):
    found = describe(data_dir, lambda caption: Counter(["barks"] * caption.count("barks")))
    assert found["build"]["sample_rate"] == RATE
    train = found["splits"]["train"]
    assert train["examples"] == 7
    assert train["hours"] == round(sum(200 + i for i in (*range(6), 7)) / RATE / 3600, 3)
    assert train["seconds"] == {"shortest": 0.02, "median": 0.03, "longest": 0.03}
    assert train["captions_per_example"] == 2.0
    assert train["words_per_caption"] == 4.0  # five and three
    assert train["caption_words"] == {"3": 7, "5": 7}
    assert train["with_negative_captions"] == train["with_negative_audio"] == 4
    assert train["order_pairs"] == 3  # not where three events sound
    assert train["negative_captions"] == 4 and train["origins"] == 0
    assert train["connectives"] == {"barks": 7}
    assert train["provenance"] == {"captions": {"human": 14}, "negative_captions": {"human": 4}}
    assert train["labels"] == {"animal": 7, "dog": 7}
    assert found["splits"]["test"]["examples"] == 2


def test_every_text_has_its_provenance_and_every_record_its_origin(tmp_path):
    """Fails where negatives count among the captions' words, or a record's words once each."""
    examples = [
        make_example(1, captions=("a", "b"), negative_captions=("c", "d", "e"), **changes)
        for changes in (
            {"provenance": "human;keyword;rules;rules;llm:m", "origin": "freesound:1"},
            {"provenance": "human;keyword", "origin": "freesound:2;freesound:1"},  # as once made
        )
    ]
    found = describe(write_records(tmp_path / "d", {"a": examples}, shards=1))["splits"]["a"]
    assert found["provenance"] == {
        "captions": {"human": 2, "keyword": 2},
        "negative_captions": {"rules": 2, "llm:m": 1, "template": 3},
    }
    assert (found["negative_captions"], found["with_negative_captions"]) == (6, 2)
    assert (found["origins"], found["without_origin"]) == (2, 0)


def test_an_unfinished_data_set_is_not_described(tmp_path):
    with pytest.raises(records.RecordsError, match="no records here"):
        describe(tmp_path)


def test_clips_are_chosen_evenly():
    chooser = Chooser({"a": 9, "b": 2}, count=6)
    for split, size in (("a", 9), ("b", 2)):
        for index in range(size):
            chooser.look(split, index)
    assert chooser.chosen == [("a", 0), ("a", 4), ("a", 8), ("b", 0), ("b", 1)]


def test_the_page_has_the_figures_and_the_sound(data_dir, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["records", "info", str(data_dir), "--html", str(page)]) == 0
    text = page.read_text()
    assert '"connectives": {\n        "followed by": 2\n      }' in capsys.readouterr().out
    assert "followed by" in text and "clip-10" in text and "rain &lt;b&gt;" in text
    assert "wrong order: “Rain then a dog” <small>human</small>" in text
    assert not re.search(r"https?://(?!www\.w3\.org)", text)  # needs nothing else
    sounds = re.findall(r'src="data:audio/flac;base64,([^"]*)"', text)
    # Four of train and both of test; of them three have audio in a wrong order.
    decoded = [soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="int16") for data in sounds]
    first, rate = decoded[0]
    assert rate == RATE
    np.testing.assert_array_equal(first, TRAIN[0].audio)
    wrong = TEST[1].negative_audio
    assert any(np.array_equal(samples, wrong) for samples, _ in decoded)
    assert text.count("data:image/png;base64,") == 2 * len(decoded)  # a picture, its colour bar
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_a_page_that_cannot_be_written(data_dir, tmp_path, capsys):
    assert main(["records", "info", str(data_dir), "--html", str(tmp_path / "no" / "p.html")]) == 2
    assert "there is no folder" in capsys.readouterr().err
