"""Embeddings: the same vector in any company, long audio by hand, texts, towers."""

import functools
import tracemalloc
import warnings

import jax
import numpy as np
import pytest
import soundfile
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from clapjax.audio.files import AudioError, read_audio
from clapjax.audio.mel import log_mel
from clapjax.data.tokenizer import tokenize
from clapjax.inference import Clap, Tagger
from clapjax.inference.pieces import INPUTS_AHEAD
from clapjax.inference.place import find_place
from clapjax.models.clap import Clap as ClapModule
from clapjax.models.clap import embed_waveform
from clapjax.tasks.tagging import TaggingConfig
from tests.inference.tiny import CAPTIONS, CLIP, CONFIGS, RATE, noise

KINDS = list(CONFIGS)
LENGTHS = (3000, 8000, 8001, 20_000, 100, 32_000, 12_345, 7999, 16_000, 16_001)
RAGGED = [noise(length, seed) for seed, length in enumerate(LENGTHS)]
TEXTS = ["", "a", "a dog", "rain falls", *CAPTIONS, "the " + CAPTIONS[0], "a dog, rain"]


def _close(left, right, atol=2e-6) -> None:
    np.testing.assert_allclose(left, right, atol=atol)


# --- the same vector in any company ---------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_alone_as_in_any_batch(claps, kind):
    """Bit for bit, whatever the number, order and lengths of the others."""
    clap = claps[kind]
    together = clap.embed_audio(RAGGED)
    _close(np.linalg.norm(together, axis=1), 1.0)
    assert len(np.unique(together.round(4), axis=0)) == len(RAGGED)
    order = np.random.default_rng(0).permutation(len(RAGGED))
    np.testing.assert_array_equal(clap.embed_audio([RAGGED[i] for i in order]), together[order])
    for samples, row in zip(RAGGED, together, strict=True):
        np.testing.assert_array_equal(clap.embed_audio(samples), row[None])


def test_alone_as_in_any_batch_in_windows(clap):
    together = clap.embed_audio(RAGGED, long="windows", hop=0.7)
    for samples, row in zip(RAGGED, together, strict=True):
        alone = clap.embed_audio(samples, long="windows", hop=0.7)
        np.testing.assert_array_equal(alone, row[None])


def test_texts_alone_as_in_any_batch(clap):
    together = clap.embed_text(TEXTS)
    assert len(np.unique(together.round(4), axis=0)) == len(TEXTS)
    np.testing.assert_array_equal(clap.embed_text(TEXTS[::-1]), together[::-1])
    for text, row in zip(TEXTS, together, strict=True):
        np.testing.assert_array_equal(clap.embed_text(text), row[None])


@pytest.mark.parametrize("kind", ["fused", "any_length"])
def test_padding_to_a_static_length_is_not_heard(claps, kind):
    """The waveform as long as it is, through the model."""
    clap, samples = claps[kind], noise(12_345, 6)
    exact = jax.jit(functools.partial(embed_waveform, ClapModule(clap.config)))(
        clap.variables, samples[None], lengths=np.array([samples.size], np.int32)
    )
    _close(clap.embed_audio(samples), exact, 1e-5)


def test_padding_of_texts_is_not_heard(clap):
    ids, mask = tokenize(clap.tokenizer, TEXTS, clap.config.text.max_length)
    text = jax.jit(functools.partial(ClapModule(clap.config).apply, method="text"))
    _close(clap.embed_text(TEXTS), text(clap.variables, ids, mask), 1e-5)


def test_a_bfloat16_model_keeps_its_float32_parameters(clap):
    place = find_place(dtype="bfloat16")
    half = Clap(clap.config, clap.variables, clap.tokenizer, clap.batch_size, place=place)
    jax.tree.map(np.testing.assert_array_equal, half.params, clap.params)
    found, exact = half.embed_text(TEXTS), clap.embed_text(TEXTS)
    assert 0 < np.abs(found - exact).max() < 0.05  # bfloat16 rounds to 2**-9


# --- inputs of every kind -------------------------------------------------------------------


def test_iterators_give_what_lists_do(clap):
    expected = clap.embed_audio(RAGGED)
    np.testing.assert_array_equal(clap.embed_audio(iter(RAGGED)), expected)
    np.testing.assert_array_equal(clap.embed_text(iter(TEXTS)), clap.embed_text(TEXTS))
    assert clap.embed_audio(iter([])).shape == clap.embed_text(iter([])).shape == (0, 8)


