"""Files of embeddings: read back, read by others, damaged, and told apart by their model."""

import dataclasses
import json

import jax
import numpy as np
import pyarrow.parquet
import pytest

from clapjax.inference import store
from clapjax.inference.store import Table, check_output, fingerprint, read_table
from clapjax.interop.export import write_model
from clapjax.interop.load import Pretrained, load_pretrained


def _table(rows: int = 7, times: bool = True) -> Table:
    generator = np.random.default_rng(rows)
    vectors = generator.normal(size=(rows, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    stretches = np.stack([np.arange(rows) * 0.5, np.arange(rows) * 0.5 + 1], axis=1)
    stretches[-1] = np.nan  # a text
    return Table(
        vectors,
        [f"Größe/犬 {i}.wav" for i in range(rows - 1)] + ["a dog\nbarks"],
        ["audio"] * (rows - 1) + ["text"],
        "laion/clap",
        {"audio": "0" * 32, "text": "1" * 32},
        stretches if times else None,
    )


@pytest.mark.parametrize("name", ["a.npz", "a.parquet"])
@pytest.mark.parametrize("times", [True, False])
def test_read_back(tmp_path, name, times):
    table = _table(times=times)
    store.write_table(tmp_path / name, table)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    found = read_table(tmp_path / name)
    np.testing.assert_array_equal(found.vectors, table.vectors)
    assert found.vectors.dtype == np.float32
    assert (found.names, found.kinds) == (table.names, table.kinds)
    assert (found.model, found.fingerprints) == (table.model, table.fingerprints)
    if times:
        np.testing.assert_array_equal(found.times, table.times)
    else:
        assert found.times is None


def test_numpy_and_pyarrow_read_them(tmp_path):
    table = _table()
    store.write_table(tmp_path / "a.npz", table)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert set(file) == {"vectors", "names", "kinds", "times", "metadata"}
        assert file["names"].tolist() == table.names
        assert json.loads(str(file["metadata"]))["model"] == "laion/clap"
    store.write_table(tmp_path / "a.parquet", table)
    rows = pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist()
    np.testing.assert_allclose([row["embedding"] for row in rows], table.vectors)
    assert [row["name"] for row in rows] == table.names
    assert rows[2]["start"] == 1.0 and rows[2]["end"] == 2.0


@pytest.mark.parametrize("name", ["a.npz", "a.parquet"])
def test_whole_or_not_at_all(tmp_path, monkeypatch, name):
    store.write_table(tmp_path / name, _table())
    before = (tmp_path / name).read_bytes()

    def fail(file, *_):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(store, "_write_npz", fail)
    monkeypatch.setattr(store, "_write_parquet", fail)
    with pytest.raises(OSError, match="disk full"):
        store.write_table(tmp_path / name, _table(3))
    assert (tmp_path / name).read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.npz", "a.parquet"])
def test_damaged_files_are_one_error(tmp_path, name):
    """Cut anywhere, or with bytes changed: the same rows, or an error that names the file."""
    table = _table()
    store.write_table(tmp_path / name, table)
    whole, bad = (tmp_path / name).read_bytes(), tmp_path / f"bad-{name}"
    generator = np.random.default_rng(0)
    refused = 0
    for trial in range(60):
        data = bytearray(whole)
        if trial % 2:
            for place in generator.integers(0, len(data), 1 + trial):
                data[place] ^= int(generator.integers(1, 256))
        else:
            data = data[: generator.integers(0, len(data))]
        bad.write_bytes(data)
        try:
            found = read_table(bad)
        except ValueError as error:
            assert str(error).startswith(f"{bad}: damaged, or no file of embeddings (")
            assert "\n" not in str(error)
            refused += 1
        else:
            assert found.vectors.shape == table.vectors.shape
    assert refused > 40


def test_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    np.savez(tmp_path / "pickle.npz", vectors=np.array([{}], object), allow_pickle=True)
    (tmp_path / "text.parquet").write_text("no")
    for name in ("other.npz", "pickle.npz", "text.parquet"):
        with pytest.raises(ValueError, match=f"{name}: damaged, or no file of embeddings"):
            read_table(tmp_path / name)
    for name in ("nowhere.npz", "a.csv"):
        with pytest.raises(ValueError, match=f"{name}: no such file of embeddings"):
            read_table(tmp_path / name)


def test_check_output(tmp_path):
    check_output(tmp_path / "a.npz", ["x" * 1000] * 1000)
    for path, names, message in (
        (tmp_path / "a.csv", (), r"a\.csv: the name must end in \.npz or \.parquet"),
        (tmp_path / "no" / "a.npz", (), "cannot be written there"),
        (tmp_path / "a.npz", ["x" * 100_000, *["x"] * 10_000], "4 GiB; write .parquet"),
    ):
        with pytest.raises(ValueError, match=message):
            check_output(path, names)
    check_output(tmp_path / "a.parquet", ["x" * 100_000, *["x"] * 10_000])


def test_a_folder_of_parts_is_one_table(tmp_path, monkeypatch):
    """In the order of their names, whatever is read at once; times where a part has some."""
    monkeypatch.setattr(store, "BLOCK", 3)
    first, second = _table(7), _table(5, times=False)
    second = dataclasses.replace(second, fingerprints={"audio": "0" * 32})
    store.write_table(tmp_path / "parts-00001.parquet", second)
    store.write_table(tmp_path / "parts-00000.parquet", first)
    found = read_table(tmp_path)
    np.testing.assert_array_equal(found.vectors, np.concatenate([first.vectors, second.vectors]))
    assert found.names == first.names + second.names and found.kinds == first.kinds + second.kinds
    np.testing.assert_array_equal(found.times[:7], first.times)
    assert np.isnan(found.times[7:]).all() and found.fingerprints == first.fingerprints
    assert max(len(table.names) for table in store.read_tables(tmp_path)) == 3


def test_fingerprints_tell_models_apart(clap):
    config, variables = clap.config, clap.variables
    prints = {tower: fingerprint(config, variables, tower) for tower in ("audio", "text")}
    assert len(set(prints.values())) == 2
    only_text = {"params": {k: v for k, v in variables["params"].items() if "audio" not in k}}
    assert fingerprint(config, only_text, "text") == prints["text"]

    params = dict(variables["params"])
    kernel = np.array(params["text_projection"]["linear1"]["kernel"])
    kernel[3, 2] = np.nextafter(kernel[3, 2], 9)  # the smallest of changes
    bias = params["text_projection"]["linear1"]["bias"]
    params["text_projection"] = params["text_projection"] | {
        "linear1": {"kernel": kernel, "bias": bias}
    }
    changed = variables | {"params": params}
    assert fingerprint(config, changed, "text") != prints["text"]
    assert fingerprint(config, changed, "audio") == prints["audio"]

    audio = dataclasses.replace(config.audio, mel_scale="htk")
    other = dataclasses.replace(config, audio=audio)
    assert fingerprint(other, variables, "audio") != prints["audio"]
    other = dataclasses.replace(config, compute_dtype="bfloat16")  # how, not what
    assert fingerprint(other, variables, "audio") == prints["audio"]


def test_fingerprints_survive_an_export(clap, tmp_path):
    """Hugging Face's layout drops what only training needs, and holds the weights otherwise."""
    model = Pretrained(clap.config, jax.device_get(clap.variables), clap.tokenizer)
    for layout in ("hf", "clapjax"):
        write_model(tmp_path / layout, model, layout)
        found = load_pretrained(tmp_path / layout)
        for tower in ("audio", "text"):
            expected = fingerprint(clap.config, clap.variables, tower)
            assert fingerprint(found.config, found.variables, tower) == expected
            assert store.told_fingerprints(tmp_path / layout)[tower] == expected
    assert store.told_fingerprints(tmp_path) == {}


def test_fingerprints_outlive_new_fields(clap, monkeypatch):
    """A field that a later version adds changes nothing where it has its default."""
    before = fingerprint(clap.config, clap.variables, "audio")
    plain = store.to_dict
    monkeypatch.setattr(store, "to_dict", lambda config: plain(config) | {"new_field": 0})
    assert fingerprint(clap.config, clap.variables, "audio") == before
    new = lambda config: plain(config) | {"new_field": int(config == clap.config)}  # noqa: E731
    monkeypatch.setattr(store, "to_dict", new)
    assert fingerprint(clap.config, clap.variables, "audio") != before
