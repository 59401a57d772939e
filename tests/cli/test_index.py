"""`clapjax index`, and what `clapjax search` asks of it, with a tiny model of random weights."""

import json
import shutil

import numpy as np
import pytest
import soundfile

import clapjax
from clapjax.cli import search
from clapjax.inference.index import combine
from clapjax.inference.parts import LOCK
from clapjax.inference.store import read_table
from clapjax.interop.export import write_model
from clapjax.interop.load import Pretrained
from tests.cli.status import main_status as _main
from tests.inference.tiny import RATE, make_clap, make_tokenizer, noise

TEXTS = ["a dog barks", "rain falls", "thunder: far away"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An export, some sounds of which two are the same, and an index of them and of texts."""
    folder = tmp_path_factory.mktemp("place")
    clap = make_clap("plain", make_tokenizer(folder / "tokenizer"))
    pretrained = Pretrained(clap.config, clap.variables, clap.tokenizer)
    write_model(folder / "model", pretrained, "clapjax")
    (folder / "sounds").mkdir()
    for number in range(6):
        samples = noise(RATE, min(number, 4))
        soundfile.write(folder / "sounds" / f"{number}.wav", samples, RATE)
    embed = ("embed", "--model", folder / "model", "--out", folder / "vectors.parquet")
    texts = [f"--text={text}" for text in TEXTS]
    assert _main(*embed, folder / "sounds", *texts) == 0
    return folder


@pytest.fixture(scope="module")
def clap(place):
    return clapjax.load(place / "model")


def _results(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_an_index_is_made_and_asked(place, clap, capsys):
    index = place / "library.index"
    assert _main("index", place / "vectors.parquet", "--out", index) == 0
    said = "{}: {} of {}, compared with one by one"
    lines = [said.format(index, 6, "audio"), said.format(index, 3, "text")]
    found = capsys.readouterr()
    assert found.out.splitlines() == lines and not found.err
    (parts := place / "parts").mkdir()
    shutil.copy(place / "vectors.parquet", parts / "parts-00000.parquet")
    (parts / LOCK).touch()  # a killed `embed` leaves it
    assert _main("index", parts, "--out", place / "some.index") == 0
    assert f"{parts}: `clapjax embed` has not come to its end there" in capsys.readouterr().err

    table = read_table(place / "vectors.parquet")
    ask = ("search", "--model", place / "model", "--json", "--top", "4")
    for where in (index, place / "vectors.parquet"):
        queries = ("a siren", TEXTS[1], "--audio", place / "sounds" / "2.wav")
        assert _main(*ask, "--index", where, *queries, "--kind", "audio") == 0
        hits = _results(capsys)
        vectors = [*clap.embed_text(queries[:2]), *clap.embed_audio(queries[-1])]
        for number, query in enumerate(queries[:2] + queries[-1:]):
            scores = table.vectors[:6] @ vectors[number]
            found = hits[4 * number : 4 * number + 4]
            assert {hit["query"] for hit in found} == {str(query)}
            expected = np.sort(scores)[::-1][:4]
            np.testing.assert_allclose([hit["score"] for hit in found], expected, atol=1e-5)
        assert hits[8]["name"] == str(place / "sounds" / "2.wav") and hits[8]["score"] > 0.9999

    assert _main(*ask[:3], "--index", index, "rain falls", "thunder", "--top", "1") == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["rain falls:", "1.0000  rain falls"]


def test_more_and_less(place, clap, capsys):
    """The score of a row is in proportion to the weighted sum of its cosines."""
    ask = ("search", "--model", place / "model", "--index", place / "vectors.parquet", "--json")
    more = ("--plus", "a dog barks:0.5", "--minus", TEXTS[2])
    assert _main(*ask, "rain falls", *more, "--top", "9") == 0
    found = {hit["name"]: hit["score"] for hit in _results(capsys)}
    query = combine(clap.embed_text(["rain falls", "a dog barks", TEXTS[2]]), [1, 0.5, -1])
    table = read_table(place / "vectors.parquet")
    for name, vector in zip(table.names, table.vectors, strict=True):
        assert found[name] == pytest.approx(float(query @ vector), abs=1e-5)


def test_weights():
    assert search.weighted("thunder", -1) == ("thunder", -1)
    assert search.weighted("thunder:0.5", -1) == ("thunder", -0.5)
    assert search.weighted("at 5:30 : 2e-1", 1) == ("at 5:30 ", 0.2)
    assert search.weighted("thunder: far", 1) == ("thunder: far", 1)
    assert search.weighted(":3", 1) == (":3", 1)
    for item, sign, name in (("a:nan", 1, "plus"), ("a:inf", -1, "minus"), ("a:-Inf", 1, "plus")):
        with pytest.raises(ValueError, match=f"--{name} {item}: its weight must be a finite"):
            search.weighted(item, sign)


def test_near_duplicates_need_no_model(place, capsys):
    ask = ("search", "--index", place / "vectors.parquet", "--duplicates", "0.99999")
    assert _main(*ask) == 0
    pair = [str(place / "sounds" / name) for name in ("4.wav", "5.wav")]
    assert capsys.readouterr().out == f"1.0000  {pair[0]}  {pair[1]}\n"
    assert _main(*ask, "--json") == 0
    (found,) = _results(capsys)
    assert [found["first"]["name"], found["second"]["name"]] == pair
    assert _main(*ask, "--kind", "text") == 0
    assert capsys.readouterr() == ("", "clapjax search: no two are at least 0.99999 alike\n")
    assert _main(*ask[:-1], "1") == 0 and pair[1] in capsys.readouterr().out  # copies
    assert _main(*ask[:-1], "2") == 2
    assert "duplicates: a cosine of 0 .. 1 is needed, not" in capsys.readouterr().err
    for more in (("--top", "2"), ("--threshold", "0.9")):
        assert _main(*ask, *more) == 2
        assert "--duplicates is instead of a query, with its" in capsys.readouterr().err


def test_a_threshold_is_of_all_that_is_shown(place, capsys):
    """Fails before: texts passed whatever it was, and took the place of sounds."""
    where = ("--index", place / "vectors.parquet", "--model", place / "model")
    ask = ("search", *where, "a dog", "--json")
    assert _main(*ask) == 0
    rows = _results(capsys)
    for kind, more in (("audio", ()), ("text", ("--kind", "text"))):
        least = max(row["score"] for row in rows if row["kind"] == kind) - 1e-4
        assert _main(*ask, *more, "--threshold", least) == 0
        found = _results(capsys)
        assert found and all(r["kind"] == kind and r["score"] >= least for r in found)
    assert _main(*ask, "--threshold", "never") == 2
    assert "never: neither a cosine nor a folder" in capsys.readouterr().err


def test_only_the_tower_that_is_asked_is_loaded(place, monkeypatch, capsys):
    """An export tells what it is, so that the other one need not show it."""
    loaded = []
    real = search.load_clap

    def load(args, towers):
        loaded.append(towers)
        return real(args, towers)

    monkeypatch.setattr(search, "load_clap", load)
    ask = ("search", "--index", place / "vectors.parquet", "--model", place / "model")
    for question in (("rain",), ("--audio", place / "sounds" / "1.wav")):
        assert _main(*ask, *question) == 0
    assert _main(*ask, "rain", "--audio", place / "sounds" / "1.wav") == 0
    assert loaded == ["text", "audio", "both"]

    clap = make_clap("plain", make_tokenizer(place / "tokenizer2"), seed=1)
    pretrained = Pretrained(clap.config, clap.variables, clap.tokenizer)
    write_model(place / "other", pretrained, "clapjax")
    capsys.readouterr()
    assert _main(*ask[:-1], place / "other", "rain") == 2 and len(loaded) == 3
    assert "was made with another model" in capsys.readouterr().err
