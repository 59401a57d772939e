"""Ring and plain contrastive losses against float64 formulas in torch, on 1, 2 and 8 devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from clapjax.losses.config import LossConfig
from clapjax.losses.contrastive import implementation, make_contrastive
from clapjax.losses.plain import contrastive_loss

AXES = ("data", "fsdp")
SHAPES = {1: (1, 1), 2: (1, 2), 8: (2, 4)}
ROWS, SIZE = 40, 6  # on 1, 2, 8 devices 40, 20, 5 rows: tiles of 5 divide them, tiles of 3 none
SCALE, BIAS, FACTOR = 14.3, -6.0, 2.5
VALID = np.random.default_rng(9).random(ROWS) < 0.6
GROUPS = np.random.default_rng(8).integers(0, 9, ROWS).astype(np.int32)  # 0 is no group


def _mesh(devices: int):
    return jax.make_mesh(
        SHAPES[devices],
        AXES,
        axis_types=(AxisType.Auto,) * 2,
        devices=jax.devices()[:devices],
    )


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _embeddings(rows: int = ROWS) -> list[np.ndarray]:
    """Audio, text and negative text, (rows, SIZE) float64 of unit length."""
    generator = np.random.default_rng(0)
    return [_unit(generator.normal(size=(rows, SIZE))) for _ in range(3)]


def _row(values: torch.Tensor, keep: list[bool]) -> torch.Tensor:
    return values[torch.tensor(keep)]


def _formula(kind, negatives, groups, valid, audio, text, scale, bias, negative):
    """The loss as its papers define it, a row and a column at a time."""
    count, everyone = len(audio), range(len(audio))
    logits = scale * audio @ text.T + (bias if kind == "sigmoid" else 0)
    wrong = scale * audio @ negative.T + (bias if kind == "sigmoid" else 0)
    log_sigmoid = torch.nn.functional.logsigmoid
    total = 0.0
    for i in everyone:
        other = [j != i and (groups[i] <= 0 or groups[i] != groups[j]) for j in everyone]
        joins = {
            "none": [False] * count,
            "own": [j == i and bool(valid[j]) for j in everyone],
            "all": [bool(valid[j]) for j in everyone],
        }[negatives]
        if kind == "sigmoid":
            total -= log_sigmoid(logits[i, i])
            total -= log_sigmoid(-_row(logits[i], other)).sum()
            total -= log_sigmoid(-_row(wrong[i], joins)).sum()
            continue
        here = logits[i, i : i + 1]
        row = torch.cat([here, _row(logits[i], other), _row(wrong[i], joins)])
        column = torch.cat([here, _row(logits[:, i], other)])
        total += 0.5 * (torch.logsumexp(row, 0) + torch.logsumexp(column, 0) - 2 * here[0])
    return total / count


def _expected(kind, negatives, groups, valid, audio, text, negative, scale=SCALE, bias=BIAS):
    """FACTOR times the value, and its gradients of audio, text, scale, bias, negative; float64."""
    arrays = audio, text, scale, bias, negative
    tensors = [torch.tensor(np.float64(x), requires_grad=True) for x in arrays]
    value = FACTOR * _formula(kind, negatives, groups, valid, *tensors)
    value.backward()
    grads = [np.zeros(x.shape) if x.grad is None else x.grad.numpy() for x in tensors]
    return [value.item(), *grads]


def _ours(
    config, devices, groups, valid, audio, text, negative, scale=SCALE, bias=BIAS, dtype=None
):
    """The same numbers from clapjax, jitted, the batch split over the devices."""
    dtype = dtype or audio.dtype
    mesh = _mesh(devices)
    loss = make_contrastive(config, mesh, AXES, dtype)

    def objective(audio, text, scale, bias, negative, groups, valid):
        options = {"bias": bias} if config.kind == "sigmoid" else {}
        if config.negatives != "none":
            options |= {"negative": negative, "valid": valid}
        return FACTOR * loss(audio, text, scale, groups=groups, **options)

    rows = NamedSharding(mesh, PartitionSpec(AXES))
    kind = np.promote_types(audio.dtype, np.float32)
    split = [None if x is None else jax.device_put(x, rows) for x in (groups, valid)]
    quick = {"xla_backend_optimization_level": 0}  # most of the time goes into compiling
    step = jax.jit(jax.value_and_grad(objective, argnums=(0, 1, 2, 3, 4)), compiler_options=quick)
    value, grads = step(
        *(jax.device_put(x, rows) for x in (audio, text)),
        kind.type(scale),
        kind.type(bias),
        jax.device_put(negative, rows),
        *split,
    )
    return [np.float64(x) for x in (value, *grads)]


def _assert_close(ours, expected, tolerance: float) -> None:
    """Within `tolerance`, relative to each array's largest number and to its norm."""
    for name, x, y in zip(
        ("value", "audio", "text", "scale", "bias", "negative"), ours, expected, strict=True
    ):
        assert np.isfinite(x).all(), name
        assert np.abs(x - y).max() <= tolerance * np.abs(y).max(), name
        assert np.linalg.norm(x - y) <= tolerance * np.linalg.norm(y), name


