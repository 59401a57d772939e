"""What the page is asked, without the page: against the same question to `Clap` itself."""

import os
import shutil
import socket
import sys

import numpy as np
import pytest
import soundfile

from clapjax.app import figures, listening
from clapjax.app.library import (
    MOST_NAMES,
    Library,
    find,
    make_library,
    open_library,
    write_sounds,
)
from clapjax.audio.files import AudioError, audio_seconds, read_audio
from clapjax.cli.main import main
from clapjax.inference.index import Index
from clapjax.inference.store import Table, fingerprint, write_table
from clapjax.synthesis.sounds import SOUND_CLASSES
from tests.app.conftest import LONG, SHORT
from tests.inference.tiny import RATE

LABELS = ["dog", "rain", "a siren"]


def test_a_library_has_what_can_be_heard_and_says_what_cannot(library, sounds):
    assert [library.title(name) for name in library.names] == ["below/three.wav", "long.wav"] + [
        "one.wav",
        "two.wav",
    ]
    (line,) = library.left_out
    assert line.startswith(f"{sounds}/broken.wav: ") and library.count == 4


def test_a_name_that_is_not_unicode_is_still_a_file(clap, sounds, tmp_path):
    strange = str(tmp_path / "\udce9.wav")
    with open(strange, "wb") as copy:
        copy.write((sounds / "one.wav").read_bytes())
    made = make_library(clap, [strange], tmp_path, lambda: None)
    (name,) = made.names
    assert name.encode() and made.path(name) == strange
    with pytest.raises(ValueError, match="none of 1 sounds can be heard; .*no such file"):
        make_library(clap, [str(tmp_path / "gone.wav")], tmp_path, lambda: None)


def test_each_sound_is_found_once_at_its_nearest_place(clap, library, sounds):
    """Though a second of the long one in each of ten minutes would fill every list."""
    times, vectors = clap.embed_windows(sounds / "long.wav")
    query = vectors[300]
    hits = find(library, query, 4)
    assert [hit.name for hit in hits[:1]] == [str(sounds / "long.wav")]
    assert (hits[0].start, hits[0].end) == (300, 301) and hits[0].score > 0.9999
    assert sorted(hit.name for hit in hits) == sorted(library.names)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for hit in hits:
        _, own = clap.embed_windows(hit.name)
        assert hit.score == pytest.approx(float((own @ query).max()), abs=1e-5)


def test_an_index_is_a_library_if_this_model_made_it_of_sounds(clap, sounds, tmp_path):
    file = str(sounds / "one.wav")
    made_by = {"audio": fingerprint(clap.config, clap.variables, "audio")}
    table = Table(clap.embed_audio([file]), [file], ["audio"], "m", made_by)
    write_table(tmp_path / "a.parquet", table)
    Index.build([table], tmp_path / "a.index")
    for path in ("a.parquet", "a.index"):
        opened = open_library(clap, tmp_path / path)
        assert (opened.names, opened.count, opened.path(file)) == ([file], 1, file)
        assert opened.missing() == []
    gone = Library(opened.index, [file, "gone.wav", "gs://bucket/a.wav"], 3)
    assert gone.missing() == ["gone.wav"]
    write_table(tmp_path / "b.npz", Table(table.vectors, ["x"], ["text"], "m", {}))
    with pytest.raises(ValueError, match="has texts alone"):
        open_library(clap, tmp_path / "b.npz")
    other = Table(table.vectors, [file], ["audio"], "m", {"audio": "0"})
    write_table(tmp_path / "c.npz", other)
    with pytest.raises(ValueError, match="made with another model"):
        open_library(clap, tmp_path / "c.npz")


def test_names_of_an_index_are_each_told_once(tmp_path):
    vectors = np.eye(4, dtype=np.float32)
    write_table(tmp_path / "x.npz", Table(vectors, list("aabc"), ["audio"] * 4, "m", {}))
    index = Index(tmp_path / "x.npz")
    assert index.names() == ["a", "b", "c"] and index.names("audio", 2) == ["a", "b"]
    assert MOST_NAMES > 100


