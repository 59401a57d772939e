"""`clapjax embed`, `classify` and `search`, with a tiny model of random weights."""

import json
import os
import shutil
import sys

import numpy as np
import pytest
import soundfile
from scipy.special import expit

import clapjax
from clapjax.data.paths import as_path, copy_folder
from clapjax.evaluation.result import Metric, Result, write_results
from clapjax.inference import TEMPLATE
from clapjax.inference.store import fingerprint, model_fingerprint, read_table
from tests.cli.status import main_status as _main
from tests.inference.tiny import RATE, make_workdir, noise


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return make_workdir(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def clap(workdir):
    return clapjax.load(workdir)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Four sounds in two folders, a broken one and what is no sound."""
    folder = tmp_path_factory.mktemp("sounds")
    (folder / "deep" / "er").mkdir(parents=True)
    for name, seconds in (("b.wav", 0.5), ("a.WAV", 1), ("deep/c.flac", 2.5), ("deep/er/d.ogg", 1)):
        soundfile.write(folder / name, noise(int(seconds * RATE), len(name)), RATE)
    (folder / "deep" / "broken.flac").write_text("no sound")
    (folder / "notes.txt").write_text("not audio")
    return folder


GOOD = ["a.WAV", "b.wav", "deep/c.flac", "deep/er/d.ogg"]


def _errors(capsys) -> list[str]:
    """What a verb complained of, without the lines of progress."""
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("clapjax ")]


# --- embed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_embed_folders_and_texts(workdir, clap, sounds, tmp_path, capsys, suffix):
    """The broken file is named, and is the only one that is not in the file."""
    out, texts = tmp_path / f"index.{suffix}", tmp_path / "texts.txt"
    texts.write_text("a dog barks\n\n  rain falls \r\n", "utf-8")
    where = ("--model", workdir, "--out", out, "--texts", texts, "--text", "a siren")
    assert _main("embed", sounds, *where) == 1
    captured = capsys.readouterr()
    assert captured.out == f"{out}: 7 embeddings of 7 of 8 inputs\n"
    first, second, *last = [x for x in captured.err.splitlines() if x.startswith("clapjax ")]
    broken = sounds / "deep" / "broken.flac"
    assert first == "clapjax embed: left out: 1 .txt"
    assert second.startswith(f"clapjax embed: {broken}: cannot be decoded")
    assert last == ["clapjax embed: 1 input left out"]
    table = read_table(out)
    assert table.names == [str(sounds / n) for n in GOOD] + ["a siren", "a dog barks", "rain falls"]
    assert table.kinds == ["audio"] * 4 + ["text"] * 3 and table.times is None
    expected = clap.embed_audio([sounds / name for name in GOOD])
    np.testing.assert_allclose(table.vectors[:4], expected, atol=1e-6)
    np.testing.assert_allclose(table.vectors[4:], clap.embed_text(table.names[4:]), atol=1e-6)
    assert [file.name for file in tmp_path.iterdir() if "partial" in file.name] == []


def test_embed_from_a_bucket_into_it(workdir, sounds, bucket_of, tmp_path, capsys):
    """A folder there, a file that is not, and one of which the folder had told: as from here."""
    there = bucket_of("gs")
    copy_folder(sounds, as_path(there) / "sounds")
    files = [f"{there}/sounds/gone.wav", f"{there}/sounds/b.wav"]
    (tmp_path / "list").write_text("\n".join(files))
    embed = ("embed", "--model", workdir, "--out")
    assert _main(*embed, f"{there}/parts", f"{there}/sounds", "--files", tmp_path / "list") == 1
    gone, told, left_out, broken = sorted(_errors(capsys), key=lambda line: "gone" not in line)
    assert gone.startswith(f"clapjax embed: {files[0]}: cannot be read (")
    assert (told, broken) == ("clapjax embed: left out: 1 .txt", "clapjax embed: 2 inputs left out")
    assert left_out.startswith(f"clapjax embed: {there}/sounds/deep/broken.flac: cannot be decoded")
    assert _main(*embed, tmp_path / "here.npz", sounds, sounds / "b.wav") == 1
    copy_folder(as_path(there) / "parts", tmp_path / "parts")
    table, here = read_table(tmp_path / "parts"), read_table(tmp_path / "here.npz")
    assert table.names == [f"{there}/sounds/{name}" for name in (*GOOD, "b.wav")]
    np.testing.assert_array_equal(table.vectors[:4], here.vectors)
    assert _main(*embed, tmp_path / "x", f"{there}/none") == 2
    assert f"{there}/none: no such file, and no audio files below it" in capsys.readouterr().err


def test_embed_on_beam(workdir, sounds, tmp_path, capsys):
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed")
    embed = ("embed", "--model", workdir, sounds, "--text", "a siren", "--part_size", "2", "--out")
    assert _main(*embed, tmp_path / "here") == 1
    assert _main(*embed, tmp_path / "beam", "--runner", "direct") == 1
    here, beam = (
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
        for name in ("here", "beam")
    )
    assert here == beam and len(here) == 3
    assert capsys.readouterr().out.endswith(f"{tmp_path / 'beam'}: 5 embeddings of 5 inputs\n")
    assert _main(*embed, tmp_path / "a.npz", "--runner", "direct") == 2
    assert _main(*embed, tmp_path / "beam", "--beam_options", "--x") == 2


def test_embed_windows_with_times(workdir, clap, sounds, tmp_path, capsys):
    out = tmp_path / "index.npz"
    embed = ("embed", "--model", workdir, "--windows", "0.6", "--out", out, "--text", "a dog")
    assert _main(*embed, sounds / "deep" / "c.flac", sounds / "b.wav") == 0
    assert capsys.readouterr().out == f"{out}: 6 embeddings of 3 inputs\n"
    table = read_table(out)
    assert table.names == [str(sounds / "deep" / "c.flac")] * 4 + [str(sounds / "b.wav"), "a dog"]
    expected = [[0, 1], [0.6, 1.6], [1.2, 2.2], [1.5, 2.5], [0, 0.5], [np.nan, np.nan]]
    np.testing.assert_allclose(table.times, expected, atol=1e-9)
    times, vectors = clap.embed_windows(sounds / "deep" / "c.flac", 0.6)
    np.testing.assert_allclose(table.vectors[:4], vectors, atol=1e-6)
    np.testing.assert_allclose(table.times[:4], times)


def test_embed_long_audio_and_texts(workdir, clap, sounds, tmp_path, capsys):
    out = tmp_path / "index.npz"
    embed = ("embed", "--model", workdir, "--out", out, sounds / "deep" / "c.flac")
    assert _main(*embed, "--long", "windows", "--hop", "0.5") == 0
    found = read_table(out).vectors
    expected = clap.embed_audio(sounds / "deep" / "c.flac", long="windows", hop=0.5)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert _main("embed", "--model", workdir, "--out", out, "--text", "rain " * 99) == 0
    (line,) = _errors(capsys)
    assert line == (
        "clapjax embed: 1 of 1 texts are longer than the model's 24 tokens and were cut; the first "
        "is text 0"
    )


def test_parts_of_a_list(workdir, clap, sounds, tmp_path, monkeypatch, capsys):
    """They come to what one file holds; the same command again has nothing to do."""
    latin = os.fsencode(tmp_path) + b"/latin\xe9.wav"
    shutil.copy(os.fsencode(sounds / "b.wav"), latin)
    files = [*(os.fsencode(sounds / name) for name in GOOD), b"gone.wav", latin]
    (tmp_path / "list").write_bytes(b"\n".join(files))
    out = tmp_path / "parts"
    embed = ("embed", "--model", workdir, "--files", "-", "--text", "a dog", "--out", out)
    for found in ("", f"clapjax embed: {out}: 7 of 7 inputs were done before"):
        with (tmp_path / "list").open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            assert _main(*embed, "--part_size", "3") == 1
        captured = capsys.readouterr()
        assert captured.out == f"{out}: 6 embeddings of 6 of 7 inputs\n"
        assert (found in captured.err) and ("gone.wav: no such file" in captured.err) == (not found)
    tables = [read_table(file) for file in sorted(out.iterdir())]
    assert [file.name for file in sorted(out.iterdir())] == [
        f"parts-0000{number}.parquet" for number in range(3)
    ]
    names = [name for table in tables for name in table.names]
    assert names == [*(str(sounds / n) for n in GOOD), rf"{tmp_path}/latin\xe9.wav", "a dog"]
    vectors = np.concatenate([table.vectors for table in tables])
    heard = clap.embed_audio([*(sounds / name for name in GOOD), sounds / "b.wav"])
    np.testing.assert_allclose(vectors[:5], heard, atol=1e-6)
    np.testing.assert_allclose(vectors[5:], clap.embed_text("a dog"), atol=1e-6)
    towers = {t: fingerprint(clap.config, clap.variables, t) for t in ("audio", "text")}
    assert all(table.fingerprints == towers for table in tables)


def test_nothing_good_writes_nothing(workdir, sounds, tmp_path, capsys):
    out = tmp_path / "index.npz"
    inputs = (sounds / "deep" / "broken.flac", tmp_path / "missing.wav")
    assert _main("embed", "--model", workdir, "--out", out, *inputs) == 2
    lines = _errors(capsys)
    assert len(lines) == 3 and lines[1] == f"clapjax embed: {inputs[1]}: no such file"
    assert lines[2] == f"clapjax embed: none of the inputs could be embedded; {out} is not written"
    assert _main("embed", "--model", workdir, "--out", tmp_path / "parts", *inputs) == 2
    assert list(tmp_path.iterdir()) == []


# --- classify -------------------------------------------------------------------------------


def test_classify(workdir, clap, sounds, tmp_path, capsys):
    labels = ["dog", "rain on a roof", "siren"]
    where = ("classify", "--model", workdir, "--labels", "dog, rain on a roof,siren", sounds)
    assert _main(*where, "--json") == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["file"] for row in rows] == [str(sounds / name) for name in GOOD]
    expected = clap.classify([sounds / name for name in GOOD], labels)
    for row, probabilities in zip(rows, expected, strict=True):
        assert list(row["probabilities"]) == list(probabilities)
        assert row["probabilities"] == pytest.approx(probabilities, abs=1e-5)

    (tmp_path / "labels.txt").write_text("\n".join(labels))
    where = ("classify", "--model", workdir, "--labels_file", tmp_path / "labels.txt")
    assert _main(*where, "--template", "{}", "--top", "1", sounds / "b.wav") == 0
    (probabilities,) = clap.classify(sounds / "b.wav", labels, template="{}")
    best, most = next(iter(probabilities.items()))
    assert capsys.readouterr().out == f"{sounds / 'b.wav'}  {best} {100 * most:.1f} %\n"

    where = ("classify", "--model", workdir, "--json", "--multi_label", sounds / "b.wav")
    coarse = clapjax.load(workdir, device="cpu", dtype="bfloat16")
    for model, how in ((clap, ()), (coarse, ("--dtype", "bfloat16", "--device", "cpu:0"))):
        for some in (labels, labels[:1]):
            assert _main(*where, "--labels", ",".join(some), *how) == 0
            (wanted,) = model.classify(sounds / "b.wav", some, multi_label=True)
            found = json.loads(capsys.readouterr().out)["probabilities"]
            assert found == pytest.approx(wanted, abs=1e-5)


def judged(folder, clap, **calibration):
    """A folder of `clapjax eval` in which the model was judged with the default template."""
    told = {"fingerprint": model_fingerprint(clap.config, clap.variables), "template": TEMPLATE}
    metrics = {"accuracy": Metric(0.5, 0.1, 0.9)}
    told["calibration"] = {"threshold": 0.0, "slope": 8.0, "offset": -1.0} | calibration
    write_results(folder, [Result("tiny", "set", "zero_shot", 4, 0.5, metrics, told)])
    return folder


def test_classify_says_what_is_there(workdir, clap, sounds, tmp_path, capsys):
    labels, file = ["dog", "rain", "siren", "a bell"], sounds / "b.wav"
    where = ("classify", "--model", workdir, "--labels", ",".join(labels), file)
    cosines = clap.similarity(clap.embed_audio(file), clap.embed_labels(labels))[0]
    order = np.argsort(-cosines)
    middle = float(cosines[order[1:3]].mean())
    heard = [labels[i] for i in order[:2]]
    assert _main(*where, "--threshold", middle, "--json") == 0
    row = json.loads(capsys.readouterr().out)
    assert row["heard"] == heard and "presence" not in row
    assert row["cosines"] == pytest.approx(dict(zip(labels, cosines, strict=True)), abs=1e-6)
    assert _main(*where, "--threshold", "1") == 0
    assert capsys.readouterr().out == f"{file}  none of the labels\n"

    results = judged(tmp_path, clap, threshold=middle)
    assert _main(*where, "--threshold", results, "--json") == 0
    row = json.loads(capsys.readouterr().out)
    expected = {label: expit(8 * cosine - 1) for label, cosine in row["cosines"].items()}
    assert row["heard"] == heard and row["presence"] == pytest.approx(expected)
    for more, message in (
        (("--template", "{}"), "was measured with the template 'This is a sound of {}.', not '{}'"),
        (("--threshold", "3"), "--threshold: a cosine is in -1 .. 1, not 3"),
        (("--threshold", sounds), f"{sounds}/results.json: no results here"),
    ):
        assert _main(*where, "--threshold", results, *more) == 2
        assert message in capsys.readouterr().err


# --- search ---------------------------------------------------------------------------------


def test_search(workdir, clap, sounds, tmp_path, capsys):
    index = tmp_path / "index.parquet"
    embed = ("embed", "--model", workdir, "--windows", "1", "--out", index, "--text", "a dog")
    assert _main(*embed, *(sounds / name for name in GOOD)) == 0
    capsys.readouterr()
    search = ("search", "--model", workdir, "--index", index)
    assert _main(*search, "rain falls", "--top", "3", "--json") == 0
    hits = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    table = read_table(index)
    scores = clap.similarity(table.vectors, clap.embed_text("rain falls"))[:, 0]
    order = np.argsort(-scores)[:3]
    assert [hit["name"] for hit in hits] == [table.names[row] for row in order]
    np.testing.assert_allclose([hit["score"] for hit in hits], scores[order], atol=1e-6)
    for hit, row in zip(hits, order, strict=True):
        if hit["kind"] == "audio":
            assert [hit["start"], hit["end"]] == table.times[row].tolist()
        else:
            assert "start" not in hit

    assert _main(*search, "a dog", "--top", "9") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7 and lines[0] == "1.0000  a dog"
    assert sum(line.endswith(f"{sounds / 'deep' / 'c.flac'}  1.5-2.5 s") for line in lines) == 1

    heard = sorted(float(line.split()[0]) for line in lines[1:])
    for least in (heard[3] - 1e-3, judged(tmp_path, clap, threshold=heard[3] - 1e-3)):
        assert _main(*search, "a dog", "--threshold", least) == 0
        assert capsys.readouterr().out.splitlines() == lines[1:4]  # three windows; no text


def test_search_refuses_the_index_of_another_model(workdir, sounds, tmp_path, capsys):
    other = make_workdir(tmp_path / "other", seed=1)
    for name, what in (("audio.npz", sounds / "b.wav"), ("text.npz", "--text=a dog")):
        index = tmp_path / name
        assert _main("embed", "--model", other, "--out", index, what) == 0
        assert _main("search", "--model", other, "--index", index, "a dog") == 0
        capsys.readouterr()
        assert _main("search", "--model", workdir, "--index", index, "a dog") == 2
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err == (
            f"clapjax search: {index}: was made with another model ({other}); search with that "
            "one, or embed anew with this one\n"
        )


# --- bad input ------------------------------------------------------------------------------

EMBED = ("embed", "--model", "nowhere/at/all", "a.wav", "--out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*EMBED, "x.npz"), "nowhere/at/all"),
        (
            (*EMBED, "x.csv"),
            "must end in .npz or .parquet, or be a folder; say x.csv/",
        ),
        ((*EMBED, "x", "--part_size", "0"), "--part_size must be positive, not 0"),
        ((*EMBED, "x", "--text", " "), "--text ' ': there are no words in it, or no UTF-8"),
        ((*EMBED, "x", "--text", "\udce9"), "there are no words in it, or no UTF-8"),
        ((*EMBED, "x", "--files", "no.txt"), "no.txt: No such file or directory"),
        (("classify", "--model", "m", "--labels", "a,b"), "no audio files to classify"),
        (("classify", "--model", "m", "--labels", "a", "x.wav"), "one label alone always has 100"),
        (
            *[("classify", "--model", "m", "--labels", "a,b", "--threshold", "0", "--multi_label")],
            "--threshold has each label for itself already",
        ),
        ((*EMBED, "no/x.npz"), "no/x.npz: there is no folder no"),
        ((*EMBED, "x.npz", "--windows", "1", "--hop", "1"), "--windows is instead of --long"),
        ((*EMBED, "x.npz", "--texts", "no.txt"), "no.txt: cannot be read as UTF-8 text"),
        ((*EMBED, "x.npz", "--texts", "latin.txt"), "latin.txt: cannot be read as UTF-8 text"),
        ((*EMBED, "x.npz", "--texts", "empty.txt"), "empty.txt: no lines of text in it"),
        (("embed", "--model", "m", "--out", "x.npz"), "nothing to embed; name files"),
        (("search", "--model", "m", "--index", "no.npz", "q"), "no.npz: no such file of embedd"),
        (("search", "--model", "m", "--index", "bad.npz", "q"), "bad.npz: damaged, or no file"),
        (("search", "--model", "m", "--index", "no.npz", "q", "--top", "0"), "--top must be posi"),
        (
            ("search", "--model", "m", "--index", "no.npz"),
            "nothing to look for; name a QUERY, --au",
        ),
        (("search", "--index", "no.npz", "q"), "--model is needed, the one that made the index"),
        (("search", "--index", "no.npz", "q", "--duplicates", "1"), "--duplicates is instead of a"),
        (("index", "bad.npz", "--out", "i"), "bad.npz: damaged, or no file of embeddings"),
        (("classify", "--model", "m", "--labels", "a", "x.wav", "--top", "0"), "--top must be pos"),
        (("classify", "--model", "nowhere/at/all", "--labels", "a,b", "x.wav"), "nowhere/at/all"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.txt").write_bytes("Größe".encode("latin-1"))
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "bad.npz").write_text("no")
    assert _main(*arguments) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"clapjax {arguments[0]}: ")
    assert message in lines[0] and captured.out == ""
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bad.npz", "empty.txt", "latin.txt"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("--batch_size", "0"), "batch_size must be positive, not 0"),
        (("--long", "fusion"), "this model has no feature fusion"),
        (("--windows", "0"), "--windows must be in 0 .. 1 s (a clip), not 0"),
        (("--windows", "nan"), "--windows must be in 0 .. 1 s (a clip), not nan"),
    ],
)
def test_settings_that_do_not_fit_the_model(workdir, sounds, tmp_path, capsys, settings, message):
    out = tmp_path / "x.npz"
    assert _main("embed", "--model", workdir, "--out", out, sounds / "b.wav", *settings) == 2
    (line,) = _errors(capsys)
    assert message in line and not out.exists()


def test_labels_are_checked(workdir, sounds, capsys):
    for labels in (",", "a,a"):
        where = ("classify", "--model", workdir, "--labels", labels, sounds / "b.wav")
        assert _main(*where) == 2
        (line,) = _errors(capsys)
        assert "labels must be a list of different class names" in line


def test_in_a_process(command, workdir, sounds, tmp_path):
    """As a user runs it: no stack trace, no word from another library."""
    done = command("classify", "--model", workdir, "--labels", "dog,rain", sounds)
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 4
    first, second, *rest = done.stderr.splitlines()
    assert first == "clapjax classify: left out: 1 .txt"
    broken = sounds / "deep" / "broken.flac"
    assert second.startswith(f"clapjax classify: {broken}: cannot be dec")
    assert len(rest) == 1 and rest[0].startswith("classifying: 5 in ")