def test_an_iterator_may_reuse_its_array(clap):
    def inputs():
        buffer = np.zeros(CLIP, np.float32)
        for seed in range(20):
            buffer[:] = noise(CLIP, seed)
            yield buffer

    expected = clap.embed_audio([noise(CLIP, seed) for seed in range(20)])
    np.testing.assert_array_equal(clap.embed_audio(inputs()), expected)


def test_few_clips_are_taken_ahead(clap):
    """Of an endless iterator: those being decoded, a batch in flight and one being filled."""
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield noise(500, len(taken))

    for done, (index, vector) in enumerate(clap.each_audio(endless())):
        assert index == done and vector.shape == (8,)
        assert len(taken) <= done + INPUTS_AHEAD + 3 * clap.batch_size
        if done == 60:
            break


@pytest.mark.parametrize("kind", KINDS)
def test_each_of_several_devices_gets_as_many_rows_as_one_alone(claps, kind):
    """At any length: then its results are the same bits."""
    clap, shapes, longest = claps[kind], {}, noise(8 * CLIP)
    labels = TaggingConfig(tuple("abcdefgh"))
    params = {**clap.variables["params"], "head": {"bias": np.zeros(8, np.float32)}}

    def embed(variables, waveforms, lengths):
        shapes[who].add(waveforms.shape)
        return np.eye(1, 8, dtype=np.float32).repeat(len(waveforms), axis=0)

    for devices in (1, 8):
        sharding = NamedSharding(
            jax.make_mesh((devices,), "d", devices=jax.devices()[:devices]), P()
        )
        variables = jax.device_put({**clap.variables, "params": params}, sharding)
        forward = {"audio": embed, "text": None}
        embeds = Clap(clap.config, variables, clap.tokenizer, 4 * devices, forward).embed_audio
        tags = Tagger(clap.config, labels, variables, 4 * devices, forward).tag
        for name, call in (("embeds", embeds), ("tags", tags)):
            shapes[who := (name, devices)] = set()
            assert call([*RAGGED, longest]).shape == (len(RAGGED) + 1, 8)
    for name in ("embeds", "tags"):
        assert shapes[name, 8] == {(8 * rows, length) for rows, length in shapes[name, 1]}