@pytest.mark.parametrize(("look", "hop"), [("windows", 0.5), ("moments", 0.5)])
def test_labels_over_time_are_those_of_each_stretch(clap, sounds, look, hop):
    """A second here is a clip, so that both looks hear the same stretches."""
    path = str(sounds / "two.wav")
    found = listening.classify(clap, path, LABELS, look)
    assert found.whole == clap.classify([path], LABELS, long="windows")[0]
    assert list(found.over_time.rows) == list(found.whole)
    samples = read_audio(path, RATE)
    starts = np.arange(0, 1.6, hop)
    np.testing.assert_allclose(found.over_time.times, np.stack([starts, starts + 1], 1))
    cuts = [samples[round(s * RATE) :][:RATE] for s in starts]
    for each, expected in ((False, None), (True, True)):
        found = listening.classify(clap, path, LABELS, look, each)
        parts = clap.classify(cuts, LABELS, multi_label=bool(expected), sampling_rate=RATE)
        for label, row in found.over_time.rows.items():
            np.testing.assert_allclose(row, [part[label] for part in parts], atol=1e-5)


def test_a_long_sound_is_heard_whole_and_in_part(clap, sounds):
    path = str(sounds / "long.wav")
    found = listening.classify(clap, path, LABELS)
    times = found.over_time.times
    assert len(times) == 2 * LONG - 1 and times[-1, 1] == LONG  # windows, of which two overlap
    assert found.whole == clap.classify([path], LABELS, long="windows")[0]
    times, vectors = listening.listen_between(clap, path, 300.0, 302.5)
    samples = read_audio(path, RATE)
    for (start, end), vector in zip(times, vectors, strict=True):
        cut = samples[round(start * RATE) : round(end * RATE)]
        np.testing.assert_allclose(clap.embed_audio(cut, RATE)[0], vector, atol=1e-5)
    assert times[0, 0] == 300 and times[-1, 1] == 302.5
    with pytest.raises(ValueError, match="look must be one of auto, moments, windows, frames"):
        listening.listen(clap, path, "closely")


def test_the_place_of_a_hit(sounds):
    long, short = str(sounds / "long.wav"), str(sounds / "two.wav")
    assert listening.stretch_of(long, 5.0, 6.0) == (5.0, 6.0)
    assert listening.stretch_of(short, None, None) == (0, SHORT["two.wav"])
    assert listening.stretch_of(long, None, None) == (290, 310)
    with pytest.raises(AudioError):
        listening.stretch_of(str(sounds / "broken.wav"), None, None)


def test_which_order(clap, sounds):
    path = str(sounds / "two.wav")
    captions = "a dog barks and then rain falls", "rain falls and then a dog barks"
    found = listening.prefer(clap, path, captions, "frames")
    audio = clap.embed_audio([path], long="windows")
    cosines = clap.similarity(audio, clap.embed_text(captions))[0]
    np.testing.assert_allclose(found.cosines, cosines, atol=1e-6)
    assert found.first == (cosines[0] >= cosines[1])
    odds = np.exp(clap.scale * (cosines[0] - cosines[1]))
    assert found.probabilities[0] == pytest.approx(odds / (1 + odds), abs=1e-5)
    assert list(found.over_time.rows) == [*captions, "a dog barks", "rain falls"]
    times, vectors = clap.embed_frames(path)
    np.testing.assert_array_equal(found.over_time.times, times)
    for text, row in found.over_time.rows.items():
        np.testing.assert_allclose(row, vectors @ clap.embed_text(text)[0], atol=1e-5)
    turned = listening.prefer(clap, path, captions[::-1], "frames")
    assert turned.cosines == found.cosines[::-1]
    for same in (("a", "a"), ("a", " ")):
        with pytest.raises(ValueError, match="two different captions"):
            listening.prefer(clap, path, same)


@pytest.mark.parametrize(
    ("caption", "events", "turned"),
    [
        ("rain, then a bell", ["rain", "a bell"], "a bell, then rain"),
        ("a bell after rain", ["rain", "a bell"], "rain after a bell"),
        ("after a siren, dogs bark", ["a siren", "dogs bark"], "after dogs bark, a siren"),
        (
            "a cat followed by rain followed by wind",
            ["a cat", "rain", "wind"],
            "wind followed by rain followed by a cat",
        ),
        ("rain on a roof", [], None),
        ("", [], None),
    ],
)
def test_events_of_a_caption(caption, events, turned):
    assert listening.events(caption) == events
    if turned is None:
        with pytest.raises(ValueError, match="states no order"):
            listening.turned_round(caption)
    else:
        assert listening.turned_round(caption) == turned


