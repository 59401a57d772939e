"""Text encoders: BERT (Devlin et al., 2019), RoBERTa (Liu et al., 2019), CLIP (Radford et al.,
2021).

They differ in where the layer norms stand, what a token sees, how positions are counted, and how
the tokens become one vector; the rest is shared.
"""

import operator

import flax.linen as nn
import jax
import jax.numpy as jnp

from clapjax.models.config import TextConfig
from clapjax.models.layers import (
    Mlp,
    attend,
    dense,
    layer_norm,
    rematerialised,
    takes_kernels,
    unrolled,
    where_moving,
)
from clapjax.models.packing import ONE_TILE, Packing, alone


class TextLayer(nn.Module):
    """One transformer layer, post-norm or (CLIP) pre-norm: the unit that is scanned over."""

    config: TextConfig
    deterministic: bool
    dtype: jnp.dtype
    platform: str = ""

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        bias: jax.Array,
        moves: jax.Array | None,
        picked: jax.Array | None = None,
    ):
        """(B, L, D) and an additive bias (B, 1, 1 or L, L) to ((B, L, D), None).

        `moves` () bool: whether there is dropout, if there is any; None: yes. Of all tokens, or of
        those `picked` (B, S): ((B, S, D), None).
        """
        config = self.config
        width, pre_norm = config.hidden_size, config.arch == "clip"
        norm1 = layer_norm(config.layer_norm_eps, "norm1")
        norm2 = layer_norm(config.layer_norm_eps, "norm2")

        y = (norm1(x) if pre_norm else x).astype(self.dtype)
        settings = (self.dtype, config.init_std, self.platform)
        qkv = dense(3 * width, "qkv", *settings)(y)
        qkv = qkv.reshape(*x.shape[:-1], 3, config.heads, width // config.heads)
        query = qkv[..., 0, :, :]
        if picked is not None:
            x, query = _take(x, picked), _take(query, picked)
            bias = bias if bias.shape[2] == 1 else _take(bias[:, 0], picked)[:, None]
        if (
            takes_kernels(self.platform)
            and moves is None
            and picked is None
            and x.shape[1] <= ONE_TILE
        ):
            y = self._fused(qkv, bias)
        else:
            drop = nn.Dropout(config.attention_dropout, deterministic=self.deterministic)
            y = attend(
                query,
                qkv[..., 1, :, :],
                qkv[..., 2, :, :],
                bias,
                lambda weights: where_moving(moves, drop(weights), weights),
            )
        y = dense(width, "output", *settings)(y)
        y = where_moving(moves, nn.Dropout(config.dropout)(y, deterministic=self.deterministic), y)
        x = x + y if pre_norm else norm1(x + y)

        mlp = Mlp(
            config.intermediate_size,
            config.dropout,
            self.dtype,
            config.init_std,
            config.activation,
            self.platform,
            name="mlp",
        )
        y = mlp(norm2(x) if pre_norm else x, self.deterministic, moves)
        return (x + y if pre_norm else norm2(x + y)), None

    def _fused(self, qkv: jax.Array, bias: jax.Array) -> jax.Array:
        """(B, L, 3, heads, d) to (B, L, D), by the kernel for GPUs."""
        from clapjax.models.text_kernel import text_attention  # Pallas is slow to import

        batch, length, _, heads, _ = qkv.shape
        rate, kept = self.config.attention_dropout, None
        if rate > 0 and not self.deterministic:
            # Sixteen bits a weight are half the work, and near enough to the rate.
            bits = jax.random.bits(
                self.make_rng("dropout"), (batch, heads, length, length), jnp.uint16
            )
            kept = bits >= round(rate * 2**16)
        return text_attention(qkv, bias[:, 0], kept, rate).reshape(batch, length, -1)


class TextEncoder(nn.Module):
    """Token ids to pooled embeddings."""

    config: TextConfig
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"  # of each layer
    # So many layers, and what is below the first, have no dropout in training; -1: all have.
    frozen: int = -1
    platform: str = ""  # see `Clap`

    @nn.compact
    def __call__(
        self,
        input_ids: jax.Array,
        mask: jax.Array | None,
        train: bool,
        packing: Packing | None = None,
        states: bool = False,
    ) -> tuple[jax.Array, jax.Array | None]:
        """Encodes texts, one in each row, or packed.

        Args:
          input_ids: (B, L) int32.
          mask: (B, L) bool or int, 1 for real tokens; None where they are packed.
          train: dropout on; needs the rng stream "dropout".
          packing: how texts lie in the rows.
          states: what becomes of all tokens is wanted too; without it the last layer is computed
            for those that a text is pooled from.

        Returns:
          ((B, D) or packed (B, S, D) pooled, (B, L, D) last hidden states or None), float32.
        """
        config, one_each = self.config, packing is None
        if one_each:
            mask = mask.astype(jnp.int32)
            packing = alone(mask, config.pooling, config.positions == "absolute")
        x = self._embed(input_ids, packing, train and self.frozen < 0)
        x, picked = self._layers(x, self._bias(packing, one_each), packing, train, states)
        if config.arch == "clip":
            norm = layer_norm(config.layer_norm_eps, "final_norm")
            x, picked = (None if y is None else norm(y) for y in (x, picked))
        pooled = self._pool(x, picked, packing).astype(jnp.float32)
        return (pooled[:, 0] if one_each else pooled), (x if states else None)

    def _bias(self, packing: Packing, one_each: bool) -> jax.Array:
        """What a token does not see: (B, 1, 1 or L, L) float32."""
        segments, lowest = packing.segments, jnp.finfo(jnp.float32).min
        if one_each:
            seen = (segments >= 0)[:, None, None, :]
        else:
            seen = (segments[:, :, None] == segments[:, None, :])[:, None]
        if self.config.arch == "clip":
            seen &= jnp.tril(jnp.ones((segments.shape[1],) * 2, bool))
        return jnp.where(seen, 0.0, lowest)

    def _layers(
        self, x: jax.Array, bias: jax.Array, packing: Packing, train: bool, states: bool
    ) -> tuple[jax.Array | None, jax.Array | None]:
        """(B, L, D) through the layers: (of all tokens, (B, S, D) of those picked), or None."""
        config, count = self.config, self.config.layers
        layer = rematerialised(TextLayer, self.remat, prevent_cse=False)
        settings = (config, not train, self.dtype, self.platform)
        if self.is_initializing():
            stack = nn.scan(
                layer,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                in_axes=(nn.broadcast, nn.broadcast),
                length=count,
            )
            x, _ = stack(config, True, self.dtype, self.platform, name="layers")(x, bias, None)
            return x, _take(x, packing.picked)

        # The last layer is another program, so the parameters are taken from where `nn.scan` has
        # put them.
        partly = train and self.frozen > 0
        random = train and config.dropout + config.attention_dropout > 0
        each = (
            self.variables["params"]["layers"],
            jax.random.split(self.make_rng("dropout"), count) if random else None,
            jnp.arange(count) >= self.frozen if partly else None,
        )

        def run(x, each, picked=None):
            params, key, moves = each
            rngs = {} if key is None else {"dropout": key}
            apply = layer(*settings, parent=None).apply
            return apply({"params": params}, x, bias, moves, picked, rngs=rngs)

        if states or config.pooling == "mean":
            unroll = unrolled(count, self.platform, self.remat, train)
            x, _ = jax.lax.scan(run, x, each, unroll=unroll)
            return x, None if config.pooling == "mean" else _take(x, packing.picked)
        before, last = (jax.tree.map(operator.itemgetter(at), each) for at in (slice(-1), -1))
        if count > 1:
            unroll = unrolled(count - 1, self.platform, self.remat, train)
            x, _ = jax.lax.scan(run, x, before, unroll=unroll)
        return None, run(x, last, packing.picked)[0]

    def _embed(self, input_ids: jax.Array, packing: Packing, train: bool) -> jax.Array:
        """(B, L) ids to (B, L, D): words, positions and (BERT) token type 0."""
        config = self.config

        def embed(count, std, name):
            init = nn.initializers.normal(std)
            return nn.Embed(count, config.hidden_size, embedding_init=init, name=name)

        x = embed(config.vocab_size, config.embedding_std, "word")(input_ids)
        positions = packing.places
        if config.positions == "roberta":
            positions = config.pad_id + jnp.where(packing.segments >= 0, positions + 1, 0)
        x = x + embed(config.max_positions, config.position_init_std, "position")(positions)
        if config.arch == "clip":
            return x
        x = x + embed(config.type_vocab_size, config.embedding_std, "token_type")(
            jnp.zeros_like(input_ids)
        )
        x = layer_norm(config.layer_norm_eps, "embedding_norm")(x)
        return nn.Dropout(config.dropout)(x, deterministic=not train)

    def _pool(self, x: jax.Array | None, picked: jax.Array | None, packing: Packing) -> jax.Array:
        """(B, L, D) hidden states, or (B, S, D) of the tokens picked, to (B, S, D)."""
        config = self.config
        if config.pooling == "mean":
            texts = jnp.arange(packing.picked.shape[1])
            own = (packing.segments[:, None] == texts[:, None]).astype(jnp.float32)  # (B, S, L)
            total = jnp.einsum("bsl,bld->bsd", own, x.astype(jnp.float32), precision="highest")
            return total / jnp.maximum(own.sum(axis=2, keepdims=True), 1)
        if config.pooling in ("eos", "cls"):
            return picked
        settings = (self.dtype, config.init_std, self.platform)
        pooler = dense(config.hidden_size, "pooler", *settings)
        return jnp.tanh(pooler(picked.astype(self.dtype)))


def _take(x: jax.Array, at: jax.Array) -> jax.Array:
    """(B, L, ...) at (B, S) places: (B, S, ...)."""
    return jnp.take_along_axis(x, at.reshape(*at.shape, *[1] * (x.ndim - 2)), axis=1)
