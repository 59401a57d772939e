"""A model is used without what only training needs: none of it is imported, or missed."""

import json
import subprocess
import sys
from pathlib import Path

import soundfile

from clapjax.interop.export import write_model
from clapjax.interop.load import Pretrained
from tests.inference.tiny import RATE, make_clap, make_tokenizer, make_workdir, noise

REPO = Path(__file__).resolve().parents[1]
# What requirements-train.txt brings, but for what others bring that using a model needs.
TRAINING = (
    "array_record",
    "etils",
    "importlib_resources",
    "lemminflect",
    "matplotlib",
    "ml_collections",
    "orbax",
    "pyloudnorm",
    "tensorboard",
    "tensorflow",
    "tensorflow_datasets",
)
WITHOUT = """
import json, sys
sys.modules.update(dict.fromkeys(json.loads(sys.argv[1])))  # None: cannot be imported
from clapjax.cli.main import main
for arguments in json.loads(sys.argv[2]):
    print(main(arguments), flush=True)
"""


def names(file: str) -> set[str]:
    """What a file of requirements names."""
    lines = (REPO / file).read_text().splitlines()
    found = {line.split(";")[0] for line in lines if line and line[0] not in "#-"}
    return {one.split(">")[0].split("[")[0].lower().replace("-", "_") for one in found}


def test_the_files_of_requirements():
    """All that the tests block is named, and nothing of it in what using a model needs."""
    core, train = names("requirements-core.txt"), names("requirements-train.txt")
    assert not core & train
    brought = {"etils", "orbax"}  # by orbax_checkpoint
    assert train - set(TRAINING) == {"fsspec", "orbax_checkpoint", "pyyaml", "tensorflow_cpu"}
    assert set(TRAINING) - train == brought


def test_a_model_is_used_without_them(tmp_path, quick_env):
    """Verbs work with an export; of a run one line says what lacks, and how to get it."""
    clap = make_clap("plain", make_tokenizer(tmp_path / "tokenizer"))
    model, sounds, vectors = (str(tmp_path / name) for name in ("model", "sounds", "v.parquet"))
    write_model(model, Pretrained(clap.config, clap.variables, clap.tokenizer), "clapjax")
    Path(sounds).mkdir()
    for number in range(3):
        soundfile.write(f"{sounds}/{number}.wav", noise(RATE, number), RATE)
    make_workdir(tmp_path / "run")
    verbs = [
        ["embed", "--model", model, sounds, "--out", vectors],
        ["index", vectors, "--out", str(tmp_path / "i")],
        ["classify", "--model", model, "--labels", "dog,rain", sounds],
        ["search", "--model", model, "--index", str(tmp_path / "i"), "rain"],
        ["search", "--model", str(tmp_path / "run"), "--index", vectors, "rain"],
        ["train", "--config", "c.py", "--data_dir", "d", "--workdir", "w"],
    ]
    command = [sys.executable, "-c", WITHOUT, json.dumps(TRAINING), json.dumps(verbs)]
    done = subprocess.run(command, env=quick_env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line in ("0", "1", "2")] == ["0", "0", "0", "0", "2", "2"]
    assert sum(f"{sounds}/1.wav" in line for line in lines) == 2
    run, train = [line for line in done.stderr.splitlines() if line.startswith("clapjax ")]
    assert run.startswith(f"clapjax search: {tmp_path / 'run'}: a run's checkpoints are read with")
    assert "pip install 'clapjax[train]'" in run and "pip install 'clapjax[train]'" in train
