"""Captions with keys and values that are kept, beside a pass over all tokens for each word.

    python -m benchmarks.decoding [--clips 8] [--beams 3] [--repeats 3]

Of random weights in Cnn14 and the decoder of CNext-trans, on 10 seconds of noise; captions have all
the 30 tokens that they may have. Says how long both take, beside Cnn14 alone, in turn; the ratio of
the medians, and whether the tokens are the same, without which it ends with status 1.
"""

import argparse
import dataclasses
import functools
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from clapjax.models.captioner import (
    Captioner,
    Decoder,
    init_captioner,
    word_logits,
    write_captions,
)
from clapjax.models.clap import cast_kernels, compute_dtype
from clapjax.models.config import DecodingConfig
from clapjax.models.decoding import Rules, beam_search, draw
from clapjax.models.presets import blat_clap, decoder_preset
from clapjax.tasks.captioning import hear_clips

WORDS, END = 5000, 2
KEPT, NOT_KEPT = "keys and values kept", "keys and values not kept"


def uncached_captions(
    model: Captioner, variables, frames, heard, guidance, real, keys, settings, end, never=()
):
    """`write_captions` the slow way; arguments and results are the same."""
    sizes, rows = model.sizes, len(guidance)
    decoder = Decoder(sizes, model.dtype, platform=model.platform)
    length = settings.max_length or sizes.max_length
    sampled = settings.nucleus or settings.beams == 1
    sentences = settings.count if sampled else settings.beams
    every = jnp.concatenate([jnp.asarray(real), jnp.ones((rows, length), bool)], axis=1)

    def logits_of(said: jax.Array, place) -> jax.Array:
        """(B, K, L) tokens to (B, K, V) of the place behind one, -1: behind the guidance."""
        before = jnp.repeat(jnp.asarray(guidance)[:, None], said.shape[1], axis=1)
        tokens = jnp.concatenate([before, said], axis=2)
        own = {"params": variables["params"]["decoder"]}
        hidden, _ = decoder.apply(own, tokens, every, frames, heard)
        hidden = jnp.take(hidden, guidance.shape[1] + place, axis=2)
        return word_logits(variables["params"], hidden, model.dtype)

    def step(said, parents, tokens, place):
        if parents is not None:
            said = jnp.take_along_axis(said, parents[..., None], axis=1)
        said = said.at[:, :, place].set(tokens)
        return logits_of(said, place), said

    said = jnp.full((rows, sentences, length), end)
    first = logits_of(said[:, :1], -1)
    rules = Rules(end, never, settings.min_length, length, settings.no_repeat)
    if sampled:
        return draw(step, said, first, rules, settings, keys)
    return beam_search(step, said, first, rules, settings)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=8, help="at once (default: 8)")
    parser.add_argument("--beams", type=int, default=3, help="default: 3")
    parser.add_argument("--repeats", type=int, default=3, help="of each (default: 3)")
    args = parser.parse_args(argv)
    device = jax.local_devices()[0]
    dtype = compute_dtype(blat_clap(), device.platform)
    sizes = dataclasses.replace(decoder_preset("cnext-trans"), vocab_size=WORDS)
    model = Captioner(blat_clap(), sizes, dtype, platform=device.platform)
    init = jax.jit(functools.partial(init_captioner, blat_clap(), sizes))
    variables = init(jax.random.key(0))
    generator = np.random.default_rng(0)
    # Rules out ties, which rounding would break.
    table = generator.normal(size=(WORDS, sizes.hidden_size)).astype(np.float32)
    variables["params"]["decoder"]["word"]["embedding"] = table
    variables["params"] = cast_kernels(variables["params"], dtype)
    samples = blat_clap().audio.clip_samples
    noise = generator.uniform(-0.5, 0.5, (args.clips, samples)).astype(np.float32)
    guidance = generator.integers(3, WORDS, (args.clips, sizes.guidance_length)).astype(np.int32)
    hear = jax.jit(functools.partial(hear_clips, model))
    clips = variables, noise, np.full(args.clips, samples, np.int32)
    frames, heard = hear(*clips)  # compiles
    length = sizes.max_length
    settings = DecodingConfig(beams=args.beams, min_length=length - 1, no_repeat=1)
    real, keys = np.ones(guidance.shape, bool), np.zeros((args.clips, 2), np.uint32)
    arrays = variables, frames, heard, guidance, real, keys
    work = {"Cnn14 alone": (hear, clips)}
    for name, way in ((KEPT, write_captions), (NOT_KEPT, uncached_captions)):
        way = jax.jit(functools.partial(way, model, settings=settings, end=END))
        work[name] = way, arrays
    found = {name: jax.device_get(work[name][0](*arrays)) for name in (KEPT, NOT_KEPT)}
    seconds = {name: [] for name in work}
    for _ in range(args.repeats):
        for name, (function, inputs) in work.items():
            start = time.perf_counter()
            jax.block_until_ready(function(*inputs))
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"{device.device_kind}: {args.clips} captions of {length} tokens, {args.beams} beams")
    for name, median in medians.items():
        print(f"{name}: {median:.3f} s, {args.clips / median:.2f} clips/s")
    print(f"ratio {medians[NOT_KEPT] / medians[KEPT]:.1f}")
    same = np.array_equal(found[KEPT][0], found[NOT_KEPT][0])
    print("the same tokens" if same else "OTHER TOKENS")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
