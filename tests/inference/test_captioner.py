"""`clapjax.load` of a captioning run: what it writes, in any company, guided and ranked."""

import dataclasses

import jax
import numpy as np
import pytest

import clapjax
from clapjax.audio.files import AudioError
from clapjax.audio.mel import log_mel
from clapjax.inference import Captioner
from clapjax.inference.captions import captioner_fingerprint
from clapjax.inference.store import model_fingerprint
from clapjax.models.captioner import Captioner as CaptionerModule
from clapjax.models.captioner import word_logits
from clapjax.tasks.guidance import guidance_ids, guidance_text
from tests.inference.tiny import CLIP, RATE, SMALL, make_captioning_workdir, noise

CLIPS = [noise(length, seed) for seed, length in enumerate((CLIP, 3000, 20_000))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captioning")
    return make_captioning_workdir(folder, beams=4, count=4, no_repeat=2)


@pytest.fixture(scope="module")
def captioner(folder) -> Captioner:
    return clapjax.load(folder, batch_size=4)


def test_captions_have_the_probability_that_the_module_gives(captioner):
    """Of a clip and of the middle of a longer one, with tags: each word by a pass over all."""
    tags, sizes = ["dog", "rain"], captioner.settings.decoder
    found = dict(captioner.each(CLIPS, tags=tags, order="one"))
    heard = {0: CLIPS[0], 2: CLIPS[2][6000:14_000]}
    ids, real = guidance_ids(captioner.tokenizer, [guidance_text(tags, "one")], sizes)
    variables, model = jax.device_get(captioner.variables), CaptionerModule(SMALL, sizes)

    @jax.jit
    def logits(mel, tokens, real):
        return word_logits(
            variables["params"], model.apply(variables, tokens, real, mel), "float32"
        )

    for index, clip in heard.items():
        captions = found[index]
        assert len({one.text for one in captions}) == len(captions) > 1
        totals = [one.log_probability for one in captions]
        run = captioner._function(captioner.settings.decoding)
        batch = clip[None], np.full(1, CLIP, np.int32), ids, real, np.zeros((1, 2), np.uint32)
        batch = [np.repeat(x, 4, axis=0) for x in batch]  # as it is compiled already
        tokens = jax.device_get(run(captioner.variables, *batch))[0][0]
        whole = np.concatenate([np.repeat(ids, 4, 0), tokens], axis=1)[:, None]
        there = np.concatenate([np.repeat(real, 4, 0), np.ones((4, 6), bool)], axis=1)
        mel = np.repeat(log_mel(clip[None], SMALL.audio), 4, 0)
        scores = np.asarray(logits(mel, whole, there), np.float64)[:, 0, 15:-1]
        log_p = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
        own = np.take_along_axis(log_p, tokens[..., None], axis=-1)[..., 0]
        end = captioner.tokenizer.eos_token_id
        length = (tokens == end).argmax(axis=1) + 1
        sums = [row[:count].sum() for row, count in zip(own, length, strict=True)]
        assert all(np.abs(np.array(sums) - total).min() < 1e-3 for total in totals)
        mean = np.array(sums) / length  # the best first
        assert (np.diff(mean) < 1e-6).all()


def test_a_recordings_captions_are_the_same_in_any_company(captioner):
    tags = [["dog"], (), ["siren", "rain"]]
    found = captioner.caption(CLIPS, tags=tags)
    assert found == [
        captioner.caption(clip, tags=own)[0] for clip, own in zip(CLIPS, tags, strict=True)
    ]
    assert all(found) and found != captioner.caption(CLIPS)  # what is told is heeded
    by_order = {tuple(captioner.caption(CLIPS, order=o)) for o in ("", "one", "complex")}
    assert len(by_order) > 1
    assert captioner.caption([]) == []


def test_words_that_are_drawn_depend_on_the_seed_and_the_number(captioner):
    drawn = dataclasses.replace(captioner.settings.decoding, nucleus=0.9, count=3)

    def texts(seed, clips=(CLIPS[0], CLIPS[0])):
        found = dict(captioner.each(clips, decoding=drawn, seed=seed))
        return [[one.text for one in found[index]] for index in range(len(clips))]

    first = texts(1)
    assert first == texts(1) != texts(2) and first[0] != first[1]
    assert texts(1, CLIPS[:1]) == first[:1]


def test_a_clap_model_ranks(captioner, clap):
    moved = 0
    for order in ("", "one", "sequential", "complex"):
        found = dict(captioner.each(iter(CLIPS[:2]), order=order, rank=clap))
        plain = dict(captioner.each(CLIPS[:2], order=order))
        for index, captions in found.items():
            texts = [one.text for one in captions]
            before = [one.text for one in plain[index]]
            assert sorted(texts) == sorted(before)
            cosines = clap.similarity(clap.embed_audio(CLIPS[index]), clap.embed_text(texts))[0]
            np.testing.assert_allclose([one.similarity for one in captions], cosines, atol=1e-6)
            assert (np.diff(cosines) <= 1e-6).all()
            moved += texts != before
    assert moved


def test_broken_inputs_and_what_is_refused(captioner, clap, folder, tmp_path):
    missing = str(tmp_path / "no.wav")
    for rank in (None, clap):
        found = dict(captioner.each([CLIPS[0], missing, CLIPS[1]], RATE, rank=rank))
        assert isinstance(found[1], AudioError) and missing in str(found[1])
        assert found[2][0].text
    with pytest.raises(AudioError, match=r"no\.wav"):
        captioner.caption([missing])
    for options, message in (
        ({"long": "windows"}, "long='windows': a caption is of one clip"),
        ({"long": "fusion"}, "this model has no feature fusion"),
        ({"tags": "dog"}, "tags: a list of names, not 'dog'"),
        ({"tags": [["dog"]]}, "tags: there are 1 lists of them, and more inputs"),
        ({"order": "two"}, "order must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            captioner.caption(CLIPS[:2], **options)
    with pytest.raises(ValueError, match="a captioner, which has no text tower"):
        clapjax.load(folder, towers="text")
    own = captioner.config, captioner.settings
    with pytest.raises(ValueError, match="the tokenizer has 2 tokens, and the model"):
        Captioner(*own, ["a", "b"], captioner.variables)
    with pytest.raises(ValueError, match="batch_size must be positive"):
        Captioner(*own, captioner.tokenizer, captioner.variables, 0)
    forward = {"caption": len}
    whole = Captioner(*own, captioner.tokenizer, captioner.variables, forward=forward)
    other = dataclasses.replace(captioner.settings.decoding, beams=8)
    with pytest.raises(ValueError, match="this model decodes as its run was configured"):
        whole.caption(CLIPS[0], decoding=other)


def test_fingerprints_tell_captioners_apart(captioner, folder):
    """By their decoder too, of which two may stand over one encoder."""
    variables = jax.tree.map(np.copy, jax.device_get(captioner.variables))
    known = model_fingerprint(captioner.config, variables), captioner_fingerprint(captioner)
    assert captioner_fingerprint(clapjax.load(folder, batch_size=2)) == known[1]
    variables["params"]["decoder"]["final_norm"]["bias"] += 1
    other = Captioner(captioner.config, captioner.settings, captioner.tokenizer, variables)
    assert model_fingerprint(other.config, variables) != known[0]
    assert captioner_fingerprint(other) != known[1]
