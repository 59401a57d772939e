"""Audio to text: an audio encoder under a Transformer decoder (Vaswani et al., 2017), pre-norm.

A sequence has slots: `guidance_length` of words that guide, which stand at their right end, then
`max_length` of the caption. Shapes: B clips, K sentences of each, T tokens of each, S slots, F
steps of time, D width, H heads.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from clapjax.models.clap import make_audio_encoder
from clapjax.models.config import ClapConfig, DecoderConfig, DecodingConfig
from clapjax.models.decoding import Rules, beam_search, draw
from clapjax.models.layers import (
    Mlp,
    attend,
    dense,
    layer_norm,
    rematerialised,
    where_moving,
)
from clapjax.models.pann import steps_within


class DecoderLayer(nn.Module):
    """Attention to the words before, to the audio, and an MLP: the unit that is scanned over."""

    config: DecoderConfig
    deterministic: bool
    dtype: jnp.dtype
    platform: str = ""

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        cache: dict | None,
        moves: jax.Array | None,
        slot: jax.Array | int,
        bias: jax.Array,
        memory: jax.Array | None,
        memory_bias: jax.Array | None,
    ) -> tuple[jax.Array, dict | None]:
        """(B, K, T, D) to the same, and the cache with what these tokens add to it.

        Args:
          cache: "key" and "value" (B, K, S, H, D / H) of the slots; None: x is all there is.
          moves: () bool, whether there is dropout, if there is any; None: yes.
          slot: of the first token, in the cache.
          bias: (B, K or 1, 1, T, S), or T for S without a cache.
          memory: (B, F, D); None: the cache has its keys and values, "memory" (B, F, 2, H, D / H).
          memory_bias: (B, 1, 1, F).
        """
        config = self.config
        settings = (self.dtype, config.init_std, self.platform)
        width, heads = config.hidden_size, config.heads

        def product(y: jax.Array, parts: int, name: str) -> jax.Array:
            """(..., D) to (..., parts, H, D / H)."""
            y = dense(parts * width, name, *settings)(y.astype(self.dtype))
            return y.reshape(*y.shape[:-1], parts, heads, width // heads)

        def drop(share: float):
            layer = nn.Dropout(share, deterministic=self.deterministic)
            return lambda y: where_moving(moves, layer(y), y)

        qkv = product(layer_norm(config.layer_norm_eps, "norm1")(x), 3, "qkv")
        query, key, value = (qkv[..., part, :, :] for part in range(3))
        if cache is not None:
            put = functools.partial(jax.lax.dynamic_update_slice_in_dim, axis=2)
            key, value = put(cache["key"], key, slot), put(cache["value"], value, slot)
        y = attend(query, key, value, bias, drop(config.attention_dropout))
        x = x + drop(config.dropout)(dense(width, "output", *settings)(y))

        # The sentences of a clip hear the same: their tokens are queries side by side.
        query = product(layer_norm(config.layer_norm_eps, "norm2")(x), 1, "memory_query")
        query = query.reshape(len(x), -1, heads, width // heads)
        heard = cache["memory"] if memory is None else product(memory, 2, "memory_key_value")
        y = attend(
            query,
            heard[..., 0, :, :],
            heard[..., 1, :, :],
            memory_bias,
            drop(config.attention_dropout),
        ).reshape(x.shape)
        x = x + drop(config.dropout)(dense(width, "memory_output", *settings)(y))

        mlp = Mlp(
            config.intermediate_size,
            config.dropout,
            self.dtype,
            config.init_std,
            config.activation,
            self.platform,
            name="mlp",
        )
        x = x + mlp(layer_norm(config.layer_norm_eps, "norm3")(x), self.deterministic, moves)
        return x, None if cache is None else {"key": key, "value": value, "memory": heard}


class Decoder(nn.Module):
    """Tokens and an audio encoder's steps of time to what the next token is told by."""

    config: DecoderConfig
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"  # of each layer
    platform: str = ""
    frozen: int = -1  # so many layers, and what is below them, have no dropout in training

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        real: jax.Array,
        frames: jax.Array | None,
        heard: jax.Array | None = None,
        cache: dict | None = None,
        slot: jax.Array | int = 0,
        train: bool = False,
    ) -> tuple[jax.Array, dict | None]:
        """One pass over all tokens, or with a cache over the next ones.

        Args:
          tokens: (B, K, T) int32, of the slots from `slot` on.
          real: (B, S) bool: which slots have a token, or will have; without a cache S = T.
          frames: (B, F, C) float; None: those of the call that filled the cache.
          heard: (B, F) bool: which frames are; None: all.
          cache: of `empty_cache`, or what the call before has returned.
          train: dropout on; needs the rng stream "dropout".

        Returns:
          ((B, K, T, D) float32, the next cache, or None).
        """
        config = self.config
        places = slot + jnp.arange(tokens.shape[2])  # (T,)
        below = train and self.frozen < 0

        def embed(count, name):
            init = nn.initializers.normal(config.embedding_std)
            return nn.Embed(count, config.hidden_size, embedding_init=init, name=name)

        words = embed(config.vocab_size, "word")(tokens)
        x = words + embed(config.guidance_length + config.max_length, "position")(places)
        first = slice(config.guidance_length)
        if frames is None:
            guide = cache["guide"]
        else:
            guide = self._guide(words[:, 0, first], real[:, first])
        x = x + guide[:, None, None]
        x = nn.Dropout(config.dropout)(x, deterministic=not below)
        lowest = jnp.finfo(jnp.float32).min
        seen = (jnp.arange(real.shape[1]) <= places[:, None]) & real[:, None, :]  # (B, T, S)
        bias = jnp.where(seen, 0.0, lowest)[:, None, None]
        memory = None if frames is None else self._bridge(frames, below)
        if frames is None:
            heard = cache["heard"]
        elif heard is None:
            heard = jnp.ones(frames.shape[:2], bool)
        memory_bias = jnp.where(heard, 0.0, lowest)[:, None, None]
        layers = nn.scan(
            rematerialised(DecoderLayer, self.remat, prevent_cse=False),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(0, 0, *[nn.broadcast] * 4),
            length=config.layers,
        )(config, not train, self.dtype, self.platform, name="layers")
        partly = train and self.frozen > 0
        moves = jnp.arange(config.layers) >= self.frozen if partly else None
        own = None if cache is None else cache["layers"]
        x, own = layers(x, own, moves, slot, bias, memory, memory_bias)
        x = layer_norm(config.layer_norm_eps, "final_norm")(x)
        return x, None if cache is None else {"layers": own, "heard": heard, "guide": guide}

    def _guide(self, words: jax.Array, real: jax.Array) -> jax.Array:
        """(B, G, D) words that guide, of which (B, G) are, to what is added to each word: (B, D).

        As wsntxxn/AudioCaption adds a layer of the tags. By attention alone a decoder learns much
        later to say the words that guide (docs/captioner.md).
        """
        share = real / real.sum(axis=1, keepdims=True)  # (B, G); its begin and end always are
        mean = jnp.einsum("bgd,bg->bd", words, share).astype(self.dtype)
        settings = (self.dtype, self.config.init_std, self.platform)
        return dense(words.shape[-1], "guide", *settings)(mean)

    def _bridge(self, frames: jax.Array, train: bool) -> jax.Array:
        """(B, F, C) frames to (B, F, D): a dense layer, a norm, and where in time they are."""
        width = self.config.hidden_size
        settings = (self.dtype, self.config.init_std, self.platform)
        x = dense(width, "bridge", *settings)(frames.astype(self.dtype))
        x = layer_norm(self.config.layer_norm_eps, "bridge_norm")(x)
        x = x + sinusoids(frames.shape[1], width)
        return nn.Dropout(self.config.dropout)(x, deterministic=not train)


