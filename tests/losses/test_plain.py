"""The plain losses against float64 formulas, torch, and themselves on eight devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from clapjax.losses.config import LossConfig
from clapjax.losses.plain import contrastive_loss, temporal_loss

ROWS, SIZE = 16, 12


def _unit(seed: int, rows: int = ROWS) -> np.ndarray:
    """(rows, SIZE) float32 of unit length."""
    x = np.random.default_rng(seed).normal(size=(rows, SIZE))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


VALID = np.random.default_rng(9).random(ROWS) < 0.6
SCALES = [1.0, 14.3, 100.0]


def _contrastive_numpy(audio, text, scale) -> float:
    audio, text = audio.astype(np.float64), text.astype(np.float64)
    weights = np.exp(scale * audio @ text.T)
    to_text = np.diag(weights) / weights.sum(1)
    to_audio = np.diag(weights) / weights.sum(0)
    return -0.5 * (np.log(to_text).mean() + np.log(to_audio).mean())


def _temporal_numpy(audio, text, negative, valid, scale) -> float:
    """Equation 3 of T-CLAP as it is printed."""
    audio, text, negative = (x.astype(np.float64) for x in (audio, text, negative))
    right = np.exp(scale * (audio * text).sum(1))
    wrong = np.exp(scale * (audio * negative).sum(1))
    return -np.log(right / (right + wrong))[valid].mean()


def _contrastive_torch(audio, text, scale):
    logits, target = scale * audio @ text.T, torch.arange(len(audio))
    cross_entropy = torch.nn.functional.cross_entropy
    return 0.5 * (cross_entropy(logits, target) + cross_entropy(logits.T, target))


def _temporal_torch(audio, text, negative, scale):
    pairs = scale * torch.stack([(audio * text).sum(1), (audio * negative).sum(1)], 1)[VALID]
    return torch.nn.functional.cross_entropy(pairs, torch.zeros(len(pairs), dtype=torch.long))


def _torch_value_and_grads(function, *arrays):
    """Value and gradients in float64."""
    tensors = [torch.tensor(np.float64(x), requires_grad=True) for x in arrays]
    value = function(*tensors)
    value.backward()
    return value.item(), [tensor.grad.numpy() for tensor in tensors]


@pytest.mark.parametrize("scale", SCALES)
def test_values_equal_the_formulas(scale):
    audio, text, negative = _unit(0), _unit(1), _unit(2)
    np.testing.assert_allclose(
        contrastive_loss(audio, text, scale), _contrastive_numpy(audio, text, scale), rtol=2e-6
    )
    np.testing.assert_allclose(
        temporal_loss(audio, text, negative, VALID, scale),
        _temporal_numpy(audio, text, negative, VALID, scale),
        rtol=2e-6,
    )


@pytest.mark.parametrize("scale", SCALES)
def test_contrastive_loss_and_gradients_equal_torch(scale):
    arrays = _unit(0), _unit(1), np.float32(scale)
    value, grads = jax.value_and_grad(contrastive_loss, (0, 1, 2))(*arrays)
    expected, expected_grads = _torch_value_and_grads(_contrastive_torch, *arrays)
    np.testing.assert_allclose(value, expected, rtol=2e-6)
    for grad, reference in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(grad, reference, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("scale", SCALES)
def test_temporal_loss_and_gradients_equal_torch(scale):
    arrays = _unit(0), _unit(1), _unit(2), np.float32(scale)

    def ours(audio, text, negative, scale):
        return temporal_loss(audio, text, negative, jnp.asarray(VALID), scale)

    value, grads = jax.value_and_grad(ours, (0, 1, 2, 3))(*arrays)
    expected, expected_grads = _torch_value_and_grads(_temporal_torch, *arrays)
    np.testing.assert_allclose(value, expected, rtol=2e-6)
    for grad, reference in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(grad, reference, rtol=1e-4, atol=2e-5)


GROUPS = np.array([0, 0, 3, 3, 3, 5, 0, 7, 5, 0, 0, 9, 3, 0, 7, 0])


def _contrastive_groups_torch(audio, text, scale):
    """Row by row: the denominator holds the pair itself and what is of no group with it."""
    logits = scale * audio @ text.T
    keep = torch.tensor(
        [
            [i == j or GROUPS[i] == 0 or GROUPS[i] != GROUPS[j] for j in range(ROWS)]
            for i in range(ROWS)
        ]
    )
    rows = torch.stack([torch.logsumexp(logits[i][keep[i]], 0) for i in range(ROWS)])
    columns = torch.stack([torch.logsumexp(logits[:, i][keep[:, i]], 0) for i in range(ROWS)])
    return 0.5 * ((rows - logits.diagonal()).mean() + (columns - logits.diagonal()).mean())


@pytest.mark.parametrize("scale", SCALES)
def test_rows_of_one_group_are_not_each_others_negatives(scale):
    arrays = _unit(0), _unit(1), np.float32(scale)

    def ours(audio, text, scale):
        return contrastive_loss(audio, text, scale, jnp.asarray(GROUPS))

    value, grads = jax.value_and_grad(ours, (0, 1, 2))(*arrays)
    expected, expected_grads = _torch_value_and_grads(_contrastive_groups_torch, *arrays)
    np.testing.assert_allclose(value, expected, rtol=2e-6)
    assert value < contrastive_loss(*arrays)
    for grad, reference in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(grad, reference, rtol=1e-4, atol=2e-5)


def test_groups_at_their_extremes():
    """No group: the plain loss. One group: no negatives, so 0, with finite zero gradients."""
    audio, text = _unit(0), _unit(1)
    none, one = jnp.zeros(ROWS, jnp.int32), jnp.ones(ROWS, jnp.int32)
    assert contrastive_loss(audio, text, 14.3, none) == contrastive_loss(audio, text, 14.3)
    value, grads = jax.value_and_grad(contrastive_loss, (0, 1, 2))(audio, text, 100.0, one)
    np.testing.assert_allclose(value, 0.0, atol=1e-5)
    for grad in grads:
        np.testing.assert_allclose(grad, 0.0, atol=1e-5)


def test_both_losses_at_points_known_by_hand():
    """Orthonormal pairs at scale s: ln(1 + (N - 1) exp(-s)); equal captions: ln 2."""
    eye = jnp.eye(4)
    np.testing.assert_allclose(contrastive_loss(eye, eye, 2.0), np.log1p(3 * np.exp(-2)), rtol=1e-6)
    everyone = jnp.ones(4, bool)
    np.testing.assert_allclose(temporal_loss(eye, eye, eye, everyone, 50.0), np.log(2), rtol=1e-6)
    np.testing.assert_allclose(
        temporal_loss(eye, eye, -eye, everyone, 1.0), np.log1p(np.exp(-2)), rtol=1e-6
    )


def test_contrastive_loss_is_symmetric_in_its_towers():
    audio, text = _unit(0), _unit(1)
    np.testing.assert_allclose(
        contrastive_loss(audio, text, 10.0), contrastive_loss(text, audio, 10.0), rtol=1e-6
    )


def test_rows_without_a_negative_have_no_influence():
    """Neither what stands in their place nor how many they are moves value or gradients."""
    audio, text, negative = _unit(0), _unit(1), _unit(2)
    loss = jax.value_and_grad(temporal_loss, (0, 1, 2, 4))
    value, grads = loss(audio, text, negative, VALID, 20.0)
    other = [
        np.where(VALID[:, None], x, _unit(5 + i)) for i, x in enumerate((audio, text, negative))
    ]
    other_value, other_grads = loss(*other, VALID, 20.0)
    alone = temporal_loss(audio[VALID], text[VALID], negative[VALID], VALID[VALID], 20.0)
    assert value == other_value
    np.testing.assert_allclose(alone, value, rtol=1e-6)
    for grad, other_grad in zip(grads, other_grads, strict=True):
        np.testing.assert_array_equal(grad, other_grad)
    for grad in grads[:3]:
        assert not np.asarray(grad)[~VALID].any() and np.asarray(grad)[VALID].all()


def test_no_valid_row_gives_zero_and_zero_gradients():
    none = np.zeros(ROWS, bool)
    value, grads = jax.value_and_grad(temporal_loss, (0, 1, 2, 4))(
        _unit(0), _unit(1), _unit(2), none, 20.0
    )
    assert value == 0.0
    for grad in grads:
        np.testing.assert_array_equal(grad, 0.0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_scale_100_stays_finite_at_the_extremes(sign):
    """Perfect and perfectly wrong pairs at the clamp of the logit scale."""
    x = _unit(0)
    value, grads = jax.value_and_grad(contrastive_loss, (0, 1, 2))(x, sign * x, 100.0)
    assert all(np.isfinite(grad).all() for grad in grads)
    np.testing.assert_allclose(value, _contrastive_numpy(x, sign * x, 100.0), rtol=1e-5, atol=1e-5)
    everyone = np.ones(ROWS, bool)
    value, grads = jax.value_and_grad(temporal_loss, (0, 1, 2, 4))(
        x, sign * x, -sign * x, everyone, 100.0
    )
    assert all(np.isfinite(grad).all() for grad in grads)
    np.testing.assert_allclose(value, 0.0 if sign > 0 else 200.0, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["contrastive", "groups", "temporal"])
def test_batch_sharded_over_eight_devices_equals_unsharded(name):
    """The loss is over the global batch, not a mean of local ones."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    arrays = [_unit(seed) for seed in range(3 if name == "temporal" else 2)]
    function = {
        "contrastive": lambda *x: contrastive_loss(*x, 14.3),
        "groups": lambda *x: contrastive_loss(*x, 14.3, jnp.asarray(GROUPS)),
        "temporal": lambda *x: temporal_loss(*x, jnp.asarray(VALID), 14.3),
    }[name]
    step = jax.jit(jax.value_and_grad(function, tuple(range(len(arrays)))))
    value, grads = step(*arrays)
    sharded = [jax.device_put(x, rows) for x in arrays]
    assert len(sharded[0].sharding.device_set) == 8
    sharded_value, sharded_grads = step(*sharded)
    np.testing.assert_allclose(sharded_value, value, rtol=1e-6)
    for grad, expected in zip(sharded_grads, grads, strict=True):
        np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=1e-6)


def test_negative_settings_are_refused():
    assert LossConfig().temporal_weight == 0.5 and LossConfig(0.0).temporal_weight == 0.0
    with pytest.raises(ValueError, match=r"loss\.temporal_weight.*-0\.1"):
        LossConfig(temporal_weight=-0.1)
    with pytest.raises(ValueError, match=r"loss\.temporal_ramp_steps.*-1"):
        LossConfig(temporal_ramp_steps=-1)
