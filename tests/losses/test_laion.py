"""LAION-CLAP's loss options against torch in float64, written as its ClipLoss is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from clapjax.losses.config import LossConfig
from clapjax.losses.laion import kappa_weights, laion_loss
from clapjax.losses.plain import contrastive_loss
from clapjax.models.config import ClapConfig
from clapjax.tasks.contrastive import _objective, check
from clapjax.tasks.task import Setting

ROWS, SIZE = 12, 7
SCALES = 14.3, 5.0


def _arrays() -> list[np.ndarray]:
    """Unit-length audio and text, partly alike; transformed ones, which have any length."""
    generator = np.random.default_rng(0)
    audio = generator.normal(size=(ROWS, SIZE))
    audio[1] = audio[0] + 0.1 * audio[1]
    text = 0.5 * audio + generator.normal(size=(ROWS, SIZE))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (audio, text)]
    return [x.astype(np.float32) for x in (*unit, *generator.normal(size=(2, ROWS, SIZE)))]


def _torch_weight(x, kappa):
    if not kappa:
        return None
    return torch.exp(torch.sum(x @ x.T, dim=1) / (kappa * len(x))).detach()


def _torch(audio, text, audio_mlp, text_mlp, scales, kappa, mlp):
    cross_entropy, target = torch.nn.functional.cross_entropy, torch.arange(ROWS)
    by_audio, by_text = _torch_weight(audio, kappa), _torch_weight(text, kappa)
    if not mlp:
        logits = scales[0] * audio @ text.T
        return 0.5 * (
            cross_entropy(logits, target, weight=by_text)
            + cross_entropy(logits.T, target, weight=by_audio)
        )
    a_logits, t_logits = scales[0] * audio @ text_mlp.T, scales[1] * audio_mlp @ text.T
    pairs = [
        (a_logits, by_audio),
        (a_logits.T, by_audio),
        (t_logits, by_text),
        (t_logits.T, by_text),
    ]
    return sum(cross_entropy(logits, target, weight=weight) for logits, weight in pairs) / 4


def _ours(audio, text, audio_mlp, text_mlp, scales, kappa, mlp, groups=None):
    transformed = (audio_mlp, text_mlp, scales[1]) if mlp else None
    return laion_loss(audio, text, scales[0], transformed=transformed, kappa=kappa, groups=groups)


@pytest.mark.parametrize("mlp", [False, True])
@pytest.mark.parametrize("kappa", [0.0, 0.3, 2.0])
def test_value_and_gradients_equal_torch(kappa, mlp):
    """The weights have no gradient; both scales do."""
    arrays = [*_arrays(), np.float32(SCALES)]
    tensors = [torch.tensor(np.float64(x), requires_grad=True) for x in arrays]
    expected = _torch(*tensors, kappa, mlp)
    expected.backward()
    value, grads = jax.value_and_grad(_ours, tuple(range(5)))(*arrays, kappa, mlp)
    np.testing.assert_allclose(value, expected.item(), rtol=5e-6)
    for grad, tensor in zip(grads, tensors, strict=True):
        reference = np.zeros(grad.shape) if tensor.grad is None else tensor.grad
        np.testing.assert_allclose(grad, reference, rtol=1e-4, atol=2e-5)


def test_without_options_it_is_the_contrastive_loss():
    audio, text, _, _ = _arrays()
    assert laion_loss(audio, text, 10.0) == contrastive_loss(audio, text, 10.0)
    groups = jnp.array([0, 3, 3] + [0] * (ROWS - 3))
    grouped = laion_loss(audio, text, 10.0, groups=groups)
    assert grouped == contrastive_loss(audio, text, 10.0, groups) < laion_loss(audio, text, 10.0)
    # With equal weights a weighted mean is the mean.
    even = laion_loss(audio, text, 10.0, kappa=1e6)
    np.testing.assert_allclose(even, contrastive_loss(audio, text, 10.0), rtol=1e-5)


def test_samples_that_resemble_others_count_more():
    weights = kappa_weights(jnp.array([[1.0, 0], [1, 0], [0, 1], [-1, 0]]), 0.5)
    np.testing.assert_allclose(weights, np.exp(np.array([1, 1, 1, -1]) / 4 / 0.5), rtol=1e-6)


@pytest.mark.parametrize(("kappa", "mlp"), [(0.3, False), (0.0, True), (0.3, True)])
def test_the_training_step_takes_what_the_config_says(kappa, mlp):
    audio, text, audio_mlp, text_mlp = _arrays()
    named = {"audio": audio, "text": text, "audio_mlp": audio_mlp, "text_mlp": text_mlp}
    params = {"logit_scale_a": np.log(SCALES[0]), "logit_scale_t": np.log(SCALES[1])}
    config = LossConfig(temporal_weight=0.0, kappa=kappa, mlp_loss=mlp)
    batch = {"has_negative": np.zeros(ROWS, bool)}
    setting = Setting(jax.make_mesh((1,), ("data",), devices=jax.devices()[:1]))
    loss, metrics = _objective(ClapConfig(), config, named, params, batch, 0, setting)
    tensors = [torch.tensor(np.float64(x)) for x in (*_arrays(), SCALES)]
    np.testing.assert_allclose(loss, _torch(*tensors, kappa, mlp), rtol=5e-6)
    assert metrics["contrastive_loss"] == loss


def test_settings_that_do_not_go_together_are_refused():
    assert not LossConfig().laion
    with pytest.raises(ValueError, match=r"loss\.kappa must be >= 0, not -1"):
        LossConfig(kappa=-1.0)
    for other in ({"kind": "sigmoid"}, {"negatives": "all"}, {"implementation": "ring"}):
        with pytest.raises(ValueError, match="loss.mlp_loss and loss.kappa go with"):
            LossConfig(kappa=0.5, **other)
    with pytest.raises(ValueError, match="set model.mlp_transforms"):
        check(ClapConfig(), LossConfig(mlp_loss=True))
