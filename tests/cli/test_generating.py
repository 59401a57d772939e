"""`clapjax captions generate`: the same tables whoever writes them, and however often he stops."""

import errno
import hashlib
import json
import os
import signal
import sys

import numpy as np
import pytest

import clapjax
from clapjax.captions.keywords import share_named
from clapjax.cli import entry
from clapjax.cli.config import load_config
from clapjax.cli.main import main
from clapjax.data import records
from clapjax.data.schema import Example
from clapjax.data.selection import select_captions
from clapjax.data.tokenizer import load_tokenizer
from clapjax.inference import captions
from clapjax.inference.captioner import Told
from clapjax.models.config import DecodingConfig
from clapjax.tasks.guidance import guidance_text
from tests.data.building import make_example, text_batches, write_records
from tests.inference.tiny import (
    SMALL,
    make_captioning_workdir,
    make_tagging_workdir,
    make_workdir,
    noise,
)

CLIPS, SHARDS = 15, 4
LENGTHS = (8000, 3000, 12_000)  # samples: a clip, a part of one, and more


def clip(index: int) -> Example:
    loud = noise(LENGTHS[index % 3], index) * 20_000
    audio = np.clip(loud, -32768, 32767).astype(np.int16)
    labels = ("dog", "rain", "siren")[: index % 4]
    return make_example(index, audio=audio, labels=labels, events=labels)


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """Models, and records of which two cannot be used."""
    folder = tmp_path_factory.mktemp("generating")
    make_captioning_workdir(folder / "talker")
    make_workdir(folder / "clap")
    examples = [clip(index) for index in range(CLIPS)]
    broken = make_example(90, id="silence", audio=np.zeros(0, np.int16))
    damaged = make_example(91, id="damaged")
    real = records.serializer

    def serializer(*arguments):
        encode = real(*arguments)
        return lambda example: b"none" if example.id == "damaged" else encode(example)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Example, "problems", lambda self, audio=True: [])
        patch.setattr(records, "serializer", serializer)
        splits = {"train": [*examples[:6], broken, damaged, *examples[6:]], "test": examples[:2]}
        write_records(folder / "records", splits, SHARDS)
        # The same clips in other shards and another order.
        write_records(folder / "again", {"train": examples[::-2]}, 1)
    return folder


def generate(room, source: str, *more: str, n: int = 2) -> int:
    """With one clip at once on each device; two captions are drawn of each."""
    way = ["--nucleus", "0.9", "--n", str(n), "--seed", "3", "--batch_size", "1"]
    model = ["--model", str(room / "talker"), "--clap", str(room / "clap"), "--guidance", "order"]
    return main(["captions", "generate", str(room / source), *model, *way, *more])


