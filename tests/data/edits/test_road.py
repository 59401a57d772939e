"""From captions to a batch with negatives, in commands: build, negate, annotate, info, pipeline."""

import json
from itertools import islice

import numpy as np
import pytest
import soundfile

from clapjax.audio.config import AudioConfig
from clapjax.captions.rules.rules import negate
from clapjax.cli.main import main
from clapjax.data import records
from clapjax.data.config import DataConfig
from clapjax.data.tokenizer import load_tokenizer, tokenize
from clapjax.synthesis.sounds import SOUND_CLASSES, render
from tests.data.building import text_batches

RATE, LENGTH = 16_000, 24
CAPTIONS = {  # of files, which are in several folders
    "train": {
        "a/1.wav": "A man speaks followed by a dog barking",
        "a/2.wav": "A bell rings before water drips",
        "b/3.wav": "A cat meows",
    },
    "test": {"b/4.wav": "A dog barks then a bell rings"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sounds with a table, as a user has them."""
    root = tmp_path_factory.mktemp("road") / "sounds"
    lines = ["file,caption,split"]
    for split, captions in CAPTIONS.items():
        for file, caption in captions.items():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            sound = render(SOUND_CLASSES[len(lines)], (1, len(lines)), 0.5, RATE)
            soundfile.write(root / file, sound, RATE)
            lines.append(f"{file},{caption},{split}")
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def data_dir(folder):
    """Their records."""
    data_dir = folder.parent / "records"
    settings = {"source.kind": "folder", "source.path": folder, "source.mode": "direct"}
    settings |= {"model.audio.sample_rate": RATE, "data.vocab_size": 300}
    flags = [f"--config.{name}={value}" for name, value in settings.items()]
    command = ["records", "build", "--config", "configs/demo.py:runlocal", "--processes", "1"]
    assert main([*command, "--data_dir", str(data_dir), *flags]) == 0
    return data_dir


def _table(way: str, folder, data_dir, tmp_path):
    """What is given to `captions negate`."""
    if way == "records":
        return data_dir
    if way == "file":
        return folder / "table.csv"
    rows = [
        (example.id, example.captions[0])
        for split in CAPTIONS
        for example in records.read_examples(data_dir, split)
    ]
    lines = ["ID;Caption", *map(";".join, rows)]
    if way == "caption":
        lines = ["caption", *(caption for _, caption in rows)]
    (tmp_path / "captions.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "captions.csv"


@pytest.mark.parametrize("way", ["records", "id", "file", "caption", "apart"])
def test_from_captions_to_batches_with_negatives(folder, data_dir, tmp_path, way, capsys):
    table, out = tmp_path / "negatives.jsonl", tmp_path / "out"
    given = _table("records" if way == "apart" else way, folder, data_dir, tmp_path)
    assert main(["captions", "negate", "--input", str(given), "--output", str(table)]) == 0
    flags = ["--captions", str(table), *(["--apart"] if way == "apart" else [])]
    assert main(["records", "annotate", str(out), str(data_dir), *flags]) == 0
    assert "records with negatives: 2 of 3 train, 1 of 1 test" in capsys.readouterr().out
    assert main(["records", "info", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)["splits"]["train"]
    assert found["provenance"] == {"captions": {"human": 3}, "negative_captions": {"rules": 2}}
    assert (found["with_negative_captions"], found["negative_captions"]) == (2, 2)
    assert main(["records", "check", str(out)]) == 0

    wrong = {c: negate(c).negatives for part in CAPTIONS.values() for c in part.values()}
    for split, captions in CAPTIONS.items():
        told = {e.captions: e.negative_captions for e in records.read_examples(out, split)}
        assert told == {(caption,): wrong[caption] for caption in captions.values()}

    tokenizer = load_tokenizer(out / records.TOKENIZER_FOLDER)
    audio = AudioConfig(sample_rate=RATE, clip_samples=RATE // 2, fmax=RATE / 2)
    settings = {"max_length": LENGTH, "batch_size": 3, "seed": 0}
    (batch,) = islice(text_batches(out, DataConfig(), audio, tokenizer, **settings), 1)
    assert batch["has_negative"].sum() == 2
    ids = {
        tuple(tokenize(tokenizer, [caption], LENGTH)[0][0]): tokenize(
            tokenizer, [*wrong[caption], ""][:1], LENGTH
        )[0][0]
        for caption in CAPTIONS["train"].values()
    }
    for row, negative in zip(batch["input_ids"], batch["negative_ids"], strict=True):
        np.testing.assert_array_equal(negative, ids[tuple(row)])
    assert np.abs(batch["audio"]).max(axis=1).min() > 0
