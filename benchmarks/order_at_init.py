"""How well an untrained model can tell order: the table behind docs/order.md.

    python -m benchmarks.order_at_init

For each way to initialise, the order ratio: the distance by which an embedding moves when two
events change places, over the distance between embeddings of different pairs of events. Averaged
over three seeds; the pairs come from the embedded sounds.
"""

import dataclasses

import jax
import numpy as np

from clapjax.audio.fill import fill
from clapjax.audio.mel import log_mel
from clapjax.data.tokenizer import load_tokenizer, tokenize, train_tokenizer
from clapjax.models.clap import Clap, init_variables
from clapjax.models.config import ClapConfig, with_vocabulary
from clapjax.models.presets import small_clap
from clapjax.synthesis.sounds import SOUND_CLASSES, render

PAIRS, SEEDS = 24, 3


def order_ratio(right: np.ndarray, wrong: np.ndarray) -> float:
    """mean |x_i - swapped x_i| / mean |x_i - x_j|, of (N, D) embeddings."""
    apart = np.linalg.norm(right[:, None] - right[None], axis=-1)  # (N, N)
    mean_apart = apart[~np.eye(len(right), dtype=bool)].mean()
    return float(np.linalg.norm(right - wrong, axis=1).mean() / mean_apart)


def pairs() -> list[tuple[str, str]]:
    """Neighbours in the list of classes, each class first once."""
    return [(SOUND_CLASSES[i], SOUND_CLASSES[(i + 7) % len(SOUND_CLASSES)]) for i in range(PAIRS)]


def text_ratio(config: ClapConfig, tokenizer) -> float:
    """Mean over seeds of the text encoder's order ratio on "A followed by B"."""
    config = with_vocabulary(config, len(tokenizer), tokenizer.pad_token_id)
    right = tokenize(tokenizer, [f"{a} followed by {b}" for a, b in pairs()], 32)
    wrong = tokenize(tokenizer, [f"{b} followed by {a}" for a, b in pairs()], 32)
    embed = jax.jit(lambda v, ids, mask: Clap(config).apply(v, ids, mask, method="text"))
    ratios = []
    for seed in range(SEEDS):
        variables = init_variables(config, jax.random.key(seed))
        ratios.append(order_ratio(*(np.asarray(embed(variables, *x)) for x in (right, wrong))))
    return float(np.mean(ratios))


def audio_ratio(config: ClapConfig) -> float:
    """Mean over seeds of the audio encoder's order ratio on two 5-s sounds joined."""
    rate = config.audio.sample_rate
    clips = {name: render(name, 0, 5.0, rate) for name in SOUND_CLASSES}
    right = np.stack([np.concatenate([clips[a], clips[b]]) for a, b in pairs()])
    wrong = np.stack([np.concatenate([clips[b], clips[a]]) for a, b in pairs()])
    fitted = [
        np.stack([fill(row, config.audio.clip_samples, "pad") for row in x]) for x in (right, wrong)
    ]
    mels = [np.asarray(log_mel(jax.numpy.asarray(x), config.audio)) for x in fitted]
    embed = jax.jit(lambda v, mel: Clap(config).apply(v, mel, method="audio"))
    statistics = {"mean": mels[0].mean((0, 1)), "var": mels[0].var((0, 1))}
    ratios = []
    for seed in range(SEEDS):
        variables = init_variables(config, jax.random.key(seed))
        variables["batch_stats"]["audio_encoder"]["batch_norm"] = statistics
        ratios.append(order_ratio(*(np.asarray(embed(variables, mel)) for mel in mels)))
    return float(np.mean(ratios))


def main() -> None:
    """Prints the table."""
    import tempfile

    small = small_clap()
    with tempfile.TemporaryDirectory() as folder:
        captions = [f"{a} followed by {b}" for a, b in pairs()]
        train_tokenizer(captions, folder, 1000)
        tokenizer = load_tokenizer(folder)
        print("text encoder, width 128              words  positions  kernels   order ratio")
        for words, positions, kernels in (
            (0.02, 0.02, 0.02),
            (0.02, 0.3, 0.02),
            (0.02, 0.3, 0.0),
            (0.02, 0.02, 0.0),
            (0.05, 0.1, 0.0),
        ):
            text = dataclasses.replace(
                small.text,
                embedding_std=words,
                position_init_std=positions,
                init_std=kernels,
            )
            ratio = text_ratio(dataclasses.replace(small, text=text), tokenizer)
            shown = "LeCun" if kernels == 0 else f"{kernels:g}"
            print(f"{'':37}{words:<7g}{positions:<11g}{shown:<10}{ratio:.2f}")
    print("audio encoder                        time segments        kernels   order ratio")
    for segments, kernels in ((1, 0.02), (1, 0.0), (4, 0.02), (4, 0.0)):
        htsat = dataclasses.replace(small.htsat, time_segments=segments, init_std=kernels)
        ratio = audio_ratio(dataclasses.replace(small, htsat=htsat))
        shown = "LeCun" if kernels == 0 else f"{kernels:g}"
        print(f"{'':37}{segments:<20}{shown:<10}{ratio:.2f}")


if __name__ == "__main__":
    main()
