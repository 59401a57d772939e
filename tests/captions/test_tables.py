"""The table of texts: what it says of its clips, and one clear line for what is unclear."""

import json

import pytest

from clapjax.captions.backends import Negated, join_rows
from clapjax.captions.tables import Texts, read_captions, read_labels, read_texts
from clapjax.data import records
from clapjax.data.tables import TableError, read_table, write_rows
from tests.data.building import make_example, write_records


def test_csv_and_jsonl_give_the_same_captions(tmp_path):
    captions = ['A dog barks, then "stops"', "Größe, 犬\u2028", "two\nlines"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": c}) + "\n" for c in captions))
    quoted = [c.replace('"', '""') for c in captions]
    rows = "".join(f'{i},"{c}"\r\n' for i, c in enumerate(quoted))
    (tmp_path / "a.csv").write_text("\ufeffid,text\r\n" + rows, newline="")
    expected = [(" ".join(caption.split()),) for caption in captions]
    assert [row.captions for row in read_captions(tmp_path / "a.csv", "text")] == expected
    assert [row.captions for row in read_captions(tmp_path / "a.jsonl")] == expected
    assert [row.id for row in read_captions(tmp_path / "a.csv")] == ["0", "1", "2"]


@pytest.mark.parametrize("column", ["file", "File_Name", "filename", "PATH", "filepath", "audio"])
def test_a_file_may_go_by_several_names(tmp_path, column):
    (tmp_path / "a.csv").write_text(f"{column} ;Caption_1;caption_2\na/b.wav;Rain falls;\n")
    (row,) = read_texts(tmp_path / "a.csv")
    assert row == Texts(f"{tmp_path}/a.csv:2", ("Rain falls",), (), ("human",), "", "a/b.wav")


@pytest.mark.parametrize(
    ("provenance", "kinds"),
    [
        ("rules", ("rules",) * 3),
        ("human;keyword;rules", ("human", "keyword", "rules")),
        (["human", "human", "llm:gpt-x"], ("human", "human", "llm:gpt-x")),
        (None, ("human",) * 3),
    ],
)
def test_a_row_comes_back_as_it_was_written(tmp_path, provenance, kinds):
    row = {"id": "x", "captions": ["a", "b"], "negative_captions": "c", "provenance": provenance}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    (first,) = read_texts(tmp_path / "a.jsonl")
    assert (first.captions, first.negatives, first.kinds) == (("a", "b"), ("c",), kinds)
    (tmp_path / "b.jsonl").write_text(json.dumps(first.to_row()) + "\n")
    (again,) = read_texts(tmp_path / "b.jsonl")
    assert again.to_row() == first.to_row()
    (captions,) = read_captions(tmp_path / "b.jsonl")  # whose negatives are to be made
    assert (captions.captions, captions.negatives, captions.kinds) == (("a", "b"), (), kinds[:2])


def test_records_are_a_table_with_their_ids(tmp_path):
    mixed = make_example(3, provenance="human;keyword;rules")
    splits = {"train": [make_example(0, labels=()), mixed], "test": [make_example(4)]}
    data_dir = write_records(tmp_path / "records", splits)
    rows = read_captions(data_dir)
    assert [row.id for row in rows] == ["clip-0", "clip-3", "clip-4"]
    assert [row.captions for row in rows] == [e.captions for part in splits.values() for e in part]
    assert rows[1].kinds == ("human", "keyword")
    assert [row.id for row in read_captions(f"{data_dir}:test")] == ["clip-4"]
    labels = read_labels(f"{data_dir}:train", "labels", ";")
    known = [("clip-0", ()), ("clip-3", ("dog", "animal"))]
    assert [(row.id, row.labels) for row in labels] == known
    with pytest.raises(records.RecordsError, match="no split 'dev'"):
        read_captions(f"{data_dir}:dev")
    with pytest.raises(records.RecordsError, match="no records here"):
        read_captions(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.csv", "id,caption\n1,\n", "a.csv: no row has a caption$"),
        ("a.csv", "id,words\n1,x\n", "a.csv:2: no column caption, .*; there are id, words"),
        ("a.csv", "caption\n", "the table has no rows"),
        ("a.csv", 'caption\n"never closed\n', "a.csv:2: "),
        ("a.jsonl", '{"caption": "x"}\n{"caption"\n', "a.jsonl:2: "),
        ("a.jsonl", '{"caption": 3}\n', "a.jsonl: no row has a caption$"),
        ("a.jsonl", '{"caption": {"a": 3}}\n', "a.jsonl:1: .* is neither a text nor a list"),
        ("a.csv", "caption,provenance\nx,me\n", "a.csv:2: provenance 'me' is none of human,"),
        (
            "a.jsonl",
            '{"caption": "x", "negative_captions": ["y"], "provenance": "human;rules;rules"}\n',
            "a.jsonl:1: provenance has 3 words for 2 captions and neg",
        ),
    ],
)
def test_bad_caption_files(tmp_path, name, text, why):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=why):
        read_captions(tmp_path / name)


def test_read_labels(tmp_path):
    (tmp_path / "a.csv").write_text('id,Labels\n7,"dog; rain ;"\n8,bell\n')
    (tmp_path / "a.jsonl").write_text('{"labels": ["dog", "rain"]}\n{"labels": "bell"}\n')

    def labels(name: str) -> list[tuple[str, ...]]:
        return [row.labels for row in read_labels(tmp_path / name, "labels", ";")]

    assert labels("a.csv") == labels("a.jsonl") == [("dog", "rain"), ("bell",)]
    assert [row.id for row in read_labels(tmp_path / "a.csv", "labels", ";")] == ["7", "8"]
    (tmp_path / "a.json").write_text('{"dog": 0, "Speech; man": 1}')
    assert labels("a.json") == [("dog",), ("Speech; man",)]
    (tmp_path / "b.jsonl").write_text('{"labels": []}\n')
    with pytest.raises(ValueError, match="b.jsonl: no row has labels"):
        labels("b.jsonl")
    (tmp_path / "b.csv").write_text("tags\nx\n")
    with pytest.raises(ValueError, match="b.csv:2: no column 'labels'; there are tags"):
        labels("b.csv")
    (tmp_path / "b.json").write_text("3")
    with pytest.raises(ValueError, match="no list or object of class names"):
        labels("b.json")


def test_texts_that_are_not_unicode(tmp_path):
    """Half a character is refused where it stands; the name of a file may hold one."""
    (tmp_path / "t.jsonl").write_text(
        '{"id": "a", "caption": "A"}\n{"id": "b", "caption": "\\ud83d"}'
    )
    with pytest.raises(TableError, match=r"t.jsonl:2: .*ud83d' is not text in Unicode"):
        list(read_texts(tmp_path / "t.jsonl"))
    row = {"file": "l\udce9.wav", "captions": ["\U0001f436"]}
    write_rows(tmp_path / "t.jsonl", [row])
    assert [found for _, found in read_table(tmp_path / "t.jsonl")] == [row]


def test_a_negative_in_other_letters_is_the_caption(tmp_path):
    rows = [Texts("t:1", ("A dog", "A DOG barks"), (), ("human", "human"))]
    outcomes = [Negated("A dog", ("a  dog BARKS", "Rain"), "rules"), Negated("", (), "rules", "no")]
    assert [row["negative_captions"] for row in join_rows(rows, outcomes)] == [["Rain"]]