CASES = [  # the two kinds share the ring, so the second needs fewer of its shapes
    *(("softmax", "all", True, devices, tile) for devices in (1, 2, 8) for tile in (3, 5)),
    ("softmax", "own", False, 8, 3),
    ("softmax", "none", True, 1, 64),
    ("sigmoid", "all", True, 1, 3),
    ("sigmoid", "own", True, 2, 5),
    ("sigmoid", "all", False, 8, 3),
]


@pytest.mark.parametrize(("kind", "negatives", "grouped", "devices", "tile"), CASES)
def test_ring_equals_the_formula_in_float64(kind, negatives, grouped, devices, tile):
    groups = GROUPS if grouped else np.zeros(ROWS, np.int32)
    expected = _expected(kind, negatives, groups, VALID, *_embeddings())
    config = LossConfig(kind=kind, implementation="ring", negatives=negatives, tile=tile)
    with jax.enable_x64(True):
        ours = _ours(config, devices, groups if grouped else None, VALID, *_embeddings())
    _assert_close(ours, expected, 1e-12)


def test_weights_count_as_in_the_plain_form():
    """Weights with a zero among them, and rows that fill the last tile."""
    weights = [np.random.default_rng(seed).random(ROWS) for seed in (3, 4)]
    weights[0][7] = 0.0
    with jax.enable_x64(True):
        audio, text, _ = map(jnp.asarray, _embeddings())

        def run(implementation):
            config = LossConfig(implementation=implementation, tile=3)
            loss = make_contrastive(config, _mesh(8), AXES, jnp.float64)
            return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(
                audio, text, jnp.float64(SCALE), weights=tuple(map(jnp.asarray, weights))
            )

        ring, plain = run("ring"), run("plain")
        direct = contrastive_loss(audio, text, SCALE, weights=tuple(weights))
    np.testing.assert_allclose(ring[0], direct, rtol=1e-12)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-14), ring, plain)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("negatives", ["none", "own", "all"])
def test_plain_equals_the_formula_in_float64(kind, negatives):
    expected = _expected(kind, negatives, GROUPS, VALID, *_embeddings())
    config = LossConfig(kind=kind, implementation="plain", negatives=negatives)
    with jax.enable_x64(True):
        ours = _ours(config, 8, GROUPS, VALID, *_embeddings())
    _assert_close(ours, expected, 1e-12)


def _converged(dtype) -> list[np.ndarray]:
    """Embeddings of a trained model, rounded to `dtype`, float32: pairs close, negatives near."""
    generator = np.random.default_rng(1)
    audio = _unit(generator.normal(size=(64, 32)))
    text = _unit(audio + 0.06 * generator.normal(size=audio.shape))
    negative = _unit(audio + 0.2 * generator.normal(size=audio.shape))
    return [np.asarray(jnp.asarray(x, dtype).astype(jnp.float32)) for x in (audio, text, negative)]


NO_GROUPS, ALL_VALID = np.zeros(64, np.int32), np.ones(64, bool)


@pytest.mark.parametrize("implementation", ["ring", "plain"])
@pytest.mark.parametrize(
    ("kind", "negatives", "scale", "bias"),
    [("softmax", "none", 12.0, 0.0), ("softmax", "own", 20.0, 0.0), ("sigmoid", "none", 30.0, -20)],
)
def test_bfloat16_is_within_a_percent_near_convergence(
    kind, negatives, scale, bias, implementation
):
    """Sums are float32, and the positive's p - 1 is formed before it is rounded."""
    arrays = _converged(jnp.bfloat16)
    expected = _expected(kind, negatives, NO_GROUPS, ALL_VALID, *arrays, scale, bias)
    assert 1e-3 < expected[0] / FACTOR < 0.01
    config = LossConfig(kind=kind, implementation=implementation, negatives=negatives, tile=4)
    ours = _ours(config, 8, None, ALL_VALID, *arrays, scale, bias, dtype=jnp.bfloat16)
    _assert_close(ours, expected, 0.01)


def test_float32_ring_keeps_its_digits_where_the_loss_is_tiny():
    """There the plain form's 1 - p is rounding and nothing else."""
    audio, text, _ = _converged(jnp.float32)
    arrays = audio, text, -audio, 30.0, 0.0
    expected = _expected("softmax", "all", NO_GROUPS, ALL_VALID, *arrays)
    assert expected[0] < 1e-5
    config = LossConfig(implementation="ring", negatives="all", tile=4)
    _assert_close(_ours(config, 8, None, ALL_VALID, *arrays), expected, 1e-4)


def _loss(devices: int = 8, **settings):
    """A loss without options, jitted with its gradients of audio, text and scale."""
    loss = make_contrastive(LossConfig(**settings), _mesh(devices), AXES)
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))


