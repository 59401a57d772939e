"""RoBERTa-type text encoder (Liu et al., 2019) as LAION-CLAP uses it: post-norm, tanh pooler."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from clapjax.models.config import TextConfig
from clapjax.models.layers import Mlp, attend, dense, layer_norm


class TextLayer(nn.Module):
    """One post-norm transformer layer: the unit that is scanned over."""

    config: TextConfig
    deterministic: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, bias: jax.Array):
        """(B, L, D) and an additive (B, 1, 1, L) bias to ((B, L, D), None)."""
        config = self.config
        width = config.hidden_size
        qkv = dense(3 * width, "qkv", self.dtype, config.init_std)(x.astype(self.dtype))
        qkv = qkv.reshape(*x.shape[:-1], 3, config.heads, width // config.heads)
        drop = nn.Dropout(config.attention_dropout, deterministic=self.deterministic)
        y = attend(qkv[..., 0, :, :], qkv[..., 1, :, :], qkv[..., 2, :, :], bias, drop)
        y = dense(width, "output", self.dtype, config.init_std)(y)
        y = nn.Dropout(config.dropout)(y, deterministic=self.deterministic)
        x = layer_norm(config.layer_norm_eps, "norm1")(x + y)
        mlp = Mlp(config.intermediate_size, config.dropout, self.dtype, config.init_std, name="mlp")
        return layer_norm(config.layer_norm_eps, "norm2")(x + mlp(x, self.deterministic)), None


class TextEncoder(nn.Module):
    """Token ids to pooled embeddings."""

    config: TextConfig
    dtype: jnp.dtype = jnp.float32

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
        init = nn.initializers.normal
        mask = mask.astype(jnp.int32)
        positions = jnp.cumsum(mask, axis=1) * mask + config.pad_id  # RoBERTa's numbering

        def embed(count, std, name):
            return nn.Embed(count, config.hidden_size, embedding_init=init(std), name=name)

        x = embed(config.vocab_size, config.embedding_std, "word")(input_ids)
        x = x + embed(config.max_positions, config.position_init_std, "position")(positions)
        x = x + embed(config.type_vocab_size, config.embedding_std, "token_type")(
            jnp.zeros_like(input_ids)
        )
        x = layer_norm(config.layer_norm_eps, "embedding_norm")(x)
        x = nn.Dropout(config.dropout)(x, deterministic=not train)
        bias = jnp.where(mask == 1, 0.0, jnp.finfo(jnp.float32).min)[:, None, None, :]
        layers = nn.scan(
            TextLayer,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=nn.broadcast,
            length=config.layers,
        )(config, not train, self.dtype, name="layers")
        x, _ = layers(x, bias)
        pooled = dense(config.hidden_size, "pooler", self.dtype, config.init_std)(
            x[:, 0].astype(self.dtype)
        )
        return jnp.tanh(pooled).astype(jnp.float32), x
