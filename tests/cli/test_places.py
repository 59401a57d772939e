"""Wherever a verb takes a place it takes one in a bucket, or says in one line that it cannot."""

import argparse
import importlib

import pytest

from clapjax.cli.main import VERBS, main
from clapjax.data.paths import as_path
from clapjax.data.tables import read_table

# Arguments of texts that name no place.
WORDS = {
    "api_key",
    "backend",
    "base_url",
    "beam_options",
    "column",
    "coordinator",
    "device",
    "fields",
    "name",
    "order",
    "query",
    "runner",
    "separator",
    "style",
    "tags",
    "template",
    "text",
    "topology",
    "where",
}
NAMED = {"benchmark", "seeds"}  # NAME=PLACE
NONE = "./none"  # the other places, where nothing is
OTHERS = {"config": "configs/none.py", "output": "./none.jsonl", "where": "max_seconds=1"}


def _arguments(parser: argparse.ArgumentParser, words: tuple[str, ...]):
    """(words of the action, its arguments of texts) of a verb and of each of its actions."""
    own = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from _arguments(below, (*words, name))
        elif action.type is None and action.choices is None and action.nargs != 0:
            own.append(action)
    yield words, own


def _verbs():
    for verb, (module, _) in VERBS.items():
        parser = argparse.ArgumentParser(add_help=False)
        importlib.import_module(module).add_arguments(parser)
        yield from _arguments(parser, (verb,))


def _given(action: argparse.Action, value: str) -> list[str]:
    return [*action.option_strings[-1:], value]


def _commands(place: str):
    """Each place of each verb in turn, in the bucket; what else the verb wants is not there."""
    for words, arguments in _verbs():
        for one in arguments:
            if one.dest in WORDS or (one.dest == "labels" and words == ("classify",)):
                continue
            value = f"x={place}" if one.dest in NAMED else place
            command = [*words]
            for other in arguments:
                if other is one:
                    command += _given(one, f"{value}.jsonl" if one.dest == "output" else value)
                elif other.required and other.nargs != "*":
                    filler = OTHERS.get(other.dest, NONE)
                    command += _given(other, f"x={filler}" if other.dest in NAMED else filler)
            if words == ("classify",) and one.dest != "labels_file":  # one of two is required
                command += ["--labels", "dog,cat"]
            if words == ("export",) and one.dest not in ("workdir", "model"):  # likewise
                command += ["--workdir", NONE]
            yield command


def test_no_verb_makes_a_folder_of_this_machine_for_a_place_in_a_bucket(
    bucket_of, tmp_path, monkeypatch, capsys
):
    """Fails before: there was a folder called "gs:" then."""
    monkeypatch.chdir(tmp_path)
    commands = list(_commands(f"{bucket_of('gs')}/place"))
    assert len(commands) > 50
    for command in commands:
        status = main(command)
        said = capsys.readouterr().err.strip().splitlines()
        assert status in (0, 1, 2), command
        assert status == 0 or said[-1].startswith("clapjax "), (command, said)
        assert not {"gs:", "s3:"} & {file.name for file in tmp_path.iterdir()}, command


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (("demo", "--workdir"), "the demo"),
        (("bootstrap", "--workdir"), "what `clapjax bootstrap` makes"),
        (
            ("finetune", "--model", NONE, "--benchmark", f"x={NONE}", "--out"),
            "what `clapjax finetune` makes",
        ),
        (
            ("captions", "negate", "--backend", "openai", "--input", "t.csv", "--output"),
            "a file of answers (--cache)",
        ),
    ],
)
def test_what_cannot_be_in_a_bucket(bucket_of, tmp_path, monkeypatch, capsys, command, what):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("caption\na dog barks and then a cat meows\n")
    place = f"{bucket_of('gs')}/x.jsonl"
    assert main([*command, place]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith(f"clapjax {command[0]}: {place}")
    assert said[-1].endswith(f": {what} cannot be in a bucket; name a place on this machine")


@pytest.mark.parametrize("kind", ["gs", "s3"])
def test_tables_and_pages_are_written_to_a_bucket(bucket_of, kind, demo_records, tmp_path):
    place = bucket_of(kind)
    table = as_path(f"{place}/captions.csv")
    table.write_text("id,caption\n1,a dog barks and then a cat meows\n")
    negatives = f"{place}/negatives.jsonl"
    assert main(["captions", "negate", "--input", f"{table}", "--output", negatives]) == 0
    ((_, row),) = read_table(as_path(negatives))
    assert row["id"] == "1" and row["negative_captions"]
    assert main(["records", "info", f"{demo_records}", "--html", f"{place}/page.html"]) == 0
    assert as_path(f"{place}/page.html").read_text().startswith("<!DOCTYPE html>")


def test_a_place_of_no_bucket_or_without_its_client(monkeypatch):
    with pytest.raises(ValueError, match="gs://: names no bucket; write gs://BUCKET/FOLDER"):
        as_path("gs://")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs s3fs; pip install 'clapjax\[buckets\]'"):
        as_path("s3://bucket/folder")