def sinusoids(count: int, width: int) -> np.ndarray:
    """Positions as sines and cosines of wavelengths 2 pi ... 20,000 pi (Vaswani et al., 2017).

    Returns:
      (count, width) float32, the sines first.
    """
    rates = 10_000.0 ** -(np.arange((width + 1) // 2) / ((width + 1) // 2))
    angles = np.arange(count)[:, None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)[:, :width].astype(np.float32)


class Captioner(nn.Module):
    """The audio encoder of a `ClapConfig`, and a decoder.

    The parameters of the encoder have the names that they have in `clapjax.models.clap.Clap`.
    """

    config: ClapConfig
    sizes: DecoderConfig
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"  # what of all layers the backward pass computes again
    platform: str = ""  # as `Clap` has it
    # Of each part, how many layers are frozen, with what is below the first; -1: nothing.
    audio_frozen: int = -1
    decoder_frozen: int = -1

    def setup(self):
        common = self.dtype, self.remat, self.platform
        self.audio_encoder = make_audio_encoder(self.config, *common, self.audio_frozen)
        self.decoder = Decoder(self.sizes, *common, self.decoder_frozen)

    def hear(
        self,
        mel: jax.Array,
        train: bool = False,
        longer: jax.Array | None = None,
        lengths: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array | None]:
        """Log-mels to steps of time (B, F, C) float32, and which of them are (B, F) or None: all.

        The arguments are those of `clapjax.models.clap.Clap.audio`.
        """
        _, hidden = self.audio_encoder(mel, train, longer, lengths)
        frames = self.audio_encoder.steps(hidden)
        if lengths is None:
            return frames, None
        count = steps_within(self.config.audio_encoder, lengths)
        return frames, jnp.arange(frames.shape[1]) < count[:, None]

    def __call__(
        self,
        tokens: jax.Array,
        real: jax.Array,
        mel: jax.Array,
        longer: jax.Array | None = None,
        lengths: jax.Array | None = None,
        audio_train: bool = False,
        train: bool = False,
    ) -> jax.Array:
        """All tokens at once: (B, K, T) and (B, T), as `Decoder` has them, to (B, K, T, D)."""
        frames, heard = self.hear(mel, audio_train, longer, lengths)
        return self.decoder(tokens, real, frames, heard, train=train)[0]


def init_captioner(config: ClapConfig, sizes: DecoderConfig, key: jax.Array) -> dict:
    """Fresh {"params", "batch_stats"}; the same key gives the same values on any device count."""
    mel = jnp.zeros((1, config.audio.frames, config.audio.mel_bins))
    return Captioner(config, sizes).init(
        key, jnp.zeros((1, 1, 2), jnp.int32), jnp.ones((1, 2), bool), mel
    )


def word_logits(params: dict, hidden: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """(..., D) of a decoder to (..., vocabulary) float32, by the table of words."""
    table = params["decoder"]["word"]["embedding"].astype(dtype)
    return jnp.einsum(
        "...d,vd->...v", hidden.astype(dtype), table, preferred_element_type=jnp.float32
    )


def empty_cache(sizes: DecoderConfig, rows: int, slots: int, dtype: jnp.dtype) -> dict:
    """What a first call of a `Decoder` fills: keys and values of one sentence of each clip."""
    shape = (sizes.layers, rows, 1, slots, sizes.heads, sizes.hidden_size // sizes.heads)
    return {"layers": {name: jnp.zeros(shape, dtype) for name in ("key", "value")}}


def write_captions(
    model: Captioner,
    variables: dict,
    frames: jax.Array,
    heard: jax.Array | None,
    guidance: jax.Array,
    real: jax.Array,
    keys: jax.Array,
    settings: DecodingConfig,
    end: int,
    never: tuple[int, ...] = (),
) -> tuple[jax.Array, jax.Array]:
    """Captions of what was heard; each row for itself.

    Args:
      model, variables: the model.
      frames, heard: of `Captioner.hear`.
      guidance, real: (B, guidance_length) int32 tokens before the captions, and bool which are.
      keys: (B, 2) uint32 of `jax.random.key_data`, for words that are drawn.
      settings: how words are chosen.
      end, never: the token that ends a caption, and those that no caption has.

    Returns:
      (tokens (B, count, max_length) int32, `end` from where a caption ends; sums of their log
      probabilities (B, count) float32, that of the end included).
    """
    sizes, dtype = model.sizes, model.dtype
    length = settings.max_length or sizes.max_length
    if length > sizes.max_length:
        raise ValueError(
            f"decoding.max_length {length} is more than the {sizes.max_length} tokens that the "
            "decoder was made for"
        )
    rules = Rules(end, never, settings.min_length, length, settings.no_repeat)
    decoder = Decoder(sizes, dtype, platform=model.platform)
    own = {"params": variables["params"]["decoder"]}
    first = guidance.shape[1]
    real = jnp.concatenate([real, jnp.ones((len(real), length), bool)], axis=1)
    cache = empty_cache(sizes, len(guidance), first + length, dtype)
    hidden, cache = decoder.apply(own, guidance[:, None], real, frames, heard, cache)
    sentences = settings.count if settings.nucleus else settings.beams
    cache = _own(cache, lambda x: jnp.repeat(x, sentences, axis=2))

    def step(cache: dict, parents: jax.Array | None, tokens: jax.Array, place: jax.Array):
        if parents is not None:
            at = parents[None, :, :, None, None, None]
            cache = _own(cache, lambda x: jnp.take_along_axis(x, at, axis=2))
        hidden, cache = decoder.apply(
            own, tokens[..., None], real, None, cache=cache, slot=first + place
        )
        return word_logits(variables["params"], hidden[:, :, 0], dtype), cache

    logits = word_logits(variables["params"], hidden[:, :, -1], dtype)
    if settings.nucleus or settings.beams == 1:
        return draw(step, cache, logits, rules, settings, keys)
    return beam_search(step, cache, logits, rules, settings)


def _own(cache: dict, change: Callable[[jax.Array], jax.Array]) -> dict:
    """A cache with what each sentence has for itself changed: (layers, B, K, S, H, D / H)."""
    layers = cache["layers"]
    return {**cache, "layers": layers | {name: change(layers[name]) for name in ("key", "value")}}
