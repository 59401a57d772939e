"""Can a classifier that only reads tell negatives from captions? It should not.

What it can is a shortcut that a CLAP model may take instead of listening (T-CLAP 2.3). Accuracy is
that on held-out captions, half of them negatives: 0.5 is chance.
"""

import hashlib
import re
import tempfile

import numpy as np

TEST_SHARE = 0.2
LENGTH = 40  # tokens that the transformer reads


def split_pairs(pairs: list[tuple[str, str]]) -> tuple[list, list]:
    """Training and test pairs (caption, negative); a caption is on one side only, by its hash.

    Raises:
      ValueError: fewer than ten pairs of distinct captions.
    """
    if len({caption for caption, _ in pairs}) < 10:
        raise ValueError(f"shortcut: {len(pairs)} pairs are too few, at least 10 are needed")
    shares = [int.from_bytes(hashlib.sha256(c.encode()).digest()[:4]) / 2**32 for c, _ in pairs]
    test = [pair for pair, share in zip(pairs, shares, strict=True) if share < TEST_SHARE]
    train = [pair for pair, share in zip(pairs, shares, strict=True) if share >= TEST_SHARE]
    if not test or not train:
        raise ValueError(f"shortcut: {len(pairs)} pairs do not divide into training and test")
    return train, test


def _texts(pairs: list[tuple[str, str]]) -> tuple[list[str], np.ndarray]:
    """All captions, then all negatives; and 0 and 1 for them."""
    texts = [caption for caption, _ in pairs] + [negative for _, negative in pairs]
    return texts, np.repeat(np.array([0.0, 1.0], np.float32), len(pairs))


def bag_of_words_accuracy(pairs: list[tuple[str, str]], penalty: float = 1.0) -> float:
    """Test accuracy of logistic regression on word counts (commas count as words).

    Args:
      pairs: (caption, negative).
      penalty: of the squared weights, as in scikit-learn's C = 1 / penalty.
    """
    train, test = split_pairs(pairs)
    texts, labels = _texts(train)
    vocabulary = {word: i for i, word in enumerate(sorted({w for t in texts for w in _words(t)}))}
    weights, bias = fit_logistic(_counts(texts, vocabulary), labels, penalty)
    texts, labels = _texts(test)
    guess = _counts(texts, vocabulary) @ weights + bias > 0
    return float((guess == (labels == 1)).mean())


def _words(text: str) -> list[str]:
    return re.findall(r"[\w'-]+|,", text.lower())


def _counts(texts: list[str], vocabulary: dict[str, int]):
    """(N, V) sparse word counts; words outside the vocabulary do not count."""
    from scipy.sparse import coo_array

    cells = [
        (row, vocabulary[word])
        for row, text in enumerate(texts)
        for word in _words(text)
        if word in vocabulary
    ]
    rows, columns = np.array(cells, np.int64).reshape(-1, 2).T
    shape = (len(texts), len(vocabulary))
    return coo_array((np.ones(len(rows)), (rows, columns)), shape=shape).tocsr()


def fit_logistic(x, y: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    """Weights (V,) and bias that minimise sum log loss + penalty / 2 |weights|^2, by L-BFGS.

    Args:
      x: (N, V) sparse array or matrix of float64.
      y: (N,) 0 or 1.
      penalty: positive.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    sign = 2.0 * y - 1.0

    def loss(parameters):
        weights, bias = parameters[:-1], parameters[-1]
        margin = sign * (x @ weights + bias)
        slope = -sign * expit(-margin)
        value = np.logaddexp(0, -margin).sum() + 0.5 * penalty * weights @ weights
        return value, np.append(x.T @ slope + penalty * weights, slope.sum())

    done = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B")
    return done.x[:-1], float(done.x[-1])


def transformer_accuracy(
    pairs: list[tuple[str, str]], epochs: int = 8, batch_size: int = 64, seed: int = 0
) -> float:
    """Test accuracy of a small transformer: clapjax's text encoder with one logit on top.

    Args:
      pairs: (caption, negative).
      epochs: passes over the training captions.
      batch_size: captions a step.
      seed: of the parameters and of the order.
    """
    import jax
    import jax.numpy as jnp
    import optax

    from clapjax.data.tokenizer import load_tokenizer, tokenize, train_tokenizer
    from clapjax.models.config import TextConfig
    from clapjax.models.text import TextEncoder

    train, test = split_pairs(pairs)
    texts, labels = _texts(train)
    with tempfile.TemporaryDirectory() as folder:
        train_tokenizer(texts, folder, 2000)
        tokenizer = load_tokenizer(folder)
    ids, mask = tokenize(tokenizer, texts, LENGTH)
    config = TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        layers=2,
        heads=4,
        intermediate_size=256,
        max_positions=LENGTH + 2,
        max_length=LENGTH,
        embedding_std=0.05,
        position_init_std=0.1,
        init_std=0.0,
        dropout=0.0,
        attention_dropout=0.0,
    )
    encoder = TextEncoder(config)
    initial = jax.jit(lambda key: encoder.init(key, ids[:1], mask[:1], False))
    parameters = {
        "encoder": initial(jax.random.key(seed)),
        "logit": jnp.zeros(config.hidden_size),
        "bias": jnp.zeros(()),
    }
    steps = epochs * max(1, len(ids) // batch_size)
    optimizer = optax.adamw(
        optax.warmup_cosine_decay_schedule(0.0, 3e-3, steps // 10 + 1, steps + 1)
    )

    def logits(p, ids, mask):
        _, states = encoder.apply(p["encoder"], ids, mask, False, states=True)
        real = mask[..., None].astype(states.dtype)
        return (states * real).sum(1) / real.sum(1) @ p["logit"] + p["bias"]

    @jax.jit
    def step(p, state, ids, mask, labels):
        def loss(p):
            return optax.sigmoid_binary_cross_entropy(logits(p, ids, mask), labels).mean()

        updates, state = optimizer.update(jax.grad(loss)(p), state, p)
        return optax.apply_updates(p, updates), state

    state = jax.jit(optimizer.init)(parameters)
    generator = np.random.default_rng(seed)
    for batch in _batches(generator, len(ids), batch_size, epochs):
        parameters, state = step(parameters, state, ids[batch], mask[batch], labels[batch])
    texts, labels = _texts(test)
    ids, mask = tokenize(tokenizer, texts, LENGTH)
    predict = jax.jit(logits)
    guess = [
        np.asarray(predict(parameters, ids[start : start + 256], mask[start : start + 256])) > 0
        for start in range(0, len(ids), 256)
    ]
    return float((np.concatenate(guess) == (labels == 1)).mean())


def _batches(generator: np.random.Generator, count: int, size: int, epochs: int):
    """Indices of full batches, every epoch in another order."""
    size = min(size, count)
    for _ in range(epochs):
        order = generator.permutation(count)
        for start in range(0, count - size + 1, size):
            yield order[start : start + size]
