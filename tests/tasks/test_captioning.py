"""Captioning goes through the same loop: it learns, resumes, shards, micro-batches and plans."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from scipy import stats

from clapjax.data.tokenizer import load_tokenizer, train_tokenizer
from clapjax.experiment import make_task
from clapjax.inference import Captioner
from clapjax.models.config import DecoderConfig, DecodingConfig
from clapjax.planning.chips import hardware
from clapjax.planning.flops import matrix_flops
from clapjax.planning.plan import plan
from clapjax.planning.shapes import activation_bytes, batch_shapes
from clapjax.tasks.captioning import CaptioningConfig, captioning
from clapjax.tasks.doubts import caption_doubts
from clapjax.tasks.guidance import ORDERS, caption_ids, guidance_ids, guidance_text
from clapjax.tasks.task import Setting
from clapjax.training.config import MeshConfig
from clapjax.training.mesh import make_mesh
from tests.data.building import make_example, write_records
from tests.training.tiny import (
    abstract_state,
    init_state,
    make_train_step,
    norm,
    run_steps,
    some_mesh,
    tiny_config,
    train,
)

SIZES = DecoderConfig(
    vocab_size=320,
    hidden_size=32,
    layers=1,
    heads=2,
    intermediate_size=32,
    guidance_length=8,
    max_length=6,
    dropout=0.0,
    init_std=0.0,
    embedding_std=0.2,
)
NAMES = ("cat", "dog", "rain")
SAMPLES = 8000


@pytest.fixture(scope="module")
def config():
    """A tiny audio encoder under a tiny decoder; epsilon keeps rounding noise small."""
    tiny = tiny_config()
    audio = dataclasses.replace(tiny.model.audio, clip_samples=SAMPLES, mel_bins=16)
    htsat = dataclasses.replace(tiny.model.htsat, spec_size=32, init_std=0.0)
    return dataclasses.replace(
        tiny,
        task="captioning",
        model=dataclasses.replace(tiny.model, audio=audio, htsat=htsat),
        captioning=CaptioningConfig(SIZES),
        optimizer=dataclasses.replace(tiny.optimizer, eps=1e-3),
    )


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    texts = [f"the {name} can be heard; one sequential" for name in NAMES]
    train_tokenizer(texts, folder, SIZES.vocab_size)
    return load_tokenizer(folder)


def _batch(tokenizer, index: int, rows: int = 16, guided: bool = True) -> dict:
    """A loudness for the first word, a tag for the second; rows 2 i and 2 i + 1 are alike."""
    sizes = dataclasses.replace(SIZES, vocab_size=len(tokenizer))
    generator = np.random.default_rng(index)
    loud, tag = generator.integers(0, 3, (2, rows // 2)).repeat(2, axis=1)
    noise = np.repeat(generator.normal(0, 3000, (rows // 2, SAMPLES)), 2, axis=0)
    captions = [
        f"{NAMES[a]} {NAMES[b] if guided else 'one'}" for a, b in zip(loud, tag, strict=True)
    ]
    ids, mask = caption_ids(tokenizer, captions, sizes)
    guides = [guidance_text([NAMES[b]]) if guided else "" for b in tag]
    before, before_mask = guidance_ids(tokenizer, guides, sizes)
    return {
        "audio": (noise * 0.1 ** loud[:, None]).astype(np.int16),
        "input_ids": ids,
        "mask": mask,
        "guidance_ids": before,
        "guidance_mask": before_mask,
    }


def test_the_objective_is_the_mean_over_all_tokens(config):
    rows = {
        "loss": np.array([4.0, 2.0]),
        "missed": np.array([3.0, 2.0]),
        "right": np.array([1.0, 2.0]),
        "tokens": np.array([2.0, 4.0]),
    }
    loss, metrics = make_task(config).objective(rows, {}, {}, 0, Setting(some_mesh(1)))
    assert loss == 1.0
    assert metrics == {"nll": pytest.approx(5 / 6), "accuracy": pytest.approx(0.5)}


def test_it_learns_from_sound_and_from_tags(config, tokenizer):
    """One word can be heard, the other one only be told; without a tag it is "one"."""
    sizes = dataclasses.replace(SIZES, vocab_size=len(tokenizer))
    settings = CaptioningConfig(sizes, DecodingConfig(beams=2), label_smoothing=0.0)
    optimizer = dataclasses.replace(config.optimizer, eps=1e-8, learning_rate=5e-3)
    config = dataclasses.replace(config, steps=160, captioning=settings, optimizer=optimizer)
    batches = [_batch(tokenizer, i, guided=i % 2 == 0) for i in range(160)]
    state, rows = run_steps(config, some_mesh(1), batches)
    assert np.mean([row["accuracy"] for row in rows[-10:]]) > 0.95
    captioner = Captioner(config.model, settings, tokenizer, state.variables(), 32)
    batch, generator = _batch(tokenizer, 999, 32), np.random.default_rng(999)
    loud, tag = generator.integers(0, 3, (2, 16)).repeat(2, axis=1)
    found = captioner.caption(list(batch["audio"]), tags=[[NAMES[b]] for b in tag])
    right = [f"{NAMES[a]} {NAMES[b]}" for a, b in zip(loud, tag, strict=True)]
    assert np.mean([a == b for a, b in zip(found, right, strict=True)]) > 0.9
    alone = captioner.caption(list(batch["audio"]))
    assert np.mean([x == f"{NAMES[a]} one" for x, a in zip(alone, loud, strict=True)]) > 0.9


def test_meshes_and_micro_batches_equal_one_device(config, tokenizer):
    """Though captions have other numbers of tokens; with mix-up over devices and micro-batches."""
    settings = dataclasses.replace(config.captioning, mixup=0.4)
    decoder = dataclasses.replace(SIZES, vocab_size=len(tokenizer))
    settings = dataclasses.replace(settings, decoder=decoder)
    config = dataclasses.replace(config, captioning=settings)
    batches = []
    for index in range(2):
        batch = _batch(tokenizer, index)
        batch["mask"] &= np.arange(6) < np.repeat(np.arange(8) % 5 + 1, 2)[:, None]
        share = np.random.default_rng(index).uniform(0.5, 1, 8).astype(np.float32)
        batches.append(batch | {"share": np.repeat(share, 2)})
    start = jax.device_get(init_state(config, some_mesh(1))).params
    state, rows = run_steps(config, some_mesh(1), batches)
    expected = jax.device_get(state.params)
    moved = norm(jax.tree.map(np.subtract, expected, start))
    split = MeshConfig(2, 4, split_above=100)
    other = dataclasses.replace(config, batch_size=16, mesh=split, rows_per_device=1, remat="full")
    state, found = run_steps(other, make_mesh(other.mesh), batches)
    difference = norm(jax.tree.map(np.subtract, jax.device_get(state.params), expected))
    assert difference < 1e-4 * moved
    for one, two in zip(rows, found, strict=True):
        for name in ("loss", "nll", "accuracy"):
            assert one[name] == pytest.approx(two[name], rel=1e-5)


def _record(**texts):
    """A record's features by name, as tf.train.Example has them."""
    return {
        name: SimpleNamespace(bytes_list=SimpleNamespace(value=[x.encode() for x in values]))
        for name, values in texts.items()
    }


