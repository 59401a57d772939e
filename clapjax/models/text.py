"""Text encoders: BERT (Devlin et al., 2019), RoBERTa (Liu et al., 2019), CLIP (Radford et al.,
2021).

They differ in where the layer norms stand, what a token sees, how positions are counted, and how
the tokens become one vector; the rest is shared.
"""

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
    unrolled,
    where_moving,
)

ONE_TILE = 128  # tokens that the kernel for GPUs takes


class TextLayer(nn.Module):
    """One transformer layer, post-norm or (CLIP) pre-norm: the unit that is scanned over."""

    config: TextConfig
    deterministic: bool
    dtype: jnp.dtype
    platform: str = ""

    @nn.compact
    def __call__(self, x: jax.Array, bias: jax.Array, moves: jax.Array | None):
        """(B, L, D) and an additive bias (B, 1, 1 or L, L) to ((B, L, D), None).

        `moves` () bool: whether there is dropout, if there is any; None: yes.
        """
        config = self.config
        width, pre_norm = config.hidden_size, config.arch == "clip"
        norm1 = layer_norm(config.layer_norm_eps, "norm1")
        norm2 = layer_norm(config.layer_norm_eps, "norm2")

        y = (norm1(x) if pre_norm else x).astype(self.dtype)
        settings = (self.dtype, config.init_std, self.platform)
        qkv = dense(3 * width, "qkv", *settings)(y)
        qkv = qkv.reshape(*x.shape[:-1], 3, config.heads, width // config.heads)
        if self.platform == "gpu" and moves is None and x.shape[1] <= ONE_TILE:
            y = self._fused(qkv, bias)
        else:
            drop = nn.Dropout(config.attention_dropout, deterministic=self.deterministic)
            y = attend(
                qkv[..., 0, :, :],
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
        self, input_ids: jax.Array, mask: jax.Array, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Encodes captions.

        Args:
          input_ids: (B, L) int32.
          mask: (B, L) bool or int, 1 for real tokens.
          train: dropout on; needs the rng stream "dropout".

        Returns:
          ((B, D) pooled, (B, L, D) last hidden states), both float32.
        """
        config = self.config
        mask = mask.astype(jnp.int32)
        x = self._embed(input_ids, mask, train and self.frozen < 0)
        bias = jnp.where(mask == 1, 0.0, jnp.finfo(jnp.float32).min)[:, None, None, :]
        if config.arch == "clip":
            past = jnp.tril(jnp.ones((mask.shape[1], mask.shape[1]), bool))
            bias = jnp.where(past, bias, jnp.finfo(jnp.float32).min)  # (B, 1, L, L)
        layers = nn.scan(
            rematerialised(TextLayer, self.remat, prevent_cse=False),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(nn.broadcast, 0),
            length=config.layers,
            unroll=unrolled(config.layers, self.platform, self.remat, train),
        )(config, not train, self.dtype, self.platform, name="layers")
        partly = train and self.frozen > 0
        x, _ = layers(x, bias, jnp.arange(config.layers) >= self.frozen if partly else None)
        if config.arch == "clip":
            x = layer_norm(config.layer_norm_eps, "final_norm")(x)
        return self._pool(x, mask).astype(jnp.float32), x

    def _embed(self, input_ids: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        """(B, L) ids and 0/1 mask to (B, L, D): words, positions and (BERT) token type 0."""
        config = self.config

        def embed(count, std, name):
            init = nn.initializers.normal(std)
            return nn.Embed(count, config.hidden_size, embedding_init=init, name=name)

        x = embed(config.vocab_size, config.embedding_std, "word")(input_ids)
        if config.positions == "roberta":
            positions = jnp.cumsum(mask, axis=1) * mask + config.pad_id
        else:
            positions = jnp.arange(mask.shape[1])[None]
        x = x + embed(config.max_positions, config.position_init_std, "position")(positions)
        if config.arch == "clip":
            return x
        x = x + embed(config.type_vocab_size, config.embedding_std, "token_type")(
            jnp.zeros_like(input_ids)
        )
        x = layer_norm(config.layer_norm_eps, "embedding_norm")(x)
        return nn.Dropout(config.dropout)(x, deterministic=not train)

    def _pool(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """(B, L, D) last hidden states to (B, D)."""
        config = self.config
        if config.pooling == "mean":
            total = jnp.sum(x * mask[:, :, None], axis=1)
            return total / jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
        if config.pooling == "eos":
            last = jnp.maximum(mask.sum(1) - 1, 0)
            return jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]
        if config.pooling == "cls":
            return x[:, 0]
        settings = (self.dtype, config.init_std, self.platform)
        pooler = dense(config.hidden_size, "pooler", *settings)
        return jnp.tanh(pooler(x[:, 0].astype(self.dtype)))
