"""Graphs that run without JAX, against the model that they were made of."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

import clapjax
from clapjax.cli.main import main
from clapjax.data.tokenizer import tokenize
from clapjax.inference.store import fingerprint
from clapjax.interop.graphs import write_graphs
from clapjax.interop.load import Pretrained
from tests.conftest import REPO
from tests.inference.tiny import (
    CAPTIONS,
    CLIP,
    RATE,
    make_clap,
    make_tokenizer,
    make_workdir,
    noise,
)

NEAR = 1e-5  # of any coordinate of unit vectors
PAGE = (REPO / "docs" / "without_jax.md").read_text()
COMPILE, USE = (re.search(rf"```{kind}\n(.*?)```", PAGE, re.S)[1] for kind in ("bash", "python"))
PATH = {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
ALONE = 'import sys\nsys.modules["jax"] = sys.modules["clapjax"] = None\n'


@pytest.fixture(scope="module")
def iree():
    """The runtime; and the compiler is there."""
    found = pytest.importorskip("iree.runtime", reason="iree-base-runtime is not installed")
    if shutil.which("iree-compile", path=PATH["PATH"]) is None:
        pytest.skip("iree-compile is not here: pip install iree-base-compiler")
    return found


def run_page(script: list[str], folder: Path) -> str:
    """What a program of the page prints in a folder."""
    env = os.environ | PATH
    done = subprocess.run(script, cwd=folder, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_program_of_the_page_embeds_without_jax(iree, tmp_path):
    """An HTSAT by the command line, one row at a time: a short clip, and a longer one in stereo."""
    workdir = make_workdir(tmp_path / "run")
    export = ("export", "--workdir", str(workdir), "--to", "stablehlo")
    assert main([*export, str(tmp_path / "my-graphs")]) == 0
    sounds = noise(CLIP // 3, 1), np.stack([noise(5 * CLIP, 2), noise(5 * CLIP, 3)], axis=1)
    files = []
    for number, (sound, rate) in enumerate(zip(sounds, (RATE, 2 * RATE), strict=True)):
        files.append(tmp_path / f"{number}.wav")
        soundfile.write(files[-1], sound, rate, "FLOAT")
    shutil.copy(files[0], tmp_path / "dog.wav")
    run_page(["bash", "-ec", COMPILE], tmp_path)
    found = f"""
np.savez("found.npz", audio=np.concatenate([embed_audio("0.wav"), embed_audio("1.wav")]),
         text=np.concatenate([embed_text(text) for text in {CAPTIONS!r}]))
"""
    said = run_page([sys.executable, "-c", ALONE + USE + found], tmp_path)

    for file in (tmp_path / "my-graphs").glob("*.mlir"):  # no names of files of who exported it
        assert not re.findall(rb"[\w./-]{6,}\.py\b|" + os.fsencode(REPO), file.read_bytes())

    clap, found = clapjax.load(workdir), np.load(tmp_path / "found.npz")
    audio, text = clap.embed_audio(files), clap.embed_text(CAPTIONS)
    np.testing.assert_allclose(found["audio"], audio, rtol=0, atol=NEAR)
    np.testing.assert_allclose(found["text"], text, rtol=0, atol=NEAR)
    barks = clap.embed_text("a dog barks")[0]
    assert float(said) == pytest.approx(float(audio[0] @ barks), abs=NEAR)

    about = json.loads((tmp_path / "my-graphs" / "graphs.json").read_text())
    for tower in ("audio", "text"):
        assert about[tower]["fingerprint"] == fingerprint(clap.config, clap.variables, tower)
    assert about["scale"] == pytest.approx(clap.scale)


def test_several_rows_of_several_lengths(iree, tmp_path):
    """A PANN that hears any length, and its texts."""
    clap = make_clap("any_length", make_tokenizer(tmp_path / "tokenizer"))
    variables = jax.device_get(clap.variables)
    model = Pretrained(clap.config, variables, clap.tokenizer)
    write_graphs(tmp_path / "my-graphs", model, batch_size=3, seconds=2.0)
    run_page(["bash", "-ec", COMPILE], tmp_path)
    audio, text = (
        iree.load_vm_flatbuffer_file(str(tmp_path / f"my-graphs/{tower}.vmfb"), driver="local-task")
        for tower in ("audio", "text")
    )
    sounds = [noise(CLIP, 1), noise(2 * CLIP - 500, 2), noise(CLIP + 900, 3)]
    rows = np.zeros((3, 2 * CLIP), np.float32)
    for row, sound in zip(rows, sounds, strict=True):
        row[: sound.size] = sound
    found = audio.main(rows, np.int32([sound.size for sound in sounds])).to_host()
    expected = clap.embed_audio([(RATE, sound) for sound in sounds])
    np.testing.assert_allclose(found, expected, rtol=0, atol=NEAR)
    found = text.main(*tokenize(clap.tokenizer, CAPTIONS, clap.config.text.max_length)).to_host()
    np.testing.assert_allclose(found, clap.embed_text(CAPTIONS), rtol=0, atol=NEAR)


def test_what_cannot_be_is_one_line(tmp_path, capsys):
    workdir = make_workdir(tmp_path / "run")
    for words, told in (
        (("--to", "hf", "--batch_size", "2"), "--batch_size is of graphs: set --to stablehlo"),
        (("--to", "stablehlo", "--batch_size", "0"), "batch_size must be positive, not 0"),
        (("--to", "stablehlo", "--seconds", "2"), "this model hears 1 s, not 2"),
        (("--to", "stablehlo", "--seconds", "0.5"), "this model hears 1 s, not 0.5"),
        (("--to", "stablehlo", "--seconds", "nan"), "this model hears 1 s, not nan"),
    ):
        assert main(["export", "--model", str(workdir), *words, str(tmp_path / "out")]) == 2
        err = capsys.readouterr().err
        assert told in err and err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