def tables(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.jsonl"))}


def rows(folder) -> dict[str, dict]:
    lines = b"".join(tables(folder).values()).decode().splitlines()
    return {row.get("id"): row for row in map(json.loads, lines)}


@pytest.fixture(scope="module")
def whole(room):
    """The tables of a run that nothing disturbs."""
    assert generate(room, "records") == 1
    return tables(room / "records.captions")


def test_rows_are_what_the_models_say(room, whole, capsys):
    """Alone, on one device, with another batch size; and the broken ones are listed again."""
    assert [*whole] == [f"captions-train-{number:05d}.jsonl" for number in range(SHARDS)]
    assert generate(room, "records") == 1
    found = capsys.readouterr()
    lines = [line for line in found.err.splitlines() if "compil" not in line]
    assert [line.partition(": ")[2].split(":")[0] for line in lines] == [
        "train/silence",
        "train/a record",
    ]
    assert "expected (T,) or (T, channels) samples" in lines[0] and "no record (" in lines[1]
    assert f"captions: {2 * CLIPS} of {CLIPS + 2} clips, 2 clips without" in found.out
    assert tables(room / "records.captions") == whole

    known, captioner = rows(room / "records.captions"), clapjax.load(room / "talker")
    assert known["silence"]["captions"] == [] and "reason" in known["silence"]
    clap, decoding = clapjax.load(room / "clap"), DecodingConfig(nucleus=0.9, count=2)
    examples = [clip(index) for index in range(CLIPS)]
    orders = ("", "one", "sequential", "sequential")
    told = []
    for index, one in enumerate(examples):
        digest = hashlib.sha256(f"3/{one.id}".encode()).digest()
        text = guidance_text(one.labels, orders[index % 4])
        assert known[one.id]["guidance"] == text
        told.append(Told(one.audio, text, tuple(np.frombuffer(digest, "<u4")[:2])))
    heard = clap.embed_audio([one.audio for one in examples])
    for index, said in captioner.write(told, decoding=decoding):
        row, one = known[examples[index].id], examples[index]
        assert row["provenance"] == "captioner:talker" and len(row["captions"]) == 2
        probabilities = dict(zip(row["captions"], row["log_probability"], strict=True))
        assert probabilities == pytest.approx(
            {one.text: one.log_probability for one in said}, abs=1e-3
        )
        cosines = clap.similarity(heard[index][None], clap.embed_text(row["captions"]))[0]
        np.testing.assert_allclose(row["similarity"], cosines, atol=1e-3)
        assert row["similarity"] == sorted(row["similarity"], reverse=True)
        shares = [share_named(one.labels, text) for text in row["captions"]]
        assert row["agreement"] == pytest.approx(shares, abs=1e-3, nan_ok=True)


def test_a_clip_has_the_same_captions_in_other_shards(room, whole):
    assert generate(room, "again", "--name", "talker") == 0
    known, again = rows(room / "records.captions"), rows(room / "again.captions")
    assert len(again) == (CLIPS + 1) // 2
    assert all(row == known[name] for name, row in again.items())


def test_interrupted_and_started_again_by_two_processes(room, whole, tmp_path, monkeypatch, capsys):
    """After so many rows, one process or the other: each table is there whole, or is not."""
    moments, real, left = iter((2, 6, 5, CLIPS, CLIPS)), captions.to_row, [0]

    def to_row(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(captions, "to_row", to_row)
    tmp_path.joinpath(".captions-train-00001.jsonl.123.tmp").write_text("{")  # of one killed
    ended, index, counts = {0: None, 1: None}, 0, []
    while None in ended.values():
        index = 1 - index
        if ended[index] is None:
            left[0] = next(moments)
            part = ("--num_processes", "2", "--process_id", str(index), "--out", str(tmp_path))
            status = generate(room, "records", *part)
            ended[index] = None if status == 130 else status
            there = tables(tmp_path)
            assert all(whole[name] == text for name, text in there.items())
            counts.append(len(there))
    assert tables(tmp_path) == whole and sorted(ended.values()) == [0, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*whole, captions.MADE_FROM]
    found = capsys.readouterr()
    assert found.err.count("clapjax captions: interrupted\n") == 3
    assert counts == [0, 1, 2, 3, 4]
    assert "tables; other processes write the rest" in found.out
    assert found.out.count(f"captions: {2 * CLIPS} of") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--seed 4", "holds captions made from something else (other seed)"),
        ("--n 3 --name other", "(other provenance, decoding)"),
        ("--name a;b", "'a;b' names no model in a provenance"),
        ("--num_processes 2", "several processes need --num_processes and --process_id"),
        ("--process_id 2 --num_processes 2", "process_id 2 is not one of 2 processes"),
        ("--model C", "`clapjax embed` take; --model needs a captioner"),
        ("--threshold 0.3", "--threshold is of the tags that --tagger hears"),
        ("--out T", "holds tables, but no made_from.json"),
    ],
)
def test_what_is_refused(arguments, message, room, whole, tmp_path, capsys):
    (tmp_path / "captions-train-00000.jsonl").write_text("")
    places = {"C": str(room / "clap"), "T": str(tmp_path)}
    assert generate(room, "records", *(places.get(x, x) for x in arguments.split())) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert tables(room / "records.captions") == whole


