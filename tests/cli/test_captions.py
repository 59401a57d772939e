"""`clapjax captions`: files in and out, counts, and one clear line for every bad input."""

import json

import pytest

from clapjax.captions.rules.rules import negate
from tests.captions.chat_server import content, serve
from tests.cli.status import main_status

CAPTIONS = [
    "A man speaks followed by a dog barking",
    "Rain falls as a bell rings",
    "A cat meows",
    "A dog barks then barks again",
    "A bell rings before water drips",
]


def _main(*arguments) -> int:
    return main_status("captions", *arguments)


def _rows(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("id,caption\n" + "".join(f'{i},"{c}"\n' for i, c in enumerate(CAPTIONS)))
    return path


def test_negate_by_rules(source, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    assert _main("negate", "--backend", "rules", "--input", source, "--output", out) == 0
    reasons = {1: "the events sound together", 2: "no order of events is stated"}
    reasons[3] = "refers back: again"
    negatives = {0: "A dog barks followed by a man speaking", 4: "Water drips before a bell rings"}
    assert _rows(out) == [
        {"id": str(i), "captions": [caption], "negative_captions": [negatives[i]]}
        | {"provenance": "human;rules"}
        if i in negatives
        else {"id": str(i), "captions": [caption], "negative_captions": []}
        | {"provenance": "human", "reason": reasons[i]}
        for i, caption in enumerate(CAPTIONS)
    ]
    said = capsys.readouterr().out
    assert f"{out}: 5 captions, 2 with negatives" in said
    assert "3 state an order of events; 2 of them (66.7 %)" in said
    assert "  rules: 2" in said and "  none: refers back: 1" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.jsonl"]


@pytest.mark.parametrize("action", ["negate", "expand"])
def test_rows_without_a_text_are_left_out_and_counted(tmp_path, capsys, action):
    """Fails before: the first of them ended it."""
    table, out = tmp_path / "in.csv", tmp_path / "out.jsonl"
    cells = ["dog barks then rain falls", "", "...", "bell rings then dog barks"]
    rows = [f'{index},"{cell}","{cell}"\n' for index, cell in enumerate(cells)]
    table.write_text("id,caption,labels\n" + "".join(rows).replace("...", " ; "))
    assert _main(action, "--input", table, "--output", out) == 0
    assert [row["id"] for row in _rows(out)] == ["0", "3"]
    what = {"negate": "captions", "expand": "labels"}[action]
    line = f"2 of 4 rows have no {what} and are left out; the first is {table}:3"
    assert f"clapjax captions: {table}: {line}" in capsys.readouterr().err.splitlines()
    table.write_text("id,caption,labels\n0,,\n")
    assert _main(action, "--input", table, "--output", tmp_path / "none.jsonl") == 2
    assert not (tmp_path / "none.jsonl").exists()


def test_columns_that_are_not_copied_are_named(tmp_path, capsys):
    table, out = tmp_path / "in.csv", tmp_path / "out.jsonl"
    table.write_text("fname,Words,labels\na.wav,Rain,dog\n")
    assert _main("negate", "--input", table, "--output", out, "--column", "Words") == 0
    assert _main("expand", "--input", table, "--output", out) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "nothing reads" in line]
    end = "; they are not copied to --output"
    start = f"clapjax captions: {table}: nothing reads the columns fname"
    assert said == [start + end, f"{start}, words{end}"]


@pytest.mark.parametrize("action", ["negate", "expand"])
@pytest.mark.parametrize("name", ["out.csv", "out.TSV", "out.json", "out"])
def test_output_has_the_name_that_its_readers_need(source, tmp_path, capsys, action, name):
    assert _main(action, "--input", source, "--output", tmp_path / name) == 2
    assert f"{name}: is JSON lines, so its name must end in .jsonl" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_negate_jsonl_column_count_and_seed(tmp_path):
    caption = "A dog barks then a bell rings then a car honks"
    (tmp_path / "in.jsonl").write_text(json.dumps({"text": caption}) + "\n")
    where = ("--input", tmp_path / "in.jsonl", "--column", "text", "--count", 3, "--seed", 5)
    assert _main("negate", *where, "--output", tmp_path / "out.jsonl") == 0
    (row,) = _rows(tmp_path / "out.jsonl")
    assert tuple(row["negative_captions"]) == negate(caption, 3, 5).negatives
    assert len(row["negative_captions"]) == 3


def test_negate_by_a_mixture_with_an_endpoint(tmp_path, capsys, monkeypatch):
    pytest.importorskip("openai")
    captions = [f"A dog barks {i} times then a bell rings" for i in range(20)]
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"caption": c}) + "\n" for c in captions))

    def behave(prompt, _):
        first = prompt.removeprefix("Caption: ").split(" then ")[0].lower()
        return content(json.dumps({"negative_captions": [f"First, a bell rings, then {first}"]}))

    with serve(behave) as endpoint:
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        ask = ("--backend", "rules:0.5,openai:0.5", "--model", "m", "--base_url", endpoint.url)
        files = ("--input", source, "--output", out)
        assert _main("negate", *ask, *files) == 0
        rows = _rows(out)
        assert _main("negate", *ask, *files, "--balance") == 0  # from the cache
        asked = len(endpoint.requests)
    by_model = [row for row in rows if row["provenance"] == "human;llm:m"]
    assert [row["captions"] for row in rows] == [[c] for c in captions] and 3 < len(
        by_model
    ) == asked < 17
    assert {row["provenance"] for row in rows} == {"human;rules", "human;llm:m"}
    assert all(row["negative_captions"][0].startswith("First, ") for row in by_model)
    for row, caption in zip(_rows(out), captions, strict=True):
        first = caption.split(" then ")[0].lower()
        assert row["negative_captions"] == [f"A bell rings then {first}"]
    assert "20 captions, 20 with negatives" in capsys.readouterr().out


