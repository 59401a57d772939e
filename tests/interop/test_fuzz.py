"""Damaged and hostile checkpoints: one clear error each, no code run, nothing half-written."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from clapjax.cli.main import main
from clapjax.interop.export import write_model
from clapjax.interop.load import load_pretrained
from tests.audio.test_files import LFS, PAGE
from tests.interop.test_blat import write_blat
from tests.interop.torch_models import extractor, laion_state, transformers_clap

SWIN = {"depths": [2], "num_attention_heads": [1], "hidden_size": 8}
WEIGHTS = {"hf": "model.safetensors", "bin": "pytorch_model.bin", "own": "model.safetensors"}
WEIGHTS |= {"laion": "model.pt", "blat": "model.pth"}


@pytest.fixture(scope="module")
def sources(tmp_path_factory, roberta, bert) -> dict[str, Path]:
    """A folder for each layout, with the smallest model that it can hold."""
    root = tmp_path_factory.mktemp("sources")
    folders = {name: root / name for name in WEIGHTS}
    model = transformers_clap(audio=SWIN, text={"num_hidden_layers": 1})
    model.save_pretrained(folders["hf"])
    extractor().save_pretrained(folders["hf"])
    transformers.AutoTokenizer.from_pretrained(roberta).save_pretrained(folders["hf"])

    shutil.copytree(folders["hf"], folders["bin"])
    (folders["bin"] / "model.safetensors").unlink()
    torch.save(model.state_dict(), folders["bin"] / "pytorch_model.bin")
    write_model(folders["own"], load_pretrained(folders["hf"]), to="clapjax")

    audio = SWIN | {"spec_size": 256, "window_size": 8}
    text = {"num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 1}
    folders["laion"].mkdir()
    torch.save(
        {"state_dict": laion_state(transformers_clap(audio=audio, text=text))},
        folders["laion"] / "model.pt",
    )
    folders["blat"].mkdir()
    write_blat(folders["blat"], bert)
    return folders


class Importer:
    """Runs `clapjax import` on a damaged copy, and checks how it ends."""

    def __init__(self, sources, root, roberta, capsys):
        self.sources, self.root, self.roberta, self.capsys = sources, root, roberta, capsys
        self.errors: list[str] = []
        self.count = 0

    def copy(self, kind: str) -> Path:
        """A fresh copy of a source, to be damaged."""
        self.count += 1
        folder = self.root / f"{kind}{self.count}"
        shutil.copytree(self.sources[kind], folder)
        return folder

    def __call__(self, kind: str, folder: Path, must_fail: bool = True) -> None:
        source = folder / WEIGHTS[kind] if kind == "laion" else folder
        extra = ["--tokenizer", str(self.roberta)] if kind == "laion" else []
        out = self.root / "out"
        status = main(["import", str(source), str(out), *extra])
        err = self.capsys.readouterr().err
        if status == 0:
            assert not must_fail, f"{kind} {folder}: imported"
            variables = load_pretrained(out).variables
            leaves = [leaf for leaf in _leaves(variables)]
            assert leaves and all(np.isfinite(leaf).all() for leaf in leaves)
            shutil.rmtree(out)
        else:
            assert status == 2
            assert err.startswith("clapjax import: ") and err.count("\n") == 1, err
            assert str(folder) in err and len(err) < 3000
            self.errors.append(err)
        assert not [path for path in self.root.iterdir() if path.name.startswith("out")]
        shutil.rmtree(folder)


def _leaves(tree):
    for value in tree.values():
        yield from _leaves(value) if isinstance(value, dict) else [value]


@pytest.fixture
def attempt(sources, tmp_path, roberta, capsys):
    return Importer(sources, tmp_path, roberta, capsys)


def test_undamaged_sources_are_imported(attempt):
    """So that what the other tests see refused is refused for its damage."""
    for kind in WEIGHTS:
        attempt(kind, attempt.copy(kind), must_fail=False)
    assert attempt.errors == []


@pytest.mark.parametrize("kind", WEIGHTS)
def test_truncated_weights(kind, attempt):
    size = (attempt.sources[kind] / WEIGHTS[kind]).stat().st_size
    for place in (0, 1, 7, 8, 100, size // 3, size // 2, size - 1000, size - 1):
        folder = attempt.copy(kind)
        os.truncate(folder / WEIGHTS[kind], place)
        attempt(kind, folder)
    assert all(WEIGHTS[kind] in error for error in attempt.errors)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (LFS, "is a Git LFS pointer, not the file itself; run `git lfs pull`"),
        (PAGE, "is a saved web page, not the file; download it by its direct link"),
        (b"/annex/objects/MD5E-s1--d4.pt", "is a git-annex pointer, not the file; run `git annex"),
        (b'<?xml version="1.0"?><Error><Code>NoSuchKey', "is an error that a bucket gave, not"),
        (b"", "is an empty file"),
    ],
    ids=["lfs", "page", "annex", "bucket", "empty"],
)
def test_what_stands_in_the_place_of_a_file(head, message, attempt):
    settings = {"hf": "config.json", "own": "clapjax.json"}
    places = [*WEIGHTS.items(), *settings.items()]
    for kind, name in places:
        folder = attempt.copy(kind)
        (folder / name).write_bytes(head)
        attempt(kind, folder)
        assert f"{name}: {message}" in attempt.errors[-1]


@pytest.mark.parametrize("kind", WEIGHTS)
def test_flipped_bits(kind, attempt):
    """A changed weight that is still a number cannot be told from another weight; all else can."""
    rng = np.random.default_rng(1)
    content = (attempt.sources[kind] / WEIGHTS[kind]).read_bytes()
    for place in [*rng.integers(0, 400, 6), *rng.integers(0, len(content), 6)]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        folder = attempt.copy(kind)
        (folder / WEIGHTS[kind]).write_bytes(damaged)
        attempt(kind, folder, must_fail=False)


def _rewrite(kind: str, folder: Path, change) -> None:
    """Applies `change` to the tensors of a source."""
    file = folder / WEIGHTS[kind]
    if file.suffix == ".safetensors":
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file)
        return
    content = torch.load(file, weights_only=True)
    change(content.get("state_dict", content))
    torch.save(content, file)


BUFFERS = ("num_batches", "_index", "_ids", "mask", "tscam", ".head.", "transform", "extractor")


def _weights(tensors: dict) -> list[str]:
    """The names that must be there."""
    unused = (*BUFFERS, "melspec", "text_encoder.model.pooler")
    return sorted(name for name in tensors if not any(part in name for part in unused))


@pytest.mark.parametrize("kind", WEIGHTS)
def test_renamed_and_reshaped_weights(kind, attempt):
    rng = np.random.default_rng(2)
    told = {}

    def rename(tensors):
        told["name"] = name = rng.choice(_weights(tensors))
        tensors[f"{name}_old"] = tensors.pop(name)

    def reshape(tensors):
        names = [name for name in _weights(tensors) if tensors[name].ndim]
        told["name"] = name = rng.choice(names)
        tensors[name] = torch.cat([tensors[name], tensors[name][:1]]).contiguous()

    def to_integers(tensors):
        told["name"] = name = rng.choice(_weights(tensors))
        tensors[name] = tensors[name].to(torch.int64)

    def to_nan(tensors):
        told["name"] = name = rng.choice(_weights(tensors))
        tensors[name] = tensors[name] * torch.nan

    for change in (rename, rename, reshape, reshape, to_integers, to_nan):
        folder = attempt.copy(kind)
        _rewrite(kind, folder, change)
        attempt(kind, folder)
        if change in (to_integers, to_nan):
            assert told["name"] in attempt.errors[-1]


JUNK = (None, -1, 0, 1.5, "x", [], {}, True, [[3]], 10**6)


@pytest.mark.parametrize("kind", ["hf", "own", "blat"])
def test_settings_replaced_by_junk(kind, attempt):
    rng = np.random.default_rng(3)
    names = {"hf": ["config.json", "preprocessor_config.json"], "own": ["clapjax.json"]}
    for file in names.get(kind, ["config.json"]):
        for _ in range(14):
            folder = attempt.copy(kind)
            settings = json.loads((folder / file).read_text())
            inside, keys = settings, []
            while isinstance(inside, dict) and inside:
                keys.append(str(rng.choice(sorted(inside))))
                inside = inside[keys[-1]]
            target = settings
            for key in keys[:-1]:
                target = target[key]
            target[keys[-1]] = JUNK[rng.integers(len(JUNK))]
            (folder / file).write_text(json.dumps(settings))
            attempt(kind, folder, must_fail=False)
    assert attempt.errors


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("hf", "config.json"),
        ("hf", "preprocessor_config.json"),
        ("hf", "tokenizer.json"),
        ("own", "clapjax.json"),
        ("own", "tokenizer.json"),
        ("blat", "config.json"),
    ],
)
def test_damaged_json(kind, file, attempt):
    size = (attempt.sources[kind] / file).stat().st_size
    for content in (b"", b"[]", b"null", b"\xff\xfe", b"[" * 10**5, None):
        folder = attempt.copy(kind)
        if content is None:
            os.truncate(folder / file, size // 2)
        else:
            (folder / file).write_bytes(content)
        attempt(kind, folder)


# --- pickles with code ----------------------------------------------------------------------


class Call:
    """Pickles to a call of any function: what an attacker puts into a checkpoint."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def _attacks(marker: Path) -> dict[str, object]:
    """Objects whose unpickling would write the marker file."""
    command = f"open({str(marker)!r}, 'w').close()"
    array = np.empty(1, object)
    array[0] = Call(exec, command)
    return {
        "os.system": Call(os.system, f"touch '{marker}'"),
        "exec": Call(exec, command),
        "eval": Call(eval, f"open({str(marker)!r}, 'w').close()"),
        "open": Call(open, str(marker), "w"),
        "touch": Call(Path.touch, Path(marker)),
        "object array": array,
        "nested pickle": Call(pickle.loads, pickle.dumps(Call(exec, command))),
    }