def test_a_full_disk_is_one_line_and_nothing_is_half_written(room, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert generate(room, "records", "--out", str(tmp_path / "out")) == os.EX_TEMPFAIL
    error = capsys.readouterr().err
    assert "No space left on device" in error and error.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_asked_to_stop_it_ends_at_once(monkeypatch):
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(sys, "argv", ["clapjax", "captions", "generate", "no", "--model", "no"])
    try:
        assert entry.entry() == 2
        # No exceptions, of which JAX's callback of the garbage collector loses one that it meets.
        assert signal.getsignal(signal.SIGTERM) is entry._asked_to_stop
        assert signal.getsignal(signal.SIGINT) is entry._interrupted
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_tags_that_a_tagger_hears(room, tmp_path):
    labels = ("dog", "rain", "wind")
    run = make_tagging_workdir(tmp_path / "tagger", labels)
    examples = [clip(index) for index in range(3)]
    heard = clapjax.load(run).tag([one.audio for one in examples])
    middle = float(np.median(heard))
    told = captions.Models(clapjax.load(room / "talker"), clapjax.load(run))
    wording = captions.Wording("captioner:x", told.captioner.settings.decoding, threshold=middle)
    clips = [captions.Clip(0, at, one.id, one.audio, ("x",)) for at, one in enumerate(examples)]
    stub = told._replace(captioner=_Silent())
    found = list(captions.captioned(clips, 8000, stub, wording))
    for one, row in zip(found, heard, strict=True):
        likely = [labels[at] for at in np.argsort(-row) if row[at] >= middle]
        assert one.tags == tuple(likely) and one.guidance == guidance_text(likely)


class _Silent:
    """Says nothing."""

    def write(self, told, *_):
        return ((index, []) for index, _ in enumerate(told))


def test_joined_to_the_records_and_chosen_in_training(room, whole, tmp_path, capsys):
    """Of a record that a human has captioned as well, training hears the captioner alone."""
    source = write_records(tmp_path / "sound", {"train": [clip(index) for index in range(CLIPS)]})
    made = [str(room / "records.captions" / name) for name in whole]
    command = ["records", "annotate", str(tmp_path / "told"), str(source), "--captions", *made]
    assert main([*command, "--apart"]) == 0
    found = capsys.readouterr()
    assert "nothing reads" not in found.err
    assert f"{CLIPS} joined, 2 that match no record" in found.out
    override = "--config.data.text_augment_selection=captioner"
    settings = load_config("configs/demo.py:runlocal", [override]).data
    known = rows(room / "records.captions")
    chosen = set()
    for example in records.read_examples(tmp_path / "told", "train"):
        texts = select_captions(example.captions, example.provenance, "captioner")
        assert list(texts) == sorted(texts, key=known[example.id]["captions"].index)
        assert set(texts) == set(known[example.id]["captions"])
        assert set(select_captions(example.captions, example.provenance, "human")) == set(
            clip(0).captions[1:] + (f"A dog barks {example.id.removeprefix('clip-')} times",)
        )
        chosen |= set(texts)
    tokenizer = load_tokenizer(str(room / "talker" / "tokenizer"))
    batches = text_batches(
        tmp_path / "told", settings, SMALL.audio, tokenizer, max_length=24, batch_size=8, seed=0
    )
    batch = next(iter(batches))
    texts = tokenizer.batch_decode(np.asarray(batch["input_ids"]), skip_special_tokens=True)
    wanted = tokenizer.batch_decode(
        tokenizer(sorted(chosen))["input_ids"], skip_special_tokens=True
    )
    assert set(texts) <= set(wanted)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--min_agreement", "0.5", "--output", "captions-a.jsonl"], "is one of --input"),
        (["--min_agreement", "0.5", "--output", "b.jsonl"], "no caption is kept, and b.jsonl not"),
        (["--min_score", "nan", "--output", "b.jsonl"], "a cosine is in -1 .. 1, not nan"),
    ],
)
def test_filter_writes_nothing_where_it_ends_with_an_error(
    tmp_path, monkeypatch, capsys, more, message
):
    monkeypatch.chdir(tmp_path)
    row = {"id": "1", "captions": ["rain"], "log_probability": [-1.0], "agreement": [0.0]}
    text = json.dumps(row) + "\n"
    (tmp_path / "captions-a.jsonl").write_text(text)
    for source in (".", "captions-a.jsonl"):
        assert main(["captions", "filter", "--input", source, *more]) == 2
        assert message in capsys.readouterr().err
    assert [file.read_text() for file in tmp_path.iterdir()] == [text]
