"""The captioner: its decoder is torch's, and what is cached changes nothing."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from benchmarks.decoding import uncached_captions
from clapjax.models import captioner as module
from clapjax.models.captioner import (
    Captioner,
    Decoder,
    init_captioner,
    sinusoids,
    write_captions,
)
from clapjax.models.config import DecoderConfig, DecodingConfig
from tests.inference.tiny import CONFIGS, draw_variables

SIZES = DecoderConfig(
    vocab_size=23,
    hidden_size=16,
    layers=2,
    heads=4,
    intermediate_size=24,
    guidance_length=5,
    max_length=7,
    init_std=0.0,
)
END, NEVER = 2, (0, 1)


def _variables(kind: str) -> dict:
    """Random ones; what is heard is louder than the word before, which would else come again."""
    found = draw_variables(functools.partial(init_captioner, CONFIGS[kind], SIZES), 0)
    found["params"]["decoder"]["layers"]["memory_output"]["kernel"] *= 8
    found["params"]["decoder"]["layers"]["output"]["kernel"] *= 2
    return found


def _torch_decoder(params: dict) -> torch.nn.TransformerDecoder:
    """torch's pre-norm decoder with these parameters."""
    width = SIZES.hidden_size
    layer = torch.nn.TransformerDecoderLayer(
        width, SIZES.heads, SIZES.intermediate_size, 0.0, "gelu", 1e-5, True, norm_first=True
    )
    theirs = torch.nn.TransformerDecoder(layer, SIZES.layers, torch.nn.LayerNorm(width, 1e-5))

    def put(prefix: str, tree: dict) -> dict:
        weight = tree["kernel"].T if "kernel" in tree else tree["scale"]
        return {f"{prefix}weight": weight, f"{prefix}bias": tree["bias"]}

    found = put("norm.", params["final_norm"])
    for index in range(SIZES.layers):
        own = jax.tree.map(lambda x, index=index: x[index], params["layers"])
        both = {
            name: np.concatenate([own["memory_query"][name], own["memory_key_value"][name]], -1)
            for name in ("kernel", "bias")
        }
        where = f"layers.{index}."
        found |= put(f"{where}self_attn.in_proj_", own["qkv"])
        found |= put(f"{where}self_attn.out_proj.", own["output"])
        found |= put(f"{where}multihead_attn.in_proj_", both)
        found |= put(f"{where}multihead_attn.out_proj.", own["memory_output"])
        found |= put(f"{where}linear1.", own["mlp"]["up"])
        found |= put(f"{where}linear2.", own["mlp"]["down"])
        for norm in ("norm1", "norm2", "norm3"):
            found |= put(f"{where}{norm}.", own[norm])
    theirs.load_state_dict({name: torch.tensor(np.array(x)) for name, x in found.items()})
    return theirs.double().eval()


def test_the_decoder_is_torchs():
    """With places before the words that are none, and frames that are none."""
    params = _variables("plain")["params"]["decoder"]
    generator = np.random.default_rng(0)
    frames = generator.normal(size=(3, 6, params["bridge"]["kernel"].shape[0]))
    heard = np.arange(6) < np.array([6, 2, 4])[:, None]
    tokens = generator.integers(0, 23, (3, 1, 9))
    real = np.arange(9) >= np.array([0, 3, 4])[:, None]
    apply = jax.jit(Decoder(SIZES).apply)
    found, _ = apply({"params": params}, tokens, real, frames.astype(np.float32), heard)

    memory = frames @ params["bridge"]["kernel"] + params["bridge"]["bias"]
    memory = torch.nn.functional.layer_norm(
        torch.tensor(memory),
        (16,),
        *(torch.tensor(params["bridge_norm"][name]).double() for name in ("scale", "bias")),
    )
    rates = 10_000.0 ** -(np.arange(8) / 8)  # Vaswani et al., the sines before the cosines
    angles = np.arange(6)[:, None] * rates
    memory = memory + torch.tensor(np.concatenate([np.sin(angles), np.cos(angles)], axis=1))
    words = params["word"]["embedding"].astype(np.float64)[tokens[:, 0]]
    guiding = [row[:5][there[:5]].mean(axis=0) for row, there in zip(words, real, strict=True)]
    guide = np.stack(guiding) @ params["guide"]["kernel"] + params["guide"]["bias"]
    words = words + params["position"]["embedding"][:9] + guide[:, None]
    expected = _torch_decoder(params)(
        torch.tensor(words),
        memory,
        tgt_mask=torch.triu(torch.ones(9, 9, dtype=torch.bool), 1),
        tgt_key_padding_mask=torch.tensor(~real),
        memory_key_padding_mask=torch.tensor(~heard),
    )
    np.testing.assert_allclose(found[:, 0][real], expected.detach()[real], atol=2e-5)
    assert sinusoids(3, 5).shape == (3, 5)