def test_files_bytes_and_arrays_agree(clap, tmp_path):
    file = tmp_path / "sound.wav"
    soundfile.write(file, np.stack([noise(50_000, 1), noise(50_000, 2)], axis=1), 22_050)
    samples = read_audio(file, RATE)
    for long, hop in (("truncate", None), ("windows", 0.4)):
        expected = clap.embed_audio(samples, long=long, hop=hop)
        for source in (file, str(file), file.read_bytes(), [file]):
            found = clap.embed_audio(source, long=long, hop=hop)
            # The middle of a file is resampled by itself, which rounds otherwise.
            _close(found, expected, 1e-5 if long == "truncate" else 0)
    for function in (clap.embed_windows, clap.embed_frames):
        for found, expected in zip(function(file), function(samples), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_broken_inputs_are_reported_beside_the_others(clap, tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    inputs = [RAGGED[0], tmp_path / "text.wav", RAGGED[1], "nowhere.wav", np.zeros(0), RAGGED[2]]
    found = dict(clap.each_audio(inputs))
    assert sorted(found) == list(range(6))
    for index, message in ((1, "cannot be decoded"), (3, "no such file"), (4, "T > 0")):
        assert isinstance(found[index], AudioError) and message in str(found[index])
    good = np.stack([found[index] for index in (0, 2, 5)])
    np.testing.assert_array_equal(good, clap.embed_audio(RAGGED[:3]))
    with pytest.raises(AudioError, match=r"text\.wav: cannot be decoded"):
        clap.embed_audio(inputs)


def test_a_recording_that_breaks_off_in_the_middle(clap, tmp_path):
    """Windows of its good part were embedded by then: all the same it has no embedding."""
    samples = noise(40 * CLIP)
    samples[-100] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, RATE, subtype="FLOAT")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clapjax.audio.files.BLOCK_SAMPLES", CLIP)
        patch.setattr("clapjax.inference.pieces.LONG_SECONDS", 1.0)
        found = list(clap.each_windows([RAGGED[0], tmp_path / "nan.wav", RAGGED[1]]))
    assert sorted(index for index, _ in found) == [0, 1, 2]
    (error,) = (result for index, result in found if index == 1)
    assert isinstance(error, AudioError) and "NaN or Inf" in str(error)


# --- long audio -----------------------------------------------------------------------------


def test_defaults(claps):
    assert [claps[kind].default_long for kind in KINDS] == ["truncate", "fusion", "whole"]
    for kind in KINDS:
        clap = claps[kind]
        np.testing.assert_array_equal(
            clap.embed_audio(RAGGED[3]), clap.embed_audio(RAGGED[3], long=clap.default_long)
        )


@pytest.mark.parametrize("kind", KINDS)
def test_truncate_is_the_middle(claps, kind):
    found = claps[kind].embed_audio(RAGGED[3], long="truncate")
    np.testing.assert_array_equal(found, claps[kind].embed_audio(RAGGED[3][6000:14_000]))
    assert np.abs(found - claps[kind].embed_audio(RAGGED[3], long="windows")).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_windows_by_hand(claps, kind):
    """20,001 samples every 6000: three windows, and one that ends with the recording."""
    clap, samples = claps[kind], noise(20_001, 7)
    starts = (0, 6000, 12_000, 12_001)
    each = clap.embed_audio([samples[start : start + CLIP] for start in starts])
    times, found = clap.embed_windows(samples, 0.75)
    np.testing.assert_array_equal(found, each)
    _close(times, [[start / RATE, (start + CLIP) / RATE] for start in starts], 0)
    mean = each.astype(np.float64).mean(axis=0)
    found = clap.embed_audio(samples, long="windows", hop=0.75)
    _close(found, (mean / np.linalg.norm(mean))[None], 1e-7)


def test_one_window(clap):
    for samples in (RAGGED[0], RAGGED[1]):
        times, found = clap.embed_windows(samples)
        np.testing.assert_array_equal(times, [[0, samples.size / RATE]])
        np.testing.assert_array_equal(found, clap.embed_audio(samples))
        alone = clap.embed_audio(samples, long="windows", hop=0.1)
        np.testing.assert_array_equal(alone, found)


def test_a_long_recording_is_never_whole_in_memory(clap, tmp_path):
    """Twenty minutes are 37 MiB as float32; an embedding each second is 38 kB."""
    with soundfile.SoundFile(tmp_path / "long.wav", "w", RATE, 1) as out:
        for minute in range(20):
            out.write(noise(60 * RATE, minute))
    clap.embed_windows(noise(CLIP))  # compiled beforehand
    tracemalloc.start()
    times, vectors = clap.embed_windows(tmp_path / "long.wav")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert vectors.shape == (1200, 8) and times[-1].tolist() == [1199, 1200]
    assert peak < 12 * 2**20, f"{peak / 2**20:.0f} MiB"


def test_too_long_to_be_heard_at_once(claps, tmp_path):
    soundfile.write(tmp_path / "long.wav", np.zeros(601 * RATE), RATE)
    for source, message in (
        (tmp_path / "long.wav", r"long\.wav: 601 s is longer than 600 s; cut it"),
        (
            np.zeros(601 * RATE),
            "audio 0: 601 s is longer than 600 s; cut it, or use long='windows'",
        ),
    ):
        with pytest.raises(AudioError, match=message):
            claps["any_length"].embed_audio(source)
    hour = np.zeros(3601 * RATE, np.int16)
    with pytest.raises(AudioError, match="3601 s is longer than 3600 s"):
        claps["fused"].embed_audio(hour)
    claps["fused"].embed_audio(hour, long="truncate")


def test_fusion_hears_the_whole(claps):
    """Beyond the middle, where truncation is deaf; and the same every time."""
    clap, samples = claps["fused"], noise(4 * CLIP, 3)
    changed = samples.copy()
    changed[:CLIP] = noise(CLIP, 4)
    for long, deaf in (("truncate", True), ("fusion", False)):
        one, again, other = clap.embed_audio([samples, samples, changed], long=long)
        np.testing.assert_array_equal(one, again)
        assert (np.abs(one - other).max() < 1e-6) == deaf


def test_frames_by_hand(claps):
    clap, samples = claps["plain"], noise(20_000, 5)
    times, found = clap.embed_frames(samples)

    @jax.jit
    def of_clip(variables, clip):
        mel = log_mel(clip, clap.config.audio)
        return ClapModule(clap.config).apply(variables, mel, method="frames")

    def frames(start: int) -> np.ndarray:
        return np.asarray(of_clip(clap.variables, samples[None, start : start + CLIP]))[0]

    assert found.shape == (40, 8)  # 16 a second
    _close(times, [[i / 16, (i + 1) / 16] for i in range(40)], 1e-12)
    _close(found[:16], frames(0), 1e-5)
    _close(found[16:32], frames(8000), 1e-5)
    _close(found[32:], frames(12_000)[8:], 1e-5)  # the last window ends with the recording
    assert np.abs(found[32:] - frames(12_000)[:8]).max() > 1e-3


@pytest.mark.parametrize(
    ("kind", "samples", "frames", "seconds"),
    [
        ("plain", 100, 1, 1 / 16),
        ("plain", 3000, 6, 1 / 16),
        ("plain", 8001, 17, 1 / 16),
        ("fused", 8001, 17, 1 / 16),
        ("any_length", 3000, 2, 0.32),
        ("any_length", 8000, 3, 0.32),  # its last 0.04 s are no full frame
        ("any_length", 20_000, 8, 0.32),
    ],
)
def test_times_of_frames(claps, kind, samples, frames, seconds):
    times, found = claps[kind].embed_frames(noise(samples))
    assert found.shape == (frames, 8)
    _close(np.linalg.norm(found, axis=1), 1.0)
    start = np.arange(frames) * seconds
    _close(times[:, 0], start, 1e-12)
    _close(times[:, 1], np.minimum(start + seconds, samples / RATE), 1e-12)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("plain", {"long": "crop"}, "long must be one of truncate, windows, fusion, whole, not"),
        ("plain", {"long": "fusion"}, "this model has no feature fusion"),
        ("fused", {"long": "whole"}, "this model hears clips only"),
        ("plain", {"hop": 0.5}, "hop is for long='windows', not for 'truncate'"),
        ("plain", {"long": "windows", "hop": 0}, "hop must be in 0 .. 1 s"),
        ("plain", {"long": "windows", "hop": 1.01}, "hop must be in 0 .. 1 s"),
        ("plain", {"long": "windows", "hop": float("nan")}, "hop must be in 0 .. 1 s"),
        ("plain", {"long": "windows", "hop": "0.5"}, "hop must be in 0 .. 1 s .*, not '0.5'"),
    ],
)
def test_wrong_settings(claps, kind, settings, message):
    with pytest.raises(ValueError, match=message):
        claps[kind].embed_audio(RAGGED[0], **settings)