def test_what_a_row_is_told(config):
    """Captions by the first draw; guidance is left out as often as is asked, tags in any order."""
    record = _record(
        captions=["a", "b", "c"],
        provenance=["human"],
        labels=["dog", "rain"],
        events=["rain", "dog"],
        source=["sounds:x"],
    )
    settings = CaptioningConfig(SIZES, unguided=0.25, guidance_dropout=0.4)
    task = captioning(config.model, settings, config.data)
    drawn = np.random.default_rng(0).random((4000, 3))
    found = [task.features(record, numbers) for numbers in drawn]
    assert [row["caption"].decode() for row in found] == ["abc"[int(3 * x)] for x, *_ in drawn]
    texts = [row["guidance"].decode() for row in found]
    # None is drawn, or all four words are left out.
    some, empty = [text for text in texts if text], np.mean([not text for text in texts])
    assert empty == pytest.approx(0.25 + 0.75 * 0.4**4, abs=0.03)
    for word in ("sounds;", "sequential;", "dog", "rain"):
        share = np.mean([word in text for text in texts])
        assert share == pytest.approx(0.75 * 0.6, abs=0.03), word
    both = [text for text in some if "dog" in text and "rain" in text]
    assert np.mean([text.endswith("dog, rain") for text in both]) == pytest.approx(0.5, abs=0.06)
    assert "sounds; sequential; rain, dog" in both
    assert set(ORDERS) >= {"sequential"} and "share" not in found[0]
    for missing in ("captions", "provenance"):
        with pytest.raises(ValueError, match=f"there is no {missing}"):
            task.features(record | _record(**{missing: []}), [0, 0, 0])


