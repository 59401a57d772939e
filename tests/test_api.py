"""`clapjax.load` and what the model that it gives can do."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import soundfile
import soxr

import clapjax
from clapjax.audio.files import AudioError
from clapjax.evaluation.benchmarks import load_tasks
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.evaluate import LACKS, evaluate
from clapjax.inference import Clap
from clapjax.interop.export import write_model
from clapjax.interop.load import Pretrained
from clapjax.synthesis.sounds import render

RATE = 16_000


@pytest.fixture(scope="module")
def clap(demo_workdir) -> Clap:
    return clapjax.load(demo_workdir, batch_size=4)


@pytest.fixture(scope="module")
def bark() -> np.ndarray:
    return render("dog bark", 1, 2.0, RATE)


def _close(left, right, atol=1e-6) -> None:
    np.testing.assert_allclose(left, right, atol=atol)


def test_embeddings_have_unit_length(clap, bark):
    for rows in (clap.embed_audio([bark, bark[:999]]), clap.embed_text(["a dog", "rain"])):
        assert rows.shape == (2, clap.config.projection_size) and rows.dtype == np.float32
        _close(np.linalg.norm(rows, axis=1), 1.0, 1e-5)
        assert np.abs(rows[0] - rows[1]).max() > 1e-4  # they are not all the same


@pytest.mark.parametrize("count", [1, 2, 4, 5, 9])
def test_alone_as_among_others(clap, count):
    sounds = [render("rain", i, 0.5 + 0.2 * i, RATE) for i in range(count)]
    texts = [f"sound number {i}" for i in range(count)]
    audio, text = clap.embed_audio(sounds), clap.embed_text(texts)
    assert len(audio) == len(text) == count
    np.testing.assert_array_equal(clap.embed_audio(sounds[-1]), audio[-1:])  # bit for bit
    np.testing.assert_array_equal(clap.embed_text(texts[-1]), text[-1:])


def test_every_kind_of_input_gives_the_same(clap, bark, tmp_path):
    pcm = (bark * 32767).astype(np.int16)
    expected = clap.embed_audio([pcm])
    soundfile.write(tmp_path / "bark.wav", pcm, RATE)
    _close(clap.embed_audio(pcm), expected)
    _close(clap.embed_audio(pcm.astype(np.float32) / 32767), expected, 1e-5)
    _close(clap.embed_audio(pcm.astype(np.float64) / 32767), expected, 1e-5)
    _close(clap.embed_audio(tmp_path / "bark.wav"), expected, 1e-3)  # libsndfile has 32768
    _close(clap.embed_audio([str(tmp_path / "bark.wav")]), expected, 1e-3)
    _close(clap.embed_audio((pcm, pcm)), np.repeat(expected, 2, axis=0))
    stereo = np.stack([pcm, pcm], axis=1)  # (T, 2): one clip
    _close(clap.embed_audio(stereo), expected, 1e-5)
    _close(clap.embed_audio([stereo]), expected, 1e-5)
    _close(clap.embed_audio(list(np.stack([pcm, pcm]))), np.repeat(expected, 2, axis=0))


def test_another_sampling_rate_is_resampled(clap, bark):
    fast = soxr.resample(bark, RATE, 44_100, quality="HQ")
    back = soxr.resample(fast, 44_100, RATE, quality="HQ")
    found = clap.embed_audio(fast, sampling_rate=44_100)
    _close(found, clap.embed_audio(back), 1e-5)
    assert np.abs(found - clap.embed_audio(fast)).max() > 1e-4  # the rate matters


def test_a_long_clip_is_cut_in_the_middle(clap):
    length = clap.config.audio.clip_samples
    noise = np.random.default_rng(0).normal(0, 0.1, length + 2000).astype(np.float32)
    _close(clap.embed_audio(noise), clap.embed_audio(noise[1000:-1000]))


def test_nothing_in_nothing_out(clap):
    size = clap.config.projection_size
    assert clap.embed_audio([]).shape == clap.embed_text([]).shape == (0, size)


def test_similarity_is_the_cosine(clap, bark):
    audio, text = clap.embed_audio([bark, bark[::-1]]), clap.embed_text(["a", "b", "c"])
    found = clap.similarity(audio, text)
    assert found.shape == (2, 3) and found.dtype == np.float32
    _close(found[1, 2], sum(audio[1] * text[2]), 1e-6)


def test_classify(clap, bark):
    labels = ["dog_bark", "rain", "a {curly} label"]
    rows = clap.classify([bark, bark[::-1]], labels)
    assert len(rows) == 2
    for row in rows:
        assert set(row) == set(labels)
        assert sum(row.values()) == pytest.approx(1, abs=1e-6)
        assert list(row.values()) == sorted(row.values(), reverse=True)
    prompts = clap.embed_text(
        [f"This is a sound of {label}." for label in ("dog bark", *labels[1:])]
    )
    scale = np.exp(clap.params["logit_scale_a"])
    logits = scale * clap.similarity(clap.embed_audio(bark), prompts)[0]
    expected = np.exp(logits) / np.exp(logits).sum()
    _close([rows[0][label] for label in labels], expected, 1e-5)
    assert clap.classify([bark], labels, template="{}")[0] != rows[0]


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros(0, np.float32), r"audio 0: expected \(T,\) or \(T, channels\) samples"),
        (np.array([0.1, np.nan]), "audio 0: holds NaN or Inf"),
        ([np.ones(99), np.array([np.inf] * 9)], "audio 1: holds NaN or Inf"),
        (np.ones(9, np.int8), "audio 0: expected float, int16 or int32 samples, not int8"),
        (np.full(99, 20_000.0), "audio 0: has samples up to 2e.04; float audio is in -1 .. 1"),
        (np.float32(1.0), "audio 0: expected"),
        (None, "audio 0: expected a path or an array, not <class 'NoneType'>"),
        ([[0.1, 0.2]], "audio 0: expected a path or an array, not <class 'list'>"),
        ("nowhere.wav", "nowhere.wav: no such file"),
        (["nowhere.wav"], "nowhere.wav: no such file"),
    ],
)
def test_bad_audio(clap, audio, message):
    with pytest.raises(AudioError, match=message):
        clap.embed_audio(audio)


def test_bad_rate_and_bad_files(clap, tmp_path):
    with pytest.raises(AudioError, match="sample rate must be in 100 .* Hz, not 0"):
        clap.embed_audio(np.ones(99), sampling_rate=0)
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(AudioError, match="text.wav: cannot be decoded"):
        clap.embed_audio(tmp_path / "text.wav")


def test_bad_text(clap):
    for texts in ([3], ["a", None], None, [b"a"]):
        with pytest.raises(TypeError):
            clap.embed_text(texts)


def test_load_refuses(tmp_path):
    for model, message in (
        (tmp_path, "no model here; expected clapjax.json or config.json"),
        (tmp_path / "nowhere", "nowhere: no such file or folder"),
    ):
        with pytest.raises(ValueError, match=message):
            clapjax.load(model)
    with pytest.raises(ValueError, match="towers must be one of both, audio, text, not 'Text'"):
        clapjax.load(tmp_path, towers="Text")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"projection_siz": 7}, r"config.json: .*no field 'model.projection_siz'.*was it edited"),
        ({"projection_size": "7"}, r"config.json: .*must be a whole number, not '7'"),
    ],
)
def test_load_refuses_an_edited_config(demo_workdir, tmp_path, fields, message):
    edited = tmp_path / "edited"
    shutil.copytree(demo_workdir, edited)
    values = json.loads((edited / "config.json").read_text())
    (edited / "config.json").write_text(json.dumps(values | {"model": values["model"] | fields}))
    with pytest.raises(ValueError, match=message) as caught:
        clapjax.load(edited)
    assert str(edited) in str(caught.value)


def test_load_one_tower(clap, demo_workdir, bark):
    """Nothing of the other one is read; what there is gives the same."""
    audio = clapjax.load(demo_workdir, batch_size=4, towers="audio")
    text = clapjax.load(demo_workdir, batch_size=4, towers="text")
    scales = {"logit_scale_a", "logit_scale_t"}
    assert set(audio.params) - scales == {"audio_encoder", "audio_projection"}
    assert set(text.params) - scales == {"text_encoder", "text_projection"}
    np.testing.assert_array_equal(audio.embed_audio(bark), clap.embed_audio(bark))
    np.testing.assert_array_equal(text.embed_text("a dog"), clap.embed_text("a dog"))
    for part, tower, call in (
        (audio, "text", lambda: audio.embed_text("a dog")),
        (text, "audio", lambda: text.embed_audio(bark)),
        (text, "audio", lambda: text.embed_windows(bark)),
        (text, "audio", lambda: text.embed_frames(bark)),
    ):
        message = f"loaded without its {tower} tower; load it with towers='both'"
        with pytest.raises(ValueError, match=message):
            call()
        assert part.config == clap.config


def test_load_an_export(clap, demo_workdir, bark, tmp_path):
    model = Pretrained(clap.config, jax.device_get(clap.variables), clap.tokenizer)
    write_model(tmp_path / "export", model, "clapjax")
    for towers in ("both", "audio", "text"):
        found = clapjax.load(tmp_path / "export", batch_size=4, towers=towers)
        if towers != "text":
            np.testing.assert_array_equal(found.embed_audio(bark), clap.embed_audio(bark))
        if towers != "audio":
            np.testing.assert_array_equal(found.embed_text("a dog"), clap.embed_text("a dog"))


def test_load_with_another_tokenizer(clap, demo_workdir, tmp_path):
    clap.tokenizer.save_pretrained(tmp_path / "tokenizer")
    found = clapjax.load(demo_workdir, batch_size=4, tokenizer=tmp_path / "tokenizer")
    np.testing.assert_array_equal(found.embed_text("a dog"), clap.embed_text("a dog"))


def test_load_before_the_first_checkpoint(demo_workdir, tmp_path):
    (tmp_path / "config.json").write_bytes((demo_workdir / "config.json").read_bytes())
    (tmp_path / "tokenizer").mkdir()
    for file in (demo_workdir / "tokenizer").iterdir():
        (tmp_path / "tokenizer" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(FileNotFoundError, match="no checkpoint yet; train first"):
        clapjax.load(tmp_path)


def test_evaluation_is_deterministic(clap, demo_records, demo_workdir):
    tasks, _ = load_tasks("demo", demo_records, EvaluationConfig(), LACKS)

    def run(model):
        return evaluate(model, "demo", tasks, EvaluationConfig())

    first, again = run(clap), run(clap)
    for left, right in zip(first, again, strict=True):
        assert left.metrics == right.metrics
        for name, column in left.items.items():
            np.testing.assert_array_equal(column, right.items[name])
    one_by_one = run(clapjax.load(demo_workdir, batch_size=1))
    _close(first[0].items["margin"], one_by_one[0].items["margin"], 1e-5)


def test_import_is_light():
    script = (
        "import sys, clapjax; "
        "heavy = {'tensorflow', 'torch', 'matplotlib', 'transformers', 'jax'} & set(sys.modules); "
        "assert not heavy, heavy; print(clapjax.__version__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == clapjax.__version__


# Nobody finds PyTorch, as where it is not installed: scipy looks for it among what is imported.
WITHOUT_TORCH = """
import sys
class Finder:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, *rest):
        return None if name.partition(".")[0] == "torch" else self.finder.find_spec(name, *rest)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path = [Finder(finder) for finder in sys.meta_path]
import clapjax
clapjax.load(sys.argv[1]).embed_text("a dog")
print(sorted({"tensorflow", "matplotlib", "torch"} & set(sys.modules)))
"""


def test_load_imports_no_tensorflow_and_misses_no_pytorch(demo_workdir, quick_env):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(demo_workdir)],
        env=quick_env,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert "PyTorch" not in done.stderr  # of which transformers would warn


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        clapjax.lode  # noqa: B018