def test_expand_by_templates(tmp_path, capsys):
    (tmp_path / "in.csv").write_text("Path,tags\na/1.wav,man laughing;dog\n")
    out = tmp_path / "out.jsonl"
    files = ("--input", tmp_path / "in.csv", "--column", "tags", "--output", out)
    assert _main("expand", *files, "--count", 9, "--debias") == 0
    (row,) = _rows(out)
    assert row["labels"] == ["man laughing", "dog"] and row["provenance"] == "template"
    assert row["file"] == "a/1.wav" and row["negative_captions"] == []
    assert "The sounds of person laughing and dog" in row["captions"]
    assert capsys.readouterr().out == f"{out}: 1 rows, 1 with captions\n"


@pytest.mark.parametrize("action", ["negate", "expand"])
def test_help_shows_an_example(action, capsys):
    assert _main(action, "--help") == 0
    out = capsys.readouterr().out.replace("\n", " ")
    assert f"example: clapjax captions {action} --backend" in re_spaced(out)


def re_spaced(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--backend", "rulez"), "no backend 'rulez'"),
        (("--column", "text"), "no column 'text'; there are id, caption"),
        (("--input", "nowhere.csv"), "nowhere.csv"),
        (("--count", "0"), "--count must be positive"),
        (("--backend", "openai"), "name the model"),
        (("--backend", "transformers"), "name the model"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(source, tmp_path, capsys, arguments, why):
    out = tmp_path / "out.jsonl"
    assert _main("negate", "--input", source, "--output", out, *arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("clapjax captions: ") and why in err and err.count("\n") == 1
    assert not out.exists()


def test_an_output_folder_that_is_not_there(source, tmp_path, capsys):
    out = tmp_path / "no" / "out.jsonl"
    assert _main("negate", "--input", source, "--output", out) == 2
    assert "no" in capsys.readouterr().err and not out.parent.exists()
