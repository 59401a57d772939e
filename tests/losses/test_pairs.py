"""Order pairs against a double loop in float64, on one device and on eight."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from clapjax.experiment import make_task
from clapjax.losses.config import LossConfig
from clapjax.losses.pairs import GROUP, in_slots, of_slots
from clapjax.tasks.task import Setting
from clapjax.training.mesh import batch_sharding
from tests.training.tiny import some_mesh, tiny_config

N, PAIRS, SIZE = 32, 2, 12
M = N // GROUP * PAIRS
NAMES = ("audio", "text", "negative", "reverse")
SCALE = 7.0


def _case(seed: int = 0) -> tuple[dict, dict]:
    """Embeddings, and a batch: rows without a wrong caption, with one, and with its sound too."""
    generator = np.random.default_rng(seed)
    embeddings = {
        name: generator.normal(size=(M if name == "reverse" else N, SIZE)) for name in NAMES
    }
    for x in embeddings.values():
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    valid, slots = generator.random(N) < 0.7, np.full(M, -1, np.int32)
    for slot in range(M):
        first = slot // PAIRS * GROUP
        free = set(np.flatnonzero(valid[first : first + GROUP])) - set(
            slots[slot // PAIRS * PAIRS : slot]
        )
        if free and generator.random() < 0.8:
            slots[slot] = generator.permutation(sorted(free))[0]
    batch = {
        "has_negative": valid,
        "events": generator.integers(0, 6, N).astype(np.int32),
        "reverse_events": generator.integers(0, 6, N).astype(np.int32),
        "reverse_row": slots,
    }
    return {name: x.astype(np.float32) for name, x in embeddings.items()}, batch


def _reference(kind: str, mask: bool, weight: float, arrays: list, batch: dict):
    """Everything row by row and pair by pair; tensors in float64."""
    audio, text, negative, reverse, scale, bias = arrays
    owner = {  # slot to its row
        slot: slot // PAIRS * GROUP + row
        for slot, row in enumerate(batch["reverse_row"])
        if row >= 0
    }
    clips = [(audio[i], text[i], batch["events"][i]) for i in range(N)]
    clips += [(reverse[s], negative[i], batch["reverse_events"][i]) for s, i in owner.items()]

    def seen(i, j):
        same = mask and clips[i][2] == clips[j][2] > 0
        return i == j or not same

    products = torch.stack([x for x, *_ in clips]) @ torch.stack([x for _, x, _ in clips]).T
    logits = scale * products + (bias if kind == "sigmoid" else 0)

    total = 0.0
    for i in range(len(clips)):
        others = [j for j in range(len(clips)) if seen(i, j)]
        if kind == "sigmoid":
            signs = torch.tensor([1.0 if i == j else -1.0 for j in others])
            total -= torch.nn.functional.logsigmoid(signs * logits[i, others]).sum()
            continue
        rows, columns = logits[i, others].logsumexp(0), logits[others, i].logsumexp(0)
        total += 0.5 * (rows + columns) - logits[i, i]
    total = total / len(clips)

    slot_of = {row: slot for slot, row in owner.items()}
    costs = []
    for i in np.flatnonzero(batch["has_negative"]):
        margins = [audio[i] @ (text[i] - negative[i])]
        if i in slot_of:
            other = reverse[slot_of[i]]
            margins += [other @ (negative[i] - text[i])]
            margins += [text[i] @ (audio[i] - other), negative[i] @ (other - audio[i])]
        costs.append(-torch.nn.functional.logsigmoid(scale * torch.stack(margins)).mean())
    return total + weight * torch.stack(costs).mean()


def _objective(config, mesh):
    """(embeddings, log scale, bias, batch) to (value, gradients)."""
    task = make_task(config)

    def loss(embeddings, log_scale, bias, batch):
        params = {"logit_scale_a": log_scale, "logit_bias": bias}
        return task.objective(embeddings, params, batch, jnp.int32(9), Setting(mesh))[0]

    return jax.jit(jax.value_and_grad(loss, (0, 1, 2)))


def _config(**changes):
    config = tiny_config()
    loss = dataclasses.replace(config.loss, order_pairs=PAIRS, tile=5, **changes)
    model = dataclasses.replace(config.model, logit_bias=loss.kind == "sigmoid")
    return dataclasses.replace(config, model=model, loss=loss)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_values_and_gradients_equal_the_double_loop(kind, mask):
    embeddings, batch = _case()
    tensors = [torch.tensor(np.float64(embeddings[name]), requires_grad=True) for name in NAMES]
    log_scale, bias = np.float32(np.log(SCALE)), np.float32(-3.0)
    scalars = [torch.tensor(np.float64(x), requires_grad=True) for x in (log_scale, bias)]
    value = _reference(kind, mask, 0.5, [*tensors, scalars[0].exp(), scalars[1]], batch)
    value.backward()
    for implementation in ("plain", "ring"):
        config = _config(kind=kind, mask_same_events=mask, implementation=implementation)
        for devices in (1, 2, 8):
            mesh = some_mesh(devices)
            placed = jax.device_put((embeddings, batch), batch_sharding(mesh))
            found, gradients = _objective(config, mesh)(placed[0], log_scale, bias, placed[1])
            np.testing.assert_allclose(found, value.item(), rtol=1e-5)
            for name, tensor in zip(NAMES, tensors, strict=True):
                expected = tensor.grad.numpy()
                np.testing.assert_allclose(gradients[0][name], expected, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(gradients[1], scalars[0].grad.item(), rtol=1e-4)
            if kind == "sigmoid":
                np.testing.assert_allclose(gradients[2], scalars[1].grad.item(), rtol=1e-4)


def test_rows_without_a_reverse_count_as_without_the_option():
    """No slot is filled: the loss, and what pulls at each embedding, is that of no slots."""
    embeddings, batch = _case()
    batch["reverse_row"] = np.full(M, -1, np.int32)
    scalars = np.float32(2.0), np.float32(0.0)
    for kind in ("softmax", "sigmoid"):
        config = _config(kind=kind)
        without = dataclasses.replace(config, loss=dataclasses.replace(config.loss, order_pairs=0))
        mesh = some_mesh(1)
        value, (found, *_) = _objective(config, mesh)(embeddings, *scalars, batch)
        expected, (gradients, *_) = _objective(without, mesh)(embeddings, *scalars, batch)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        assert not found["reverse"].any()
        for name in NAMES[:3]:
            np.testing.assert_allclose(found[name], gradients[name], rtol=1e-5, atol=1e-7)


def test_what_belongs_to_a_slot_stays_on_its_device():
    """No collective gathers rows for the slots: the ring's and the sums are all there are."""
    embeddings, batch = _case()
    mesh = some_mesh(8)
    placed = jax.device_put((embeddings, batch), batch_sharding(mesh))

    def local(embeddings, batch):
        return of_slots(embeddings["negative"], batch["reverse_row"])

    compiled = jax.jit(local, out_shardings=batch_sharding(mesh)).lower(*placed).compile()
    text = compiled.as_text()
    assert not any(name in text for name in ("all-gather", "all-to-all", "collective-permute"))
    found = np.asarray(compiled(*placed))
    for slot, row in enumerate(batch["reverse_row"]):
        expected = embeddings["negative"][slot // PAIRS * GROUP + row] if row >= 0 else 0 * found[0]
        np.testing.assert_array_equal(found[slot], expected)
    taken = {s // PAIRS * GROUP + r for s, r in enumerate(batch["reverse_row"]) if r >= 0}
    assert set(np.flatnonzero(in_slots(batch["reverse_row"], N))) == taken


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order_pairs": 5}, r"loss.order_pairs must be in 0..4, of every 4 rows, not 5"),
        ({"order_pairs": 1, "negatives": "own"}, "goes with loss.negatives=none"),
        ({"order_pairs": 1, "kappa": 0.1}, "without loss.implementation=ring and loss.order_pairs"),
    ],
)
def test_what_does_not_go_together(changes, message):
    with pytest.raises(ValueError, match=message):
        LossConfig(**changes)
