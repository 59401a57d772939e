"""Data sets joined and filtered: the same records, byte for byte, and nothing half-written."""

import json
import shutil

import pytest

from clapjax.cli.main import main
from clapjax.data import records
from clapjax.data.checking import check
from clapjax.data.edits.filter import Where, parse_where, select
from clapjax.data.edits.merge import merge
from clapjax.data.tokenizer import train_tokenizer
from tests.data.building import make_example, write_records

LONG = make_example(20, labels=(), provenance="llm:gpt-x")


def _make(folder, splits, text: str = "a dog barks"):
    """A data set with a tokenizer that knows `text`."""
    write_records(folder, splits)
    train_tokenizer([text] * 20, folder / records.TOKENIZER_FOLDER, 280)
    build = records.read_build(folder)
    records.write_build(folder, build | {"data": {"vocab_size": 280}})
    return folder


@pytest.fixture
def sets(tmp_path):
    first = {"train": [make_example(i) for i in range(5)], "test": [make_example(8)]}
    second = {"validation": [make_example(9)], "train": [make_example(10), LONG]}
    return _make(tmp_path / "one", first), _make(tmp_path / "two", second)


def _content(folder) -> dict[str, list[bytes]]:
    return {
        split: list(records.read_serialized(folder, split))
        for split in records.open_builder(folder).info.splits
    }


def _tokenizer(folder) -> str:
    return (folder / records.TOKENIZER_FOLDER / "tokenizer.json").read_text()


def test_merge_keeps_every_record(tmp_path):
    one = _make(tmp_path / "one", {"train": [make_example(0)]})
    two = _make(tmp_path / "two", {"train": [make_example(1)]})
    assert merge(tmp_path / "out", [one, two]) == {"train": 2}
    found = _content(tmp_path / "out")["train"]
    assert found == _content(one)["train"] + _content(two)["train"]
    assert check(tmp_path / "out") == []


def test_merge_joins_splits_and_tells_of_it(sets, tmp_path):
    out = tmp_path / "out"
    assert merge(out, sets) == {"train": 7, "test": 1, "validation": 1}
    one, two = map(_content, sets)
    assert _content(out) == {
        "train": one["train"] + two["train"],
        "test": one["test"],
        "validation": two["validation"],
    }
    build = records.read_build(out)
    assert [part["data_dir"] for part in build["merged"]] == list(map(str, sets))
    assert build["merged"][0]["build"] == records.read_build(sets[0])
    assert build["counts"] == {"train": 7, "test": 1, "validation": 1}
    assert build["sample_rate"] == 8000
    assert _tokenizer(out) == _tokenizer(sets[0])  # one and the same in both


def test_different_tokenizers_are_replaced(sets, tmp_path):
    three = _make(tmp_path / "three", {"train": [make_example(30)]}, "rain falls")
    merge(tmp_path / "out", [sets[0], three])
    texts = [
        text
        for e in records.read_examples(tmp_path / "out", "train")
        for text in e.captions + e.negative_captions
    ]
    train_tokenizer(texts, tmp_path / "expected", 280)
    assert _tokenizer(tmp_path / "out") == (tmp_path / "expected" / "tokenizer.json").read_text()


def test_ids_that_clash(sets, tmp_path):
    again = _make(tmp_path / "again", {"test": [make_example(3), make_example(40)]})
    out = tmp_path / "out"
    with pytest.raises(records.RecordsError, match="again: the id 'clip-3' is in .*one too"):
        merge(out, [sets[0], again])
    assert not out.exists() and not records.incomplete(out).exists()
    assert merge(out, [sets[0], again], prefix=True) == {"train": 5, "test": 3}
    ids = [e.id for e in records.read_examples(out, "test")]
    assert ids == ["one/clip-8", "again/clip-3", "again/clip-40"]
    assert check(out) == []


def test_what_cannot_be_merged(sets, tmp_path):
    one, two = sets
    build = records.read_build(two)
    (two / records.BUILD_FILE).write_text(json.dumps(build | {"sample_rate": 48_000}))
    for inputs, words in (
        ([one], "two data sets at least"),
        ([one, one], "named twice"),
        ([one, two], "two: records are at 48000 Hz, those of .*one at 8000"),
        ([one, tmp_path / "none"], "none: no records here"),
    ):
        with pytest.raises(records.RecordsError, match=words):
            merge(tmp_path / "out", inputs)
    (two / records.BUILD_FILE).write_text(json.dumps(build))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(records.RecordsError, match="out: is there already"):
        merge(tmp_path / "out", sets)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_damage_leaves_nothing(sets, tmp_path):
    path = records.shard_paths(sets[1], "train")[1]
    with open(path, "r+b") as file:
        file.truncate(100)
    for action in (
        lambda: merge(tmp_path / "out", sets),
        lambda: select(tmp_path / "out", sets[1], Where(max_seconds=9)),
    ):
        with pytest.raises(records.RecordsError, match="damaged or missing"):
            action()
        assert not (tmp_path / "out").exists()
        shutil.rmtree(tmp_path / "out.incomplete")


