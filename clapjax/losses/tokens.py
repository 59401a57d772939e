"""Cross-entropy of the next word, of many words and places, without all of their logits at once."""

import jax
import jax.numpy as jnp

AT_ONCE = 512  # places whose logits there are at one time


def token_losses(
    hidden: jax.Array,
    table: jax.Array,
    targets: jax.Array,
    smoothing: float = 0.0,
    at_once: int = AT_ONCE,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What each place costs; logits are `hidden` times the table, and made again for the gradient.

    With label smoothing (Szegedy et al., 2016) the target has 1 - smoothing of the probability, and
    every word of the V, it included, smoothing / V: (1 - s) * -log p[target] + s * mean(-log p).

    Args:
      hidden: (N, D) in the type that products run in.
      table: (V, D) float32.
      targets: (N,) int32.
      smoothing: in 0 .. 1.
      at_once: places.

    Returns:
      ((N,) float32 losses, (N,) -log p of the targets, (N,) bool: the target is the likeliest).
    """
    table = table.astype(hidden.dtype)

    def place(item: tuple) -> tuple:
        x, target = item
        logits = jnp.einsum("d,vd->v", x, table, preferred_element_type=jnp.float32)
        log_p = jax.nn.log_softmax(logits)
        missed = -log_p[target]
        loss = (1 - smoothing) * missed - smoothing * log_p.mean()
        return loss, missed, logits.argmax() == target

    place = jax.checkpoint(place, prevent_cse=False)
    return jax.lax.map(place, (hidden, targets), batch_size=min(at_once, len(hidden)))
