"""The cross-entropy of words beside torch's."""

import jax
import numpy as np
import pytest
import torch

from clapjax.losses.tokens import token_losses


@pytest.mark.parametrize(("smoothing", "at_once"), [(0.0, 4), (0.3, 512)])
def test_values_and_gradients_are_torchs(smoothing, at_once):
    """Though the places do not divide into equal parts."""
    generator = np.random.default_rng(0)
    hidden, table = generator.normal(size=(11, 6)), generator.normal(size=(9, 6))
    targets, weights = generator.integers(0, 9, 11), generator.random(11)
    theirs = [torch.tensor(x, requires_grad=True) for x in (hidden, table)]
    loss = torch.nn.functional.cross_entropy(
        theirs[0] @ theirs[1].T, torch.tensor(targets), reduction="none", label_smoothing=smoothing
    )
    (loss * torch.tensor(weights)).sum().backward()

    def ours(hidden, table):
        losses, missed, right = token_losses(hidden, table, targets, smoothing, at_once)
        return (losses * weights).sum(), (losses, missed, right)

    arrays = [x.astype(np.float32) for x in (hidden, table)]
    gradients, (losses, missed, right) = jax.jit(jax.grad(ours, (0, 1), has_aux=True))(*arrays)
    np.testing.assert_allclose(losses, loss.detach(), rtol=1e-5)
    for gradient, other in zip(gradients, theirs, strict=True):
        np.testing.assert_allclose(gradient, other.grad, atol=1e-5)
    logits = hidden @ table.T
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(11), targets]
    np.testing.assert_allclose(missed, expected, rtol=1e-5)
    np.testing.assert_array_equal(right, logits.argmax(1) == targets)


def test_the_logits_of_all_places_are_never_there():
    """Nor kept for the gradient."""
    at_once, places, words = 16, 1024, 300

    def loss(hidden, table):
        targets = np.zeros(places, np.int32)
        return token_losses(hidden, table, targets, 0.1, at_once)[0].sum()

    shapes = [jax.ShapeDtypeStruct(shape, np.float32) for shape in ((places, 4), (words, 4))]
    program = str(jax.make_jaxpr(jax.grad(loss, (0, 1)))(*shapes))
    assert f"f32[{at_once},{words}]" in program
    assert f"{places},{words}" not in program and f"{places // at_once},{at_once},{words}" not in (
        program
    )