@pytest.mark.parametrize(
    ("criteria", "kept"),
    [
        (["min_seconds=0.02525"], [2, 3, 4, 8, 9, 10, 20]),  # 202 samples at 8 kHz
        (["max_seconds=0.0251"], [0]),
        (["min_seconds=0.0251", "max_seconds=0.0255"], [1, 2, 3, 4]),
        (["provenance=llm"], [20]),
        (["provenance=llm:gpt-x,human", "split=validation"], [9]),
        (["label=cat,animal", "split=train,test"], [0, 1, 2, 3, 4, 8, 10]),
        (["labels=no"], [20]),
        (["negatives=yes"], [1, 3, 9]),
        (["negatives=no", "labels=yes"], [0, 2, 4, 8, 10]),
    ],
)
def test_filter(sets, tmp_path, criteria, kept):
    merge(tmp_path / "all", sets)
    before = _content(tmp_path / "all")
    counts = select(tmp_path / "out", tmp_path / "all", parse_where(criteria))
    examples = {s: list(records.read_examples(tmp_path / "out", s)) for s in counts}
    assert sorted(int(e.id[5:]) for part in examples.values() for e in part) == kept
    assert counts == {split: len(part) for split, part in examples.items()}
    for split, data in _content(tmp_path / "out").items():
        assert [one for one in before[split] if one in data] == data
    build = records.read_build(tmp_path / "out")
    assert build["filtered"]["build"] == records.read_build(tmp_path / "all")
    assert set(build["where"]) == {item.partition("=")[0] for item in criteria}
    assert _tokenizer(tmp_path / "out") == _tokenizer(tmp_path / "all")


def test_provenance_of_single_captions_counts():
    mixed = make_example(0, provenance="human;keyword")
    assert Where(provenance=("keyword",)).keeps(mixed)
    assert not Where(provenance=("llm",)).keeps(mixed)


def test_nothing_left_is_an_error(sets, tmp_path):
    with pytest.raises(records.RecordsError, match="no record is left"):
        select(tmp_path / "out", sets[0], Where(min_seconds=5))
    with pytest.raises(records.RecordsError, match="no split 'dev'; there are train, test"):
        select(tmp_path / "out", sets[0], Where(split=("dev",)))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one", "two"]


@pytest.mark.parametrize(
    ("criteria", "words"),
    [
        ([], "no criterion"),
        (["loud=yes"], "write one of min_seconds=..., max_seconds="),
        (["label"], "write one of"),
        (["label=,"], "'' is not|',' is not a number or names"),
        (["min_seconds=long"], "'long' is not a number"),
        (["negatives=1"], "'1' is not yes or no"),
        (["split=a", "split=b"], "split is given twice"),
    ],
)
def test_bad_criteria(criteria, words):
    with pytest.raises(ValueError, match=words):
        parse_where(criteria)


def test_the_commands(sets, tmp_path, capsys):
    out, short = tmp_path / "out", tmp_path / "short"
    assert main(["records", "merge", str(out), *map(str, sets)]) == 0
    assert capsys.readouterr().out == f"{out}: 7 train, 1 test, 1 validation\n"
    arguments = [str(short), str(out), "--where", "negatives=yes", "split=train"]
    for made in ("", "already made: "):
        assert main(["records", "filter", *arguments]) == 0
        assert capsys.readouterr().out == f"{short}: {made}2 train\n"
    for other in ([*arguments, "min_seconds=0.01"], [str(short), str(sets[0]), *arguments[2:]]):
        assert main(["records", "filter", *other]) == 2
        differ = "where" if "min_seconds=0.01" in other else "filtered"
        said = f"{short}: is there already, made from something else ({differ} differ"
        assert said in capsys.readouterr().err
    assert main(["records", "merge", str(sets[0]), str(out), str(sets[1])]) == 2
    said = f"{sets[0]}: is there already; choose another folder"  # and not "remove it"
    assert said in capsys.readouterr().err
    assert main(["records", "info", str(short)]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["train"]["examples"] == 2
