"""Forms of matrix products and convolutions that only XLA:CPU wants; other devices never see them.

Values are those of the plain forms.
"""

import math

import jax
import jax.numpy as jnp


@jax.custom_vjp
def product(x: jax.Array, y: jax.Array) -> jax.Array:
    """Matrix product whose factors may be bfloat16, and whose sums are float32.

    So are its gradient's, whose factors jnp.dot would widen to float32 first. XLA:CPU multiplies
    bfloat16 fast only where the result is float32, and takes twice as long over the gradient of a
    product with several leading dimensions.

    Args:
      x, y: (T, I) and (I, O) of one type.

    Returns:
      (T, O) float32.
    """
    return jnp.dot(x, y, preferred_element_type=jnp.float32)


def _product_forward(x, y):
    return product(x, y), (x, y)


def product_gradients(x: jax.Array, y: jax.Array, cotangent: jax.Array):
    """Of `product`, in the types of x and y; the cotangent is (T, O)."""
    cotangent = cotangent.astype(x.dtype)
    dx = _contract(cotangent, y, ((1,), (1,)))
    # XLA:CPU widens bfloat16 factors that are summed over their first axis, but not over two axes.
    parts = math.gcd(len(x), 8) if x.dtype == jnp.bfloat16 else 1
    rows = [z.reshape(parts, -1, z.shape[1]) for z in (x, cotangent)]
    dy = _contract(*rows, ((0, 1), (0, 1)))
    return dx.astype(x.dtype), dy.astype(y.dtype)


def _contract(x: jax.Array, y: jax.Array, axes: tuple) -> jax.Array:
    """The sums over these axes of both, float32."""
    return jax.lax.dot_general(x, y, (axes, ((), ())), preferred_element_type=jnp.float32)


product.defvjp(_product_forward, lambda factors, cotangent: product_gradients(*factors, cotangent))


def conv_by_patches(x: jax.Array, kernel: jax.Array, *_, **__) -> jax.Array:
    """3 x 3 convolution with stride 2 and "SAME" padding of an even image, as one matrix product.

    Whose gradients are matrix products too: XLA:CPU's own for the kernel of a convolution is slow
    where channels are few.

    Args:
      x: (B, S, S, C).
      kernel: (3, 3, C, K).

    Returns:
      (B, S / 2, S / 2, K).
    """
    batch, side, _, channels = x.shape
    x = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    patches = [
        x[:, row : row + side - 1 : 2, column : column + side - 1 : 2]
        for row in range(3)
        for column in range(3)
    ]
    patches = jnp.concatenate(patches, axis=-1).reshape(-1, 9 * channels)
    return (patches @ kernel.reshape(9 * channels, -1)).reshape(batch, side // 2, side // 2, -1)
