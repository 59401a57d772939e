"""`clapjax bootstrap`: which commands it runs, in which order, and that each of them is one."""

import argparse
import importlib
import os
from pathlib import Path

import pytest

from clapjax.cli import main as command_line
from clapjax.cli.config import load_config

PARTS = ("captioned", "rest", "captioner", "tagger", "clap")


def parsed(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """A command line as its verb reads it; what is unknown may only be of a config."""
    parser = argparse.ArgumentParser()
    importlib.import_module(command_line.VERBS[words[0]][0]).add_arguments(parser)
    args, overrides = parser.parse_known_args(words[1:])
    assert all(item.startswith("--config.") for item in overrides)
    return args, overrides


@pytest.fixture
def run(monkeypatch, tmp_path):
    """run(*arguments): its status, and the commands it ran, of which only tables came to be."""
    found, real = [], command_line.main

    def called(words: list[str]) -> int:
        args, _ = parsed(words)
        found.append(words)
        if words[:2] == ["captions", "generate"]:
            Path(args.out).mkdir(parents=True)
            (Path(args.out) / "captions-train-00000.jsonl").touch()
        return 3 * (words[0] == "eval")

    def run(*more: str) -> tuple[int, list[list[str]]]:
        monkeypatch.setattr(command_line, "main", called)
        return real(["bootstrap", "--workdir", str(tmp_path), "--jobs", "1", *more]), found

    return run


def test_what_each_model_learns_from(run, tmp_path, capsys):
    status, ran = run("--config", "configs/bootstrap.py:esc10", "--config.seed=7")
    assert status == 3  # that of the command which failed
    assert capsys.readouterr().out.count("$ clapjax ") == len(ran) == 19
    trained, mixed, guided, texts = {}, {}, {}, {}
    for words in ran:
        args, overrides = parsed(words)
        if "--config" in words:
            experiment = load_config(args.config, overrides)
            assert experiment.seed == 7 and experiment.source.kind == "esc50"
        if words[0] == "train":
            name = Path(args.workdir).name
            trained[name] = Path(args.data_dir).name, experiment.task, experiment.steps
            mixed[name] = experiment.data.mixture
        if words[:2] == ["captions", "generate"]:
            guided[Path(args.out).name] = args.records, args.guidance, Path(args.clap).name
        if words[:2] == ["records", "annotate"]:
            assert args.replace and args.source == str(tmp_path / "rest")
            texts[Path(args.data_dir).name] = [
                os.path.relpath(x, tmp_path / "captions") for x in args.captions
            ]
    assert list(trained) == ["captioner", "a", "tagger", *"bcde"]
    assert trained["captioner"][:2] == ("captioned", "captioning")
    assert trained["tagger"][:2] == ("rest", "tagging")
    assert {trained[name] for name in "abcde"} == {("captioned", "contrastive", trained["a"][2])}
    assert mixed["a"] == () and mixed["e"] == (f"{tmp_path / 'rest'}=0.75",)
    assert [mixed[name] for name in "bcd"] == [(f"{tmp_path}/records/{x}=0.75",) for x in "bcd"]
    rest = f"{tmp_path / 'rest'}:train"
    assert guided == {"b": (rest, "none", "a"), "c": (rest, "tags", "a")}
    assert texts == {"b.all": ["b"], "c.all": ["c"], "d.all": ["d.jsonl"]}
    args, _ = parsed(ran[-1])
    assert [item.partition("=")[0] for item in args.model] == ["captioner", *"abcde"]


def test_a_workdir_has_one_agreement(run, tmp_path, capsys):
    """Fails before: captions chosen otherwise took the place of those that (d) had learned from."""
    assert run("--min_agreement", "0.5")[0] == 3
    before = len(run("--min_agreement", "0.5")[1])
    capsys.readouterr()
    status, ran = run("--min_agreement", "1")
    assert status == 2 and len(ran) == before
    assert "was begun with --min_agreement 0.5, not 1.0; say that, or" in capsys.readouterr().err


def test_a_field_goes_to_the_parts_that_read_it(run):
    """Fails before: `clapjax train` of the captioner refuses a field of the contrastive loss."""
    given = {"loss.kind=softmax": "abcde", "captioning.mixup=0.1": ("captioner",)}
    given |= {"tagging.loss=bce": ("tagger",), "steps=2": ("captioner", "tagger", *"abcde")}
    _, ran = run(*(f"--config.{item}" for item in given))
    trained = {Path(parsed(words)[0].workdir).name: words for words in ran if words[0] == "train"}
    for item, parts in given.items():
        assert {name for name in trained if f"--config.{item}" in trained[name]} == set(parts)


def test_no_recording_is_in_two_parts():
    folds = {part: load_config(f"configs/bootstrap.py:{part}", []).source for part in PARTS}
    assert folds["captioned"].train_folds == (1,) and folds["rest"].train_folds == (2, 3)
    assert {source.test_folds for source in folds.values()} == {(4,)}