@pytest.mark.parametrize(
    "settings",
    [
        DecodingConfig(beams=1, min_length=5, no_repeat=1),
        DecodingConfig(beams=4, groups=2, count=4, no_repeat=2),
        DecodingConfig(nucleus=0.9, count=3, min_length=2, no_repeat=3),
    ],
    ids=("greedy", "beams", "nucleus"),
)
def test_cached_and_uncached_decoding_are_the_same(settings):
    """Against a pass over all tokens at each place; and no row depends on the others."""
    variables, model = _variables("plain"), Captioner(CONFIGS["plain"], SIZES)
    width = variables["params"]["decoder"]["bridge"]["kernel"].shape[0]
    generator = np.random.default_rng(4)
    frames = generator.normal(size=(3, 6, width)).astype(np.float32)
    heard = np.arange(6) < np.array([6, 2, 4])[:, None]
    guidance = generator.integers(3, 23, (3, 5)).astype(np.int32)
    real = np.arange(5) >= np.array([0, 3, 1])[:, None]
    keys = generator.integers(0, 2**32, (3, 2), dtype=np.uint32)
    arguments = variables, frames, heard, guidance, real, keys, settings, END, NEVER
    write = jax.jit(functools.partial(write_captions, model), static_argnums=(6, 7, 8))
    found, total = write(*arguments)
    assert len({tuple(row) for row in np.asarray(found)[:, 0].tolist()}) == 3

    uncached = jax.jit(functools.partial(uncached_captions, model), static_argnums=(6, 7, 8))
    expected, sums = uncached(*arguments)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(total, sums, atol=1e-4)
    others = [np.stack([x[2], x[1], x[1]]) for x in (frames, heard, guidance, real, keys)]
    again, _ = write(variables, *others, settings, END, NEVER)
    np.testing.assert_array_equal(again, found[np.array([2, 1, 1])])
    assert not np.isin(found, NEVER).any()


def test_frames_are_in_order_of_time_and_no_more_than_a_row_has():
    """Of a model that knows lengths, a row in a padded batch is what it is alone."""
    model, variables = Captioner(CONFIGS["any_length"], SIZES), _variables("any_length")
    mel = np.random.default_rng(2).normal(size=(2, 64, 16)).astype(np.float32)
    hear = jax.jit(functools.partial(model.apply, method="hear"))
    frames, heard = hear(variables, mel, lengths=np.array([64, 37], np.int32))
    assert heard.sum(axis=1).tolist() == [4, 2]  # Cnn6 halves four times
    alone, every = hear(variables, mel[1:, :37], lengths=np.array([37], np.int32))
    np.testing.assert_allclose(frames[1, :2], alone[0], atol=1e-5)
    assert every.all()
    segmented = dataclasses.replace(
        CONFIGS["plain"], htsat=dataclasses.replace(CONFIGS["plain"].htsat, time_segments=2)
    )
    hidden = np.random.default_rng(3).normal(size=(1, 8, 8, 16)).astype(np.float32)
    encoder = module.make_audio_encoder(segmented, jnp.float32)
    steps = encoder.bind({}).steps(hidden)
    # Rows of patches are (chunk of time, mel); columns go on in time.
    expected = np.concatenate([hidden[:, :4].mean(1), hidden[:, 4:].mean(1)], axis=1)
    np.testing.assert_allclose(steps, expected, rtol=1e-5)


def test_a_caption_longer_than_the_decoder_was_made_for():
    with pytest.raises(ValueError, match="decoding.max_length 9 is more than the 7 tokens"):
        write_captions(
            Captioner(CONFIGS["plain"], SIZES),
            _variables("plain"),
            np.zeros((1, 2, 16)),
            None,
            np.zeros((1, 5), np.int32),
            np.ones((1, 5), bool),
            np.zeros((1, 2), np.uint32),
            DecodingConfig(max_length=9),
            END,
        )