@pytest.mark.parametrize("rows", [8, 1])
def test_no_negatives_at_all_cost_nothing(rows):
    """One group, and one row a device or one row in all: 0, and gradients that are 0, not NaN."""
    audio, text, _ = (jnp.asarray(x, jnp.float32) for x in _embeddings(rows))
    step = _loss(8 if rows == 8 else 1, implementation="ring")
    value, grads = step(audio, text, 100.0, groups=jnp.ones(rows, jnp.int32))
    assert value == 0.0
    for grad in grads:
        np.testing.assert_array_equal(grad, 0.0)


@pytest.mark.parametrize("negatives", ["own", "all"])
def test_missing_negatives_have_no_influence(negatives):
    """Not what stands in their place; and where all are missing, it is the loss without them."""
    audio, text, negative = (jnp.asarray(x, jnp.float32) for x in _embeddings())
    mesh = _mesh(2)

    def loss(negatives):
        config = LossConfig(implementation="ring", negatives=negatives, tile=7)
        return jax.jit(jax.value_and_grad(make_contrastive(config, mesh, AXES), argnums=(0, 1)))

    step, junk = loss(negatives), jnp.where(VALID[:, None], negative, 5.0)
    values = [step(audio, text, SCALE, negative=x, valid=VALID) for x in (negative, junk)]
    jax.tree.map(np.testing.assert_array_equal, *values)
    none = step(audio, text, SCALE, negative=junk, valid=np.zeros(ROWS, bool))
    without = loss("none")(audio, text, SCALE)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), none, without)
    assert values[0][0] > none[0]


def test_ring_holds_no_matrix_and_gathers_nothing():
    """2,048 rows on 8 devices: plain holds 2 MiB of logits on each at least."""
    rows = NamedSharding(_mesh(8), PartitionSpec(AXES))
    x = jax.ShapeDtypeStruct((2048, 8), jnp.float32, sharding=rows)
    for kind in ("plain", "ring"):
        compiled = _loss(implementation=kind, tile=64).lower(x, x, 10.0).compile()
        size = compiled.memory_analysis().temp_size_in_bytes
        text = compiled.as_text()
        assert (size > 2**21) == (kind == "plain"), size
        assert (size < 2**18) == (kind == "ring"), size
        assert ("all-gather" in text) == (kind == "plain")
        assert ("collective-permute" in text) == (kind == "ring")


def test_auto_takes_the_ring_where_the_logits_are_many():
    auto = LossConfig()
    for rows, devices, expected in (
        (32, 1, "plain"),
        (4096, 1, "plain"),
        (8192, 1, "ring"),
        (65_536, 256, "plain"),
        (131_072, 8, "ring"),
        (1_048_576, 256, "ring"),
        (131_073, 8, "plain"),  # the ring cannot split it
    ):
        assert implementation(auto, rows, devices) == expected
    assert implementation(LossConfig(implementation="ring"), 32, 1) == "ring"
    assert implementation(LossConfig(implementation="plain"), 1_048_576, 256) == "plain"
    loss = make_contrastive(auto, _mesh(8), AXES)
    for rows, expected in ((1024, False), (16_384, True)):
        x = jax.ShapeDtypeStruct((rows, 4), jnp.float32)
        assert ("ppermute" in str(jax.make_jaxpr(loss)(x, x, 1.0))) == expected


def test_bad_settings_and_arguments_are_refused():
    for name, value in (("kind", "clip"), ("implementation", "tiled"), ("negatives", "some")):
        with pytest.raises(ValueError, match=rf"loss\.{name} must be one of .*{value}"):
            LossConfig(**{name: value})
    with pytest.raises(ValueError, match=r"loss\.tile must be positive, not 0"):
        LossConfig(tile=0)
    audio, text, negative = (jnp.asarray(x, jnp.float32) for x in _embeddings())
    ring = LossConfig(implementation="ring")
    for config, arrays, options, message in (
        (ring, (audio[:36], text[:36]), {}, "batch of 36 does not split over 8 devices"),
        (ring, (audio, text[:39]), {}, r"\(40, 6\) and text float32\(39, 6\)"),
        (ring, (audio, text), {"bias": 0.0}, "softmax has no bias"),
        (LossConfig(kind="sigmoid"), (audio, text), {}, "sigmoid needs a bias"),
        (LossConfig(negatives="all"), (audio, text), {}, "negatives=all needs negative captions"),
        (ring, (audio, text), {"negative": negative}, "negatives=none, yet negative captions"),
        (LossConfig(negatives="own"), (audio, text), {"negative": negative[:9]}, r"negative .*9"),
        (
            LossConfig(kind="sigmoid"),
            (audio, text),
            {"bias": 0.0, "weights": (VALID, VALID)},
            "no w",
        ),
        (ring, (audio, text), {"weights": (VALID, VALID[:3])}, r"weights \(3,\) must be"),
        (ring, (audio, text), {"groups": GROUPS[:5]}, r"groups \(5,\) must be \(40,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            make_contrastive(config, _mesh(8), AXES)(*arrays, 1.0, **options)
