"""Where a verb writes is looked at before its work, of every verb alike."""

import argparse
import os

import pytest

from clapjax.cli import outputs
from clapjax.cli.main import VERBS, actions, main, verb_parser
from clapjax.cli.outputs import EITHER, FILES, FOLDERS, OUTPUTS, TABLES
from clapjax.inference.store import SUFFIXES

# Arguments that read, or are named as an output of one verb and read by another.
READ = {
    "eval": {"workdir", "data_dir"},
    "export": {"workdir"},
    "finetune": {"data_dir", "workdir"},
    "train": {"data_dir"},
    "records info": {"data_dir"},
    "records check": {"data_dir"},
}
NAMES = {"out", "output", "workdir", "data_dir", "folder", "html"}


def each_action():
    """(verb or verb and action, names of its arguments)."""
    for verb in VERBS:
        parser = verb_parser(verb)
        for name, sub in (actions(parser) or {"": parser}).items():
            yield f"{verb} {name}".strip(), {x.dest for x in sub._actions}


def test_every_output_of_every_verb_is_looked_at():
    for verb, names in each_action():
        known = {name for found in OUTPUTS.get(verb, {}).values() for name in found}
        assert known == names & NAMES - READ.get(verb, set()), verb


@pytest.fixture
def closed(tmp_path, monkeypatch):
    """A folder that nobody writes to; root may write to any but on a read-only disk."""
    folder = tmp_path / "closed"
    folder.mkdir()
    real = os.access
    monkeypatch.setattr(
        outputs.os, "access", lambda path, mode: path != folder and real(path, mode)
    )
    return folder


@pytest.mark.parametrize("verb", sorted(OUTPUTS))
def test_a_place_that_cannot_be_written_to(verb, closed, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for kind, names in OUTPUTS[verb].items():
        bad = {closed / "new": f"{closed} cannot be written to"}
        if kind in (FOLDERS, EITHER):
            bad |= {
                closed: "cannot be written to",
                file: "is no folder",
                file / "x": "is no folder",
            }
            bad[closed / "deep" / "new"] = f"{closed} cannot be written to"
        if kind == FILES:
            bad |= {tmp_path: "name a file in it", tmp_path / "no" / "new": "there is no folder"}
            bad[file / "x"] = "there is no folder"
        if kind == EITHER:
            (tmp_path / "is.npz").mkdir(exist_ok=True)
            bad |= {tmp_path / "is.npz": "name a file in it"}
            bad |= {tmp_path / "no" / "new.parquet": "there is no folder"}
            bad |= {closed / "new.npz": "cannot be written to", tmp_path / "x.csv": "must end in"}
        for name in names:
            head, _, action = verb.partition(" ")
            others = dict.fromkeys(set(sum(OUTPUTS[verb].values(), ())) - {name})
            for place, message in bad.items():
                args = argparse.Namespace(action=action or None, **others, **{name: str(place)})
                with pytest.raises(ValueError, match=f"^{place}: .*{message}"):
                    outputs.check_outputs(head, args)
            for good in (tmp_path / "new", "gs://bucket/new", None):
                args = argparse.Namespace(
                    action=action or None, **others, **{name: good and str(good)}
                )
                outputs.check_outputs(head, args)


def test_it_comes_before_the_work_and_in_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    words = ["captions", "generate", "no_records", "--model", "no_model"]
    assert main([*words, "--out", str(tmp_path / "file" / "x")]) == 2
    error = capsys.readouterr().err
    assert error == f"clapjax captions: {tmp_path}/file/x: {tmp_path}/file is no folder\n"


def test_the_workdir_is_written_to_where_no_output_is_named(closed, tmp_path):
    args = argparse.Namespace(out=None, workdir=str(closed))
    with pytest.raises(ValueError, match=f"^{closed}: {closed} cannot be written to"):
        outputs.check_outputs("eval", args)
    outputs.check_outputs("eval", argparse.Namespace(out=str(tmp_path), workdir=str(closed)))


def test_embed_writes_the_tables_that_are_read():
    assert TABLES == SUFFIXES