def test_the_embedded_sounds_in_both_orders(tmp_path):
    paths = write_sounds(tmp_path)
    names = {path.removeprefix(f"{tmp_path}/").removesuffix(".flac") for path in paths}
    pairs = {name for name in names if " then " in name}
    assert names - pairs == set(SOUND_CLASSES) and len(pairs) == 12
    assert {" then ".join(name.split(" then ")[::-1]) for name in pairs} == pairs
    one = tmp_path / f"{min(pairs)}.flac"
    first, second = (read_audio(tmp_path / f"{x}.flac", RATE) for x in one.stem.split(" then "))
    both = read_audio(one, RATE)
    np.testing.assert_allclose(both[: first.size - 99], first[:-99], atol=1e-3)
    np.testing.assert_allclose(both[99 - second.size :], second[99:], atol=2e-2)


def test_what_is_lost_is_told_and_the_rest_is_shown(clap, sounds, tmp_path):
    """An index may be older than the folder; what a name says is text on the page, no HTML."""
    files = [str(sounds / "one.wav"), "gone/<b>.wav"]
    table = Table(clap.embed_audio([files[0]] * 2), files, ["audio"] * 2, "m", {})
    write_table(tmp_path / "x.npz", table)
    library = open_library(clap, tmp_path / "x.npz")
    query = clap.embed_text("a dog")[0]
    found = figures.search(clap, library, query, "a dog", 5, listening.listen_between)
    (heard,) = found.heard
    assert heard.name == files[0] and heard.span == (0, 1)
    html = figures.show_found(clap, library, found, tmp_path)
    assert "1 sound lost since the index was made" in html and html.count("<figure") == 1
    assert "gone/&lt;b&gt;.wav: no such file" in html


def test_a_sound_that_goes_or_changes_meanwhile(clap, sounds, tmp_path):
    """Fails before: a whole answer was lost with a sound of it, and old moments were shown."""
    for name in ("a.wav", "b.wav"):
        shutil.copy(sounds / "one.wav", tmp_path / name)
    library = make_library(clap, [str(tmp_path / "a.wav"), str(tmp_path / "b.wav")], tmp_path, int)
    query, asked = clap.embed_text("a dog")[0], []
    listen = figures.remembered(lambda *x: asked.append(x) or listening.listen_between(*x), 9)
    for _ in range(2):
        found = figures.search(clap, library, query, "a dog", 5, listen)
    assert len(asked) == 2
    (tmp_path / "a.wav").unlink()
    html = figures.show_found(clap, library, found, tmp_path)
    assert html.count("<figure") == 1 and "a.wav: no such file" in html
    shutil.copy(sounds / "two.wav", tmp_path / "b.wav")
    os.utime(tmp_path / "b.wav", (1, 1))
    found = figures.search(clap, library, query, "a dog", 5, listen)
    assert [one.name for one in found.heard] == [str(tmp_path / "b.wav")] and len(asked) == 4


def test_players_have_the_stretch_alone(sounds, tmp_path):
    path = str(sounds / "long.wav")
    file = figures.play(path, (120.0, 121.5), tmp_path)
    assert audio_seconds(file) == 1.5 and figures.play(path, (120.0, 121.5), tmp_path) == file
    expected = np.clip(read_audio(path, figures.PLAYED_RATE, start=120, seconds=1.5), -1, 1)
    np.testing.assert_allclose(soundfile.read(file)[0], expected, atol=1e-4)


def test_one_line_says_what_is_wrong(sounds, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    gradio = "the page needs Gradio: pip install 'clapjax[app]'"
    taken = socket.create_server(("127.0.0.1", 0))
    port = str(taken.getsockname()[1])
    for arguments, message, absent in (
        ((), "no --model, and none of the demo in clapjax_demo/temporal: `clapjax demo`", False),
        (("--model", "m", "--port", "0"), "--port must be in 1 .. 65535, not 0", False),
        # Fails before: Gradio said so when all was embedded, and named what clapjax has not.
        (("--model", "m", "--port", port), f"--port {port}: cannot be served from (Addr", False),
        (("--model", "m", "--index", "i", "x.wav"), "--index is instead of files", False),
        (("--model", "m", "--index", "i"), gradio, True),
    ):
        if absent:
            monkeypatch.delitem(sys.modules, "clapjax.app.page", raising=False)
            monkeypatch.setitem(sys.modules, "gradio", None)
        assert main(["app", *arguments]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"clapjax app: {message}") and said.count("\n") == 1
    taken.close()