# --- text -----------------------------------------------------------------------------------


def test_long_texts_are_cut_with_one_warning(clap):
    limit = clap.config.text.max_length
    words = clap.tokenizer.tokenize(" ".join(CAPTIONS * 10))
    fits = clap.tokenizer.convert_tokens_to_string(words[: limit - 2])
    longer = clap.tokenizer.convert_tokens_to_string(words[: limit + 30])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = clap.embed_text([fits])
    texts = ["rain", longer, "a dog", longer] + ["rain"] * 300 + [longer]
    with pytest.warns(UserWarning) as caught:
        found = clap.embed_text(texts)
    assert [str(warning.message) for warning in caught] == [
        f"3 of 305 texts are longer than the model's {limit} tokens and were cut; the first is "
        "text 1"
    ]
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(found[[1, 3, 304]], np.repeat(expected, 3, axis=0))


# --- one tower ------------------------------------------------------------------------------


@pytest.mark.parametrize(("kept", "lost"), [("audio", "text"), ("text", "audio")])
def test_one_tower(clap, kept, lost):
    variables = {
        name: {key: value for key, value in tree.items() if not key.startswith(f"{lost}_")}
        for name, tree in clap.variables.items()
    }
    part = Clap(clap.config, variables, clap.tokenizer, clap.batch_size)
    ours = {"audio": lambda model: model.embed_audio(RAGGED), "text": lambda m: m.embed_text(TEXTS)}
    np.testing.assert_array_equal(ours[kept](part), ours[kept](clap))
    message = f"this model was loaded without its {lost} tower; load it with towers='both'"
    with pytest.raises(ValueError, match=message):
        ours[lost](part)
    with pytest.raises(ValueError, match=message):
        part.classify(RAGGED, ["dog", "rain"])


def test_batch_size_is_checked(clap):
    for size, message in (
        (0, "batch_size must be positive, not 0"),
        (2.5, "batch_size must be a whole number, not 2.5"),
        ("4", "batch_size must be a whole number, not '4'"),
        (True, "batch_size must be a whole number, not True"),
    ):
        with pytest.raises(ValueError, match=message):
            Clap(clap.config, clap.variables, clap.tokenizer, batch_size=size)


def test_a_text_that_is_not_unicode_is_named(clap):
    """Fails before: a TypeError of the tokenizer, which named no text."""
    with pytest.raises(ValueError, match=r"'a dog \\udce9': is not Unicode text; give it as UTF-8"):
        clap.embed_text(["rain", "a dog \udce9"])
