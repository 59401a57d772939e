"""Which captions of a captioner are kept, and what a report says of every threshold."""

import json

import numpy as np
import pytest

from clapjax.captions.choosing import choose, read_scored, report
from clapjax.captions.keywords import share_named
from clapjax.captions.tables import read_captions, unread_columns
from clapjax.cli.main import main

ROWS = [
    {
        "id": f"clip-{index}",
        "captions": [f"{index} {word}" for word in "abc"[: 1 + index % 3]],
        "negative_captions": [],
        "provenance": "captioner:x",
        "guidance": "; ; rain",
        "log_probability": [-1.0, -2.0, -3.0][: 1 + index % 3],
        "similarity": np.random.default_rng(index).uniform(-1, 1, 1 + index % 3).round(4).tolist(),
        "agreement": [None if index == 4 else share for share in (0.5, 1.0, 0.0)[: 1 + index % 3]],
    }
    for index in range(9)
]
BARE = {"id": "broken", "captions": [], "negative_captions": [], "reason": "no samples"}


@pytest.fixture
def tables(tmp_path):
    folder = tmp_path / "captions"
    folder.mkdir()
    for number, rows in enumerate((ROWS[:5], [BARE, *ROWS[5:]])):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"captions-train-{number:05d}.jsonl").write_text(text)
    return folder


def kept(similarity: float, agreement: float) -> dict[str, list[str]]:
    """What is kept, in another way: caption by caption."""
    found: dict[str, list[str]] = {}
    for row in ROWS:
        every = zip(row["captions"], row["similarity"], row["agreement"], strict=True)
        for text, score, share in every:
            if score >= similarity and (share is None or share >= agreement):
                found.setdefault(row["id"], []).append(text)
    return found


@pytest.mark.parametrize("least", [(-1, 0), (0.1, 0), (-1, 0.75), (-0.2, 0.5), (2, 0)])
def test_what_is_kept(least):
    rows = list(choose([*ROWS, BARE], dict(zip(("similarity", "agreement"), least, strict=True))))
    assert {row["id"]: row["captions"] for row in rows} == kept(*least)
    for row in rows:
        whole = next(one for one in ROWS if one["id"] == row["id"])
        for name in ("log_probability", "similarity", "agreement"):
            own = dict(zip(whole["captions"], whole[name], strict=True))
            assert row[name] == [own[text] for text in row["captions"]]
        assert row["provenance"] == "captioner:x" and row["guidance"] == whole["guidance"]


def test_words_of_a_provenance_stay_with_their_captions():
    row = ROWS[2] | {"provenance": "human;captioner:x;captioner:y;rules"}
    stays = sorted(row["similarity"])[1]
    (found,) = choose([row], {"similarity": stays})
    words = dict(zip(row["captions"], row["provenance"].split(";"), strict=False))
    assert found["provenance"].split(";") == [*(words[t] for t in found["captions"]), "rules"]


def test_the_report_says_what_choosing_keeps():
    lines = report([*ROWS, BARE])
    assert lines[0] == "captions: 18 of 10 clips, 1 clips without"
    tables = {"--min_score": ("similarity", []), "--min_agreement": ("agreement", [])}
    for line in lines[1:]:
        if line.split()[0] in tables:
            name, found = tables[line.split()[0]]
        elif not line.strip().startswith("unknown"):
            found.append(line.replace("(", "").replace(")", "").split())
            least, count, _, _, clips, share, _ = found[-1]
            rows = list(choose(ROWS, {name: float(least)}))
            assert sum(len(row["captions"]) for row in rows) == int(count)
            assert len(rows) == int(clips) and float(share) == pytest.approx(10 * len(rows))
    assert [len(found) for _, found in tables.values()] == [10, 3]
    assert lines[-1].split() == ["unknown,", "so", "kept", "2", "(", "11.1", "%)"]


def test_shares_of_tags():
    assert share_named(("dog_bark", "rain"), "A dog barks") == 0.5
    assert share_named(("dog bark", "Rain"), "It rains on dogs") == 1
    assert share_named(("siren",), "") == 0
    assert share_named((), "A dog") is None


def test_the_command(tables, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    assert main(["captions", "filter", "--input", str(tables)]) == 0
    told = capsys.readouterr().out
    assert told == "\n".join(report([*ROWS, BARE])) + "\n"
    command = ["captions", "filter", "--input", *map(str, sorted(tables.iterdir()))]
    thresholds = ["--min_score", "-0.2", "--min_agreement", "0.5"]
    assert main([*command, "--output", str(out), *thresholds]) == 0
    found = {row.id: list(row.captions) for row in read_captions(out)}
    assert found == kept(-0.2, 0.5)
    count = sum(map(len, found.values()))
    assert capsys.readouterr().out == f"{told}{out}: {count} captions of {len(found)} clips\n"
    assert unread_columns(out) == []
    assert main([*command, "--output", str(tmp_path / "all.jsonl")]) == 0
    assert list(read_scored([tmp_path / "all.jsonl"])) == ROWS
    assert list(read_scored([out])) == list(choose(ROWS, {"similarity": -0.2, "agreement": 0.5}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--input T --min_score 0.1", "name a table for what is kept: --output"),
        ("--input T --output O.csv --min_score 0", "its name must end in .jsonl"),
        ("--input E --min_score 0 --output O.jsonl", "no tables in this folder"),
        ("--input P.jsonl --min_score 0 --output O.jsonl", "has its similarity: generate them"),
        ("--input Q.jsonl", "Q.jsonl:1: no row of `clapjax captions generate`"),
    ],
)
def test_what_is_refused(arguments, message, tables, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "E").mkdir()
    (tmp_path / "P.jsonl").write_text('{"id": "x", "captions": ["a"]}\n')
    (tmp_path / "Q.jsonl").write_text('{"captions": ["a"], "agreement": [1, 1]}\n')
    command = arguments.replace("T", str(tables)).split()
    assert main(["captions", "filter", *command]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "O.jsonl").exists()