ATTACKS = tuple(_attacks(Path("marker")))


@pytest.mark.parametrize("kind", ["bin", "laion", "blat"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_pickled_code_is_not_run(kind, attack, attempt, tmp_path):
    marker = tmp_path / "marker"
    hostile = _attacks(marker)[attack]
    good = torch.load(attempt.sources[kind] / WEIGHTS[kind], weights_only=True)

    def zipped(file):
        torch.save(good | {"epoch": hostile}, file)

    def legacy(file):
        torch.save(good | {"epoch": hostile}, file, _use_new_zipfile_serialization=False)

    def newer(file):
        torch.save(good | {"epoch": hostile}, file, pickle_protocol=5)

    def bare(file):
        file.write_bytes(pickle.dumps(good.keys() and {"a": hostile}))

    for write in (zipped, legacy, newer, bare):
        folder = attempt.copy(kind)
        write(folder / WEIGHTS[kind])
        attempt(kind, folder)
        assert "it holds more than weights" in attempt.errors[-1] or "damaged" in attempt.errors[-1]
        assert not marker.exists()

    # A reader that trusts the file would have written the marker.
    zipped(tmp_path / "file.pt")
    torch.load(tmp_path / "file.pt", weights_only=False)
    assert marker.exists()


def test_code_beside_the_tokenizer_is_not_run(attempt, tmp_path):
    folder, marker = attempt.copy("hf"), tmp_path / "marker"
    (folder / "custom.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass T: pass\n")
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    settings |= {"tokenizer_class": "T", "auto_map": {"AutoTokenizer": ["custom.T", "custom.T"]}}
    file.write_text(json.dumps(settings))
    attempt("hf", folder, must_fail=False)
    assert not marker.exists()


def test_no_pickle_is_read_where_there_are_safetensors(attempt, tmp_path):
    folder, marker = attempt.copy("hf"), tmp_path / "marker"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_attacks(marker)["exec"]))
    attempt("hf", folder, must_fail=False)
    assert attempt.errors == [] and not marker.exists()
