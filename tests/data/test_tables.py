"""The one reader of tables is strict, and says where a table is wrong and what to do."""

import json

import pytest

from clapjax.data.tables import (
    TableError,
    caption_items,
    cell_items,
    read_table,
    table_columns,
    write_rows,
)


def _rows(tmp_path, text: str | bytes, name: str = "t.csv", **settings) -> list[tuple[int, dict]]:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_table(tmp_path / name, **settings))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "file,caption\na.wav,A dog\n"),
        ("t.csv", "\ufeffFile , CAPTION\r\na.wav, A dog\r\n"),
        ("t.csv", "file;caption\na.wav;A dog\n"),
        ("t.csv", "file\tcaption\na.wav\tA dog\n"),
        ("t.tsv", "file\tcaption\na.wav\tA dog\n"),
        ("t.CSV", ',file,caption\n0,a.wav,"A dog"\n'),  # pandas numbers its rows
        ("t.csv", "file,caption,,\na.wav,A dog,,\n"),  # a spreadsheet's empty columns
        ("t.csv", "file,caption\na.wav,A dog,,\n"),
        ("t.jsonl", '{"file": "a.wav", " Caption": "A dog"}\n'),
    ],
)
def test_forms_of_one_table(tmp_path, name, text):
    assert _rows(tmp_path, text, name) == [
        (1 if name.endswith("jsonl") else 2, {"file": "a.wav", "caption": "A dog"})
    ]


def test_a_separator_in_other_places_is_text(tmp_path):
    assert _rows(tmp_path, 'file;"a, b, c"\nx,y;1,2\n')[0][1] == {"file": "x,y", "a, b, c": "1,2"}
    assert _rows(tmp_path, "caption\na; b\n") == [(2, {"caption": "a; b"})]
    rows = _rows(tmp_path, "# a, b\nx, 1\n#\n\ny,2\n", columns=("id", "n"), comment="#")
    assert rows == [(2, {"id": "x", "n": "1"}), (5, {"id": "y", "n": "2"})]
    rows = _rows(tmp_path, 'file,caption\n\na,"two\nlines"\nb,"say ""hi"""\n')
    assert rows == [
        (3, {"file": "a", "caption": "two\nlines"}),
        (5, {"file": "b", "caption": 'say "hi"'}),
    ]
    # What str.splitlines takes for a line's end is text here.
    line = json.dumps({"caption": "a\u2028b\x85c"}, ensure_ascii=False)
    assert _rows(tmp_path, line, "t.jsonl") == [(1, {"caption": "a\u2028b\x85c"})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,caption\n\na.wav,a dog barks, then a man speaks\n", "t.csv:3: 3 cells for the "),
        ("caption\na dog barks, then a man speaks\n", "t.csv:2: 2 cells .* quote the text"),
        ("file,caption,\na.wav,a dog barks, then a man speaks\n", "t.csv:2: 3 cells for the "),
        ("file,caption\na.wav\n", "t.csv:2: 1 cells, not 2"),
        ('file,caption\na.wav,"A" dog\n', "t.csv:2: .* its quotes doubled"),
        ('file,caption\na.wav,A dog\nb.wav,"A cat\nc.wav,A bird\n', "t.csv:3: unexpected end"),
        ("file,File \na,b\n", "t.csv:1: two columns are named 'file'"),
        ("file,caption\n", "t.csv: the table has no rows"),
        ("\n\n", "t.csv: the table is empty"),
        ("file,caption\na,A dög\n".encode("latin-1"), "t.csv: is not UTF-8 text"),
        ("file,caption\na,A dog\n".encode("utf-16"), "t.csv: is not UTF-8 text"),
    ],
)
def test_a_table_that_is_wrong(tmp_path, text, message):
    with pytest.raises(TableError, match=message) as error:
        _rows(tmp_path, text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "is not a JSON object"),
        ('{"a": 1, "A": 2}', "two columns are named 'a'"),
    ],
)
def test_json_lines_that_are_wrong(tmp_path, text, message):
    with pytest.raises(TableError, match=f"t.jsonl:3: {message}"):
        _rows(tmp_path, '{"a": 1}\n\n' + text + "\n", "t.jsonl")
    with pytest.raises(TableError, match="none.jsonl: cannot be read"):
        list(read_table(tmp_path / "none.jsonl"))


@pytest.mark.parametrize(
    ("value", "items"),
    [
        (" A  dog ", ["A dog"]),
        *((absent, []) for absent in ("", "nan", "NaN", "None", "null", "N/A", " ", None)),
        (float("nan"), []),
        ("['a dog', \"a man's cat\"]", ["a dog", "a man's cat"]),  # Python, so pandas
        ('["a dog", "caf\\u00e9 \\ud83d\\udc36", null]', ["a dog", "café 🐶"]),  # JSON
        ("['a dog' 'a cat'\n 'a man']", ["a dog", "a cat", "a man"]),  # numpy, so pandas
        ("['a dog', None, nan, 'nan']", ["a dog"]),
        ("[]", []),
        (["a", None, "null", "b "], ["a", "b"]),
        ("[music] plays, then [applause]", ["[music] plays, then [applause]"]),
        ("[applause]", ["[applause]"]),
    ],
)
def test_what_a_cell_holds(value, items):
    assert cell_items(value) == items == caption_items(value)


def test_numbers_are_no_captions():
    assert cell_items(["3", 4, "a 5"]) == ["3", "4", "a 5"]
    assert caption_items(["3", 4, 1.5, "-2e5", "1,000", "a 5", "911"]) == ["a 5"]
    for broken in ("['a dog', 'a ca", '["a" and b]', {"a": 1}):
        with pytest.raises(ValueError, match="neither a"):
            cell_items(broken)


def test_columns_alone(tmp_path):
    """Of a table whose rows cannot be read, too."""
    (tmp_path / "t.csv").write_text("\n File;Caption;\na;b;c;d\n")
    assert table_columns(tmp_path / "t.csv") == ["file", "caption"]
    (tmp_path / "t.jsonl").write_text('{"File": 1}\n{')
    assert table_columns(tmp_path / "t.jsonl") == ["file"]


def test_write_rows_all_or_nothing(tmp_path):
    out = tmp_path / "out.jsonl"
    write_rows(out, [{"a": "ö"}, {"a": 2}])
    assert [row for _, row in read_table(out)] == [{"a": "ö"}, {"a": 2}]
    (tmp_path / "plain").touch()
    assert out.stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "plain").unlink()

    def breaks():
        yield {"a": 3}
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_rows(out, breaks())
    assert [file.name for file in tmp_path.iterdir()] == ["out.jsonl"]
    assert out.read_text() == '{"a": "ö"}\n{"a": 2}\n'
