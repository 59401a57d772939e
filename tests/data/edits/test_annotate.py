"""Texts join their records: what is added, replaced, left out and reported, and texts apart."""

import json

import pytest

from clapjax.cli.main import main
from clapjax.data import records
from clapjax.data.checking import check
from clapjax.data.edits.annotate import annotate
from clapjax.data.edits.filter import Where, select
from clapjax.data.tables import write_rows
from clapjax.data.tokenizer import train_tokenizer
from tests.data.building import assert_same, make_example, write_records

BARKS, TEXT = "A dog barks {} times", "Größe 🐶, 犬"  # the captions of `make_example`


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Four records of train in two shards, two of test; odd ones have a negative."""
    folder = tmp_path_factory.mktemp("annotate") / "in"
    splits = {
        "train": [make_example(i) for i in range(4)],
        "test": [make_example(i) for i in (5, 8)],
    }
    write_records(folder, splits)
    train_tokenizer(["a dog barks"] * 20, folder / records.TOKENIZER_FOLDER, 280)
    return folder


def _table(tmp_path, *rows: dict):
    write_rows(tmp_path / "t.jsonl", rows)
    return [tmp_path / "t.jsonl"]


def _texts(folder) -> dict[str, tuple]:
    """Id to captions, negatives and provenance."""
    return {
        e.id: (e.captions, e.negative_captions, e.provenance)
        for split in records.open_builder(folder).info.splits
        for e in records.read_examples(folder, split)
    }


ROWS = (
    {"id": "clip-0", "captions": ["new", TEXT], "negative_captions": ["n1"], "provenance": "rules"},
    {"id": "clip-0", "negative_captions": ["n2", "n1"], "provenance": ["llm:m", "keyword"]},
    {"id": "clip-3", "captions": "Rain then a dog", "provenance": "keyword"},  # was its negative
    {"id": "clip-8", "negative_captions": [TEXT, "n3"], "provenance": "rules;template"},
    {"id": "nobody", "negative_captions": ["n4"]},
)


@pytest.mark.parametrize("apart", [False, True])
def test_texts_are_added(source, tmp_path, apart):
    report = annotate(tmp_path / "out", source, _table(tmp_path, *ROWS), apart=apart)
    before, after = _texts(source), _texts(tmp_path / "out")
    assert after["clip-0"] == (
        (BARKS.format(0), TEXT, "new"),
        ("n1", "n2"),
        "human;human;rules;rules;llm:m",
    )
    assert after["clip-3"] == (
        (BARKS.format(3), TEXT, "Rain then a dog"),
        (),
        "human;human;keyword",
    )
    assert after["clip-8"] == ((BARKS.format(8), TEXT), ("n3",), "human;human;template")
    for name in ("clip-1", "clip-2", "clip-5"):
        assert after[name] == before[name]
    assert report.counts == {"train": 4, "test": 2}
    assert report.negatives == {"train": 2, "test": 2}
    assert (report.rows, report.unmatched, report.ambiguous, report.without) == (5, 1, 0, 3)
    assert (report.captions_added, report.captions_removed) == (2, 0)
    assert (report.negatives_added, report.negatives_removed, report.equal) == (3, 1, 2)
    assert report.listed == (f"{tmp_path / 't.jsonl'}:5: id 'nobody' matches no record",)
    assert check(tmp_path / "out") == []


def test_all_but_the_texts_stays(source, tmp_path):
    annotate(tmp_path / "out", source, _table(tmp_path, {"id": "clip-0", "captions": "new"}))
    for split in ("train", "test"):
        pairs = zip(
            records.read_serialized(source, split),
            records.read_serialized(tmp_path / "out", split),
            strict=True,
        )
        same = [one == other for one, other in pairs]
        assert same == [i > 0 or split == "test" for i in range(len(same))]
    first, told = (next(records.read_examples(d, "train")) for d in (source, tmp_path / "out"))
    assert told.provenance == "human" and told.captions[2:] == ("new",)
    for name in ("audio", "labels", "events", "source", "sample_rate", "negative_audio"):
        assert str(getattr(first, name)) == str(getattr(told, name))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        files = [folder / records.TOKENIZER_FOLDER / name for folder in (source, tmp_path / "out")]
        assert files[0].read_bytes() == files[1].read_bytes()
    build = records.read_build(tmp_path / "out")
    assert build["annotated"]["build"] == records.read_build(source)
    assert build["counts"] == {"train": 4, "test": 2} and build["report"]["rows"] == 1


def test_texts_are_replaced(source, tmp_path):
    rows = (
        {"id": "clip-1", "captions": ["new", TEXT], "provenance": "llm:m"},
        {"id": "clip-3", "captions": [], "negative_captions": ["n1", TEXT], "provenance": "rules"},
    )
    report = annotate(tmp_path / "out", source, _table(tmp_path, *rows), replace=True)
    after = _texts(tmp_path / "out")
    assert after["clip-1"] == (("new", TEXT), (), "llm:m")
    assert after["clip-3"] == ((BARKS.format(3), TEXT), ("n1",), "human;human;rules")
    assert (report.captions_added, report.captions_removed) == (1, 1)
    assert (report.negatives_added, report.negatives_removed, report.equal) == (1, 2, 1)


def test_rows_without_id_and_file_go_by_caption(source, tmp_path):
    rows = (
        {"captions": [BARKS.format(0), "another"], "negative_captions": ["n1"]},
        {"captions": TEXT, "negative_captions": ["n2"]},
    )
    for replace in (False, True):
        out = tmp_path / f"out-{replace}"
        report = annotate(out, source, _table(tmp_path, *rows), replace=replace)
        after = _texts(out)
        assert after["clip-0"] == ((BARKS.format(0), TEXT), ("n1", "n2"), "human")
        assert after["clip-8"] == ((BARKS.format(8), TEXT), ("n2",), "human")
        assert after["clip-1"][1] == (("n2",) if replace else ("Rain then a dog", "n2"))
        assert report.negatives == report.counts and report.captions_added == 0


def test_several_tables_by_id_and_by_file(source, tmp_path):
    lines = ["Filename;negative_captions;negatives", "2.wav;n1;x", "99.wav;n2;x"]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    (tmp_path / "b.tsv").write_text("id\tcaption\nclip-2\tnew\n")
    out = tmp_path / "out"
    with pytest.warns(UserWarning, match="a.csv: nothing reads the columns negatives$"):
        report = annotate(out, source, [tmp_path / "a.csv", tmp_path / "b.tsv"])
    assert _texts(out)["clip-2"] == ((BARKS.format(2), TEXT, "new"), ("n1",), "human")
    assert report.listed == (f"{tmp_path / 'a.csv'}:3: file '99.wav' matches no record",)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"id": "x", "captions": "y"}, r"t.jsonl:1: id 'x' is no record of .*first is 'clip-0' of"),
        ({"file": "x.wav", "captions": "y"}, "file 'x.wav' is no record"),
        ({"captions": "y"}, "caption 'y' is no record"),
        ({"id": "clip-0", "words": "y"}, "t.jsonl:1: no column caption, .*; there are id, words"),
        ({"id": "clip-0", "caption": "y", "provenance": "me"}, "provenance 'me' is none of human"),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_what_cannot_be_joined_leaves_nothing(source, tmp_path, row, words, apart):
    with pytest.raises(ValueError, match=words):
        annotate(tmp_path / "out", source, _table(tmp_path, row), apart=apart)
    assert [file.name for file in tmp_path.iterdir()] == ["t.jsonl"]


# --- texts apart ----------------------------------------------------------------------------


def test_texts_apart_are_small_and_say_whose_they_are(source, tmp_path):
    out = source.parent / "texts" / "of-in"
    annotate(out, source, _table(tmp_path, *ROWS), apart=True)
    build = records.read_build(out)
    assert build["audio_from"] == "../../in"
    assert build["audio_id"] == records.build_id(source)
    there, here = (records.open_builder(folder).info for folder in (source, out))
    assert set(there.features) - set(here.features) == {"audio", "sample_rate", "negative_audio"}
    assert {s: i.shard_lengths for s, i in here.splits.items()} == {
        s: i.shard_lengths for s, i in there.splits.items()
    }
    for split, info in here.splits.items():
        assert info.num_bytes < there.splits[split].num_bytes
    assert check(out) == []


def test_texts_apart_read_like_whole_records(source, tmp_path):
    """And so do those that are told anew, and what is chosen from them."""
    annotate(tmp_path / "whole", source, _table(tmp_path, *ROWS))
    annotate(tmp_path / "apart", source, _table(tmp_path, *ROWS), apart=True)
    more = _table(tmp_path, {"id": "clip-5", "captions": "more", "provenance": "keyword"})
    annotate(tmp_path / "whole2", tmp_path / "whole", more)
    annotate(tmp_path / "apart2", tmp_path / "apart", more, apart=True)
    annotate(tmp_path / "back", tmp_path / "apart", more)
    select(tmp_path / "chosen", tmp_path / "apart2", Where(min_seconds=0.001))
    assert records.read_build(tmp_path / "apart2")["audio_id"] == records.build_id(source)
    for name, like in (
        ("apart", "whole"),
        ("apart2", "whole2"),
        ("back", "whole2"),
        ("chosen", "whole2"),
    ):
        for split in ("train", "test"):
            pairs = zip(
                records.read_examples(tmp_path / name, split),
                records.read_examples(tmp_path / like, split),
                strict=True,
            )
            for one, other in pairs:
                assert_same(one, other)
    for name in ("back", "chosen"):  # whole records, byte for byte
        for split in ("train", "test"):
            assert list(records.read_serialized(tmp_path / name, split)) == list(
                records.read_serialized(tmp_path / "whole2", split)
            )


def test_audio_that_was_built_anew_is_not_the_same(source, tmp_path):
    other = write_records(tmp_path / "in", {"train": [make_example(i) for i in range(4)]})
    annotate(tmp_path / "apart", other, _table(tmp_path, ROWS[0]), apart=True)
    build = json.loads((other / records.BUILD_FILE).read_text())
    (other / records.BUILD_FILE).write_text(json.dumps(build | {"seed": 9, "build_id": "9"}))
    with pytest.raises(records.RecordsError, match="annotate"):
        select(tmp_path / "out", tmp_path / "apart", Where(max_seconds=9))


def test_the_command(source, tmp_path, capsys):
    table, out = _table(tmp_path, *ROWS)[0], tmp_path / "out"
    command = ["records", "annotate", str(out), str(source), "--captions", str(table)]
    assert main(command) == 0
    said = capsys.readouterr()
    assert said.out == (
        f"{out}: 4 train, 2 test; the tokenizer is that of {source}\n"
        "rows: 5, 4 joined, 1 that match no record, 0 ambiguous; 3 records without a row\n"
        "captions: 2 added, 0 removed; negatives: 3 added, 1 removed, 2 left out since they are "
        "captions of their record\n"
        "records with negatives: 2 of 4 train, 2 of 2 test\n"
    )
    assert f"{table}:5: id 'nobody' matches no record\n" in said.err
    assert main(command) == 0  # done: said again, and nothing is made
    again = capsys.readouterr()
    assert again.out == said.out.replace(f"{out}: ", f"{out}: already made: ")
    for more, differ in (("replace", "replace"), ("apart", "audio_from, audio_id")):
        assert main([*command, f"--{more}"]) == 2
        said = f"{out}: is there already, made from something else ({differ} differ); remove it"
        assert said in capsys.readouterr().err
    assert main([*command[:2], str(source / "sub"), *command[3:]]) == 2
    assert f"{source}/sub: lies in {source}, of which it is to be made" in capsys.readouterr().err
    assert main([*command[:2], str(source), *command[3:]]) == 2
    assert f"{source}: is there already" in capsys.readouterr().err
    assert not (source / "sub").exists() and not (source / "sub.incomplete").exists()
    write_rows(table, ({"id": f"x{i}", "captions": "y"} for i in range(30)))
    assert main([*command[:2], str(tmp_path / "b"), *command[3:]]) == 2
    assert capsys.readouterr().err.count("\n") <= 3  # the progress, and one line
    rows = [{"id": f"x{i}", "captions": "y"} for i in range(30)] + [ROWS[0]]
    write_rows(table, rows)
    assert main([*command[:2], str(tmp_path / "c"), *command[3:]]) == 0
    said = capsys.readouterr()
    assert said.err.count("matches no record") == 20 and "and 10 more rows" in said.err