def test_shares_of_mix_up_are_the_larger_ones(config):
    record = _record(captions=["a"], provenance=["human"], labels=[], events=[], source=[])
    task = captioning(config.model, CaptioningConfig(SIZES, mixup=0.4), config.data)
    numbers = np.linspace(0.001, 0.999, 51)
    found = [task.features(record, [0, 0, x])["share"] for x in numbers]
    expected = stats.beta.ppf(numbers, 0.4, 0.4)
    np.testing.assert_allclose(found, np.maximum(expected, 1 - expected), atol=1e-6)
    audio = np.random.default_rng(0).integers(-(2**15), 2**15, (3, 50)).astype(np.int16)
    share = np.array([0.5, 0.9, 1.0], np.float32)
    mixed = task.mix({"audio": audio, "share": share, "mask": share > 0})
    assert mixed.keys() == {"audio", "mask"}
    by_hand = share[:, None] * (audio / 32767) + (1 - share[:, None]) * (audio[::-1] / 32767)
    np.testing.assert_allclose(mixed["audio"], by_hand, atol=1e-6)


def test_what_a_plan_counts(config):
    task, mesh = make_task(config), some_mesh(1)
    shapes = batch_shapes(config, task, mesh)
    assert (shapes["guidance_ids"].shape, shapes["input_ids"].shape) == ((8, 8), (8, 6))
    traced = make_train_step(config, mesh).trace(abstract_state(config, mesh), shapes)
    # At the least what the words of the output take, forwards, again, and twice backwards.
    assert matrix_flops(traced.jaxpr) > 3 * 2 * 8 * 6 * SIZES.hidden_size * SIZES.vocab_size
    assert activation_bytes(config, task, mesh) > 8 * 6 * SIZES.hidden_size * 4
    parts = dataclasses.replace(config, rows_per_device=1)
    assert plan(parts, make_task, hardware("h100x8"), count=True, brief=True)["fits"]


def test_it_resumes_bit_for_bit_and_writes(config, demo_records, tmp_path):
    """Dies in the second evaluation, which writes captions of more clips than devices."""
    config = dataclasses.replace(config, eval_every=3)
    dies, written = [3], []

    def evaluate(forward, variables, step):
        if step in dies:
            dies.remove(step)
            raise KeyboardInterrupt
        clips, lengths = np.ones((5, SAMPLES), np.int16), np.full(5, SAMPLES, np.int32)
        guide = np.zeros((5, 8), np.int32), np.ones((5, 8), bool), np.zeros((5, 2), np.uint32)
        tokens, total = forward["caption"](variables, clips, lengths, *guide)
        assert tokens.shape == (5, 1, 6) and (np.asarray(tokens) == np.asarray(tokens)[0]).all()
        written.append(float(np.asarray(total).sum()))
        return {"score": written[-1]}

    arguments = {"data_dir": demo_records, "evaluate": evaluate}
    with pytest.raises(KeyboardInterrupt):
        train(config, workdir=tmp_path / "killed", **arguments)
    killed = train(config, workdir=tmp_path / "killed", **arguments)
    whole = train(config, workdir=tmp_path / "whole", **arguments)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(killed), jax.device_get(whole))
    assert written[:3] == written[3:] and len(set(written[:3])) == 3
    words = load_tokenizer(tmp_path / "whole" / "tokenizer")
    assert whole.params["decoder"]["word"]["embedding"].shape == (len(words), 32)


def test_captions_that_are_cut_are_told(tokenizer, tmp_path):
    examples = [make_example(i, captions=("the dog",)) for i in range(2)]
    examples.append(make_example(2, captions=("the dog can be heard",)))
    data_dir = write_records(tmp_path / "records", {"train": examples})
    count = len(tokenizer("the dog can be heard", add_special_tokens=False)["input_ids"]) + 1
    assert caption_doubts(data_dir, "train", tokenizer, count) == []
    (line,) = caption_doubts(data_dir, "train", tokenizer, count - 1)
    assert line == (
        f"1 of 3 captions are longer than {count - 1} tokens and are cut; "
        f"--config.captioning.decoder.max_length={count} reads them whole"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unguided": 1.5}, "captioning.unguided must be in 0 .. 1, not 1.5"),
        ({"mixup": -1.0}, "captioning.mixup must be >= 0"),
        (
            {"decoding": DecodingConfig(max_length=99)},
            "max_length 99 is more than the decoder's 16",
        ),
    ],
)
def test_settings_that_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        CaptioningConfig(**changes)
